"""Samples in, verdicts out. The only module that imports SciPy's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.stats import binom

Verdict = Literal["faster", "same", "slower", "inconclusive"]

DEFAULT_CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two interleaved series of durations, compared pair by pair.

    ``speedup`` is the median of baseline/hybrid over the pairs, ``low`` and ``high`` its confidence limits. With too
    few pairs for the stated confidence the limits are 0 and infinity, so that nothing can be proven from them.
    """

    speedup: float
    low: float
    high: float
    confidence: float
    pairs: int

    def verdict(self, min_gain: float) -> Verdict:
        """Says what is proven: ``faster`` only when the lower limit reaches ``min_gain`` (a ratio above 1)."""
        if self.low >= min_gain:
            return "faster"
        if self.high < 1.0:
            return "slower"
        if self.low >= 1.0 / min_gain and self.high <= min_gain:
            return "same"
        return "inconclusive"


def compare(baseline: Sequence[float], hybrid: Sequence[float], confidence: float = DEFAULT_CONFIDENCE) -> Comparison:
    """Compares durations (seconds) that were measured in turn: ``baseline[i]`` beside ``hybrid[i]``.

    The interval is the distribution-free one for a median, from the order statistics of the ratios (Conover,
    *Practical Nonparametric Statistics*, 3rd edition, section 3.2): it assumes neither a normal distribution nor
    equal variances, and a drift of the machine's speed cancels within each pair.

    Raises:
        ValueError: the series differ in length or are empty.
    """
    if len(baseline) != len(hybrid) or not baseline:
        raise ValueError(f"needs two series of one length above zero, got {len(baseline)} and {len(hybrid)}")
    ratios = np.sort(np.asarray(baseline, dtype=float) / np.asarray(hybrid, dtype=float))
    low, high = 0.0, float("inf")
    pairs = len(ratios)
    below = _ranks_below(pairs, confidence)
    if below >= 1:
        low, high = float(ratios[below - 1]), float(ratios[pairs - below])
    return Comparison(speedup=float(np.median(ratios)), low=low, high=high, confidence=confidence, pairs=pairs)


@lru_cache
def _ranks_below(pairs: int, confidence: float) -> int:
    """The largest rank whose lower tail stays under (1 - confidence) / 2; SciPy takes 0.1 ms to find it."""
    return int(binom.ppf((1.0 - confidence) / 2.0, pairs, 0.5))


def combine(comparisons: Sequence[Comparison]) -> Comparison:
    """Joins the comparisons of several processes: a limit holds only if it holds in each of them.

    A median over the pairs of one process says nothing about how the next process will be laid out in memory; the
    outermost limits do.
    """
    return Comparison(
        speedup=float(np.median([each.speedup for each in comparisons])),
        low=min(each.low for each in comparisons),
        high=max(each.high for each in comparisons),
        confidence=min(each.confidence for each in comparisons),
        pairs=sum(each.pairs for each in comparisons),
    )


def median(samples: Sequence[float]) -> float:
    """The median; 0.0 for no samples."""
    return float(np.median(np.asarray(samples, dtype=float))) if len(samples) else 0.0


def amdahl_ceiling(share: float, gain: float = float("inf")) -> float:
    """The speedup of the whole when a part of it, ``share`` in 0..1, gets ``gain`` times faster (Amdahl 1967)."""
    remaining = (1.0 - share) + share / gain
    return float("inf") if remaining <= 0.0 else 1.0 / remaining
