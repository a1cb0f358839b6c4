"""Calls that come from outside any Layer: of Layers, and of the methods of Layers that take Tensors.

Layers are seen through ``paddle.nn.Layer.__call__``, which methods (``vae.decode``) don't go through: of those the
classes' functions are wrapped for the time being.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import threading
from collections.abc import Callable, Collection, Iterator
from types import FunctionType
from typing import Any

import paddle
from paddle.base.dygraph.base import in_to_static_mode
from paddle.jit.dy2static import Call

from autohybrid.structure import flatten

FORWARD = "forward"

Original = Callable[..., Any]
Handler = Callable[[Any, str, Original, tuple[Any, ...], dict[str, Any]], Any]
"""Gets the Layer, the function's name, what to call (with the Layer first), and the arguments; gives the answer."""


class _PerThread(threading.local):
    inside = False


class RootCalls:
    """Hands each call from outside any Layer to ``outside``, between ``__enter__`` and ``__exit__``.

    Args:
        outside: gets the root's call. It isn't called again for what happens within.
        within: gets the calls of methods, with Tensors among the arguments, that happen within a root's call; None
            when nobody wants them.
        methods: names of the methods to look at; None for all methods of the user's Layer classes.
    """

    def __init__(self, outside: Handler, within: Handler | None = None, methods: Collection[str] | None = None) -> None:
        self._outside = outside
        self._within = within
        self._methods = methods
        self._local = _PerThread()
        self._wrapped: list[tuple[type, str, Any, Any]] = []
        self._known: set[type] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> RootCalls:
        layer_class = paddle.nn.Layer
        self._replace(layer_class, "__call__", self._seeing_calls(layer_class.__call__))
        if self._methods is None or self._methods:
            self._replace(layer_class, "__init__", self._seeing_classes(layer_class.__init__))
            for kind in list(_subclasses(layer_class)):
                self._look_at(kind)
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, original, ours in reversed(self._wrapped):
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)
        self._wrapped.clear()

    def _replace(self, owner: type, name: str, ours: Any) -> None:
        self._wrapped.append((owner, name, vars(owner)[name], ours))
        setattr(owner, name, ours)

    def _seeing_calls(self, original: Original) -> Original:
        local = self._local

        @functools.wraps(original)
        def seen(layer: Any, *inputs: Any, **kwargs: Any) -> Any:
            if local.inside or in_to_static_mode() or isinstance(layer, paddle.DataParallel):
                return original(layer, *inputs, **kwargs)
            return self._from_outside(layer, FORWARD, original, inputs, kwargs)

        return seen

    def _from_outside(
        self, layer: Any, name: str, original: Original, inputs: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._local.inside = True
        try:
            return self._outside(layer, name, original, inputs, kwargs)
        finally:
            self._local.inside = False

    def _seeing_classes(self, original: Original) -> Original:
        known = self._known

        @functools.wraps(original)
        def initialized(layer: Any, *args: Any, **kwargs: Any) -> None:
            if type(layer) not in known:
                self._look_at(type(layer))
            original(layer, *args, **kwargs)

        return initialized

    def _look_at(self, kind: type) -> None:
        with self._lock:
            for base in kind.__mro__:
                if base in self._known:
                    continue
                self._known.add(base)
                if _is_users(base):
                    for name, function in methods_of(base):
                        if self._methods is None or name in self._methods:
                            self._replace(base, name, self._seeing_method(name, function))

    def _seeing_method(self, name: str, original: Original) -> Original:
        local, within = self._local, self._within

        @functools.wraps(original)
        def seen(layer: Any, *inputs: Any, **kwargs: Any) -> Any:
            if in_to_static_mode():
                # Paddle converts the user's function, which it would not find behind this one.
                return Call(original)(layer, *inputs, **kwargs)
            if local.inside:
                if within is not None and _takes_tensors(inputs, kwargs):
                    return within(layer, name, original, inputs, kwargs)
                return original(layer, *inputs, **kwargs)
            if not isinstance(layer, paddle.nn.Layer) or drives_forward(layer.__class__, name):
                return original(layer, *inputs, **kwargs)
            if not flatten((inputs, kwargs))[0]:
                return original(layer, *inputs, **kwargs)
            return self._from_outside(layer, name, original, inputs, kwargs)

        marked: Original = paddle.jit.not_to_static(seen)
        return marked


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def _is_users(kind: type) -> bool:
    return kind is not object and kind.__module__.split(".")[0] not in ("paddle", "autohybrid", "builtins", "typing")


def methods_of(kind: type) -> list[tuple[str, FunctionType]]:
    """The plain methods that a class defines itself, ``forward`` and special methods left out."""
    return [
        (name, value)
        for name, value in vars(kind).items()
        if isinstance(value, FunctionType)
        and not (name.startswith("__") and name.endswith("__"))
        and name != FORWARD
        and not inspect.isgeneratorfunction(value)
        and not inspect.iscoroutinefunction(value)
    ]


def _takes_tensors(inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a Tensor is among the arguments, or directly in a list or tuple among them."""
    tensor = paddle.Tensor
    for value in (*inputs, *kwargs.values()):
        if isinstance(value, tensor):
            return True
        if isinstance(value, (list, tuple)) and any(isinstance(part, tensor) for part in value):
            return True
    return False


@functools.cache
def drives_forward(kind: type, name: str) -> bool:
    """Whether a method calls the Layer itself (``generate``, ``predict``): then its calls of the Layer are the roots.

    Told by the source, through other methods that it calls on ``self``; False where that can't be read.
    """
    return _drives(kind, name, set())


def _drives(kind: type, name: str, seen: set[str]) -> bool:
    seen.add(name)
    for base in kind.__mro__:
        function = vars(base).get(name)
        if not isinstance(function, FunctionType):
            continue
        calls = _calls_on_self(inspect.unwrap(function))
        if "" in calls or FORWARD in calls or "__call__" in calls:
            return True
        if any(each not in seen and _drives(kind, each, seen) for each in calls):
            return True
    return False


def _calls_on_self(function: Callable[..., Any]) -> set[str]:
    """The names of the methods that a method calls on its first argument; ``""`` when it calls that itself."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return set()
    own = function.__code__.co_varnames[:1]
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in own:
            found.add("")
        elif isinstance(called, ast.Attribute):
            owner = called.value
            if isinstance(owner, ast.Name) and owner.id in own:
                found.add(called.attr)
    return found
