"""Notices that weights, buffers, attributes or structure of a model have changed, at a price that each call can pay.

Two signals. In-place operations move a Tensor's ``inplace_version``; the sum over a region's Tensors is read at every
call. What changes things without leaving a mark (``set_value``, ``copy_``, an optimizer's step, ``Layer.__setattr__``,
running statistics in training mode) is patched to move one process-wide counter while any region is in place. When
either moved, the region looks closely (:class:`Snapshot`).
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from autohybrid.structure import Tensor

_LAYER_SETTERS = (
    "__delattr__",
    "add_parameter",
    "add_sublayer",
    "register_buffer",
    "set_state_dict",
    "to",
    "train",
    "eval",
    "register_forward_pre_hook",
    "register_forward_post_hook",
)


LOG_LENGTH = 1 << 16
"""Changes that are remembered one by one; a region that missed more than these takes it that it has changed."""


class _Counter:
    """The process-wide change counter, and which objects the latest changes were made to."""

    def __init__(self) -> None:
        self.value = 0
        self._log: deque[int] = deque(maxlen=LOG_LENGTH)

    def changed(self, *objects: Any) -> None:
        """Notes that Layers or Tensors were changed in a way that leaves no mark on them."""
        for each in objects:
            self._log.append(id(each))
            self.value += 1

    def since(self, value: int) -> list[int] | None:
        """The ids of what was changed after the counter stood at ``value``; None when that isn't known any more."""
        missed = self.value - value
        if missed > len(self._log):
            return None
        return list(itertools.islice(reversed(self._log), missed))


counter = _Counter()
_lock = threading.Lock()
_users = 0
_undo: list[Callable[[], None]] = []


def watch() -> None:
    """Installs the patches for one more region."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _install()


def unwatch() -> None:
    """Gives up one region's interest; with the last one the patches go."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            while _undo:
                _undo.pop()()


def watching() -> bool:
    """Whether the patches are in place: only then does the counter tell anything."""
    return _users > 0


def _install() -> None:
    _patch(paddle.nn.Layer, "__setattr__", _assigned, before=True)
    for name in _LAYER_SETTERS:
        _patch(paddle.nn.Layer, name, lambda layer, *_: counter.changed(layer))
    for name in ("set_value", "copy_"):
        if hasattr(paddle.Tensor, name):
            _patch(paddle.Tensor, name, lambda tensor, *_: counter.changed(tensor))
    for optimizer in _with_subclasses(paddle.optimizer.Optimizer):
        for name in ("step", "minimize"):
            if name in optimizer.__dict__:
                _patch(optimizer, name, lambda it, *_: counter.changed(*_optimized(it)))
    for norm in _with_subclasses(paddle.nn.layer.norm._BatchNormBase) | {paddle.nn.BatchNorm}:
        if "forward" in norm.__dict__:
            _patch(norm, "forward", _running_statistics)


_PLAIN = (bool, int, float, str, bytes, type(None))


def _assigned(layer: Any, name: str, value: Any) -> None:
    # Some of Paddle's own Layers assign the same string to themselves at every call.
    old = layer.__dict__.get(name, _plain_nothing)
    if not (type(value) in _PLAIN and type(old) is type(value) and old == value):
        counter.changed(layer)


_plain_nothing = object()


def _optimized(optimizer: Any) -> Iterator[Tensor]:
    for entry in optimizer._parameter_list or ():
        if isinstance(entry, dict):
            yield from entry["params"]
        else:
            yield entry


def _running_statistics(layer: Any, *_: Any) -> None:
    if layer.training:
        counter.changed(*layer._buffers.values())


def _with_subclasses(kind: Any) -> set[Any]:
    found: set[Any] = {kind}
    for below in kind.__subclasses__():
        found |= _with_subclasses(below)
    return found


def _patch(owner: type, name: str, notice: Callable[..., None], before: bool = False) -> None:
    """Has ``notice`` called with each call's arguments, behind the original or before it."""
    own = name in owner.__dict__
    original = getattr(owner, name)

    @functools.wraps(original)
    def noticing(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before:
            notice(self, *args)
            return original(self, *args, **kwargs)
        try:
            return original(self, *args, **kwargs)
        finally:
            notice(self)

    def undo() -> None:
        # Somebody may have wrapped ours in the meantime; then it stays beneath theirs, where it does no harm.
        if owner.__dict__.get(name) is not noticing:
            return
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)

    setattr(owner, name, noticing)
    _undo.append(undo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a conversion of ``layer`` depended on, besides the call's arguments."""

    members: frozenset[int]
    tensors: tuple[Tensor, ...]
    pointers: tuple[tuple[int, str, tuple[int, ...]], ...]
    version: int
    count: int
    attributes: tuple[Any, ...]
    training: bool

    @classmethod
    def of(cls, layer: Any) -> Snapshot:
        family = _family(layer)
        tensors = tuple(_state_tensors(family))
        return cls(
            members=frozenset([id(each) for each in (*family, *tensors)]),
            tensors=tensors,
            pointers=tuple([_pointer(tensor) for tensor in tensors]),
            version=sum([tensor.inplace_version for tensor in tensors]),
            count=counter.value,
            attributes=tuple(_attributes(family)),
            training=any(sub.training for sub in family),
        )

    def looks_unchanged(self) -> bool:
        """The check of every call: neither the counter nor any in-place version moved."""
        return counter.value == self.count and sum([t.inplace_version for t in self.tensors]) == self.version

    def concerns_us(self) -> bool:
        """Whether anything that was noted since is a Layer or a Tensor of ours, or an in-place version moved."""
        noted = counter.since(self.count)
        if noted is None or not self.members.isdisjoint(noted):
            return True
        return bool(sum([tensor.inplace_version for tensor in self.tensors]) != self.version)

    def was_written(self) -> bool:
        """Whether one of the Tensors was written without a mark."""
        noted = counter.since(self.count)
        return noted is None or not {id(tensor) for tensor in self.tensors}.isdisjoint(noted)

    def what_changed(self, now: Snapshot) -> str:
        """The full check against a newer snapshot; empty when nothing that matters differs."""
        if len(self.tensors) != len(now.tensors) or any(
            a is not b for a, b in zip(self.tensors, now.tensors, strict=True)
        ):
            return "a parameter or buffer was replaced"
        if self.pointers != now.pointers or self.version != now.version:
            return "weights changed"
        if self.was_written():
            return "weights changed"
        if self.training != now.training:
            return "training mode changed"
        if self.attributes != now.attributes:
            return "an attribute, a sub-Layer or a hook changed"
        return ""


def _family(layer: Any) -> list[Any]:
    return [layer, *layer.sublayers()]


def _state_tensors(family: Sequence[Any]) -> Iterator[Tensor]:
    for sub in family:
        yield from [tensor for tensor in sub._parameters.values() if tensor is not None]
        yield from [tensor for tensor in sub._buffers.values() if tensor is not None]


def _pointer(tensor: Tensor) -> tuple[int, str, tuple[int, ...]]:
    address = tensor.data_ptr() if tensor._is_initialized() else 0
    return (address, str(tensor.dtype), tuple(tensor.shape))


NOT_STATE = frozenset({"_parameters", "_buffers", "training", "forward", "_full_name", "_helper", "_dtype"})


def _attributes(family: Sequence[Any]) -> Iterator[Any]:
    for sub in family:
        yield id(sub)
        for name, value in sub.__dict__.items():
            if name in NOT_STATE:
                continue
            if name == "_sub_layers":
                yield tuple([(key, id(child)) for key, child in value.items()])
            elif name in ("_forward_pre_hooks", "_forward_post_hooks"):
                yield 0 if sub is family[0] else len(value)
            else:
                yield (name, _comparable(value))


def _comparable(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return (type(value), repr(value))
    if isinstance(value, (list, tuple)) and len(value) <= 64:
        return (type(value), tuple([_comparable(part) for part in value]))
    if isinstance(value, dict) and len(value) <= 64:
        return (type(value), tuple([(repr(key), _comparable(part)) for key, part in value.items()]))
    if isinstance(value, paddle.Tensor):
        return (id(value), value.inplace_version)
    return id(value)
