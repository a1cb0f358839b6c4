"""What is tried, in which order, and when to stop: with a fake engine, fake isolation and a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import plans
import pytest
from fakes import Honest
from paddle import nn

from autohybrid import device, engines, plan
from autohybrid.engines import Alternative, Dimension
from autohybrid.isolation import Died, Finished, Raised, Result, Stopped
from autohybrid.observe.profile import LayerTime, Profile, RootProfile
from autohybrid.search import findings, sampling
from autohybrid.search.confirm import Confirmation
from autohybrid.search.findings import Budget
from autohybrid.search.journal import Journal
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted, Crashed, Failed, Outcome, TimedOut, Unfit, Wrong
from autohybrid.search.prove import Prover
from autohybrid.search.search import Search
from autohybrid.search.trial import Trial

MEMORY = 1 << 30


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _converted(speedup: float = 3.0, twins: list[str] | None = None) -> Finished:
    outcome = Converted(
        inputs={"tuple": []},
        outputs=None,
        training_mode="eager",
        equality=plans.EQUALITY,
        samples=plan.Samples(eager=[speedup] * 12, hybrid=[1.0] * 12),
        conversion_seconds=0.1,
        extra_memory=0,
        twins=twins or [],
    )
    return _finished(outcome)


def _finished(outcome: Outcome) -> Finished:
    return Finished(value=msgspec.to_builtins(outcome))


FAILED = _finished(Failed(detail="no", evidence="e", inputs=None, exported=False))
FAILED_LATE = _finished(Failed(detail="no", evidence="e", inputs=None, exported=True))
WRONG = _finished(Wrong(detail="differs", equality=plans.EQUALITY, inputs={}))
UNFIT = _finished(Unfit(reason="state", detail="changes its state"))
DIED = Died(how="SIGSEGV", log="last words")
HUNG = Stopped(limit="8 seconds", log="")


@dataclass
class Scripted:
    """Isolation that gives the results a test wrote down, by path (one after another, the last one for ever)."""

    results: dict[str, list[Result]]
    clock: Clock
    seconds_each: float = 0.0
    tried: list[str] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    confirmations: list[list[str]] = field(default_factory=list)
    name: str = "scripted"

    def run(self, work: Callable[[], Any], *, seconds: float, memory: int) -> Result:
        subject = getattr(work, "__self__", None)
        if isinstance(subject, Confirmation):
            self.confirmations.append([region.path for region in subject.regions])
            assert len(self.confirmations) < 50, "confirms for ever"
            return DIED
        if not isinstance(subject, Trial):
            return Finished(value=None)
        path = subject.candidate.path
        self.tried.append(path)
        self.options.append(subject.options)
        self.limits.append(seconds)
        self.clock.now += self.seconds_each
        results = self.results.get(path, [FAILED])
        return results.pop(0) if len(results) > 1 else results[0]


class Small(nn.Linear):  # type: ignore[misc]
    pass


class Tree(nn.Layer):  # type: ignore[misc]
    """A root with three unlike children, one of which has two of its own, and two that are alike."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
        self.b = nn.Linear(4, 4)
        self.c = nn.LayerNorm(4)
        self.x = nn.Linear(4, 5)
        self.y = nn.Linear(4, 5)
        self.small = Small(1, 1)


SHARES = {"": 1.0, "a": 0.3, "a.0": 0.2, "a.1": 0.1, "b": 0.25, "c": 0.15, "x": 0.1, "y": 0.12, "small": 0.01}


def _root(shares: dict[str, float], seconds: float = 1.0) -> RootProfile:
    tree = Tree()
    tree.eval()
    layers = {"": tree, **dict(tree.named_sublayers())}
    return RootProfile(
        layer=tree,
        places=(),
        calls=10,
        training_calls=0,
        seconds=seconds,
        durations=(),
        layers=tuple(
            [
                LayerTime(path=path, aliases=(), layer=layers[path], calls=1.0, inclusive=share * seconds, own=0.0)
                for path, share in shares.items()
            ]
        ),
        kept=(),
        sampled=1,
    )


class Repairing(Honest):
    """Has one repair."""

    dimensions = (
        Dimension(name="repair", alternatives=lambda machine: [Alternative(options={"repair": 1}, cures=True)]),
    )


@dataclass
class Bench:
    """A search and what it works with."""

    search: Search
    isolation: Scripted
    clock: Clock
    budget: Budget
    root: RootProfile
    options: Options


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> MakeBench:
    """Makes a search over :class:`Tree` with scripted results by path."""

    def make(
        results: dict[str, list[Result]] | None = None,
        *,
        budget: float = 1000.0,
        seconds_each: float = 0.0,
        shares: dict[str, float] | None = None,
        engine: Any = None,
        journal: Journal | None = None,
        more_roots: tuple[RootProfile, ...] = (),
        **options: Any,
    ) -> Bench:
        clock = Clock()
        monkeypatch.setattr(findings, "clock", clock)
        monkeypatch.setattr(engines, "by_name", lambda name: engine or Honest())
        root = _root(shares or SHARES)
        isolation = Scripted(results or {}, clock, seconds_each)
        wanted = Options(engines=("fake",), **options)
        limit = Budget(budget)
        made = Search(
            Profile(roots=(root, *more_roots)),
            wanted,
            isolation=isolation,
            budget=limit,
            memory=MEMORY,
            journal=journal or Journal(),
            progress=lambda line: None,
        )
        made.rank()
        return Bench(made, isolation, clock, limit, root, wanted)

    return make


def _outcomes(bench: Bench) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for attempt in bench.search.findings.attempts:
        found.setdefault(attempt.candidate.path, []).append(attempt.outcome)
    return found


def _chosen(bench: Bench) -> list[str]:
    return [attempt.candidate.path for attempt in bench.search.chosen(bench.root)]


def test_the_biggest_ceiling_comes_first_and_failed_parents_are_descended_into(bench: MakeBench) -> None:
    made = bench()
    made.search.run()
    assert made.isolation.tried == ["", "a", "b", "a.0", "c", "y", "a.1"]
    assert made.search.findings.complete


def test_a_parent_that_converts_well_is_not_descended_into(bench: MakeBench) -> None:
    made = bench({"": [_converted(4.0)]})
    made.search.run()
    assert made.isolation.tried == [""]
    assert _chosen(made) == [""]


def test_a_parent_that_gains_little_is_descended_into_and_the_better_set_chosen(bench: MakeBench) -> None:
    made = bench({"": [_converted(1.02)], "a": [_converted(4.0)], "b": [_converted(4.0)]})
    made.search.run()
    assert made.isolation.tried[:3] == ["", "a", "b"]
    assert _chosen(made) == ["a", "b"]


def test_what_could_not_matter_is_never_tried(bench: MakeBench) -> None:
    made = bench()
    made.search.run()
    passed = {each.path: made.search.findings.passed.get(id(each)) for each in made.search.findings.candidates}
    assert passed["small"] == ("too_small", "1.0% of the time")
    assert "small" not in made.isolation.tried


def test_alike_layers_that_are_each_too_small_matter_together(bench: MakeBench) -> None:
    made = bench(shares={**SHARES, "x": 0.04, "y": 0.03})
    assert not any(
        each.path in ("x", "y") for each in made.search.findings.candidates if id(each) in made.search.findings.passed
    )
    made.search.run()
    assert "x" in made.isolation.tried


def test_patterns_let_through_what_they_name(bench: MakeBench) -> None:
    made = bench(include=("a*", "LayerNorm"), exclude=("a.1",))
    made.search.run()
    assert made.isolation.tried == ["a", "a.0", "c"]


def test_layers_with_hooks_inside_are_passed_over(bench: MakeBench) -> None:
    root = _root(SHARES)
    root.layer.a[0].register_forward_post_hook(lambda *_: None)
    made = bench(more_roots=(root,))
    passed = {
        each.path
        for each in made.search.findings.candidates
        if each.root is root
        if id(each) in made.search.findings.passed
    }
    assert {"", "a"} <= passed
    assert "a.0" not in passed, "its own hooks are called around it"


def test_alike_layers_share_one_trial(bench: MakeBench) -> None:
    made = bench({"y": [_converted(2.0, twins=["x"])]})
    made.search.run()
    assert [path for path in made.isolation.tried if path in ("x", "y")] == ["y"]
    attempts = {each.candidate.path: each for each in made.search.findings.attempts}
    assert attempts["x"].measured_on == "y"
    assert _chosen(made) == ["x", "y"]


def test_alike_layers_that_are_called_otherwise_are_tried_by_themselves(bench: MakeBench) -> None:
    made = bench({"y": [_converted(2.0, twins=[])]})
    made.search.run()
    assert [path for path in made.isolation.tried if path in ("x", "y")] == ["y", "x"]


@pytest.mark.parametrize(
    ("result", "tried"), [(WRONG, ["y"]), (DIED, ["y", "y", "x"]), (HUNG, ["y", "x"]), (UNFIT, ["y", "x"])]
)
def test_only_what_lies_in_the_source_is_said_of_alike_layers(
    result: Result, tried: list[str], bench: MakeBench
) -> None:
    made = bench({"y": [result]})
    made.search.run()
    assert [path for path in made.isolation.tried if path in ("x", "y")] == tried


def test_the_budget_ends_the_search(bench: MakeBench) -> None:
    made = bench(budget=35.0, seconds_each=10.0)
    made.search.run()
    assert made.isolation.tried == ["", "a", "b", "a.0"]
    assert not made.search.findings.complete
    assert all(limit <= 35.0 - 10.0 * number for number, limit in enumerate(made.isolation.limits))


def test_no_other_engine_is_begun_when_the_budget_has_ended(bench: MakeBench) -> None:
    class Other(Honest):
        name = "other"

    for budget, tried in ((15.0, 2), (10.0, 1)):
        made = bench({"": [_converted(9.0)] * 2}, budget=budget, seconds_each=10.0)
        made.search._engines.append(Other())
        made.search.run()
        assert made.isolation.tried == [""] * tried
        assert made.search.findings.complete == (tried == 2)


@pytest.mark.parametrize(("runtime", "tried"), [("alike", 1), ("another", 2)])
def test_an_engine_that_computes_alike_gets_no_second_chance_where_time_was_too_short(
    runtime: str, tried: int, bench: MakeBench
) -> None:
    class First(Honest):
        runtime = "alike"

    class Second(Honest):
        name = "second"

    Second.runtime = runtime  # type: ignore[attr-defined]
    made = bench({"": [HUNG, HUNG]}, engine=First())
    made.search._engines = [First(), Second()]
    made.search.run()
    assert made.isolation.tried.count("") == tried


def test_with_several_threads_a_trial_has_more_time(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        made = bench({"": [_converted(9.0)]}, budget=30.0)
        made.search.run()
        limits.append(made.isolation.limits[0])
    assert limits[1] > limits[0]


def test_a_trial_never_gets_the_whole_budget_when_there_is_plenty(bench: MakeBench) -> None:
    made = bench(budget=1000.0)
    made.search.run()
    assert max(made.isolation.limits) <= 0.5 * 1000.0


def test_a_crash_is_believed_when_it_comes_twice(bench: MakeBench) -> None:
    made = bench({"": [DIED, DIED], "a": [DIED, _converted(2.0)]})
    made.search.run()
    assert made.isolation.tried[:4] == ["", "", "a", "a"]
    found = _outcomes(made)
    (crashed,) = found[""]
    assert isinstance(crashed, Crashed)
    assert "SIGSEGV" in crashed.detail
    assert crashed.evidence == "last words"
    assert isinstance(found["a"][0], Converted)


@pytest.mark.parametrize("result", [WRONG, FAILED_LATE, DIED], ids=["wrong", "failed behind the export", "died"])
def test_what_goes_wrong_behind_the_export_is_repaired(result: Result, bench: MakeBench) -> None:
    results: list[Result] = [result, result, _converted(3.0)] if result is DIED else [result, _converted(3.0)]
    made = bench({"": results}, engine=Repairing())
    made.search.run()
    assert made.isolation.options[-1] == {"repair": 1}
    (best,) = made.search.chosen(made.root)
    assert (best.candidate.path, best.options) == ("", {"repair": 1})
    assert len(_outcomes(made)[""]) == 2, "the failure stays on record"


@pytest.mark.parametrize("result", [FAILED, HUNG, UNFIT, _converted(1.0)], ids=["failed", "hung", "unfit", "converted"])
def test_what_no_repair_can_mend_is_not_repaired(result: Result, bench: MakeBench) -> None:
    made = bench({"": [result]}, engine=Repairing())
    made.search.run()
    assert {"repair": 1} not in [
        options for path, options in zip(made.isolation.tried, made.isolation.options, strict=True) if path == ""
    ]


def test_a_fault_of_our_own_is_a_failure_with_its_traceback(bench: MakeBench) -> None:
    made = bench({"": [Raised(error="Traceback ...\nKeyError: 'x'", log="")]})
    made.search.run()
    (failed,) = _outcomes(made)[""]
    assert isinstance(failed, Failed)
    assert failed.detail == "the trial raised KeyError: 'x'"
    assert failed.evidence.startswith("Traceback")


def test_a_hang_is_timed_out(bench: MakeBench) -> None:
    made = bench({"": [HUNG]})
    made.search.run()
    (outcome,) = _outcomes(made)[""]
    assert isinstance(outcome, TimedOut)
    assert outcome.detail == "stopped after 8 seconds"


def test_the_root_with_the_most_time_comes_first(bench: MakeBench) -> None:
    heavy = _root({"": 1.0}, seconds=9.0)
    made = bench(more_roots=(heavy,))
    order: list[Any] = []
    run = made.isolation.run

    def noting(work: Any, **limits: Any) -> Result:
        if isinstance(getattr(work, "__self__", None), Trial):
            order.append(work.__self__.candidate.root)
        return run(work, **limits)

    made.isolation.run = noting  # type: ignore[method-assign]
    made.search.run()
    assert order[0] is heavy


# The journal.


def test_a_search_goes_on_behind_its_journal(bench: MakeBench, tmp_path: Path) -> None:
    place = tmp_path / "journal.jsonl"
    first = bench({"a": [_converted(2.0)], "b": [WRONG]}, journal=Journal(place))
    first.search.run()
    again = bench({"": [HUNG]}, journal=Journal(place))
    again.search.run()
    assert again.isolation.tried == []
    assert _outcomes(again) == _outcomes(first)


def test_what_killed_the_process_is_not_tried_again(bench: MakeBench, tmp_path: Path) -> None:
    place = tmp_path / "journal.jsonl"
    first = bench(journal=Journal(place))

    def killed(work: Any, **_: Any) -> Result:
        raise SystemExit("the process died here")

    first.isolation.run = killed  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        first.search.run()
    with place.open("ab") as file:
        file.write(b'{"key": "half a line')
    again = bench(journal=Journal(place))
    again.search.run()
    assert "" not in again.isolation.tried
    assert again.isolation.tried[0] == "a"
    assert isinstance(_outcomes(again)[""][0], Crashed)


def test_a_trial_with_other_options_is_another_trial(bench: MakeBench, tmp_path: Path) -> None:
    place = tmp_path / "journal.jsonl"
    bench({"": [WRONG]}, engine=Honest(), journal=Journal(place)).search.run()
    again = bench({"": [_converted(3.0)]}, engine=Repairing(), journal=Journal(place))
    again.search.run()
    assert again.isolation.options == [{"repair": 1}]


# The confirmation of what was chosen.


def _proven(made: Bench) -> Any:
    prover = Prover(
        root=made.root,
        search=made.search,
        options=made.options,
        isolation=made.isolation,
        budget=made.budget,
        memory=MEMORY,
        progress=lambda line: None,
    )
    return prover.best()


def test_what_dies_when_it_is_confirmed_is_dropped_and_the_next_best_set_confirmed(bench: MakeBench) -> None:
    made = bench({"": [_converted(1.2)], "a": [_converted(1.5)], "b": [_converted(1.5)]})
    made.search.run()
    found = _proven(made)
    assert found.regions == []
    assert made.isolation.confirmations == [["a", "b"], [""]]
    assert set(found.dropped) == {"(root)", "a", "b"}


# The choice within limits.


def _costing(speedup: float, seconds: float, memory: int) -> Finished:
    outcome = msgspec.convert(_converted(speedup).value, Outcome)
    assert isinstance(outcome, Converted)
    return _finished(msgspec.structs.replace(outcome, conversion_seconds=seconds, extra_memory=memory))


COSTLY = {"": [_costing(4.0, 9.0, 900)], "a": [_costing(3.0, 2.0, 300)], "b": [_costing(3.0, 1.0, 500)]}


def _chosen_paths(made: Bench) -> list[str]:
    made.search.run()
    return [attempt.candidate.path for attempt in made.search.chosen(made.root)]


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        ({}, [""]),
        ({"memory_budget": 899}, ["a", "b"]),
        ({"convert_budget": 2.5}, ["a"]),
        ({"convert_budget": 2.5, "memory_budget": 400}, ["a"]),
        ({"memory_budget": 100}, []),
    ],
)
def test_what_is_chosen_stays_within_its_limits(limits: dict[str, Any], chosen: list[str], bench: MakeBench) -> None:
    assert _chosen_paths(bench(COSTLY, **limits)) == chosen


def test_the_next_step_of_a_limit_is_told(bench: MakeBench) -> None:
    made = bench(COSTLY, convert_budget=2.5)
    _chosen_paths(made)
    (told,) = made.search.choice.next_steps()
    assert told == "Conversion budget: 2.5 s; with 3.0 an estimated 16.7 % more of the time would be saved."
    made = bench(COSTLY, convert_budget=100.0)
    _chosen_paths(made)
    assert made.search.choice.next_steps() == ["Conversion budget: 100.0 s; more would buy nothing."]


def test_roots_share_the_limits(bench: MakeBench) -> None:
    other = _root({"": 1.0}, seconds=0.5)
    made = bench({"": [_costing(4.0, 3.0, 10)]}, more_roots=(other,), convert_budget=4.0)
    made.search.run()
    first = made.search.chosen(made.root)
    assert len(first) == 1, "the root with more of the time"
    made.search.choice.settle(made.root, first)
    assert made.search.chosen(other) == []


def test_by_the_scripts_objective_a_conversion_must_pay_within_the_run(bench: MakeBench) -> None:
    # A second of the root's time in all; half of it saved for 0.4 s of conversion pays, for 0.6 s it doesn't.
    assert _chosen_paths(bench({"": [_costing(2.0, 0.4, 0)]}, objective="script")) == [""]
    assert _chosen_paths(bench({"": [_costing(2.0, 0.6, 0)]}, objective="script")) == []


# Samples, taken in turn.


@pytest.mark.parametrize(("threads", "waited", "seconds"), [(1, 3.0, 0.5), (2, 3.0, 2.0), (1, 99.0, 2.0)])
def test_time_that_other_work_took_is_not_counted_where_it_can_be_told(
    threads: int, waited: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, waits = Clock(), Clock()
    monkeypatch.setattr(sampling, "clock", clock)
    monkeypatch.setattr(sampling, "seconds_kept_waiting", waits)
    monkeypatch.setattr(sampling, "math_threads", lambda: threads)

    def action() -> None:
        clock.now += 2.0
        waits.now += waited / 2

    assert sampling.duration(action, repeats=2) == seconds


@pytest.mark.parametrize(("seconds", "repeats"), [(1.0, 1), (0.02, 1), (0.002, 2), (0.0003, 4), (0.00001, 100)])
def test_quick_calls_are_repeated_an_even_number_of_times(
    seconds: float, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "clock", clock)
    monkeypatch.setattr(sampling, "seconds_kept_waiting", lambda: 0.0)

    def action() -> None:
        clock.now += seconds

    assert sampling.repeats_for(action) == repeats


def test_the_kernel_tells_how_long_a_thread_was_kept_waiting() -> None:
    before = device.seconds_kept_waiting()
    assert before >= 0.0
    assert device.seconds_kept_waiting() >= before


class Steps:
    """Two actions of given durations; the clock moves with them."""

    def __init__(self, clock: Clock, eager: float, hybrid: float) -> None:
        self.order: list[str] = []
        self.again: list[bool] = []
        self._clock = clock
        self._seconds = {"eager": eager, "hybrid": hybrid}

    def _do(self, name: str) -> float:
        self.order.append(name)
        self._clock.now += self._seconds[name]
        return self._seconds[name]

    def eager(self, again: bool = False) -> float:
        self.again.append(again)
        return self._do("eager")

    def hybrid(self, again: bool = False) -> float:
        self.again.append(again)
        return self._do("hybrid")


@pytest.mark.parametrize(
    ("eager", "hybrid", "seconds", "patience", "pairs"),
    [
        (2.0, 1.0, 1e9, 0.0, sampling.FEWEST_PAIRS),  # clear at once
        (1.0, 2.0, 1e9, 0.0, sampling.FEWEST_PAIRS),
        (1.0, 1.0, 1e9, 0.0, sampling.FEWEST_PAIRS),  # the same, and clearly so
        (1.0, 1.0, 1.0, 0.0, sampling.FEWEST_PAIRS),  # out of time at once: the fewest all the same
    ],
)
def test_measuring_ends_when_it_is_clear_or_out_of_time(
    eager: float, hybrid: float, seconds: float, patience: float, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "clock", clock)
    steps = Steps(clock, eager, hybrid)
    samples = sampling.interleaved(steps.eager, steps.hybrid, min_gain=1.05, seconds=seconds, patience=patience)
    assert len(samples.eager) == len(samples.hybrid) == pairs
    assert samples.eager == [eager] * pairs
    assert samples.hybrid == [hybrid] * pairs


class Wavering(Steps):
    """Whose eager durations are now below, now above what they are given as, so that nothing becomes clear."""

    def eager(self, again: bool = False) -> float:
        found = super().eager(again)
        self._seconds["eager"] = 2.0 * self._centre - found if found != self._centre else 1.3 * self._centre
        return found

    def __init__(self, clock: Clock, eager: float, hybrid: float) -> None:
        super().__init__(clock, 0.7 * eager, hybrid)
        self._centre = eager


@pytest.mark.parametrize(
    ("eager", "seconds", "patience", "pairs"),
    [
        (1.0, 1e9, 0.0, 50),  # never clear: as many as there may be
        (1.0, 40.5, 0.0, 21),  # out of time
        (1.0, 20.5, 20.0, 21),  # more time, while it could still gain
    ],
)
def test_what_is_not_clear_takes_more_pairs_while_there_is_time(
    eager: float, seconds: float, patience: float, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "clock", clock)
    steps = Wavering(clock, eager, 1.0)
    samples = sampling.interleaved(
        steps.eager, steps.hybrid, min_gain=1.05, seconds=seconds, patience=patience, most=50
    )
    assert len(samples.eager) == pairs


def test_no_patience_with_what_cannot_gain_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "clock", clock)
    # Wavering between 0.63 and 1.0, below the 1.05 that is asked for: a verdict is missing, but nothing to hope for.
    steps = Wavering(clock, 0.8, 1.0)
    samples = sampling.interleaved(steps.eager, steps.hybrid, min_gain=1.2, seconds=10.0, patience=1e9)
    assert len(samples.eager) == sampling.FEWEST_PAIRS


def test_who_goes_first_changes_from_pair_to_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "clock", clock)
    steps = Steps(clock, 1.0, 1.0)
    sampling.interleaved(steps.eager, steps.hybrid, min_gain=1.05, seconds=1.0, fewest=4)
    assert steps.order[:8] == ["eager", "hybrid", "hybrid", "eager"] * 2


def test_who_goes_twice_in_a_row_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "clock", clock)
    steps = Steps(clock, 1.0, 1.0)
    sampling.interleaved(steps.eager, steps.hybrid, min_gain=1.05, seconds=1.0, fewest=4)
    before = ["", *steps.order]
    assert steps.again == [now == last for now, last in zip(steps.order, before, strict=False)]
    assert any(steps.again)


def test_pairs_that_resemble_one_another_are_followed_by_more_until_there_is_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "clock", clock)
    durations = iter([3.0] * 5 + [4.0] * 5 + [3.0, 4.0] * 20)
    samples = sampling.interleaved(lambda _: next(durations), lambda _: 1.0, min_gain=1.05, seconds=-1.0)
    assert sampling.FEWEST_PAIRS < len(samples.eager) < sampling.MOST_WITHOUT_LIMITS
    assert samples.comparison().verdict(1.05) == "faster"
