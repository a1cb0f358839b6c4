"""Notices that weights, buffers, attributes or structure of a model have changed, at a price that each call can pay.

Three signals. In-place operations move a Tensor's ``inplace_version``; the sum over a region's Tensors is read at every
call. Lists, dicts and objects kept as attributes must hold the very objects they held. What changes things without
leaving a mark (``set_value``, ``copy_``, an optimizer's step, ``Layer.__setattr__``, running statistics in training
mode) is patched, by :mod:`autohybrid.runtime.patches`, to move one process-wide counter while any region is in place.
When one of them moved, the region looks closely (:class:`Snapshot`).
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paddle

from autohybrid.runtime.reach import Reach, own_attributes, reach, saved, still
from autohybrid.structure import Tensor, content

LOG_LENGTH = 1 << 16
"""Changes that are remembered one by one; a region that missed more than these takes it that it has changed."""


WEIGHTS_CHANGED = "weights changed"

_VERSION = paddle.Tensor._inplace_version
"""What the property ``inplace_version`` of Paddle's asks: the C method, at a quarter of its price."""


class _Counter:
    """The process-wide change counter, and which objects the latest changes were made to."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()
        self._log: deque[int] = deque(maxlen=LOG_LENGTH)

    def changed(self, *objects: Any) -> None:
        """Notes that Layers or Tensors were changed in a way that leaves no mark on them."""
        with self._lock:
            for each in objects:
                self._log.append(id(each))
                self.value += 1

    def since(self, value: int) -> list[int] | None:
        """The ids of what was changed after the counter stood at ``value``; None when that isn't known any more."""
        with self._lock:
            missed = self.value - value
            if missed > len(self._log):
                return None
            return list(itertools.islice(reversed(self._log), missed))


counter = _Counter()


class _Addresses:
    """By what address a Tensor is known that was moved with all that is in it: the one where it lay at first."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}

    def moved(self, places: Mapping[int, int], holder: Any) -> None:
        """Notes new addresses with the old ones, for as long as ``holder`` lives, which the new memory belongs to."""
        known = {new: self.known(old) for new, old in places.items()}
        self._first |= known
        weakref.finalize(holder, self._forget, list(known)).atexit = False

    def known(self, address: int) -> int:
        return self._first.get(address, address)

    def _forget(self, places: Sequence[int]) -> None:
        for each in places:
            self._first.pop(each, None)


addresses = _Addresses()


class _Assignments(threading.local):
    """The Layers whose attributes this thread has set, also to what they were, while somebody listens."""

    layers: list[Any] | None = None

    @contextmanager
    def heard(self) -> Iterator[list[Any]]:
        before, self.layers = self.layers, []
        try:
            yield self.layers
        finally:
            self.layers = before

    def note(self, layer: Any) -> None:
        if self.layers is not None:
            self.layers.append(layer)


assignments = _Assignments()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a conversion of ``layer`` depended on, besides the call's arguments."""

    members: frozenset[int]
    tensors: tuple[Tensor, ...]
    containers: tuple[tuple[Any, Any], ...]
    pointers: tuple[tuple[int, str, tuple[int, ...]], ...]
    version: int
    count: int
    attributes: tuple[Any, ...]
    training: bool

    @classmethod
    def of(cls, layer: Any) -> Snapshot:
        count = counter.value
        found = reach(layer)
        return cls(
            members=frozenset(_members(found)),
            tensors=tuple(found.tensors),
            containers=tuple([(each, saved(each)) for each in found.containers]),
            pointers=tuple([_pointer(tensor) for tensor in found.tensors]),
            version=sum(map(_VERSION, found.tensors)),
            count=count,
            attributes=tuple(_attributes(found.layers)),
            training=any(sub.training for sub in found.layers),
        )

    def looks_unchanged(self) -> bool:
        """The check of every call: the counter, the in-place versions and the containers are as they were."""
        return counter.value == self.count and self._is_unmarked()

    def concerns_us(self) -> bool:
        """Whether anything that was noted since is a Layer or a Tensor of ours, or something of ours moved."""
        noted = counter.since(self.count)
        return noted is None or not self.members.isdisjoint(noted) or not self._is_unmarked()

    def _is_unmarked(self) -> bool:
        if sum(map(_VERSION, self.tensors)) != self.version:
            return False
        for container, kept in self.containers:  # noqa: SIM110 - most have none, and a generator costs each call
            if not still(container, kept):
                return False
        return True

    def was_written(self) -> bool:
        """Whether one of the Tensors was written without a mark."""
        noted = counter.since(self.count)
        return noted is None or not {id(tensor) for tensor in self.tensors}.isdisjoint(noted)

    def what_changed(self, now: Snapshot) -> str:
        """The full check against a newer snapshot; empty when nothing that matters differs.

        The training flags aren't part of it: programs are made in evaluation mode, whatever the Layers are in.
        """
        if len(self.tensors) != len(now.tensors) or any(
            a is not b for a, b in zip(self.tensors, now.tensors, strict=True)
        ):
            return "a parameter or buffer was replaced"
        if self.pointers != now.pointers or self.version != now.version:
            return WEIGHTS_CHANGED
        if self.was_written():
            return WEIGHTS_CHANGED
        if self.attributes != now.attributes:
            return "an attribute, a sub-Layer or a hook changed"
        return ""


def _members(found: Reach) -> Iterator[int]:
    for each in (*found.layers, *found.tensors):
        yield id(each)
    for layer in found.layers:
        # A hook's handle knows the dict that it is in, and nothing else.
        yield id(layer._forward_pre_hooks)
        yield id(layer._forward_post_hooks)


def _pointer(tensor: Tensor) -> tuple[int, str, tuple[int, ...]]:
    address = tensor.data_ptr() if tensor._is_initialized() else 0
    return (addresses.known(address), str(tensor.dtype), tuple(tensor.shape))


def _attributes(family: Sequence[Any]) -> Iterator[Any]:
    for sub in family:
        yield id(sub)
        yield tuple([(key, id(child)) for key, child in sub._sub_layers.items()])
        if sub is not family[0]:
            yield tuple([id(hook) for hook in (*sub._forward_pre_hooks.values(), *sub._forward_post_hooks.values())])
            yield id(sub.__dict__.get("forward"))
        for name, value in own_attributes(sub):
            yield (name, content(value))
