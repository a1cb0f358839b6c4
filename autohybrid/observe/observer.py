"""Finds roots by their calls, times them, samples their sub-Layers, keeps a few real inputs, tells training apart."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import paddle

from autohybrid import device
from autohybrid.device import clock
from autohybrid.observe.profile import KeptCall, LayerTime, Profile, RootProfile, Spot
from autohybrid.observe.timing import HookCost, Hooks, Sample, Sampling, measured_hook_cost
from autohybrid.plan import Place
from autohybrid.roots import FORWARD, RootCalls
from autohybrid.stats import median
from autohybrid.structure import Structure, Tensor, constants, flatten, map_constants

KEPT_PER_KIND = 3
"""Different inputs kept for each argument structure of a root."""

KINDS = 8
"""Argument structures of a root for which inputs are kept and sub-Layers are timed."""


@dataclass(slots=True, eq=False)
class _Call:
    """One root call. ``trained`` is set later, when a gradient comes back through its answer."""

    seconds: float
    kind: int
    hooked: bool
    sample: Sample | None = None
    kept: KeptCall | None = None
    trained: bool = False


@dataclass(slots=True, eq=False)
class _Kind:
    """The calls of one function of a root with one argument structure (sizes and numbers left out)."""

    number: int
    function: str
    sampling: Sampling = field(default_factory=Sampling)
    kept: list[KeptCall] = field(default_factory=list)
    marks: list[list[tuple[weakref.ref[Tensor], int]]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Root:
    layer: Any
    places: dict[tuple[str, int, str], None] = field(default_factory=dict)
    kinds: dict[Any, _Kind] = field(default_factory=dict)
    calls: list[_Call] = field(default_factory=list)


class _PerThread(threading.local):
    hooks: Hooks | None = None


class Observer:
    """Watches every root of this process between ``__enter__`` and ``__exit__``.

    Args:
        max_calls: root calls after which nothing more is observed; None for no limit.
        keep_bytes: memory for kept inputs.
    """

    def __init__(self, *, max_calls: int | None = None, keep_bytes: int = 1 << 30) -> None:
        self._max_calls = max_calls
        self._keep_bytes = keep_bytes
        self._kept_bytes = 0
        self._roots: dict[int, _Root] = {}
        self._local = _PerThread()
        self._lock = threading.Lock()
        self._seeing = RootCalls(self._root_call, within=self._method_call)
        self._count = 0
        self._wait: Callable[[], None] | None = None
        self._cost = HookCost(within=0.0, around=0.0)

    def __enter__(self) -> Observer:
        self._wait = device.synchronize if device.on_gpu() else None
        self._cost = measured_hook_cost(wait=self._wait)
        self._seeing.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._seeing.__exit__()
        self._max_calls = 0

    def _root_call(
        self, layer: Any, function: str, original: Callable[..., Any], inputs: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._max_calls is not None and self._count >= self._max_calls:
            return original(layer, *inputs, **kwargs)
        self._count += 1
        tensors, structure = flatten((inputs, kwargs))
        root, kind = self._root_and_kind(layer, function, structure, tensors)
        _note_place(root)
        call = _Call(seconds=0.0, kind=kind.number, hooked=False)
        call.kept = self._keep(kind, structure, tensors, layer)
        hooks = self._hooks_for(kind, layer)
        try:
            if hooks is None:
                answer, call.seconds = self._timed(original, layer, inputs, kwargs)
            else:
                with hooks:
                    self._local.hooks = hooks
                    answer, call.seconds = self._timed(original, layer, inputs, kwargs)
        except BaseException:
            self._drop(kind, call)  # a call that raises is nothing to measure by
            raise
        finally:
            if hooks is not None:
                self._local.hooks = None
                self._lock.release()
        if hooks is not None:
            call.hooked = True
            call.sample = hooks.sample(call.seconds, self._cost)
            kind.sampling.add(call.sample)
        root.calls.append(call)
        if paddle.is_grad_enabled():
            self._watch_for_training(kind, call, answer)
        return answer

    def _method_call(
        self, layer: Any, function: str, original: Callable[..., Any], inputs: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        hooks = self._local.hooks
        if hooks is None:
            return original(layer, *inputs, **kwargs)
        with hooks.method(layer, function):
            return original(layer, *inputs, **kwargs)

    def _timed(
        self, original: Callable[..., Any], layer: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, float]:
        if self._wait is not None:
            self._wait()
        started = clock()
        answer = original(layer, *inputs, **kwargs)
        if self._wait is not None:
            self._wait()
        return answer, clock() - started

    def _root_and_kind(
        self, layer: Any, function: str, structure: Structure, tensors: list[Tensor]
    ) -> tuple[_Root, _Kind]:
        root = self._roots.get(id(layer))
        if root is None:
            root = self._roots.setdefault(id(layer), _Root(layer))
        key = (function, _without_numbers(structure), tuple([(str(t.dtype), t.ndim) for t in tensors]))
        kind = root.kinds.get(key)
        if kind is None:
            kind = root.kinds.setdefault(key, _Kind(number=len(root.kinds), function=function))
        return root, kind

    def _hooks_for(self, kind: _Kind, layer: Any) -> Hooks | None:
        if kind.number >= KINDS or not kind.sampling.wants_this_call():
            return None
        # Hooks are for one thread's call at a time.
        if not self._lock.acquire(blocking=False):
            return None
        below = {Spot(path): sub for path, sub in layer.named_sublayers() if path}
        return Hooks(below, self._wait, root=(Spot("", kind.function), layer))

    def _keep(self, kind: _Kind, structure: Structure, tensors: list[Tensor], layer: Any) -> KeptCall | None:
        if kind.number >= KINDS or (
            len(kind.kept) >= KEPT_PER_KIND and not _brings_another_size(kind, structure, tensors)
        ):
            return None
        size = sum(int(tensor.size) * int(tensor.element_size()) for tensor in tensors)
        if any(_is_the_same(mark, tensors) for mark in kind.marks) or self._kept_bytes + size > self._keep_bytes:
            return None
        clones = []
        for tensor in tensors:
            clone = tensor.detach().clone()
            clone.stop_gradient = tensor.stop_gradient
            clones.append(clone)
        kept = KeptCall(
            arguments=map_constants(structure, _copied_array),
            tensors=clones,
            gradients=bool(paddle.is_grad_enabled()),
            training=any(sub.training for sub in layer.sublayers(include_self=True)),
            function=kind.function,
        )
        if len(kind.kept) >= KEPT_PER_KIND:
            self._kept_bytes -= kind.kept.pop().size
        kind.marks.append([(weakref.ref(tensor), tensor.inplace_version) for tensor in tensors])
        kind.kept.append(kept)
        self._kept_bytes += size
        return kept

    def _drop(self, kind: _Kind, call: _Call) -> None:
        for index, kept in enumerate(kind.kept):
            if kept is call.kept:
                del kind.kept[index]
                self._kept_bytes -= kept.size
                return

    def _watch_for_training(self, kind: _Kind, call: _Call, answer: Any) -> None:
        def came_back(gradient: Any) -> None:
            if call.trained:
                return
            call.trained = True
            if call.sample is not None:
                kind.sampling.discard(call.sample)
            self._drop(kind, call)

        for tensor in flatten(answer)[0]:
            if not tensor.stop_gradient and not tensor.is_leaf:
                tensor.register_hook(came_back)

    def profile(self) -> Profile:
        """What was seen so far, training calls left out."""
        roots = [_profile_of(root) for root in self._roots.values()]
        return Profile(roots=tuple([root for root in roots if root is not None]))


def _is_the_same(mark: list[tuple[weakref.ref[Tensor], int]], tensors: list[Tensor]) -> bool:
    # By reference, not by id: the next call's Tensor often lies where the last call's has just been freed. Of calls
    # with arrays alone nobody knows: they have no versions.
    return bool(mark) and all(
        version == tensor.inplace_version and seen() is tensor
        for (seen, version), tensor in zip(mark, tensors, strict=True)
    )


def _brings_another_size(kind: _Kind, structure: Structure, tensors: list[Tensor]) -> bool:
    """Whether a call has sizes that no kept one has, while those have all the same: worth more than other values."""
    known = {_sizes(each.arguments, each.tensors) for each in kind.kept}
    return len(known) == 1 and _sizes(structure, tensors) not in known


def _sizes(structure: Structure, tensors: Sequence[Tensor]) -> tuple[tuple[int, ...], ...]:
    arrays = [value.shape for value in constants(structure) if isinstance(value, np.ndarray)]
    return (*[tuple(tensor.shape) for tensor in tensors], *arrays)


def _without_numbers(structure: Structure) -> Structure:
    # A step counter or an array that differs at every call isn't a new kind of call.
    return map_constants(structure, _generalized)


def _generalized(value: Any) -> Any:
    if isinstance(value, (int, float, np.ndarray, np.generic)) and not isinstance(value, bool):
        return type(value)
    return value


def _copied_array(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


_BETWEEN = frozenset({__name__, RootCalls.__module__})


def _note_place(root: _Root) -> None:
    if len(root.places) >= 8:
        return
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    root.places[(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)] = None


def _profile_of(root: _Root) -> RootProfile | None:
    inference = [call for call in root.calls if not call.trained]
    if not inference:
        return None
    plain = [call.seconds for call in inference if not call.hooked]
    typical = {kind: _typical_seconds(inference, kind) for kind in {call.kind for call in inference}}
    # A hooked call counts for what it would have taken without hooks.
    seconds = sum(typical[call.kind] if call.hooked else call.seconds for call in inference)
    kept = [
        replace(each, weight=sum(call.kind == kind.number for call in inference) / len(kind.kept))
        for kind in root.kinds.values()
        for each in kind.kept
    ]
    return RootProfile(
        layer=root.layer,
        places=tuple([Place(file=file, line=line, function=name) for file, line, name in root.places]),
        calls=len(inference),
        training_calls=len(root.calls) - len(inference),
        seconds=seconds,
        durations=tuple(plain),
        layers=tuple(_layer_times(root, inference, typical, seconds)),
        kept=tuple(kept),
        sampled=sum(call.hooked for call in inference),
    )


def _typical_seconds(calls: list[_Call], kind: int) -> float:
    same = [call for call in calls if call.kind == kind]
    plain = [call.seconds for call in same if not call.hooked]
    return median(plain) if plain else median([call.sample.total if call.sample else call.seconds for call in same])


class _Total:
    """What the samples add up to for one function of one Layer, over all inference calls of the root."""

    __slots__ = ("called_from", "calls", "inclusive", "own")

    def __init__(self) -> None:
        self.calls = self.inclusive = self.own = 0.0
        self.called_from: set[Spot] = set()


def _layer_times(root: _Root, calls: list[_Call], typical: dict[int, float], seconds: float) -> list[LayerTime]:
    """The root's own rows, then those of each sub-Layer that was called, in the order of the tree."""
    totals: defaultdict[Spot, _Total] = defaultdict(_Total)
    for kind in root.kinds.values():
        same = [call for call in calls if call.kind == kind.number]
        if not same:
            continue
        # The parts get their shares of the very seconds that the root got, outliers included.
        spent = sum(typical[kind.number] if call.hooked else call.seconds for call in same)
        below = _add_samples(totals, kind, len(same), spent)
        own = totals[Spot("", kind.function)]
        own.calls += len(same)
        own.inclusive += spent
        own.own += max(0.0, spent - below)
    aliases: dict[int, list[str]] = {}
    for path, sub in root.layer.named_sublayers(include_self=True, remove_duplicate=False):
        aliases.setdefault(id(sub), []).append(path)
    functions: defaultdict[str, list[str]] = defaultdict(list)
    for spot in sorted(totals, key=lambda each: (each.function != FORWARD, each.function)):
        functions[spot.path].append(spot.function)
    return [
        LayerTime(
            path=path,
            function=function,
            aliases=tuple([alias for alias in aliases[id(sub)] if alias != path]),
            layer=sub,
            calls=total.calls / len(calls),
            inclusive=min(total.inclusive, seconds),
            own=min(total.own, seconds),
            called_from=frozenset(total.called_from),
        )
        for path, sub in root.layer.named_sublayers(include_self=True)
        for function in functions[path]
        for total in [totals[Spot(path, function)]]
    ]


def _add_samples(totals: dict[Spot, _Total], kind: _Kind, count: int, spent: float) -> float:
    """Adds what one kind's samples say of ``count`` calls that took ``spent`` seconds; returns the own seconds of all
    below the root."""
    samples = kind.sampling.samples[1:] or kind.sampling.samples
    below = 0.0
    for sample in samples:
        scale = spent / (sample.total * len(samples))
        for spot, inclusive in sample.inclusive.items():
            row = totals[spot]
            row.calls += sample.calls[spot] * count / len(samples)
            row.inclusive += inclusive * scale
            row.own += sample.own[spot] * scale
            row.called_from |= sample.called_from[spot]
            below += sample.own[spot] * scale
    return below
