"""Trials of real Layers with fake engines: what is measured, and what stands for what."""

from __future__ import annotations

import time
from typing import Any

import paddle
import pytest
from fakes import Honest, Tensors
from paddle import nn

from autohybrid.engines import by_name
from autohybrid.observe.observer import Observer
from autohybrid.runtime.equality import Tolerance
from autohybrid.search.below import Family
from autohybrid.search.candidates import Candidate, candidates_of
from autohybrid.search.outcomes import Converted, Unfit
from autohybrid.search.trial import Trial, agree
from autohybrid.stats import Comparison


class Waiting(nn.Layer):  # type: ignore[misc]
    """Takes its time in eager mode; much more than the fake engine, whose answers cost some milliseconds."""

    awake = False
    last: Any = None

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        Waiting.last = self
        if not Waiting.awake:
            time.sleep(self.seconds)
        return self.fc(x)


class Row(nn.Layer):  # type: ignore[misc]
    """Equal blocks but for what they wait."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.blocks = nn.LayerList([Waiting(each) for each in seconds])
        self.eval()

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


class Quick(Honest):
    """Computes as eager does, without waiting; is wrong for one Layer on request."""

    def __init__(self, wrong_for: Any = None) -> None:
        super().__init__()
        self._wrong_for = wrong_for

    def answer(self, compute: Any, given: Tensors) -> Tensors:
        Waiting.awake = True
        try:
            made = compute()
        finally:
            Waiting.awake = False
        return [each + 1.0 for each in made] if Waiting.last is self._wrong_for else made


def _candidates(model: Any) -> dict[str, Candidate]:
    with Observer() as observer, paddle.no_grad():
        for _ in range(3):
            model(paddle.rand([2, 4]))
    profile = observer.profile()
    (root,) = profile.roots
    return {each.path: each for each in candidates_of(profile, root, Family())}


def _trial(candidates: dict[str, Candidate], engine: Honest) -> Converted:
    first, *twins = (candidates[f"blocks.{at}"] for at in range(sum(path.count(".") == 1 for path in candidates)))
    outcome = Trial(
        candidate=first,
        engine=engine,
        options={},
        tolerance=Tolerance(),
        min_gain=1.05,
        measuring_seconds=0.5,
        twins=twins,
    ).conduct()
    assert isinstance(outcome, Converted)
    return outcome


def test_alike_layers_with_one_gain_share_a_trial_that_was_checked_on_one_more() -> None:
    engine = Quick()
    outcome = _trial(_candidates(Row(0.02, 0.02, 0.02, 0.02)), engine)
    assert outcome.twins == ["blocks.1", "blocks.2", "blocks.3"]
    assert outcome.checked_on in outcome.twins


def test_alike_layers_with_another_gain_get_trials_of_their_own() -> None:
    outcome = _trial(_candidates(Row(0.02, 0.02, 0.2)), Quick())
    assert outcome.twins == []
    assert outcome.checked_on == "blocks.2"


class Tagging(nn.Layer):  # type: ignore[misc]
    """Answers with numbers of Python's that depend on what it is asked, as a decoder's labels do."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(64, 4)
        self.eval()

    def forward(self, words: Any) -> Any:
        scores = self.words(words)
        return scores, [int(each) for each in words[0]]


def test_integers_alone_are_tried_in_another_order_too() -> None:
    model = Tagging()
    with Observer() as observer, paddle.no_grad():
        for length in (4, 5, 6):
            model(paddle.arange(length).reshape([1, length]))
    profile = observer.profile()
    (root,) = profile.roots
    (candidate,) = [each for each in candidates_of(profile, root, Family()) if not each.path and not each.chain]
    trial = Trial(
        candidate=candidate,
        engine=by_name("predictor"),
        options={},
        tolerance=Tolerance(),
        min_gain=1.05,
        measuring_seconds=0.1,
        static=True,
    )
    assert [call.tensors[0].tolist() for call in trial.different_inputs()] == [[[0, 1, 2, 3]], [[3, 2, 1, 0]]]
    outcome = trial.conduct()
    assert isinstance(outcome, Unfit), "one size was always asked the same: it passes for what always answers so"
    assert outcome.reason == "structure"
    assert "changes from call to call" in outcome.detail


def _gain(low: float, speedup: float, high: float) -> Comparison:
    return Comparison(speedup=speedup, low=low, high=high, confidence=0.99, pairs=10)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (_gain(1.8, 2.0, 2.2), _gain(1.9, 2.1, 2.3), True),
        (_gain(1.8, 2.0, 2.2), _gain(2.3, 2.4, 2.5), True),
        (_gain(1.8, 2.0, 2.2), _gain(2.6, 2.7, 2.8), False),
        (_gain(12.0, 20.0, 24.0), _gain(16.0, 800.0, 900.0), False),
        (_gain(12.0, 20.0, 24.0), _gain(0.0, 21.0, float("inf")), False),
    ],
    ids=["overlapping", "nearly", "apart", "disturbed", "too few pairs"],
)
def test_gains_agree_only_where_the_samples_bear_it_out(one: Comparison, other: Comparison, same: bool) -> None:
    assert agree(one, other) == same
    assert agree(other, one) == same


def test_alike_layers_get_trials_of_their_own_when_one_is_answered_wrongly() -> None:
    row = Row(0.02, 0.02)
    outcome = _trial(_candidates(row), Quick(wrong_for=row.blocks[1]))
    assert (outcome.twins, outcome.checked_on) == ([], "blocks.1")


def test_what_gains_nothing_is_not_checked() -> None:
    engine = Quick()
    outcome = _trial(_candidates(Row(0.0, 0.0)), engine)
    assert outcome.twins == ["blocks.1"]
    assert outcome.checked_on == ""
    assert len(engine.requests) == 1
