"""What could be converted: every function of a Layer that was called, with its ceiling and what its source says against
it."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from autohybrid.observe.profile import LayerTime, Profile, RootProfile, Spot
from autohybrid.plan import Place, chain_name, spot_name
from autohybrid.roots import FORWARD
from autohybrid.runtime.chain_finder import Chain
from autohybrid.runtime.sites import MethodSite, Site
from autohybrid.search.below import Family
from autohybrid.search.source import Finding, place_of
from autohybrid.stats import amdahl_ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One function of one Layer of one root, its forward or another method; or a chain in one.

    ``share`` is the part of the root's time; ``ceiling`` the speedup of the root if this part took no time at all;
    ``weight`` the root's own part of the time of all roots; ``findings`` what in its source, or in that of the Layers
    below, may stand against converting it; ``called_in`` the functions that it is called in directly, ``inside`` also
    those around them. Of a chain, ``members`` are the candidates that it calls, and ``covers`` these and all inside.
    """

    root: RootProfile
    timed: LayerTime
    function: str
    site: Site
    share: float
    ceiling: float
    weight: float
    findings: tuple[Finding, ...]
    called_in: frozenset[Spot] = frozenset()
    inside: frozenset[Spot] = frozenset()
    chain: Chain | None = None
    members: frozenset[Spot] = frozenset()
    member_paths: tuple[str, ...] = ()
    covers: frozenset[Spot] = frozenset()

    @property
    def kind(self) -> Literal["layer", "method", "chain"]:
        if self.chain is not None:
            return "chain"
        return "layer" if self.function == FORWARD else "method"

    @property
    def spot(self) -> Spot:
        return self.timed.spot

    @property
    def path(self) -> str:
        return self.timed.path

    @property
    def name(self) -> str:
        """What people call it."""
        if self.chain is not None:
            return chain_name(self.member_paths, self.chain.place.line)
        return spot_name(self.path, self.function)

    @property
    def owner(self) -> Any:
        """The Layer at the path."""
        return self.timed.layer

    @property
    def layer(self) -> Any:
        """The Layer that a conversion depends on: the owner, or what a chain uses of it."""
        return self.site.layer

    @property
    def eager(self) -> Callable[..., Any]:
        """The function as it is."""
        return self.site.eager

    @property
    def class_name(self) -> str:
        return type(self.owner).__qualname__

    @property
    def looks(self) -> str:
        """``clean``, or what stands against it, in a few words."""
        return "clean" if not self.findings else self.findings[0].code

    @property
    def source(self) -> Place | None:
        return self.chain.place if self.chain is not None else place_of(self.owner, self.function)

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
            function=timed.function,
            site=MethodSite(timed.layer, timed.function),
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
