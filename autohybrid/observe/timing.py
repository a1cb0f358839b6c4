"""Times the sub-Layers of one root by forward pre- and post-hooks, in some of its calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle

from autohybrid.device import clock

FIRST_CALLS = 2
"""Calls of a root, for each argument structure, that are hooked without a break."""

MOST_SAMPLES = 10
STABLE = 0.01
"""Hooks come off when no share of the root's time differs by more than this between the halves of the samples."""


@dataclass(slots=True)
class Sample:
    """One hooked call: for each path its calls, inclusive and own seconds, hooks' cost taken out, and the total."""

    calls: dict[str, int] = field(default_factory=dict)
    inclusive: dict[str, float] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)
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
    return all(abs(early.get(path, 0.0) - late.get(path, 0.0)) <= STABLE for path in early.keys() | late.keys())


def mean_shares(samples: list[Sample]) -> dict[str, float]:
    """For each path the mean of its inclusive share of the call."""
    paths = {path for sample in samples for path in sample.inclusive}
    return {
        path: float(np.mean([sample.inclusive.get(path, 0.0) / sample.total for sample in samples if sample.total > 0]))
        for path in paths
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCost:
    """Seconds that hooks add to one Layer call: ``within`` its own interval, ``around`` it."""

    within: float
    around: float


def measured_hook_cost(repeats: int = 300) -> HookCost:
    """Measures the hooks on a Layer that does nothing."""
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
    with Hooks({"": layer}) as hooks:
        hooked = lowest(lambda: layer(value))
        seen = hooks.raw_inclusive[0] / max(1, hooks.raw_calls[0])
    within = max(0.0, min(seen, hooked) - plain)
    return HookCost(within=within, around=max(0.0, hooked - plain - within))


class Hooks:
    """Pre- and post-hooks on Layers, in place within ``with``; only this thread's calls count."""

    def __init__(self, layers: dict[str, Any], wait: Callable[[], None] | None = None) -> None:
        self._paths = list(layers)
        self._layers = list(layers.values())
        self._wait = wait
        self._owner = threading.get_ident()
        self._removers: list[Any] = []
        self._stack: list[list[Any]] = []
        self.raw_calls = [0] * len(layers)
        self.raw_inclusive = [0.0] * len(layers)
        self.raw_children = [0.0] * len(layers)
        self.hooked_below = [0] * len(layers)

    def __enter__(self) -> Hooks:
        for index, layer in enumerate(self._layers):
            self._removers.append(layer.register_forward_pre_hook(self._before(index)))
            self._removers.append(layer.register_forward_post_hook(self._after(index)))
        return self

    def __exit__(self, *_: object) -> None:
        for remover in self._removers:
            remover.remove()

    def _before(self, index: int) -> Callable[[Any, Any], None]:
        stack, wait, owner, get_ident = self._stack, self._wait, self._owner, threading.get_ident

        def before(layer: Any, inputs: Any) -> None:
            if get_ident() == owner:
                if wait is not None:
                    wait()
                # index, time spent in hooked children, number of hooked calls below, start
                frame = [index, 0.0, 0, 0.0]
                stack.append(frame)
                frame[3] = clock()

        return before

    def _after(self, index: int) -> Callable[[Any, Any, Any], None]:
        stack, wait, owner, get_ident = self._stack, self._wait, self._owner, threading.get_ident
        calls, inclusive, children, below = (
            self.raw_calls,
            self.raw_inclusive,
            self.raw_children,
            self.hooked_below,
        )

        def after(layer: Any, inputs: Any, outputs: Any) -> None:
            if get_ident() != owner:
                return
            if wait is not None:
                wait()
            now = clock()
            # Frames above ours belong to calls that ended by an exception somebody caught.
            while stack:
                frame = stack.pop()
                if frame[0] == index:
                    elapsed = now - frame[3]
                    calls[index] += 1
                    inclusive[index] += elapsed
                    children[index] += frame[1]
                    below[index] += frame[2]
                    if stack:
                        stack[-1][1] += elapsed
                        stack[-1][2] += frame[2] + 1
                    return

        return after

    def sample(self, total: float, cost: HookCost) -> Sample:
        """What was measured in a call that took ``total`` seconds, with the hooks' cost taken out."""
        whole = cost.within + cost.around
        made = Sample(total=max(1e-9, total - whole * sum(self.raw_calls)))
        for index, path in enumerate(self._paths):
            calls = self.raw_calls[index]
            if not calls:
                continue
            inclusive = self.raw_inclusive[index] - cost.within * calls - whole * self.hooked_below[index]
            made.calls[path] = calls
            made.inclusive[path] = max(0.0, inclusive)
            children = self.raw_children[index] - self._cost_of_children(index, cost)
            made.own[path] = max(0.0, inclusive - max(0.0, children))
        return made

    def _cost_of_children(self, index: int, cost: HookCost) -> float:
        # Children's intervals hold their own inner cost and the whole cost of what is below them; the outer cost of
        # the direct children lies between them and was taken out of our inclusive time already.
        return (cost.within + cost.around) * self.hooked_below[index]
