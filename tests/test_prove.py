"""What is confirmed, what is left out again, and why: with a world in which each region is worth a known time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import plans
import pytest
from fakes import Honest
from paddle import nn

from autohybrid import device, engines, plan
from autohybrid.isolation import Died, Finished, Result
from autohybrid.observe.profile import LayerTime, Profile, RootProfile
from autohybrid.search.confirm import Confirmation, Confirmed
from autohybrid.search.contest import Contest, Contested
from autohybrid.search.eager_threads import EagerThreads
from autohybrid.search.findings import Budget
from autohybrid.search.journal import Journal
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted
from autohybrid.search.proofs import Proven
from autohybrid.search.prove import Prover
from autohybrid.search.search import Search
from autohybrid.search.trial import Trial

MEMORY = 1 << 30


class Tree(nn.Layer):  # type: ignore[misc]
    """Four unlike children."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 6)
        self.eval()


@dataclass
class World:
    """A root call takes a second; each region takes off what ``worth`` says, and ``wrong`` ones spoil the answer.

    ``claims`` are the gains that trials report, ``threads_alone`` is what more threads give eager.
    """

    claims: dict[str, float]
    worth: dict[str, float]
    wrong: frozenset[str] = frozenset()
    guarded: frozenset[str] = frozenset()
    threads_alone: float = 1.0
    name: str = "world"
    eager_measured: int = 0
    confirmed: list[list[str]] = field(default_factory=list)
    contests: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def run(self, work: Callable[[], Any], *, seconds: float, memory: int) -> Result:
        subject = getattr(work, "__self__", None)
        if isinstance(subject, Trial):
            return self._trial(subject.candidate.path)
        if isinstance(subject, Contest):
            one, other = [[region.path for region in side] for side in (subject.one, subject.other)]
            self.contests.append((one, other))
            samples = _samples(self._seconds(other), self._seconds(one))
            return _finished(Contested(samples=samples, idle=[]))
        if isinstance(subject, EagerThreads):
            self.eager_measured += 1
            return _finished(_samples(self.threads_alone, 1.0))
        if not isinstance(subject, Confirmation):
            return Finished(value=None)  # the inputs of a candidate whose trial died
        paths = [region.path for region in subject.regions]
        self.confirmed.append(paths)
        assert len(self.confirmed) < 50, "confirms for ever"
        return _finished(
            Confirmed(
                samples=_samples(1.0, self._seconds(paths)),
                equality=plans.EQUALITY,
                problem="differs" if self.wrong & set(paths) else "",
                idle={},
            )
        )

    def _trial(self, path: str) -> Result:
        if path not in self.claims:
            return Died(how="SIGSEGV", log="")
        return _finished(
            Converted(
                inputs={"tuple": []},
                outputs=None,
                training_mode="eager",
                equality=plans.EQUALITY,
                samples=_samples(self.claims[path], 1.0),
                conversion_seconds=0.1,
                extra_memory=0,
                twins=[],
                guarded=path in self.guarded,
            )
        )

    def _seconds(self, paths: list[str]) -> float:
        return 1.0 - sum(self.worth.get(path, 0.0) for path in paths)


def _samples(eager: float, hybrid: float) -> plan.Samples:
    return plan.Samples(eager=[eager] * 20, hybrid=[hybrid] * 20)


def _finished(value: Any) -> Finished:
    return Finished(value=msgspec.to_builtins(value))


SHARES = {"": 1.0, "a": 0.3, "b": 0.25, "c": 0.25, "d": 0.2}


def _proven(world: World, monkeypatch: pytest.MonkeyPatch) -> Proven:
    prover = _prover(world, monkeypatch)
    prover.search.run()
    return prover.best()


def _prover(world: World, monkeypatch: pytest.MonkeyPatch) -> Prover:
    monkeypatch.setattr(engines, "by_name", lambda name: Honest())
    tree = Tree()
    layers = {"": tree, **dict(tree.named_sublayers())}
    timed = [
        LayerTime(path=path, aliases=(), layer=layers[path], calls=1.0, inclusive=share, own=0.0)
        for path, share in SHARES.items()
    ]
    root = RootProfile(
        layer=tree, places=(), calls=10, training_calls=0, seconds=1.0, durations=(), layers=tuple(timed), kept=(),
        sampled=1,
    )  # fmt: skip
    options = Options(engines=("fake",))
    common: dict[str, Any] = {"isolation": world, "budget": Budget(1000.0), "memory": MEMORY}
    search = Search(Profile(roots=(root,)), options, journal=Journal(), progress=lambda line: None, **common)
    search.rank()
    return Prover(root=root, search=search, options=options, progress=lambda line: None, **common)


def _paths(found: Proven) -> list[str]:
    return [region.path for region in found.regions]


def test_what_contributes_nothing_is_left_out_again_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(claims={"a": 3.0, "b": 3.0, "c": 3.0}, worth={"a": 0.2, "b": 0.15, "c": 0.0})
    found = _proven(world, monkeypatch)
    assert _paths(found) == ["a", "b"]
    assert "1.000x" in found.dropped["c"]
    assert world.confirmed[0] == ["a", "b", "c"]
    assert world.confirmed[-1] == ["a", "b"], "the rest was measured again"


def test_what_contributes_a_little_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(claims={"a": 3.0, "b": 3.0}, worth={"a": 0.2, "b": 0.02})
    assert _paths(_proven(world, monkeypatch)) == ["a", "b"]


def test_only_the_one_that_makes_the_root_wrong_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not the one that was to save least, which is c.
    world = World(claims={"a": 3.0, "b": 3.0, "c": 2.0}, worth={"a": 0.2, "b": 0.15, "c": 0.1}, wrong=frozenset({"a"}))
    found = _proven(world, monkeypatch)
    assert _paths(found) == ["b", "c"]
    assert set(found.dropped) == {"a"}
    assert "answer differs" in found.dropped["a"]


def test_where_the_gate_is_missed_what_contributes_least_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # Trials say that d saves least; in truth a makes the whole slower.
    world = World(claims={"a": 3.0, "b": 3.0, "d": 2.0}, worth={"a": -0.15, "b": 0.1, "d": 0.06})
    found = _proven(world, monkeypatch)
    assert _paths(found) == ["b", "d"]
    assert set(found.dropped) == {"a"}
    assert "with it the whole is" in found.dropped["a"]


def test_a_single_region_is_not_measured_against_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(claims={"a": 3.0}, worth={"a": 0.2})
    assert _paths(_proven(world, monkeypatch)) == ["a"]
    assert world.contests == []


@pytest.mark.parametrize(("parts", "chosen"), [(0.35, ["a", "b"]), (0.25, [""])])
def test_a_guarded_conversion_stays_only_where_it_is_certainly_faster(
    parts: float, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(
        claims={"": 1.6, "a": 2.8, "b": 2.8},
        worth={"": 0.35, "a": parts / 2, "b": parts / 2},
        guarded=frozenset({""}),
    )
    monkeypatch.setattr("autohybrid.search.search.WORTH_DESCENDING", -1.0)
    found = _proven(world, monkeypatch)
    assert _paths(found) == chosen
    assert world.contests[0] == (["a", "b"], [""])


# More threads, which eager could have too.


@pytest.mark.parametrize(
    ("alone", "options", "told"),
    [
        (2.0, {"threads": 2}, []),
        (
            3.9,
            {},
            ["2 threads alone make eager 3.90x as fast, with 1 region it was 4.00x: too little for a conversion."],
        ),
    ],
)
def test_a_gain_of_threads_alone_is_no_reason_to_convert(
    alone: float, options: dict[str, Any], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "math_threads", lambda: 1)
    world = World(claims={"a": 20.0}, worth={"a": 0.75}, threads_alone=alone)
    prover = _prover(world, monkeypatch)
    prover.search.run()
    (best,) = prover.search.chosen(prover.root)
    assert prover.search.promote(best, Honest(), {"threads": 2}) is not None
    found = prover.best()
    assert [region.options for region in found.regions] == [options]
    assert found.confirmation is not None
    assert [note.partition(" For the")[0] for note in prover.notes] == told
    measured = prover.eager_with_threads_of(found.regions)
    assert (measured is not None) == bool(options)
    assert world.eager_measured == 1, "once for each number"


# Early, so that an end at any moment leaves a plan.


def test_a_strong_set_is_confirmed_while_the_search_goes_on_and_not_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(claims={"a": 6.0, "b": 6.0, "c": 6.0}, worth={"a": 0.25, "b": 0.2, "c": 0.2})
    prover = _prover(world, monkeypatch)
    early: list[Proven | None] = []

    def after_each() -> None:
        prover.confirm_early()
        early.append(prover.proofs.best(prover.root))

    prover.search.run(after_each)
    assert early[0] is None, "the root died"
    assert [_paths(each) for each in early if each] == [["a", "b"], ["a", "b", "c"], ["a", "b", "c"]]
    before = list(world.confirmed)
    found = prover.best()
    assert _paths(found) == ["a", "b", "c"]
    assert found.confirmation is not None
    assert len(found.confirmation.processes) == 2
    assert world.confirmed == before


def test_a_weak_set_waits_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(claims={"a": 3.0}, worth={"a": 0.2})
    prover = _prover(world, monkeypatch)
    prover.search.run(prover.confirm_early)
    assert world.confirmed == []
    assert _paths(prover.best()) == ["a"]


def test_a_set_that_promises_little_more_is_not_confirmed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autohybrid.search.proofs.ENOUGH_BETTER", 0.25)
    world = World(claims={"a": 6.0, "b": 6.0, "c": 6.0}, worth={"a": 0.25, "b": 0.2, "c": 0.2})
    prover = _prover(world, monkeypatch)
    prover.search.run(prover.confirm_early)
    assert ["a", "b", "c"] not in world.confirmed
    assert _paths(prover.best()) == ["a", "b", "c"]


def test_what_holds_is_kept_when_ctrl_c_comes_while_its_parts_are_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(claims={"a": 3.0, "b": 3.0}, worth={"a": 0.25, "b": 0.2})
    prover = _prover(world, monkeypatch)
    prover.search.run()

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Prover, "without_idlers", pressed)
    with pytest.raises(KeyboardInterrupt):
        prover.best()
    kept = prover.proofs.best(prover.root)
    assert kept is not None
    assert _paths(kept) == ["a", "b"]


def test_when_the_budget_ends_what_was_confirmed_early_is_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(claims={"a": 6.0, "b": 6.0, "c": 6.0}, worth={"a": 0.25, "b": 0.2, "c": 0.2})
    monkeypatch.setattr("autohybrid.search.proofs.ENOUGH_BETTER", 0.25)
    prover = _prover(world, monkeypatch)
    prover.search.run(prover.confirm_early)
    prover.budget.seconds = 0.0
    found = prover.best()
    assert _paths(found) == ["a", "b"]
    assert "confirmed earlier stays" in found.dropped["c"]


def test_a_set_that_held_in_one_process_only_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(claims={"a": 6.0, "b": 6.0}, worth={"a": 0.25, "b": 0.25})
    prover = _prover(world, monkeypatch)
    honest = world._seconds
    monkeypatch.setattr(world, "_seconds", lambda paths: honest(paths) if len(world.confirmed) < 2 else 3.0)
    prover.search.run(prover.confirm_early)
    assert world.confirmed == [["a", "b"]] * 2
    assert prover.proofs.best(prover.root) is None
