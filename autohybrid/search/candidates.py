"""What could be converted: every function of a Layer that was called, with its ceiling and what its source says against
it."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from autohybrid.observe.profile import LayerTime, Profile, RootProfile, Spot
from autohybrid.plan import Place, spot_name
from autohybrid.search.below import Family
from autohybrid.search.source import Finding, place_of
from autohybrid.stats import amdahl_ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One function of one Layer of one root: its forward, or another method.

    ``share`` is the part of the root's time; ``ceiling`` the speedup of the root if this part took no time at all;
    ``weight`` the root's own part of the time of all roots; ``findings`` what in its source, or in that of the Layers
    below, may stand against converting it; ``called_in`` the functions that it is called in directly, ``inside`` also
    those around them.
    """

    root: RootProfile
    timed: LayerTime
    share: float
    ceiling: float
    weight: float
    findings: tuple[Finding, ...]
    called_in: frozenset[Spot] = frozenset()
    inside: frozenset[Spot] = frozenset()

    @property
    def spot(self) -> Spot:
        return self.timed.spot

    @property
    def path(self) -> str:
        return self.timed.path

    @property
    def function(self) -> str:
        return self.timed.function

    @property
    def name(self) -> str:
        """What people call it."""
        return spot_name(self.path, self.function)

    @property
    def layer(self) -> Any:
        return self.timed.layer

    @property
    def eager(self) -> Callable[..., Any]:
        """The function as it is."""
        function: Callable[..., Any] = getattr(self.layer, self.function)
        return function

    @property
    def class_name(self) -> str:
        return type(self.layer).__qualname__

    @property
    def looks(self) -> str:
        """``clean``, or what stands against it, in a few words."""
        return "clean" if not self.findings else self.findings[0].code

    @property
    def source(self) -> Place | None:
        return place_of(self.layer, self.function)

    def paths(self) -> tuple[str, ...]:
        return (self.path, *self.timed.aliases)


def candidates_of(profile: Profile, root: RootProfile, family: Family) -> list[Candidate]:
    """One candidate for each function of ``root`` that was called, in the order of its tree."""
    total = root.seconds or 1.0
    callers = _callers(root.layers)
    around = _around(callers)
    return [
        Candidate(
            root=root,
            timed=timed,
            share=min(1.0, timed.inclusive / total),
            ceiling=amdahl_ceiling(min(1.0, timed.inclusive / total)),
            weight=min(1.0, root.seconds / (profile.seconds or 1.0)),
            findings=family.findings(timed.layer, timed.function),
            called_in=callers[timed.spot],
            inside=around[timed.spot],
        )
        for timed in root.layers
    ]


def _callers(layers: Sequence[LayerTime]) -> dict[Spot, frozenset[Spot]]:
    """For each function those that it was called in; where that wasn't seen, the nearest Layer around it."""
    known = {timed.spot for timed in layers}
    found = {}
    for timed in layers:
        callers = (timed.called_from & known) - {timed.spot}
        if not callers and timed.path:
            callers = frozenset(
                spot for path in (timed.path, *timed.aliases) if (spot := _nearest_above(path, known)) is not None
            )
        found[timed.spot] = callers
    return found


def _nearest_above(path: str, known: set[Spot]) -> Spot | None:
    while path:
        path = path.rpartition(".")[0]
        if Spot(path) in known:
            return Spot(path)
    return None


def _around(callers: dict[Spot, frozenset[Spot]]) -> dict[Spot, frozenset[Spot]]:
    """For each function all that a call of it can lie in."""
    found: dict[Spot, frozenset[Spot]] = {}
    for spot in callers:
        around: set[Spot] = set()
        waiting = list(callers[spot])
        while waiting:
            each = waiting.pop()
            if each in around:
                continue
            around.add(each)
            around |= found.get(each, frozenset())
            waiting += [above for above in callers[each] if above not in around]
        found[spot] = frozenset(around - {spot})
    return found


def selected(candidate: Candidate, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether the user's patterns let it through; they match paths and class names, as in a shell."""
    names = (*candidate.paths(), candidate.name, candidate.class_name)

    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return (not include or matches(include)) and not matches(exclude)


def by_caller(candidates: Iterable[Candidate]) -> dict[tuple[int, Spot], list[Candidate]]:
    """For each root, by ``id``, and each of its functions: the candidates that are called in it directly."""
    found: defaultdict[tuple[int, Spot], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        for spot in candidate.called_in:
            found[id(candidate.root), spot].append(candidate)
    return found


def nests(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Sets of candidates of one root that all lie inside one another; every pair that does is in one of the sets."""
    at = {candidate.spot: candidate for candidate in candidates}
    found: list[list[Candidate]] = []
    done: set[Spot] = set()
    for inner in sorted(candidates, key=lambda each: -len(each.inside)):
        if inner.spot in done:
            continue
        around = sorted([at[spot] for spot in inner.inside if spot in at], key=lambda each: len(each.inside))
        nest = [*around, inner]
        if all(outer.spot in below.inside for outer, below in pairwise(nest)):
            found.append(nest)
            done.update([each.spot for each in around])
        else:  # what is called from several places may lie in two that don't lie in each other
            found += [[outer, inner] for outer in around]
    return found
