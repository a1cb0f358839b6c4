"""What a user may ask of a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autohybrid import device
from autohybrid.errors import UsageError
from autohybrid.runtime.equality import DEFAULT_ATOL, DEFAULT_RTOL, LOWER_PRECISIONS

DEFAULT_MIN_GAIN = 1.05
SHORTEST_BUDGET = 30.0
BUDGET_IN_SCRIPTS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to profile.

    Attributes:
        engines: names of the engines to try; empty for all that can be used here.
        budget: seconds for trials and confirmation; None for the larger of 30 s and 5 times the observed run.
        rtol: tolerance relative to each element of an answer.
        atol: tolerance relative to the largest element of each Tensor of an answer.
        min_gain: the speedup that the lower confidence limit must reach.
        include: patterns of paths or class names to consider; empty for all.
        exclude: patterns to leave out.
        max_calls: root calls after which observation stops; None for no limit.
        max_memory: bytes for kept inputs, and for each trial beyond what this process holds; None for half of what is
            available.
        isolation: ``"fork"`` tries in child processes, ``"none"`` in this one, at its risk.
        dry_run: rank only, convert nothing.
        threads: the most math threads that a conversion may use on a CPU, ``"auto"`` for as many as there are cores
            for this process; 1 for as many as eager uses. Never more than the user's own ``OMP_NUM_THREADS``. More
            threads may serve eager, too: the plan says how much.
        precisions: ``"bfloat16"``, ``"float16"``: what conversions may compute with besides float32. Their answers
            have a wider tolerance, see :data:`autohybrid.runtime.equality.LOWER_PRECISIONS`.
        memory_budget: bytes that all regions together may hold beyond eager; None for no limit.
        convert_budget: seconds that their conversions may take together at start; None for no limit.
        objective: ``"steady"`` chooses by the time of a root call once everything is converted, ``"script"`` by what
            such a run of the script saves in all, conversions taken off.
        fresh: try everything anew, also what an earlier search for the same has tried.
        reproductions: a directory for the scripts that show each failed conversion alone, for
            :func:`autohybrid.profile`; None writes none. (The command puts them beside the plan.)

    Raises:
        UsageError: a value makes no sense.
    """

    engines: tuple[str, ...] = ()
    budget: float | None = None
    rtol: float = DEFAULT_RTOL
    atol: float = DEFAULT_ATOL
    min_gain: float = DEFAULT_MIN_GAIN
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_calls: int | None = None
    max_memory: int | None = None
    isolation: Literal["fork", "none"] = "fork"
    dry_run: bool = False
    threads: int | Literal["auto"] = "auto"
    precisions: tuple[str, ...] = ()
    memory_budget: int | None = None
    convert_budget: float | None = None
    objective: Literal["steady", "script"] = "steady"
    fresh: bool = False
    reproductions: str | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and not self.budget > 0.0:
            raise UsageError(f"The budget must be a positive number of seconds, got {self.budget}.")
        if not (self.rtol >= 0.0 and self.atol >= 0.0):
            raise UsageError(f"Tolerances can't be negative, got rtol={self.rtol}, atol={self.atol}.")
        if not self.min_gain >= 1.0:
            raise UsageError(f"min_gain is a speedup of at least 1, got {self.min_gain}.")
        if self.max_calls is not None and self.max_calls < 1:
            raise UsageError(f"max_calls must be at least 1, got {self.max_calls}.")
        if self.max_memory is not None and self.max_memory < 1:
            raise UsageError(f"max_memory must be a positive number of bytes, got {self.max_memory}.")

        if self.threads != "auto" and self.threads < 1:
            raise UsageError(f"threads must be at least 1, or 'auto', got {self.threads}.")
        if self.memory_budget is not None and self.memory_budget < 0:
            raise UsageError(f"memory_budget is a number of bytes, got {self.memory_budget}.")
        if self.convert_budget is not None and not self.convert_budget >= 0.0:
            raise UsageError(f"convert_budget is a number of seconds, got {self.convert_budget}.")
        unknown = [name for name in self.precisions if name not in LOWER_PRECISIONS]
        if unknown:
            raise UsageError(f"There is no lower precision {unknown[0]!r}.", f"Known: {', '.join(LOWER_PRECISIONS)}.")

    @property
    def most_threads(self) -> int:
        """Math threads that a conversion may use, as far as there are cores and nothing else limits them."""
        return device.most_math_threads() if self.threads == "auto" else self.threads

    def budget_for(self, script_seconds: float) -> float:
        """Seconds for trials and confirmation of a run that took ``script_seconds``."""
        if self.budget is not None:
            return self.budget
        return max(SHORTEST_BUDGET, BUDGET_IN_SCRIPTS * script_seconds)
