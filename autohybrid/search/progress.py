"""What a search tells while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["observing", "checking", "trying", "racing", "confirming", "measuring"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a search is doing now, and how far it is.

    Attributes:
        what: what the stage is about, in words that follow it.
        trials: how many there were.
        spent: seconds of the budget that are used up; ``budget`` is the whole.
        speedup: of all roots together by what is proven so far; an estimate from the trials.
    """

    stage: Stage
    what: str
    trials: int = 0
    spent: float = 0.0
    budget: float = 0.0
    speedup: float = 1.0

    def __str__(self) -> str:
        parts = [f"{self.stage} {self.what}"]
        if self.budget:
            parts.append(f"{max(0.0, self.budget - self.spent):.0f} s left")
        if self.speedup > 1.0:
            parts.append(f"about {self.speedup:.2f}x so far")
        return ", ".join(parts)


Progress: TypeAlias = Callable[[Step], None]
