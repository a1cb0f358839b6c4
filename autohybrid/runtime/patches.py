"""Has what changes a model without leaving a mark move the change counter, while any region is in place.

The patches come with the first region and go with the last. Where somebody else has patched the same method over ours,
ours stays beneath theirs, asleep.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import paddle
from paddle.jit.dy2static.program_translator import StaticFunction
from paddle.nn.layer.layers import HookRemoveHelper

from autohybrid.runtime.changes import assignments, counter
from autohybrid.runtime.gradients import asked, asking
from autohybrid.structure import Tensor

_LAYER_SETTERS = (
    "__delattr__",
    "_apply",
    "_to_impl",
    "_transform",
    "add_parameter",
    "add_sublayer",
    "astype",
    "bfloat16",
    "eval",
    "float",
    "float16",
    "register_buffer",
    "register_forward_post_hook",
    "register_forward_pre_hook",
    "set_dict",
    "set_state_dict",
    "to",
    "train",
)
_CONTAINER_SETTERS = {
    paddle.nn.LayerList: ("__setitem__", "__delitem__", "insert", "append", "extend"),
    paddle.nn.LayerDict: ("__setitem__", "__delitem__", "clear", "pop", "update"),
    paddle.nn.Sequential: ("__setitem__", "__delitem__"),
    paddle.nn.ParameterList: ("__setitem__", "append"),
}
_TENSOR_SETTERS = ("set_value", "copy_", "_share_buffer_to", "_share_underline_tensor_to")

_lock = threading.Lock()
_users = 0
_periods = 0
_installed: list[_Patch | _DataPatch | _TracingPatch] = []


def watch() -> None:
    """Installs the patches for one more region."""
    global _users, _periods
    with _lock:
        _users += 1
        if _users == 1:
            _periods += 1
            _install()


def unwatch() -> None:
    """Gives up one region's interest; with the last one the patches go."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            while _installed:
                _installed.pop().remove()


def watching() -> bool:
    """Whether the patches are in place: only then does the counter tell anything."""
    return _users > 0


def period() -> int:
    """The number of the time for which the patches have been in place without a break; 0 where they aren't. What was
    seen in another period says nothing about now."""
    with _lock:
        return _periods if _users > 0 else 0


def _install() -> None:
    _Patch.on(paddle.nn.Layer, "__setattr__", _assigned, before=True)
    for name in _LAYER_SETTERS:
        _Patch.on(paddle.nn.Layer, name, lambda layer, *_: counter.changed(layer))
    for container, names in _CONTAINER_SETTERS.items():
        for name in names:
            if name in container.__dict__:
                _Patch.on(container, name, lambda layer, *_: counter.changed(layer))
    for name in _TENSOR_SETTERS:
        _Patch.on(paddle.Tensor, name, lambda *given: counter.changed(*given[:2]))
    _DataPatch.on()
    _TracingPatch.on()
    _Patch.on(paddle.nn.initializer.Initializer, "__call__", lambda _, *given: counter.changed(*given[:1]))
    _Patch.on(HookRemoveHelper, "remove", lambda handle, *_: counter.changed(handle._hooks_ref()), before=True)
    _Patch.on(paddle.optimizer.Optimizer, "__init__", lambda it, *_: _patch_steps(type(it)))
    _Patch.on(paddle, "grad", asking, before=True)
    _Patch.on(paddle, "grad", asked)
    for optimizer in _with_subclasses(paddle.optimizer.Optimizer):
        _patch_steps(optimizer)
    for norm in _with_subclasses(paddle.nn.layer.norm._BatchNormBase) | {paddle.nn.BatchNorm}:
        if "forward" in norm.__dict__:
            _Patch.on(norm, "forward", _running_statistics)


def _patch_steps(optimizer: Any) -> None:
    # Called again for each optimizer that is made: its class may be younger than the patches.
    for name in ("step", "minimize"):
        present = any(
            isinstance(patch, _Patch) and patch.owner is optimizer and patch.name == name for patch in _installed
        )
        if name in optimizer.__dict__ and not present:
            _Patch.on(optimizer, name, lambda it, *_: counter.changed(*_optimized(it)))


_PLAIN = (bool, int, float, str, bytes, type(None))


def _assigned(layer: Any, name: str, value: Any) -> None:
    assignments.note(layer)
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
        # Paddle keeps them among the parameters.
        counter.changed(*layer._buffers.values(), *layer._parameters.values())


def _with_subclasses(kind: Any) -> set[Any]:
    found: set[Any] = {kind}
    for below in kind.__subclasses__():
        found |= _with_subclasses(below)
    return found


class _Patch:
    """One method that tells ``notice`` of its calls, behind the original or before it."""

    def __init__(self, owner: Any, name: str, notice: Callable[..., None], before: bool) -> None:
        self.owner = owner
        self.name = name
        self._own = name in owner.__dict__
        self._original = original = getattr(owner, name)
        self._awake = True
        self._before = before

        @functools.wraps(original)
        def noticing(it: Any, *args: Any, **kwargs: Any) -> Any:
            if before and self._awake:
                notice(it, *args, **kwargs)
            try:
                return original(it, *args, **kwargs)
            finally:
                if not before and self._awake:
                    notice(it, *args, *kwargs.values())

        self._noticing = noticing

    @classmethod
    def on(cls, owner: Any, name: str, notice: Callable[..., None], before: bool = False) -> None:
        """Installs a patch, where this version of Paddle has the method at all."""
        if hasattr(owner, name):
            patch = cls(owner, name, notice, before)
            setattr(owner, name, patch._noticing)
            _installed.append(patch)

    def remove(self) -> None:
        """Takes the patch out, or puts it to sleep beneath somebody else's."""
        self._awake = False
        if self.owner.__dict__.get(self.name) is not self._noticing:
            return
        if self._own:
            setattr(self.owner, self.name, self._original)
        else:
            delattr(self.owner, self.name)


class _DataPatch:
    """``tensor.data = other``: an attribute of Paddle's, not a method."""

    def __init__(self) -> None:
        self._original = original = paddle.Tensor.__dict__["data"]

        def assign(tensor: Tensor, value: Any) -> None:
            original.__set__(tensor, value)
            counter.changed(tensor)

        self._noticing = property(original.__get__, assign, doc=original.__doc__)

    @classmethod
    def on(cls) -> None:
        """Installs it."""
        patch = cls()
        paddle.Tensor.data = patch._noticing
        _installed.append(patch)

    def remove(self) -> None:
        """Takes it out, unless somebody else's lies over it."""
        if paddle.Tensor.__dict__.get("data") is self._noticing:
            paddle.Tensor.data = self._original


class _TracingPatch:
    """``paddle.jit.to_static`` and ``save`` of a Layer whose forward is a region, or has some: Paddle takes a method to
    pieces, and gets the eager one."""

    def __init__(self) -> None:
        self._original = original = StaticFunction.__init__

        @functools.wraps(original)
        def made_of(static: Any, function: Any, *args: Any, **kwargs: Any) -> None:
            of_ours = type(function).__module__.startswith("autohybrid.")
            original(static, function.__wrapped__ if of_ours else function, *args, **kwargs)

        self._replacing = made_of

    @classmethod
    def on(cls) -> None:
        """Installs it."""
        patch = cls()
        StaticFunction.__init__ = patch._replacing
        _installed.append(patch)

    def remove(self) -> None:
        """Takes it out, unless somebody else's lies over it."""
        if StaticFunction.__init__ is self._replacing:
            StaticFunction.__init__ = self._original
