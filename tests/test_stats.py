"""Samples in, verdicts out: known values, and what noise alone must never look like."""

from __future__ import annotations

import numpy as np
import pytest

from autohybrid.stats import Comparison, Verdict, amdahl_ceiling, combine, compare, median


def _noisy(generator: np.random.Generator, seconds: float, pairs: int) -> list[float]:
    """Durations as machines give them: skewed noise, now and then an outlier."""
    noise = generator.lognormal(0.0, 0.1, pairs)
    outliers = np.where(generator.random(pairs) < 0.05, generator.uniform(2.0, 10.0, pairs), 1.0)
    return list(seconds * noise * outliers)


def _made(low: float, high: float, speedup: float = 1.0) -> Comparison:
    return Comparison(speedup=speedup, low=low, high=high, confidence=0.99, pairs=20)


def test_the_speedup_is_the_median_of_the_ratios() -> None:
    assert compare([2.0, 4.0, 9.0], [1.0, 1.0, 3.0]).speedup == 3.0


def test_the_limits_are_the_order_statistics_of_the_table() -> None:
    # For 10 pairs and 95 % the interval runs from the 2nd to the 9th ratio, for 20 from the 6th to the 15th: the
    # binomial's lower tails below them are 0.011 and 0.021, at most 0.025.
    ten = compare([float(n) for n in range(1, 11)], [1.0] * 10, confidence=0.95)
    assert (ten.low, ten.high) == (2.0, 9.0)
    twenty = compare([float(n) for n in range(1, 21)], [1.0] * 20, confidence=0.95)
    assert (twenty.low, twenty.high) == (6.0, 15.0)


@pytest.mark.parametrize("pairs", [1, 5, 7])
def test_too_few_pairs_prove_nothing(pairs: int) -> None:
    found = compare([100.0] * pairs, [1.0] * pairs)
    assert (found.low, found.high) == (0.0, float("inf"))
    assert found.verdict(1.05) == "inconclusive"


def test_ten_clear_pairs_are_enough() -> None:
    assert compare([2.0] * 10, [1.0] * 10).verdict(1.05) == "faster"


@pytest.mark.parametrize(("eager", "hybrid"), [([], []), ([1.0], []), ([1.0, 2.0], [1.0])])
def test_series_that_do_not_match_are_an_error(eager: list[float], hybrid: list[float]) -> None:
    with pytest.raises(ValueError, match="two series"):
        compare(eager, hybrid)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.05, 2.0, "faster"),
        (1.0499, 2.0, "inconclusive"),
        (0.5, 0.999, "slower"),
        (0.96, 1.04, "same"),
        (0.96, 1.06, "inconclusive"),
        (0.9, 1.04, "inconclusive"),
        (0.0, float("inf"), "inconclusive"),
        (float("nan"), float("nan"), "inconclusive"),
    ],
)
def test_a_verdict_says_what_is_proven(low: float, high: float, verdict: str) -> None:
    assert _made(low, high).verdict(1.05) == verdict


@pytest.mark.parametrize("pairs", [10, 12, 30, 60])
def test_eager_against_eager_is_never_called_faster(pairs: int) -> None:
    generator = np.random.default_rng(pairs)
    verdicts = [
        compare(_noisy(generator, 1.0, pairs), _noisy(generator, 1.0, pairs)).verdict(1.05) for _ in range(2000)
    ]
    assert set(verdicts) <= {"same", "inconclusive", "slower"}
    assert verdicts.count("slower") <= 0.01 * 2000


def test_eager_against_eager_in_several_processes_is_never_called_faster() -> None:
    generator = np.random.default_rng(0)
    for _ in range(2000):
        found = combine([compare(_noisy(generator, 1.0, 20), _noisy(generator, 1.0, 20)) for _ in range(2)])
        assert found.verdict(1.05) != "faster"


def test_the_limits_hold_the_true_ratio_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        found = compare(_noisy(generator, 1.3, 24), _noisy(generator, 1.0, 24))
        held += found.low <= 1.3 <= found.high
    assert held >= 0.985 * 2000


@pytest.mark.parametrize(("gain", "verdict"), [(1.5, "faster"), (3.0, "faster"), (0.6, "slower")])
def test_a_clear_difference_is_found(gain: float, verdict: Verdict) -> None:
    generator = np.random.default_rng(2)
    verdicts = [compare(_noisy(generator, gain, 20), _noisy(generator, 1.0, 20)).verdict(1.05) for _ in range(300)]
    assert verdicts.count(verdict) >= 0.95 * 300


def test_a_drift_of_the_machine_cancels_within_the_pairs() -> None:
    drift = np.linspace(1.0, 5.0, 20)
    found = compare(list(2.0 * drift), list(drift))
    assert (found.low, found.high) == (2.0, 2.0)


def test_several_processes_prove_what_each_of_them_proves() -> None:
    found = combine([_made(1.2, 1.6, 1.4), _made(1.1, 1.5, 1.3), _made(1.3, 1.9, 1.6)])
    assert (found.low, found.high, found.speedup, found.pairs) == (1.1, 1.9, 1.4, 60)


def test_amdahls_law() -> None:
    assert amdahl_ceiling(0.5) == 2.0
    assert amdahl_ceiling(0.0) == 1.0
    assert amdahl_ceiling(1.0) == float("inf")
    assert amdahl_ceiling(0.5, gain=2.0) == pytest.approx(4.0 / 3.0)


def test_the_median_of_nothing_is_zero() -> None:
    assert median([]) == 0.0
    assert median([3.0, 1.0, 2.0]) == 2.0
