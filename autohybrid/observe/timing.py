"""Times the sub-Layers of one root by forward pre- and post-hooks, in some of its calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle

from autohybrid.device import clock
from autohybrid.observe.profile import Spot

_THE_ROOT = -1

FIRST_CALLS = 2
"""Calls of a root, for each argument structure, that are hooked without a break."""

MOST_SAMPLES = 10
STABLE = 0.01
"""Hooks come off when no share of the root's time differs by more than this between the halves of the samples."""


@dataclass(slots=True)
class Sample:
    """One hooked call: for each function below the root its calls, inclusive and own seconds, hooks' cost taken out,
    and what called it; and the total."""

    calls: dict[Spot, int] = field(default_factory=dict)
    inclusive: dict[Spot, float] = field(default_factory=dict)
    own: dict[Spot, float] = field(default_factory=dict)
    called_from: dict[Spot, frozenset[Spot]] = field(default_factory=dict)
    total: float = 0.0


class Sampling:
    """Decides which calls of one kind are hooked: the first in full, then every other until the shares are stable."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._seen = 0
        self._finished = False

    def wants_this_call(self) -> bool:
        if self._finished:
            return False
        self._seen += 1
        return self._seen <= FIRST_CALLS or self._seen % 2 == 0

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        # The first sample of a root pays for lazy set-up, it isn't typical.
        settled = self.samples[1:]
        self._finished = len(self.samples) >= MOST_SAMPLES or (len(settled) >= 4 and _stable(settled))

    def discard(self, sample: Sample) -> None:
        """Takes a sample back (its call turned out to be training); sampling goes on as if it had not been."""
        if sample in self.samples:
            self.samples.remove(sample)
            self._finished = False
            self._seen = min(self._seen, len(self.samples))


def _stable(samples: list[Sample]) -> bool:
    half = len(samples) // 2
    early, late = mean_shares(samples[:half]), mean_shares(samples[half:])
    return all(abs(early.get(spot, 0.0) - late.get(spot, 0.0)) <= STABLE for spot in early.keys() | late.keys())


def mean_shares(samples: list[Sample]) -> dict[Spot, float]:
    """For each function the mean of its inclusive share of the call."""
    spots = {spot for sample in samples for spot in sample.inclusive}
    return {
        spot: float(np.mean([sample.inclusive.get(spot, 0.0) / sample.total for sample in samples if sample.total > 0]))
        for spot in spots
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCost:
    """Seconds that hooks add to one Layer call: ``within`` its own interval, ``around`` it."""

    within: float
    around: float


def measured_hook_cost(repeats: int = 300, wait: Callable[[], None] | None = None) -> HookCost:
    """Measures the hooks on a Layer that does nothing, with what waits for the device in them."""
    layer = paddle.nn.Identity()
    value = paddle.zeros([1])

    def lowest(action: Callable[[], Any]) -> float:
        best = float("inf")
        for _ in range(5):
            started = clock()
            for _ in range(repeats // 5):
                action()
            best = min(best, (clock() - started) / (repeats // 5))
        return best

    plain = lowest(lambda: layer(value))
    with Hooks({Spot("it"): layer}, wait) as hooks:
        hooked = lowest(lambda: layer(value))
        seen = hooks.raw_inclusive[0] / max(1, hooks.raw_calls[0])
    within = max(0.0, min(seen, hooked) - plain)
    return HookCost(within=within, around=max(0.0, hooked - plain - within))


class Hooks:
    """Pre- and post-hooks on Layers, in place within ``with``; only this thread's calls count.

    Args:
        layers: whose forwards are timed.
        wait: waits for the device, None where nothing runs beside Python.
        root: what is being called, and its Layer: called from no other function.
    """

    def __init__(
        self,
        layers: dict[Spot, Any],
        wait: Callable[[], None] | None = None,
        root: tuple[Spot, Any] | None = None,
    ) -> None:
        self._spots = list(layers)
        self._layers = list(layers.values())
        self._wait = wait
        self._root = root
        self._owner = threading.get_ident()
        self._removers: list[Any] = []
        self._stack: list[list[Any]] = []
        self._paths: dict[int, str] | None = None
        self._methods: dict[tuple[int, str], int] = {}
        self.raw_calls = [0] * len(layers)
        self.raw_inclusive = [0.0] * len(layers)
        self.raw_children = [0.0] * len(layers)
        self.hooked_below = [0] * len(layers)
        self._callers: list[set[int]] = [set() for _ in layers]

    def __enter__(self) -> Hooks:
        for index, layer in enumerate(self._layers):
            self._removers.append(layer.register_forward_pre_hook(self._before(index)))
            self._removers.append(layer.register_forward_post_hook(self._after(index)))
        return self

    def __exit__(self, *_: object) -> None:
        for remover in self._removers:
            remover.remove()

    def _before(self, index: int) -> Callable[[Any, Any], None]:
        owner, get_ident = self._owner, threading.get_ident

        def before(layer: Any, inputs: Any) -> None:
            if get_ident() == owner:
                self._enter(index)

        return before

    def _after(self, index: int) -> Callable[[Any, Any, Any], None]:
        owner, get_ident = self._owner, threading.get_ident

        def after(layer: Any, inputs: Any, outputs: Any) -> None:
            if get_ident() == owner:
                self._leave(index)

        return after

    def _enter(self, index: int) -> None:
        stack = self._stack
        if self._wait is not None:
            self._wait()
        self._callers[index].add(stack[-1][0] if stack else _THE_ROOT)
        # index, time spent in hooked children, number of hooked calls below, start
        frame = [index, 0.0, 0, 0.0]
        stack.append(frame)
        frame[3] = clock()

    def _leave(self, index: int) -> None:
        if self._wait is not None:
            self._wait()
        now = clock()
        stack = self._stack
        # Frames above ours belong to calls that ended by an exception somebody caught.
        while stack:
            frame = stack.pop()
            if frame[0] == index:
                elapsed = now - frame[3]
                self.raw_calls[index] += 1
                self.raw_inclusive[index] += elapsed
                self.raw_children[index] += frame[1]
                self.hooked_below[index] += frame[2]
                if stack:
                    stack[-1][1] += elapsed
                    stack[-1][2] += frame[2] + 1
                return

    @contextmanager
    def method(self, layer: Any, function: str) -> Iterator[None]:
        """Times what happens within: a call of a method of a Layer below the root, or of the root's."""
        index = self._index_of(layer, function) if threading.get_ident() == self._owner else None
        if index is None:
            yield
            return
        self._enter(index)
        try:
            yield
        finally:
            self._leave(index)

    def _index_of(self, layer: Any, function: str) -> int | None:
        key = (id(layer), function)
        if key not in self._methods:
            if self._paths is None:
                self._paths = {id(each): spot.path for spot, each in zip(self._spots, self._layers, strict=True)}
                if self._root is not None:
                    self._paths[id(self._root[1])] = self._root[0].path
            path = self._paths.get(id(layer))
            if path is None or (self._root is not None and Spot(path, function) == self._root[0]):
                return None
            self._methods[key] = len(self._spots)
            self._spots.append(Spot(path, function))
            for counts in (self.raw_calls, self.raw_inclusive, self.raw_children, self.hooked_below):
                counts.append(0)
            self._callers.append(set())
        return self._methods[key]

    def sample(self, total: float, cost: HookCost) -> Sample:
        """What was measured in a call that took ``total`` seconds, with the hooks' cost taken out."""
        whole = cost.within + cost.around
        made = Sample(total=max(1e-9, total - whole * sum(self.raw_calls)))
        for index, spot in enumerate(self._spots):
            calls = self.raw_calls[index]
            if not calls:
                continue
            inclusive = self.raw_inclusive[index] - cost.within * calls - whole * self.hooked_below[index]
            made.calls[spot] = calls
            made.inclusive[spot] = max(0.0, inclusive)
            children = self.raw_children[index] - self._cost_of_children(index, cost)
            made.own[spot] = max(0.0, inclusive - max(0.0, children))
            made.called_from[spot] = frozenset([self._spot_of(caller) for caller in self._callers[index]])
        return made

    def _spot_of(self, index: int) -> Spot:
        if index != _THE_ROOT:
            return self._spots[index]
        return self._root[0] if self._root is not None else Spot("")

    def _cost_of_children(self, index: int, cost: HookCost) -> float:
        # Children's intervals hold their own inner cost and the whole cost of what is below them; the outer cost of
        # the direct children lies between them and was taken out of our inclusive time already.
        return (cost.within + cost.around) * self.hooked_below[index]
