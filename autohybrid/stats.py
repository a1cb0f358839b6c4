"""Samples in, verdicts out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

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

    The interval is a distribution-free one for the median of the ratios, from their order statistics (Conover,
    *Practical Nonparametric Statistics*, 3rd edition, section 3.2): it assumes neither a normal distribution nor equal
    variances, and a drift of the machine's speed cancels within each pair. It holds at all numbers of pairs at once (a
    confidence sequence, see :func:`order_of_limit`), so that one may look after each pair and stop when one likes.
    Pairs that resemble the pair before them tell less (:func:`neighbours_alike`).

    Raises:
        ValueError: the series differ in length or are empty.
    """
    if len(baseline) != len(hybrid) or not baseline:
        raise ValueError(f"needs two series of one length above zero, got {len(baseline)} and {len(hybrid)}")
    in_turn = np.asarray(baseline, dtype=float) / np.asarray(hybrid, dtype=float)
    ratios = np.sort(in_turn)
    pairs = len(ratios)
    low, high = 0.0, float("inf")
    below = order_of_limit(pairs, confidence, neighbours_alike(in_turn))
    if below >= 1:
        low, high = float(ratios[below - 1]), float(ratios[pairs - below])
    return Comparison(speedup=float(np.median(ratios)), low=low, high=high, confidence=confidence, pairs=pairs)


def order_of_limit(pairs: int, confidence: float, alike: float = 0.0) -> int:
    """Which of the sorted ratios, counted from 1, is the lower limit for their median; 0 for none yet.

    The number of ratios below the true median walks at random: each pair lies on the other side than the one before it
    with probability ``(1 - alike) / 2``. The limits are the highest orders for which that walk passes a limit at *any*
    number of pairs with a probability of at most ``(1 - confidence) / 2`` on each side, of which the share
    ``n / (n + 40)`` may be spent by the n-th pair: repeated looks with alpha spending (Lan and DeMets, *Biometrika* 70,
    1983), computed exactly as in Armitage, McPherson and Rowe (*J. R. Statist. Soc. A* 132, 1969). Howard and Ramdas
    (*Bernoulli* 28, 2022) have the same for independent pairs by inequalities.
    """
    size = _FIRST_TABLE
    while size < pairs:
        size *= 2
    return _orders(size, confidence, alike)[pairs]


_FIRST_TABLE = 256
_PAIRS_AT_HALF = 40
"""By so many pairs half of the error probability may be spent. Ten pairs on one side of a limit then just prove it."""


@cache
def _orders(most: int, confidence: float, alike: float) -> list[int]:
    """:func:`order_of_limit` for 0 to ``most`` pairs."""
    error, stays = (1.0 - confidence) / 2.0, (1.0 + alike) / 2.0
    # Of walks that passed no limit yet: the probability of each count below the median, by where the last pair lies.
    above, below = np.zeros(most + 1), np.zeros(most + 1)
    above[0] = below[0] = 0.5
    spent, orders = 0.0, [0]
    for pairs in range(1, most + 1):
        to_above = stays * above + (1.0 - stays) * below
        to_below = (1.0 - stays) * above + stays * below
        above, below = to_above, np.concatenate(([0.0], to_below[:-1]))
        tail = np.cumsum((above + below)[: pairs // 2 + 1])
        order = int(np.searchsorted(tail, error * pairs / (pairs + _PAIRS_AT_HALF) - spent, side="right"))
        if order:
            spent += float(tail[order - 1])
            above[:order] = below[:order] = 0.0
        orders.append(order)
    return orders


MOST_ALIKE = 0.5
"""More than this isn't taken for a likeness of neighbours but for a machine that changed its speed for good."""


def neighbours_alike(ratios: npt.NDArray[np.float64]) -> float:
    """How much more often than not neighbours lie on one side of the median, 0 to :data:`MOST_ALIKE`, in tenths.

    The correlation of neighbours' signs: a neighbour that stays on the same side for a while (a burst of other work)
    isn't a new witness. Short series make it look smaller than it is, by (1 + 3 r) / n (Marriott and Pope, *Biometrika*
    41, 1954), which is added again.
    """
    signs = np.sign(ratios - np.median(ratios))
    total = float(signs @ signs)
    seen = float(signs[1:] @ signs[:-1]) / total if total else -1.0
    likely = seen + (1.0 + 3.0 * max(seen, 0.0)) / len(ratios)
    return min(max(math.ceil(10.0 * likely), 0) / 10.0, MOST_ALIKE)


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
