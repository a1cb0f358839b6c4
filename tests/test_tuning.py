"""Options as a dimension of the search: what is raced, when, and what a winner gets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import Honest
from test_search import DIED, MEMORY, Bench, MakeBench, Scripted, _converted, bench

from autohybrid import engines, plan
from autohybrid.engines import Alternative, Dimension, Machine, attempts, combined
from autohybrid.isolation import Finished, Result
from autohybrid.search.journal import Journal
from autohybrid.search.outcomes import Converted, Raced, Runner
from autohybrid.search.prove import Prover
from autohybrid.search.race import Race
from autohybrid.search.tuning import Tuning

__all__ = ["bench"]


class Offering(Honest):
    """Has two dimensions, one of which can't be had on a GPU, and one option that only cures."""

    dimensions = (
        Dimension(
            name="colour",
            alternatives=lambda machine: [
                Alternative(options={"colour": "red"}, hope=1.5),
                Alternative(options={"colour": "grey"}, cures=True),
            ],
        ),
        Dimension(
            name="size",
            alternatives=lambda machine: () if machine.gpu else [Alternative(options={"size": 2}, hope=1.5)],
        ),
    )


@dataclass
class Track:
    """Isolation that runs races by a table of speedups, and everything else by a scripted one."""

    scripted: Scripted
    speedups: dict[str, float]
    deadly: set[str] = field(default_factory=set)
    races: list[list[dict[str, Any]]] = field(default_factory=list)
    name: str = "track"

    def run(self, work: Any, *, seconds: float, memory: int) -> Result:
        race = getattr(work, "__self__", None)
        if not isinstance(race, Race):
            return self.scripted.run(work, seconds=seconds, memory=memory)
        self.races.append([trial.options for trial in race.others])
        if any(_name(trial.options) in self.deadly for trial in race.others):
            return DIED
        runners = []
        for trial in race.others:
            speedup = self.speedups.get(_name(trial.options), 0.5)
            samples = plan.Samples(eager=[speedup] * 12, hybrid=[1.0] * 12)
            engine = trial.engine.name
            runners.append(Runner(engine=engine, options=trial.options, problem="", samples=samples, rounds=1))
        best = max(range(len(runners)), key=lambda at: self.speedups.get(_name(runners[at].options), 0.5))
        winner = best if self.speedups.get(_name(runners[best].options), 0.5) > 1.02 else None
        return Finished(value=msgspec.to_builtins(Raced(runners=runners, winner=winner)))


def _name(options: dict[str, Any]) -> str:
    return " ".join(str(value) for value in options.values())


def _tuning(made: Bench, speedups: dict[str, float], **changes: Any) -> tuple[Tuning, Track]:
    track = Track(made.isolation, speedups, **changes)
    made.search._isolation = track
    tuning = Tuning(
        search=made.search,
        machine=Machine(),
        isolation=track,
        budget=made.budget,
        memory=MEMORY,
        journal=made.search._journal,
        progress=lambda line: None,
    )
    return tuning, track


def _best(made: Bench) -> dict[str, Any]:
    (attempt,) = made.search.chosen(made.root)
    return attempt.options


def test_what_wins_a_race_is_tried_in_full_and_chosen(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Offering())
    made.search.run()
    tuning, track = _tuning(made, {"red": 1.3})
    tuning.run()
    assert track.races[0] == [{"colour": "red"}, {"size": 2}]
    assert _best(made) == {"colour": "red"}
    assert made.isolation.options[-1] == {"colour": "red"}, "a trial like any other"


def test_options_are_combined_when_they_do_not_lose_alone(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Offering())
    made.search.run()
    tuning, track = _tuning(made, {"red": 1.3, "2": 1.1, "red 2": 1.1})
    tuning.run()
    assert track.races[1] == [{"colour": "red", "size": 2}]
    assert _best(made) == {"colour": "red", "size": 2}


def test_what_loses_is_not_tried_again_on_top_of_a_winner(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Offering())
    made.search.run()
    tuning, track = _tuning(made, {"red": 1.3, "2": 0.7})
    tuning.run()
    assert len(track.races) == 1


def test_nothing_changes_where_nothing_wins(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Offering())
    made.search.run()
    tuning, track = _tuning(made, {"red": 1.0})
    tuning.run()
    assert len(track.races) == 1
    assert _best(made) == {}


def test_a_winner_keeps_its_place_when_its_own_trial_came_at_a_worse_time(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0), _converted(2.9)]}, engine=Offering())
    made.search.run()
    tuning, _ = _tuning(made, {"red": 1.3})
    tuning.run()
    assert _best(made) == {"colour": "red"}


def test_options_that_do_not_hold_on_the_whole_are_given_up_before_the_region(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Offering())
    made.search.run()
    tuning, _ = _tuning(made, {"red": 1.3, "2": 1.1, "red 2": 1.1})
    tuning.run()
    findings, (candidate, *_) = made.search.findings, made.search.findings.candidates
    seen = []
    while True:
        best = findings.best_attempt(candidate)
        assert best is not None
        seen.append(best.options)
        if not findings.demote(best):
            break
    assert seen == [{"colour": "red", "size": 2}, {"colour": "red"}, {}]


def test_a_confirmation_that_fails_tries_the_defaults_next(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Offering())
    made.search.run()
    tuning, track = _tuning(made, {"red": 1.3})
    tuning.run()
    prover = Prover(
        root=made.root,
        search=made.search,
        options=made.options,
        isolation=track,
        budget=made.budget,
        memory=MEMORY,
        progress=lambda line: None,
    )
    found = prover.best()
    assert made.isolation.confirmations == [[""], [""]], "once with the options, once without"
    assert set(found.dropped) == {"(root)"}


def test_a_winner_that_fails_in_full_changes_nothing(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0), DIED, DIED]}, engine=Offering())
    made.search.run()
    tuning, _ = _tuning(made, {"red": 1.3})
    tuning.run()
    assert _best(made) == {}


def test_what_kills_the_others_race_is_raced_alone(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Offering())
    made.search.run()
    tuning, track = _tuning(made, {"red": 1.3}, deadly={"2"})
    tuning.run()
    assert track.races[:3] == [[{"colour": "red"}, {"size": 2}], [{"colour": "red"}], [{"size": 2}]]
    assert _best(made)["colour"] == "red"


def test_only_what_matters_is_raced_the_largest_hope_first(bench: MakeBench) -> None:
    results: dict[str, list[Result]] = {"a": [_converted(2.0)], "b": [_converted(2.0)], "c": [_converted(50.0)]}
    made = bench(results, engine=Offering())
    made.search.run()
    tuning, _ = _tuning(made, {})
    assert [attempt.candidate.path for attempt in tuning.worth_tuning()] == ["a", "b"]


def test_what_is_not_chosen_is_raced_only_if_it_could_beat_what_is(bench: MakeBench) -> None:
    made = bench({"": [_converted(1.06)], "a": [_converted(1.04)], "b": [_converted(6.0)]}, engine=Offering())
    made.search.run()
    tuning, _ = _tuning(made, {})
    assert [attempt.candidate.path for attempt in tuning.worth_tuning()] == ["", "a"]
    # The whole, with all that is hoped for, saves less than its parts do.
    made = bench({"": [_converted(0.6)], "a": [_converted(9.0)], "b": [_converted(9.0)]}, engine=Offering())
    made.search.run()
    assert "" not in [attempt.candidate.path for attempt in _tuning(made, {})[0].worth_tuning()]


def test_alike_layers_are_raced_once_and_all_get_the_winner(bench: MakeBench) -> None:
    made = bench({"y": [_converted(2.0, twins=["x"])]}, engine=Offering())
    made.search.run()
    tuning, track = _tuning(made, {"red": 1.3})
    tuning.run()
    assert len(track.races) == 1
    assert [attempt.options for attempt in made.search.chosen(made.root)] == [{"colour": "red"}] * 2


class Other(Honest):
    """Another engine, without options."""

    name = "other"


def _with_another_engine(made: Bench, monkeypatch: pytest.MonkeyPatch, speedup: float) -> Any:
    """The candidate that is the whole root, which another engine has converted as well."""
    (first,) = made.search.findings.attempts
    other = replace(first, engine="other", outcome=msgspec.convert(_converted(speedup).value, Converted))
    monkeypatch.setattr(engines, "by_name", lambda name: Other() if name == "other" else Honest())
    made.search.findings.note(other)
    return other


@pytest.mark.parametrize(("in_race", "chosen"), [(1.01, "other"), (1.3, "other"), (0.99, "fake")])
def test_between_engines_that_were_tried_the_race_decides_without_certainty(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, in_race: float, chosen: str
) -> None:
    made = bench({"": [_converted(3.0)]})
    made.search.run()
    _with_another_engine(made, monkeypatch, 2.7)
    tuning, track = _tuning(made, {"": in_race})
    before = len(made.isolation.tried)
    tuning.run()
    assert len(track.races) == 1
    assert len(made.isolation.tried) == before, "no trial is made again"
    (attempt,) = made.search.chosen(made.root)
    assert attempt.engine == chosen
    lost = made.search.findings.raced[id(attempt.candidate)]
    assert [each.engine for each in lost] == ([] if chosen == "other" else ["other"])


@pytest.mark.parametrize(("ratios", "races"), [([2.0, 2.0], 0), ([1.0, 4.0], 1)])
def test_another_engine_is_raced_where_its_trial_does_not_tell_that_it_is_slower(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, ratios: list[float], races: int
) -> None:
    made = bench({"": [_converted(3.0)]})
    made.search.run()
    (first,) = made.search.findings.attempts
    wide = plan.Samples(eager=ratios * 15, hybrid=[1.0] * 30)
    slower = msgspec.structs.replace(msgspec.convert(_converted(2.0).value, Converted), samples=wide)
    monkeypatch.setattr(engines, "by_name", lambda name: Other() if name == "other" else Honest())
    made.search.findings.note(replace(first, engine="other", outcome=slower))
    tuning, track = _tuning(made, {"": 0.9})
    tuning.run()
    assert len(track.races) == races


def test_what_is_left_of_the_time_decides_what_matters(bench: MakeBench) -> None:
    made = bench({"": [_converted(30.0)]}, engine=Offering())
    made.search.run()
    tuning, _ = _tuning(made, {})
    assert [attempt.candidate.path for attempt in tuning.worth_tuning()] == [""]


class Greedy(Honest):
    """Offers an option that takes the cores from everything else."""

    dimensions = (
        Dimension(
            name="cores",
            alternatives=lambda machine: [Alternative(options={"spinning": True}, hope=1.5, alone=True)],
        ),
    )


@pytest.mark.parametrize(("results", "races"), [({"": [_converted(3.0)]}, 1), ({"a": [_converted(3.0)]}, 0)])
def test_what_takes_all_cores_is_only_for_what_takes_nearly_all_time(
    bench: MakeBench, results: dict[str, list[Result]], races: int
) -> None:
    made = bench(results, engine=Greedy())
    made.search.run()
    tuning, track = _tuning(made, {})
    tuning.run()
    assert len(track.races) == races


class Brief(Honest):
    """Offers an option that saves the same at each operator."""

    dimensions = (
        Dimension(
            name="threads",
            alternatives=lambda machine: [Alternative(options={"threads": 1}, hope=1.5, short=True)],
        ),
    )


@pytest.mark.parametrize(("longest", "races"), [(1.5, 1), (0.5, 0)])
def test_what_saves_the_same_at_each_operator_is_only_for_short_calls(
    bench: MakeBench, longest: float, races: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autohybrid.search.tuning.SHORT_CALL", longest)
    made = bench({"": [_converted(3.0)]}, engine=Brief())
    made.search.run()
    tuning, track = _tuning(made, {})
    tuning.run()
    assert len(track.races) == races


def test_the_budget_comes_first(bench: MakeBench) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Offering(), budget=100.0)
    made.search.run()
    made.clock.now = 95.0
    tuning, track = _tuning(made, {"red": 1.3})
    tuning.run()
    assert track.races == []
    assert not made.search.findings.complete


class Promising(Offering):
    """Hopes for more from the last of its choices."""

    dimensions = (
        Offering.dimensions[0],
        Dimension(name="shape", alternatives=lambda machine: [Alternative(options={"shape": "round"}, hope=2.0)]),
    )


def test_with_little_time_those_race_of_which_most_is_hoped(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench({"": [_converted(3.0)]}, engine=Promising(), budget=100.0)
    made.search.run()
    monkeypatch.setattr(Tuning, "_seconds_needed", lambda self, best, choices: 40.0 * len(choices))
    tuning, track = _tuning(made, {})
    tuning.run()
    assert track.races[0] == [{"shape": "round"}]
    assert not made.search.findings.complete


def test_a_race_is_remembered_in_the_journal(bench: MakeBench, tmp_path: Path) -> None:
    for expected in (1, 0):
        made = bench({"": [_converted(3.0)]}, engine=Offering(), journal=Journal(tmp_path / "journal"))
        made.search.run()
        tuning, track = _tuning(made, {"red": 1.3})
        tuning.run()
        assert len(track.races) == expected
        assert _best(made) == {"colour": "red"}


# What engines declare.


def test_cures_are_attempts_and_what_the_machine_lacks_is_none() -> None:
    assert attempts(Offering(), Machine()) == [{}, {"colour": "grey"}]
    sizes = Offering.dimensions[1]
    assert list(sizes.alternatives(Machine(gpu=True))) == []


@pytest.mark.parametrize(
    ("one", "more", "both"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"passes": ["x", "y"]}, {"passes": ["y", "z"]}, {"passes": ["x", "y", "z"]}),
    ],
)
def test_options_combine(one: dict[str, Any], more: dict[str, Any], both: dict[str, Any]) -> None:
    assert combined(one, more) == both


@pytest.mark.parametrize(
    ("machine", "offered"),
    [
        (Machine(), []),
        (Machine(math_threads=1, threads=2), [2]),
        (Machine(math_threads=1, threads=6), [2, 4, 6]),
        (Machine(math_threads=4, threads=8), [1, 8]),
        (Machine(math_threads=2, threads=2), [1]),
        (Machine(math_threads=2, threads=2, gpu=True), []),
        (Machine(math_threads=1, threads=8, gpu=True), []),
    ],
)
def test_threads_are_offered_up_to_what_is_allowed_and_one(machine: Machine, offered: list[int]) -> None:
    from autohybrid.engines.dimensions import THREADS

    assert [each.options["threads"] for each in THREADS.alternatives(machine)] == offered
