"""Notices that weights, buffers, attributes or structure of a model have changed, at a price that each call can pay.

Two signals. In-place operations move a Tensor's ``inplace_version``; the sum over a region's Tensors is read at every
call. What changes things without leaving a mark (``set_value``, ``copy_``, an optimizer's step, ``Layer.__setattr__``,
running statistics in training mode) is patched to move one process-wide counter while any region is in place. When
either moved, the region looks closely (:class:`Snapshot`).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from autohybrid.structure import Tensor

_LAYER_SETTERS = (
    "__setattr__",
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


class _Counter:
    """The process-wide change counter, and which Tensors were written without leaving a mark."""

    def __init__(self) -> None:
        self.value = 0
        self.written: dict[int, int] = {}

    def moved(self) -> None:
        self.value += 1

    def wrote(self, tensors: Iterator[Tensor] | Sequence[Tensor]) -> None:
        self.value += 1
        for tensor in tensors:
            self.written[id(tensor)] = self.value


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
            counter.written.clear()


def _install() -> None:
    for name in _LAYER_SETTERS:
        _patch(paddle.nn.Layer, name, lambda _self: counter.moved())
    for name in ("set_value", "copy_"):
        if hasattr(paddle.Tensor, name):
            _patch(paddle.Tensor, name, lambda tensor: counter.wrote([tensor]))
    for optimizer in _with_subclasses(paddle.optimizer.Optimizer):
        for name in ("step", "minimize"):
            if name in optimizer.__dict__:
                _patch(optimizer, name, lambda it: counter.wrote(list(_optimized(it))))
    for norm in _with_subclasses(paddle.nn.layer.norm._BatchNormBase) | {paddle.nn.BatchNorm}:
        if "forward" in norm.__dict__:
            _patch(norm, "forward", _running_statistics)


def _optimized(optimizer: Any) -> Iterator[Tensor]:
    for entry in optimizer._parameter_list or ():
        if isinstance(entry, dict):
            yield from entry["params"]
        else:
            yield entry


def _running_statistics(layer: Any) -> None:
    if layer.training:
        counter.wrote(list(layer._buffers.values()))


def _with_subclasses(kind: Any) -> set[Any]:
    found: set[Any] = {kind}
    for below in kind.__subclasses__():
        found |= _with_subclasses(below)
    return found


def _patch(owner: type, name: str, notice: Callable[[Any], None]) -> None:
    own = name in owner.__dict__
    original = getattr(owner, name)

    @functools.wraps(original)
    def noticing(self: Any, *args: Any, **kwargs: Any) -> Any:
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

    tensors: tuple[Tensor, ...]
    pointers: tuple[tuple[int, str, tuple[int, ...]], ...]
    version: int
    count: int
    attributes: tuple[Any, ...]
    training: bool

    @classmethod
    def of(cls, layer: Any) -> Snapshot:
        tensors = tuple(_state_tensors(layer))
        return cls(
            tensors=tensors,
            pointers=tuple([_pointer(tensor) for tensor in tensors]),
            version=sum([tensor.inplace_version for tensor in tensors]),
            count=counter.value,
            attributes=tuple(_attributes(layer)),
            training=any(sub.training for sub in _family(layer)),
        )

    def looks_unchanged(self) -> bool:
        """The check of every call: neither the counter nor any in-place version moved."""
        return counter.value == self.count and sum([t.inplace_version for t in self.tensors]) == self.version

    def what_changed(self, now: Snapshot) -> str:
        """The full check against a newer snapshot; empty when nothing that matters differs."""
        if len(self.tensors) != len(now.tensors) or any(
            a is not b for a, b in zip(self.tensors, now.tensors, strict=True)
        ):
            return "a parameter or buffer was replaced"
        if self.pointers != now.pointers or self.version != now.version:
            return "weights changed"
        if any(counter.written.get(id(tensor), 0) > self.count for tensor in self.tensors):
            return "weights changed"
        if self.training != now.training:
            return "training mode changed"
        if self.attributes != now.attributes:
            return "an attribute, a sub-Layer or a hook changed"
        return ""


def _family(layer: Any) -> list[Any]:
    return [layer, *layer.sublayers()]


def _state_tensors(layer: Any) -> Iterator[Tensor]:
    for sub in _family(layer):
        yield from [tensor for tensor in sub._parameters.values() if tensor is not None]
        yield from [tensor for tensor in sub._buffers.values() if tensor is not None]


def _pointer(tensor: Tensor) -> tuple[int, str, tuple[int, ...]]:
    address = tensor.data_ptr() if tensor._is_initialized() else 0
    return (address, str(tensor.dtype), tuple(tensor.shape))


_NOT_STATE = frozenset({"_parameters", "_buffers", "training", "forward", "_full_name", "_helper", "_dtype"})


def _attributes(layer: Any) -> Iterator[Any]:
    for sub in _family(layer):
        yield id(sub)
        for name, value in sub.__dict__.items():
            if name in _NOT_STATE:
                continue
            if name == "_sub_layers":
                yield tuple([(key, id(child)) for key, child in value.items()])
            elif name in ("_forward_pre_hooks", "_forward_post_hooks"):
                yield 0 if sub is layer else len(value)
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
