"""Races in one process, with fake engines: what is wrong or fails takes no part, what is faster wins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import paddle
import plans
import pytest
from fakes import Tensors
from test_trial import Quick, Row, _candidates

from autohybrid import device, plan
from autohybrid.engines import Request
from autohybrid.errors import ConversionError
from autohybrid.plan import Samples
from autohybrid.report import markdown, rows, table
from autohybrid.runtime.equality import Tolerance
from autohybrid.search.candidates import Candidate
from autohybrid.search.eager_threads import EagerThreads
from autohybrid.search.outcomes import Converted, Raced
from autohybrid.search.race import Race
from autohybrid.search.trial import Trial


class Choosing(Quick):
    """Does what its options say."""

    def check_options(self, options: dict[str, Any]) -> None:
        return

    def convert(self, request: Request) -> Any:
        if request.options.get("does") == "refuse":
            raise ConversionError("it was told to refuse")
        made = super().convert(request)
        return _Told(made, request.options.get("does", "wait"))


class _Told:
    concurrent = False

    def __init__(self, made: Any, does: str) -> None:
        self._made = made
        self._does = does

    def run(self, tensors: Sequence[Any]) -> Tensors:
        answers: Tensors = self._made.run(tensors)
        if self._does == "wait":
            time.sleep(0.002)
        return [each + 1.0 for each in answers] if self._does == "lie" else answers

    def close(self) -> None:
        self._made.close()


def _trial(candidate: Candidate, options: dict[str, Any]) -> Trial:
    return Trial(
        candidate=candidate,
        engine=Choosing(),
        options=options,
        tolerance=Tolerance(),
        min_gain=1.05,
        measuring_seconds=0.3,
    )


def _raced(best: dict[str, Any], *others: dict[str, Any]) -> Raced:
    candidate = _candidates(Row(0.01))[""]
    found = _trial(candidate, best).conduct()
    assert isinstance(found, Converted)
    race = Race(
        best=_trial(candidate, best),
        others=[_trial(candidate, options) for options in others],
        inputs=found.inputs,
        training_mode=found.training_mode,
        seconds=0.2,
        longest=10.0,
    )
    return race.conduct()


def test_what_is_faster_wins_and_what_is_wrong_takes_no_part() -> None:
    raced = _raced({}, {"does": "lie"}, {"does": "hurry"}, {"does": "refuse"})
    assert raced.winner == 1
    wrong, winner, failed = raced.runners
    assert "differs" in wrong.problem
    assert wrong.samples is failed.samples is None
    assert "refuse" in failed.problem
    assert winner.samples is not None
    assert winner.samples.comparison().verdict(1.02) == "faster"


def test_nobody_wins_against_what_is_faster() -> None:
    raced = _raced({"does": "hurry"}, {})
    assert raced.winner is None
    assert raced.runners[0].problem == ""


def test_there_is_no_race_without_what_is_in_use() -> None:
    candidate = _candidates(Row(0.001))[""]
    found = _trial(candidate, {}).conduct()
    assert isinstance(found, Converted)
    refusing, other = _trial(candidate, {"does": "refuse"}), _trial(candidate, {})
    raced = Race(
        best=refusing, others=[other], inputs=found.inputs, training_mode="eager", seconds=0.1, longest=9.0
    ).conduct()
    assert (raced.runners, raced.winner) == ([], None)
    assert "refuse" in raced.detail


# What threads alone do for eager.


def test_eager_is_measured_with_the_threads_of_the_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(device, "set_math_threads", told.append)
    monkeypatch.setattr(device, "math_threads", lambda: 1)
    root = _candidates(Row(0.0005))[""].root
    with paddle.no_grad():
        samples = EagerThreads(root=root, threads=3, min_gain=1.05, measuring_seconds=0.05).conduct()
    assert len(samples.eager) >= 10
    assert told[:5] == [3, 1, 3, 3, 1], "the threads are made first, then both in turn"
    assert told[-1] == 1, "and set back"


def _with_threads() -> plan.Plan:
    alone = plan.EagerThreads(threads=2, set_by="a_function", samples=Samples(eager=[1.5] * 12, hybrid=[1.0] * 12))
    region = plans.region("body", {"tuple": []}, options={"threads": 2})
    return plans.whole([plans.model([region], eager_threads=alone)])


def test_a_gain_that_eager_could_have_too_is_a_row_of_its_own() -> None:
    made = _with_threads()
    names = [row.name for row in rows.whole_rows(made.models[0])]
    assert names == ["eager", "eager, 2 threads", "hybrid"]
    for text in (table.render(made), markdown.render(made)):
        flat = " ".join(text.split())
        assert "eager, 2 threads" in flat
        assert "2 threads alone make eager 1.50x as fast, which leaves 1.33x to the conversion." in flat
        assert "OMP_NUM_THREADS=2 in its environment, or a_function(2)" in flat
