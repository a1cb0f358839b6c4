"""What has been confirmed so far, so that an end at any moment leaves the best plan that was proven until then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autohybrid import plan
from autohybrid.observe.profile import RootProfile
from autohybrid.search.findings import Attempt
from autohybrid.search.journal import key_of

ENOUGH_BETTER = 0.05
"""The share of a root's time that another set must promise to save beyond the confirmed one to be confirmed early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A set of regions with its confirmation, and why others were dropped, by path. ``attempts`` made the regions."""

    regions: list[plan.Region]
    confirmation: plan.Confirmation | None
    dropped: dict[str, str]
    attempts: tuple[Attempt, ...] = ()


@dataclass(slots=True)
class Proofs:
    """The sets that hold on their roots: those confirmed to the end, and the best for each root."""

    _complete: dict[str, plan.Confirmation] = field(default_factory=dict)
    _best: dict[int, Proven] = field(default_factory=dict)
    _tried_early: set[str] = field(default_factory=set)

    def note(self, root: RootProfile, proven: Proven, *, complete: bool) -> None:
        """Keeps a set that holds; ``complete`` when all processes that are wanted for it agree."""
        assert proven.confirmation is not None
        if complete:
            self._complete[_key(root, proven.attempts)] = proven.confirmation
        best = self._best.get(id(root))
        if best is None or _speedup(proven) >= _speedup(best):
            self._best[id(root)] = proven

    def withdraw(self, root: RootProfile, chosen: Sequence[Attempt]) -> None:
        """Forgets a set that one process found to hold, and another not."""
        best = self._best.get(id(root))
        if best is not None and _key(root, best.attempts) == _key(root, chosen):
            del self._best[id(root)]

    def best(self, root: RootProfile) -> Proven | None:
        """The fastest set that holds."""
        return self._best.get(id(root))

    def confirmation(self, root: RootProfile, chosen: Sequence[Attempt]) -> plan.Confirmation | None:
        """That of a set which was confirmed to the end."""
        return self._complete.get(_key(root, chosen))

    def should_try(self, root: RootProfile, chosen: Sequence[Attempt]) -> bool:
        """Whether a set is new, and promises enough more than what is confirmed; says so once for each set."""
        best = self._best.get(id(root))
        kept = sum(each.saving for each in best.attempts) if best is not None else 0.0
        key = _key(root, chosen)
        if key in self._tried_early or sum(each.saving for each in chosen) < kept + ENOUGH_BETTER:
            return False
        self._tried_early.add(key)
        return True


def _key(root: RootProfile, chosen: Sequence[Attempt]) -> str:
    return key_of(id(root), sorted((each.candidate.name, each.engine, key_of(each.options)) for each in chosen))


def _speedup(proven: Proven) -> float:
    assert proven.confirmation is not None
    return proven.confirmation.comparison().speedup
