"""Successive halving over made-up arms: who wins, and where the time goes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from autohybrid.plan import Samples
from autohybrid.search import halving
from autohybrid.search.halving import halved


class Stadium:
    """Measures arms of known speedups, with noise; notes for how long each ran."""

    def __init__(self, speedups: dict[str, float], noise: float = 0.05) -> None:
        self.seconds: Counter[str] = Counter()
        self._speedups = speedups
        self._noise = noise
        self._generator = np.random.default_rng(0)

    def measure(self, arm: str, seconds: float) -> Samples:
        self.seconds[arm] += seconds  # type: ignore[assignment]
        pairs = int(40 * seconds)
        noise = np.exp(self._generator.normal(0.0, self._noise, pairs))
        return Samples(eager=list(self._speedups[arm] * noise), hybrid=[1.0] * pairs)


def test_the_fastest_arm_wins() -> None:
    stadium = Stadium({"a": 1.1, "b": 1.5, "c": 0.7, "d": 1.3})
    winner, laps = halved(list("abcd"), stadium.measure, 1.0)
    assert winner == "b"
    assert set(laps) == set("abcd")
    assert laps["b"].wins


def test_most_time_goes_to_the_best() -> None:
    stadium = Stadium({"a": 1.10, "b": 1.12, "c": 1.02, "d": 1.04, "e": 0.5})
    halved(list("abcde"), stadium.measure, 1.0)
    assert stadium.seconds["e"] == 1.0
    assert stadium.seconds["b"] > 2.0 * stadium.seconds["c"]


@pytest.mark.parametrize("speedups", [{}, {"a": 0.8}, {"a": 1.0, "b": 0.9, "c": 1.005}])
def test_nobody_wins_who_is_not_certainly_faster(speedups: dict[str, float]) -> None:
    assert halved(list(speedups), Stadium(speedups).measure, 1.0)[0] is None


def test_equals_win_hardly_ever() -> None:
    won = 0
    for seed in range(100):
        stadium = Stadium(dict.fromkeys("abcd", 1.0), noise=0.2)
        stadium._generator = np.random.default_rng(seed)
        won += halved(list("abcd"), stadium.measure, 1.0)[0] is not None
    assert won <= 3


def test_a_race_whose_laps_take_longer_than_they_were_given_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 1000, 10))
    monkeypatch.setattr(halving, "clock", lambda: float(next(seconds)))
    _, laps = halved(["a"], Stadium({"a": 1.02}, noise=0.3).measure, 1.0, longest=15.0)
    assert laps["a"].rounds == 2


def test_a_close_winner_gets_time_enough() -> None:
    assert halved(["a"], Stadium({"a": 1.06}).measure, 0.5)[0] == "a"
