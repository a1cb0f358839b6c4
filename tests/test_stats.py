"""Samples in, verdicts out: known values, and what noise alone must never look like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from autohybrid import stats
from autohybrid.stats import Comparison, Verdict, amdahl_ceiling, combine, compare, median, order_of_limit


def _noisy(generator: np.random.Generator, seconds: float, pairs: int) -> list[float]:
    """Durations as machines give them: skewed noise, now and then an outlier."""
    noise = generator.lognormal(0.0, 0.1, pairs)
    outliers = np.where(generator.random(pairs) < 0.05, generator.uniform(2.0, 10.0, pairs), 1.0)
    return list(seconds * noise * outliers)


def _made(low: float, high: float, speedup: float = 1.0) -> Comparison:
    return Comparison(speedup=speedup, low=low, high=high, confidence=0.99, pairs=20)


def test_the_speedup_is_the_median_of_the_ratios() -> None:
    assert compare([2.0, 4.0, 9.0], [1.0, 1.0, 3.0]).speedup == 3.0


def test_the_limits_are_order_statistics_of_the_ratios() -> None:
    # Interleaved, for a rising series would count as one long burst.
    ten = compare([float(n) for n in (6, 1, 7, 2, 8, 3, 9, 4, 10, 5)], [1.0] * 10)
    assert (ten.low, ten.high) == (1.0, 10.0)
    twenty = compare([float(n) for pair in zip(range(1, 11), range(11, 21), strict=True) for n in pair], [1.0] * 20)
    assert order_of_limit(20, 0.99) == 3
    assert (twenty.low, twenty.high) == (3.0, 18.0)


def test_all_looks_together_err_as_seldom_as_is_stated() -> None:
    # Every one of the 2^16 ways in which 16 pairs can lie about their median, each as likely as another.
    ways = np.arange(2**16)
    below = np.zeros_like(ways)
    missed = np.zeros(len(ways), dtype=bool)
    for pairs in range(1, 17):
        below += (ways >> (pairs - 1)) & 1
        missed |= below < order_of_limit(pairs, 0.9)
        assert missed.mean() <= 0.05 * pairs / (pairs + 40)
    assert missed.mean() > 0.5 * 0.05 * 16 / 56, "and no seldomer than it must"


def test_limits_for_pairs_that_resemble_each_other_hold_in_a_walk_that_does_so() -> None:
    generator = np.random.default_rng(0)
    walks, pairs, alike = 20000, 60, 0.5
    sides = np.empty((walks, pairs), dtype=bool)
    sides[:, 0] = generator.random(walks) < 0.5
    for at in range(1, pairs):
        sides[:, at] = sides[:, at - 1] ^ (generator.random(walks) < (1.0 - alike) / 2.0)
    orders = np.array([order_of_limit(seen, 0.9, alike) for seen in range(1, pairs + 1)])
    missed = (np.cumsum(sides, axis=1) < orders).any(axis=1).mean()
    assert 0.015 <= missed <= 0.036, "of 0.05, six tenths may be spent by then"


def test_a_gain_that_is_clear_in_every_pair_is_proven_even_if_the_machine_changes_its_speed() -> None:
    ratios = [4.0] * 10 + [3.0] * 11
    assert compare(ratios, [1.0] * 21).verdict(1.05) == "faster"


def test_limits_close_in_as_pairs_are_added() -> None:
    parts = [order_of_limit(pairs, 0.99) / pairs for pairs in (10, 20, 40, 100, 400, 1000)]
    assert parts == sorted(parts)
    assert parts[-1] > 0.43


@pytest.mark.parametrize("pairs", [1, 5, 9])
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


Noise = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def _correlated(strength: float) -> Noise:
    """Noise of which each value resembles the one before it."""

    def noise(generator: np.random.Generator, pairs: int) -> npt.NDArray[np.float64]:
        steps = generator.normal(0.0, 0.1, pairs)
        for at in range(1, pairs):
            steps[at] = strength * steps[at - 1] + np.sqrt(1.0 - strength**2) * steps[at]
        return steps

    return noise


def _bursts(generator: np.random.Generator, pairs: int) -> npt.NDArray[np.float64]:
    """Other work comes and goes: for some pairs on end the noise is ten times what it was."""
    busy = np.repeat(generator.random(pairs // 5 + 1) < 0.3, 5)[:pairs]
    return generator.normal(0.0, 0.03, pairs) * np.where(busy, 10.0, 1.0)


NOISES: dict[str, Noise] = {
    "normal": lambda generator, pairs: generator.normal(0.0, 0.1, pairs),
    "heavy tails": lambda generator, pairs: 0.05 * generator.standard_t(2.0, pairs),
    "bursts": _bursts,
    "somewhat correlated": _correlated(0.3),
}


def _ever(noise: Noise, miss: Callable[[Comparison], bool], pairs: int = 60, runs: int = 200) -> float:
    """How often a look after any number of pairs, to 1 as the true ratio, shows what it shouldn't."""
    generator = np.random.default_rng(1)
    missed = 0
    for _ in range(runs):
        # A machine that gets three times slower meanwhile; both sides of a pair feel it.
        drift = np.exp(np.linspace(0.0, np.log(3.0), pairs))
        baseline, hybrid = list(drift * np.exp(noise(generator, pairs))), list(drift)
        missed += any(miss(compare(baseline[:seen], hybrid[:seen])) for seen in range(1, pairs + 1))
    return missed / runs


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_limits_hold_the_true_ratio_whenever_one_looks(noise: Noise) -> None:
    assert _ever(noise, lambda found: not found.low <= 1.0 <= found.high) <= 0.03


def test_looking_often_spoils_an_interval_that_is_made_for_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(found: Comparison) -> bool:
        return not found.low <= 1.0 <= found.high

    monkeypatch.setattr(stats, "neighbours_alike", lambda ratios: 0.0)
    assert _ever(NOISES["normal"], wrong) <= 0.02
    monkeypatch.setattr(stats, "order_of_limit", lambda pairs, confidence, alike: int(binom.ppf(0.005, pairs, 0.5)))
    assert _ever(NOISES["normal"], wrong) > 0.04


def test_pairs_that_resemble_each_other_count_for_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(found: Comparison) -> bool:
        return not found.low <= 1.0 <= found.high

    held = _ever(_correlated(0.6), wrong)
    monkeypatch.setattr(stats, "neighbours_alike", lambda ratios: 0.0)
    assert held < 0.5 * _ever(_correlated(0.6), wrong)


@pytest.mark.parametrize("noise", [*NOISES.values(), _correlated(0.6)], ids=[*NOISES, "much correlated"])
def test_a_gain_is_never_seen_where_there_is_none(noise: Noise) -> None:
    assert _ever(noise, lambda found: found.verdict(1.05) == "faster") <= 0.01


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_equals_are_called_the_same_when_there_are_pairs_enough(noise: Noise) -> None:
    generator = np.random.default_rng(2)
    verdicts = [compare(list(np.exp(noise(generator, 400))), [1.0] * 400).verdict(1.05) for _ in range(100)]
    assert verdicts.count("same") >= 95


@pytest.mark.parametrize(("gain", "verdict"), [(1.5, "faster"), (3.0, "faster"), (0.6, "slower")])
def test_a_clear_difference_is_found_soon(gain: float, verdict: Verdict) -> None:
    generator = np.random.default_rng(2)

    def pairs_needed() -> int:
        slow, fast = _noisy(generator, gain, 60), _noisy(generator, 1.0, 60)
        looks = (pairs for pairs in range(1, 61) if compare(slow[:pairs], fast[:pairs]).verdict(1.05) == verdict)
        return next(looks, 61)

    needed = sorted(pairs_needed() for _ in range(200))
    assert needed[100] <= 15
    assert needed[190] <= 40


def test_a_drift_of_the_machine_cancels_within_the_pairs() -> None:
    drift = np.linspace(1.0, 5.0, 20)  # seconds
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
