"""What a search finds, attempt by attempt, and the time it has for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from autohybrid.device import clock
from autohybrid.search.candidates import Candidate
from autohybrid.search.outcomes import Converted, Outcome, Runner

CREDIT_OF_WINNERS = 0.9
"""What won a race may be so much slower in its own trial, which was made at another time, and still be the best."""


class Budget:
    """Seconds for trials and confirmation, counted from its making."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._started = clock()

    @property
    def spent(self) -> float:
        return clock() - self._started

    @property
    def left(self) -> float:
        return self.seconds - self.spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A candidate, what it was tried with, and what came of it.

    ``promoted`` says that it won a race against what was best before: that counts for more than two trials' numbers.
    """

    candidate: Candidate
    engine: str
    options: dict[str, Any]
    outcome: Outcome
    measured_on: str
    inputs: Any
    promoted: bool = False

    @property
    def speedup(self) -> float:
        if not isinstance(self.outcome, Converted):
            return 0.0
        return self.outcome.samples.comparison().speedup

    def proven(self, min_gain: float) -> bool:
        """Whether it is right, and certainly gains at least ``min_gain`` on itself."""
        return isinstance(self.outcome, Converted) and (self.outcome.samples.comparison().verdict(min_gain) == "faster")

    @property
    def guarded(self) -> bool:
        """Whether it holds for one way through the function only."""
        return isinstance(self.outcome, Converted) and self.outcome.guarded

    @property
    def saving(self) -> float:
        """The share of the root's time that it saves."""
        return self.candidate.share * (1.0 - 1.0 / self.speedup) if self.speedup > 0.0 else 0.0


@dataclass(slots=True, kw_only=True)
class Findings:
    """Everything that a search found: all candidates, all attempts, and why the others were passed over.

    ``raced`` are the alternatives that lost a race, by the ``id`` of the candidate.
    """

    candidates: list[Candidate] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    passed: dict[int, tuple[str, str]] = field(default_factory=dict)
    trials: int = 0
    right_attempts: int = 0
    raced: defaultdict[int, list[Runner]] = field(default_factory=lambda: defaultdict(list))
    complete: bool = True
    _by_candidate: defaultdict[int, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    _best: dict[int, Attempt] = field(default_factory=dict)
    _demoted: set[int] = field(default_factory=set)

    def note(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self._by_candidate[id(attempt.candidate)].append(attempt)
        if isinstance(attempt.outcome, Converted):
            self.right_attempts += 1
            best = self.best_attempt(attempt.candidate)
            if best is None or attempt.speedup > best.speedup * (CREDIT_OF_WINNERS if attempt.promoted else 1.0):
                self._best[id(attempt.candidate)] = attempt

    def prefer(self, attempt: Attempt) -> None:
        """Makes ``attempt`` the best for all that its trial stands for, whatever the trials' numbers are."""
        for each in self.attempts:
            if each.outcome is attempt.outcome:
                self._best[id(each.candidate)] = each
        self.right_attempts += 1

    def demote(self, attempt: Attempt) -> bool:
        """Goes back to what was best for a candidate before ``attempt`` won a race; False where there was no race."""
        if not attempt.promoted:
            return False
        self._demoted.add(id(attempt))
        right = self.right_attempts_of(attempt.candidate)
        promoted = [each for each in right if each.promoted]
        self._best[id(attempt.candidate)] = promoted[-1] if promoted else max(right, key=lambda each: each.speedup)
        self.right_attempts -= 1
        return True

    def right_attempts_of(self, candidate: Candidate) -> list[Attempt]:
        """The right attempts for a candidate that weren't given up again."""
        return [
            each
            for each in self.attempts_of(candidate)
            if isinstance(each.outcome, Converted) and id(each) not in self._demoted
        ]

    def attempts_of(self, candidate: Candidate) -> Sequence[Attempt]:
        """All attempts for one candidate, in their order."""
        return self._by_candidate[id(candidate)]

    def best_attempt(self, candidate: Candidate) -> Attempt | None:
        """The fastest right attempt for a candidate."""
        return self._best.get(id(candidate))
