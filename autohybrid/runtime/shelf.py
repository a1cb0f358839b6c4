"""The conversions that a region holds: which one fits a call, when another is made, which one goes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from autohybrid.runtime import rehearsal
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.signature import Shapes, fits, merged
from autohybrid.runtime.variant import Recipe, State, Variant
from autohybrid.structure import Structure, Tensor, constants, holds_tensors, map_constants

Key: TypeAlias = "tuple[Structure, tuple[Any, ...], tuple[int, ...]]"
"""A call's structure, and the dtypes and ranks of its Tensors."""

MAX_KEYS = 256
"""Argument structures, and calls without a conversion, that are remembered at all."""

FRUITLESS = 3
"""Conversions that never answered a call, from which on a structure must come back before it gets one."""

MAX_PATHS = 4
"""Ways that Python code may go for one kind of call."""

SIGHTINGS = 8
IDLE_CALLS = 32
"""When all places are taken: how often a call must come, and how long the one that goes must have been idle."""


@dataclass(slots=True, eq=False)
class _Entry:
    """The conversions for one argument structure; ``static`` where a dynamic dimension breaks the graph."""

    variants: list[Variant] = field(default_factory=list)
    static: bool = False


class Shelf:
    """The variants of one region, bounded."""

    def __init__(self, recipe: Recipe, policies: Policies) -> None:
        self._recipe = recipe
        self._policies = policies
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._sightings: OrderedDict[Any, int] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def variants(self) -> list[Variant]:
        return [variant for entry in list(self._entries.values()) for variant in list(entry.variants)]

    def fitting(self, key: Key, tensors: Sequence[Tensor]) -> Variant | None:
        """The variant for a call, or None."""
        entry = self._entries.get(key)
        if entry is not None:
            for variant in entry.variants:
                if fits(variant.shapes, tensors):
                    return variant
        return None

    def new(self, key: Key, tensors: Sequence[Tensor], shapes: Shapes | None, number: int) -> Variant | str:
        """A new variant for a call that none fits, or why there is none.

        Args:
            key: the call's structure and signature.
            tensors: its Tensors.
            shapes: what to convert for, where a plan says so.
            number: the region's count of calls.
        """
        with self._lock:
            there = self.fitting(key, tensors)
            if there is not None:
                return there
            exact = tuple([tuple(tensor.shape) for tensor in tensors])
            refusal = self._refusal(key, exact, number)
            if refusal:
                return refusal
            entry = self._entries.setdefault(key, _Entry())
            arguments = map_constants(key[0], _own)
            made = Variant(self._recipe, arguments, shapes or self._shapes_for(entry, tensors, exact))
            made.patience = self._policies.conversion_seconds
            made.tried = shapes is not None
            made.last_used = number
            kin = _alive(entry.variants)
            if kin:
                # What cured the one will be needed for the other.
                made.options, made.straight = kin[-1].options, kin[-1].straight
            entry.variants.append(made)
            self._forget_old()
            return made

    def other_path(self, variant: Variant, tensors: Sequence[Tensor]) -> Variant | None:
        """The next conversion of the same kind of call, whose Python code went another way, made if there is room."""
        with self._lock:
            entry = next((each for each in self._entries.values() if variant in each.variants), None)
            if entry is None:
                return None
            paths = [each for each in entry.variants if fits(each.shapes, tensors)]
            following = paths[paths.index(variant) + 1 :]
            if following:
                return following[0]
            if len(paths) >= MAX_PATHS or len(_alive(self.variants)) >= self._policies.max_variants:
                return None
            made = Variant(self._recipe, variant.arguments, variant.shapes)
            made.patience, made.last_used = variant.patience, variant.last_used
            made.options, made.straight, made.tried = variant.options, True, variant.tried
            entry.variants.append(made)
            return made

    def _refusal(self, key: Key, exact: Shapes, number: int) -> str:
        if key not in self._entries and any(holds_tensors(value) for value in constants(key[0])):
            return "an argument is an object with Tensors or Layers inside"
        seen = self._seen((key, exact))
        fruitless = sum(not variant.served for variant in self.variants)
        if fruitless >= FRUITLESS and seen <= fruitless:
            return "its arguments keep changing"
        if len(_alive(self.variants)) >= self._policies.max_variants and not self._make_room(seen, number):
            return "as many conversions as are allowed (max_variants)"
        return ""

    def _seen(self, call: Any) -> int:
        self._sightings[call] = seen = self._sightings.pop(call, 0) + 1
        while len(self._sightings) > MAX_KEYS:
            self._sightings.popitem(last=False)
        return seen

    def _make_room(self, seen: int, number: int) -> bool:
        oldest = min(_alive(self.variants), key=lambda variant: variant.last_used)
        needed = SIGHTINGS if oldest.served else FRUITLESS
        if seen < needed or number - oldest.last_used < IDLE_CALLS:
            return False
        self._take_out(oldest)
        return True

    def _shapes_for(self, entry: _Entry, tensors: Sequence[Tensor], exact: Shapes) -> Shapes:
        kin = _alive(entry.variants)
        if (
            not kin
            or entry.static
            or kin[-1].straight
            or self._policies.isolation == "none"
            or not rehearsal.possible()
        ):
            return exact
        if rehearsal.loops_over_a_size(self._recipe.layer):
            entry.static = True
            return exact
        return merged(kin[-1].shapes, tensors)

    def rehearses(self, variant: Variant) -> bool:
        """Whether a conversion is to be tried in a child first."""
        return (
            not variant.tried
            and variant.state is State.NEW
            and self._policies.isolation == "fork"
            and rehearsal.possible()
        )

    def make_static(self, variant: Variant, inputs: Sequence[Tensor]) -> None:
        """Gives up dynamic dimensions for the variant's argument structure, and makes it one for these sizes."""
        for entry in self._entries.values():
            if variant in entry.variants:
                entry.static = True
        variant.forget()
        variant.shapes = tuple([tuple(tensor.shape) for tensor in inputs])

    def drop(self, variant: Variant) -> None:
        """Takes out a variant that isn't converted, as if it had never been."""
        if variant.state is State.NEW:
            with self._lock:
                self._take_out(variant)

    def _take_out(self, variant: Variant) -> None:
        variant.release()
        for key, entry in list(self._entries.items()):
            if variant in entry.variants:
                entry.variants.remove(variant)
                if not entry.variants and not entry.static:
                    del self._entries[key]

    def _forget_old(self) -> None:
        while len(self._entries) > MAX_KEYS:
            _, entry = self._entries.popitem(last=False)
            for variant in entry.variants:
                variant.release()

    def clear(self) -> None:
        """Gives back all conversions."""
        with self._lock:
            for variant in self.variants:
                variant.release()
            self._entries.clear()
            self._sightings.clear()


def _alive(variants: Sequence[Variant]) -> list[Variant]:
    return [variant for variant in variants if variant.state is not State.REFUSED]


def _own(value: Any) -> Any:
    # The caller may write into it before the program is made again.
    return value.copy() if isinstance(value, np.ndarray) else value
