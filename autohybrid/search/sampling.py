"""Measures two ways of doing the same in turn, for as long as it takes to tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autohybrid.device import clock, synchronize
from autohybrid.plan import Samples

FEWEST_PAIRS = 10
"""With fewer no limit at 99 % confidence exists yet, see :func:`autohybrid.stats.order_of_limit`."""

MOST_PAIRS = 400
SHORTEST_SAMPLE = 1e-3
"""Seconds: shorter calls are repeated within one sample, so that the clock and the loop don't count."""


def interleaved(
    eager: Callable[[], float],
    hybrid: Callable[[], float],
    *,
    min_gain: float,
    seconds: float,
    patience: float = 0.0,
    fewest: int = FEWEST_PAIRS,
    most: int = MOST_PAIRS,
) -> Samples:
    """Measures both in turn, swapping who goes first from pair to pair; each gives one duration in seconds.

    Ends as soon as there is a verdict against ``min_gain``: a clear winner and a hopeless one need ``fewest`` pairs, a
    close one more. The confidence of the verdict isn't spoiled by looking after each pair, since the limits hold at all
    numbers of pairs together. Without a verdict it ends after ``most`` pairs, or when ``seconds`` are used up (but not
    before ``fewest`` pairs); up to ``patience`` seconds more are taken while the gain may still reach ``min_gain``.
    """
    samples = Samples(eager=[], hybrid=[])
    started = clock()
    while len(samples.eager) < most:
        if len(samples.eager) % 2:
            later = hybrid()
            samples.eager.append(eager())
            samples.hybrid.append(later)
        else:
            samples.eager.append(eager())
            samples.hybrid.append(hybrid())
        if len(samples.eager) < fewest:
            continue
        found = samples.comparison()
        if found.verdict(min_gain) != "inconclusive":
            break
        allowed = seconds + (patience if found.high >= min_gain else 0.0)
        if clock() - started > allowed:
            break
    return samples


def repeats_for(*actions: Callable[[], Any]) -> int:
    """How often the quickest of ``actions`` must be repeated to make a sample of ``SHORTEST_SAMPLE``."""
    return max(1, round(SHORTEST_SAMPLE / max(min(_shortest(action) for action in actions), 1e-7)))


def _shortest(action: Callable[[], Any]) -> float:
    found = duration(action)
    return found if found > 2.0 * SHORTEST_SAMPLE else min(found, duration(action), duration(action))


def duration(action: Callable[[], Any], repeats: int = 1) -> float:
    """Seconds that one ``action`` takes, over so many repeats."""
    synchronize()
    started = clock()
    for _ in range(repeats):
        action()
    synchronize()
    return (clock() - started) / repeats
