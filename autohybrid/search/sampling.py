"""Measures two ways of doing the same in turn, for as long as it takes to tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autohybrid.device import clock, synchronize
from autohybrid.plan import Samples

FEWEST_PAIRS = 10
MOST_PAIRS = 60
SHORTEST_SAMPLE = 1e-3
"""Seconds: shorter calls are repeated within one sample, so that the clock and the loop don't count."""


def interleaved(
    eager: Callable[[], Any],
    hybrid: Callable[[], Any],
    *,
    min_gain: float,
    seconds: float,
    fewest: int = FEWEST_PAIRS,
    most: int = MOST_PAIRS,
) -> Samples:
    """Times both in turn, swapping who goes first from pair to pair.

    Ends when the verdict against ``min_gain`` is clear, after ``most`` pairs, or when ``seconds`` are used up (but
    not before ``fewest`` pairs).
    """
    repeats = _repeats(eager, hybrid)
    samples = Samples(eager=[], hybrid=[])
    deadline = clock() + seconds
    while len(samples.eager) < most:
        if len(samples.eager) % 2:
            later = _timed(hybrid, repeats)
            samples.eager.append(_timed(eager, repeats))
            samples.hybrid.append(later)
        else:
            samples.eager.append(_timed(eager, repeats))
            samples.hybrid.append(_timed(hybrid, repeats))
        if len(samples.eager) < fewest:
            continue
        if clock() > deadline or samples.comparison().verdict(min_gain) in ("faster", "slower"):
            break
    return samples


def _repeats(*actions: Callable[[], Any]) -> int:
    shortest = min(min(_timed(action, 1) for _ in range(3)) for action in actions)
    return max(1, round(SHORTEST_SAMPLE / max(shortest, 1e-7)))


def _timed(action: Callable[[], Any], repeats: int) -> float:
    synchronize()
    started = clock()
    for _ in range(repeats):
        action()
    synchronize()
    return (clock() - started) / repeats
