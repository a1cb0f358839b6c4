"""Chains as candidates: stretches of a function that were called as sub-Layers, to be tried as one region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import paddle

from autohybrid.observe.profile import LayerTime
from autohybrid.runtime.chain_finder import (
    Chain,
    Found,
    Obstacle,
    called_in_statements,
    find,
    parts_of,
    turns_of_statements,
)
from autohybrid.runtime.chain_source import Refused
from autohybrid.runtime.sites import ChainSite
from autohybrid.search.below import Family
from autohybrid.search.candidates import Candidate, by_caller
from autohybrid.stats import amdahl_ceiling

FEWEST_MEMBERS = 2
"""Called sub-Layers that a chain must have to be worth a candidate of its own."""


class Chains:
    """Finds the chains of candidates that were called, each class's source being read once.

    Attributes:
        obstacles: why no chain was found, or no longer one, by candidate (``id``).
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._found: dict[Any, Found] = {}
        self.obstacles: dict[int, tuple[Obstacle, ...]] = {}

    def among(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The chains in functions that call at least two candidates."""
        called_by = by_caller(candidates)
        made: list[Candidate] = []
        for parent in candidates:
            below = called_by[id(parent.root), parent.spot]
            if len(below) < FEWEST_MEMBERS:
                continue
            found = self._found_in(parent)
            self.obstacles[id(parent)] = tuple(found.obstacles)
            made += [each for chain in found.chains if (each := self._candidate(parent, chain, below, candidates))]
        return made

    def parts(
        self, whole: Candidate, fit: Callable[[Candidate], bool], candidates: Sequence[Candidate]
    ) -> list[Candidate]:
        """The chains that are left of one when only statements, or turns of a loop, may be in one whose members fit."""
        assert whole.chain is not None, "only chains have parts"
        (parent_spot,) = whole.called_in
        parent = next(each for each in candidates if each.root is whole.root and each.spot == parent_spot)
        below = self.members(whole, candidates)
        unfit = {id(each.owner) for each in below if not fit(each)}
        called = called_in_statements(whole.owner, whole.function, whole.chain)
        keep = [unfit.isdisjoint(map(id, layers)) for layers in called]
        turns = {
            number: [
                all(unfit.isdisjoint(map(id, layer.sublayers(include_self=True))) for layer in turn) for turn in each
            ]
            for number, each in turns_of_statements(whole.owner, whole.function, whole.chain).items()
        }
        found = parts_of(parent.owner, parent.function, whole.chain, keep, turns)
        return [each for chain in found if (each := self._candidate(parent, chain, below, candidates))]

    def members(self, whole: Candidate, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates that a chain calls."""
        return [each for each in candidates if each.root is whole.root and each.spot in whole.members]

    def _found_in(self, parent: Candidate) -> Found:
        owner = parent.owner
        key = (self._family.likeness(owner, parent.function), _kinds_in(owner.__dict__))
        if key not in self._found:
            try:
                self._found[key] = find(owner, parent.function)
            except Refused as why:
                self._found[key] = Found(obstacles=[Obstacle(code="no_chain", detail=str(why), place=parent.source)])
        return self._found[key]

    def _candidate(
        self, parent: Candidate, chain: Chain, below: Sequence[Candidate], candidates: Sequence[Candidate]
    ) -> Candidate | None:
        called = called_in_statements(parent.owner, parent.function, chain)
        layers = {id(layer) for each in called for layer in each}
        members = [each for each in below if id(each.owner) in layers]
        if len(members) < FEWEST_MEMBERS:
            return None
        try:
            site = ChainSite(parent.owner, parent.function, chain)
        except Refused as why:
            self.obstacles[id(parent)] = (Obstacle(code="no_chain", detail=str(why), place=parent.source),)
            return None
        spots = frozenset(each.spot for each in members)
        covered = {each.spot for each in candidates if each.root is parent.root and not spots.isdisjoint(each.inside)}
        inclusive = min(sum(each.timed.inclusive for each in members), parent.timed.inclusive)
        share = min(1.0, inclusive / (parent.root.seconds or 1.0))
        timed = LayerTime(
            path=parent.path,
            aliases=(),
            layer=parent.owner,
            calls=parent.timed.calls,
            inclusive=inclusive,
            own=0.0,
            function=f"{parent.function}[{'.'.join(map(str, (*chain.at, *(chain.turns or ()))))}]",
            called_from=frozenset({parent.spot}),
        )
        return replace(
            parent,
            timed=timed,
            share=share,
            ceiling=amdahl_ceiling(share),
            findings=tuple(dict.fromkeys(finding for each in members for finding in each.findings)),
            called_in=frozenset({parent.spot}),
            inside=parent.inside | {parent.spot},
            site=site,
            chain=chain,
            members=spots,
            member_paths=tuple(each.path for each in members),
            covers=frozenset(covered | spots),
        )

    def likeness(self, candidate: Candidate) -> tuple[Any, ...]:
        """Equal for the same chain of Layers that are alike."""
        assert candidate.chain is not None, "only chains are compared so"
        layers = candidate.layer._sub_layers.values()
        return (candidate.chain, type(candidate.owner), *[self._family.likeness(layer) for layer in layers])

    def has_hooks(self, candidate: Candidate) -> bool:
        """Whether a member of a chain, or a Layer below one, has a hook."""
        return any(self._family.below(layer).hooked for layer in candidate.layer._sub_layers.values())


def _kinds_in(value: Any, depth: int = 3) -> Any:
    """What of attributes decides which statements are read how: their types, and which functions they are."""
    if isinstance(value, dict) and depth:
        return tuple([(name, _kinds_in(each, depth - 1)) for name, each in value.items()])
    if isinstance(value, (list, tuple)) and depth:
        return tuple([_kinds_in(each, depth - 1) for each in value])
    return id(value) if callable(value) and not isinstance(value, paddle.nn.Layer) else type(value)


def covering(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Pairs that exclude each other because one is a chain: with what it covers, lies in, or shares a member with."""
    at = {each.spot: each for each in candidates if each.chain is None}
    chains = [each for each in candidates if each.chain is not None]
    pairs = []
    for index, chain in enumerate(chains):
        pairs += [[chain, at[spot]] for spot in (chain.covers | chain.inside) if spot in at]
        for other in chains[index + 1 :]:
            if not chain.members.isdisjoint(other.members) or _within(chain, other) or _within(other, chain):
                pairs.append([chain, other])
    return pairs


def _within(inner: Candidate, outer: Candidate) -> bool:
    return not inner.called_in.isdisjoint(outer.covers)
