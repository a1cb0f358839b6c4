"""Successive halving: which of several alternatives beats the one in use, most of the time spent on the best of them.

Jamieson and Talwalkar, *Non-stochastic best arm identification and hyperparameter optimization*, AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from autohybrid.device import clock
from autohybrid.plan import Samples

WORTH_CHANGING = 1.02
"""An alternative must certainly be so many times as fast as what is in use: each option is one more to explain."""

MOST_ROUNDS = 4

ArmT = TypeVar("ArmT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """What was last measured of an alternative (as ``hybrid``) beside the one in use, and in how many rounds."""

    samples: Samples
    rounds: int

    @property
    def speedup(self) -> float:
        return self.samples.comparison().speedup

    @property
    def wins(self) -> bool:
        return self.samples.comparison().verdict(WORTH_CHANGING) == "faster"

    @property
    def open(self) -> bool:
        """Whether it may still be worth changing to."""
        return self.samples.comparison().high >= WORTH_CHANGING


def halved(
    arms: Sequence[ArmT], measure: Callable[[ArmT, float], Samples], seconds: float, longest: float = math.inf
) -> tuple[ArmT | None, dict[ArmT, Lap]]:
    """Measures all arms for ``seconds`` each, then the better half for twice as long, and so on.

    Args:
        arms: what may be better; hashable.
        measure: an arm beside what is in use, in turn, for so many seconds at most.
        longest: seconds after which no further round begins: what ``measure`` can't do without may take longer than it
            was given.

    Returns:
        The best arm if it certainly wins, else None; and the last lap of each arm.
    """
    laps: dict[ArmT, Lap] = {}
    running = list(arms)
    started = clock()
    for number in range(1, MOST_ROUNDS + 1):
        for arm in running:
            laps[arm] = Lap(samples=measure(arm, seconds), rounds=number)
        running = sorted((arm for arm in running if laps[arm].open), key=lambda arm: -laps[arm].speedup)
        decided = not running or (len(running) == 1 and laps[running[0]].wins)
        if decided or clock() - started > longest:
            break
        running = running[: (len(running) + 1) // 2]
        seconds *= 2.0
    best = running[0] if running else None
    return (best if best is not None and laps[best].wins else None), laps
