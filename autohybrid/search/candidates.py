"""What could be converted: every called sub-Layer, with its ceiling and with what its source says against it."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autohybrid.observe.profile import LayerTime, Profile, RootProfile
from autohybrid.plan import Place
from autohybrid.search.below import Family
from autohybrid.search.source import Finding, place_of_forward
from autohybrid.stats import amdahl_ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One sub-Layer of one root.

    ``share`` is the part of the root's time; ``ceiling`` the speedup of the root if this part took no time at all;
    ``weight`` the root's own part of the time of all roots; ``findings`` what in its source, or in that of the Layers
    below, may stand against converting it.
    """

    root: RootProfile
    timed: LayerTime
    share: float
    ceiling: float
    weight: float
    findings: tuple[Finding, ...]

    @property
    def path(self) -> str:
        return self.timed.path

    @property
    def layer(self) -> Any:
        return self.timed.layer

    @property
    def class_name(self) -> str:
        return type(self.layer).__qualname__

    @property
    def looks(self) -> str:
        """``clean``, or what stands against it, in a few words."""
        return "clean" if not self.findings else self.findings[0].code

    @property
    def source(self) -> Place | None:
        return place_of_forward(self.layer)

    def paths(self) -> tuple[str, ...]:
        return (self.path, *self.timed.aliases)


def candidates_of(profile: Profile, root: RootProfile, family: Family) -> list[Candidate]:
    """One candidate for each Layer of ``root`` that was called, in the order of its tree."""
    total = root.seconds or 1.0
    return [
        Candidate(
            root=root,
            timed=timed,
            share=min(1.0, timed.inclusive / total),
            ceiling=amdahl_ceiling(min(1.0, timed.inclusive / total)),
            weight=min(1.0, root.seconds / (profile.seconds or 1.0)),
            findings=family.findings(timed.layer),
        )
        for timed in root.layers
    ]


def selected(candidate: Candidate, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether the user's patterns let it through; they match paths and class names, as in a shell."""
    names = (*candidate.paths(), candidate.class_name)

    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return (not include or matches(include)) and not matches(exclude)
