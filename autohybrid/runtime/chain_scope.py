"""What the names in a method stand for: on the live Layer, in the function's globals, and among Paddle's functions."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import re
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import paddle

from autohybrid.runtime.chain_source import Refused, Source

_PLAIN = (bool, int, float, str, type(None), paddle.Tensor, paddle.dtype, np.dtype)
_SPIES = frozenset({"locals", "vars", "eval", "exec", "globals", "dir"})
_EFFECTS = frozenset(
    {"numpy", "item", "tolist", "backward", "register_hook", "clear_grad", "clear_gradient", "set_value", "cpu", "cuda"}
    | {"pin_memory", "gradient", "normal", "uniform", "exponential", "bernoulli", "multinomial", "detach", "value"}
    | {"apply", "increment", "retain_grads", "set_tensor", "set_vocab", "set_string_list", "get_tensor", "data"}
    | {"top_p_sampling", "create_parameter", "create_tensor", "data_ptr"}
    | {name for kind in (list, dict, set, bytearray) for name in dir(kind)}
)
TENSOR_METHODS = frozenset(
    name for name in dir(paddle.Tensor) if not name.startswith("_") and not name.endswith("_") and name not in _EFFECTS
)
"""Methods of Tensors that do nothing but give another one."""

_RANDOM = re.compile(
    r"(^|_)(rand\w*|normal|gaussian|uniform|bernoulli|multinomial|gumbel_softmax|poisson|binomial|rrelu)($|_)"
    r"|^(class_center_sample|fractional_max_pool\dd)$"
)
_NOT_PURE = frozenset(
    {
        "create_parameter",
        "set_printoptions",
        "check_variable_and_dtype",
        "sdp_kernel",
        "increment",
        "empty",
        "empty_like",
    }
)


class Scope:
    """The names of a function, and what expressions on ``self`` are on the live Layer."""

    def __init__(self, source: Source, layer: Any) -> None:
        self._source = source
        self._layer = layer
        self.self_name = source.self_name
        code = source.function.__code__
        self.locals = frozenset(code.co_varnames) | frozenset(code.co_cellvars)
        count = code.co_argcount + code.co_kwonlyargcount
        count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
        self.parameters = frozenset(code.co_varnames[:count])

    def check(self) -> None:
        """Raises :class:`Refused` where the function looks at its own names."""
        definition = self._source.definition
        for node in ast.walk(definition):
            if isinstance(node, (ast.Global, ast.Nonlocal)):
                raise Refused("it binds names of an outer scope")
            if isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await)):
                raise Refused("it is a generator")
            if isinstance(node, ast.Name) and node.id in _SPIES:
                raise Refused(f"it uses {node.id}()")
            if isinstance(node, ast.Name) and node.id == self.self_name and isinstance(node.ctx, ast.Store):
                raise Refused("it binds self anew")

    def is_local(self, name: str) -> bool:
        return name in self.locals

    def on_self(self, node: ast.expr) -> tuple[str, ...] | None:
        """``self.a.b`` as ``("a", "b")``; None for anything else."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id == self.self_name and names:
            return tuple(reversed(names))
        return None

    def value(self, names: Sequence[str]) -> Any:
        """What ``self.a.b`` is now; raises ``AttributeError``, also where an attribute is computed when it is read."""
        found = self._layer
        for name in names:
            found = attribute(found, name)
        return found

    def is_member(self, node: ast.expr) -> bool:
        """Whether an expression is, or begins from, a sub-Layer of ``self``."""
        while isinstance(node, (ast.Subscript, ast.Attribute, ast.Call)):
            names = self.on_self(node) if isinstance(node, ast.Attribute) else None
            if names is not None:
                return names[0] in self._layer._sub_layers
            node = node.func if isinstance(node, ast.Call) else node.value
        return False

    def has_root(self, name: str) -> bool:
        return self._layer._sub_layers.get(name) is not None

    def outside(self, node: ast.expr) -> Any:
        """What a dotted name of a global, builtin or closed-over value is; None where it isn't one."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self.is_local(node.id):
            return None
        function = self._source.function
        closed = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if node.id in closed:
            try:
                found: Any = closed[node.id].cell_contents
            except ValueError:
                return None
        elif node.id in function.__globals__:
            found = function.__globals__[node.id]
        else:
            found = getattr(builtins, node.id, None)
        for name in reversed(names):
            if not isinstance(found, ModuleType):
                return None
            found = getattr(found, name, None)
        return found

    def builtin(self, node: ast.expr) -> str:
        """The name of the builtin that an expression is; empty where it isn't one, or is another by this name."""
        if isinstance(node, ast.Name) and not self.is_local(node.id):
            found = self.outside(node)
            if found is not None and getattr(builtins, node.id, None) is found:
                return node.id
        return ""


def attribute(layer: Any, name: str) -> Any:
    """An attribute of a Layer; raises ``AttributeError`` where reading it runs code of the user's class."""
    for kind in type(layer).__mro__:
        if name in vars(kind):
            if hasattr(vars(kind)[name], "__get__") and not kind.__module__.startswith("paddle."):
                raise AttributeError(name)
            break
    return getattr(layer, name)


def is_plain(value: Any, depth: int = 3) -> bool:
    """Whether a value is a Tensor, a number, a text, or a list or tuple of such."""
    if isinstance(value, _PLAIN):
        return True
    if isinstance(value, (list, tuple)) and depth:
        return all(is_plain(each, depth - 1) for each in value)
    return False


def held_by(thing: Any) -> list[Any] | None:
    """What lies in a container of Paddle's or Python's, in its order; None for what isn't one, or walks in its own
    way."""
    if type(thing) in (list, tuple):
        return list(thing)
    if type(thing) is dict:
        return list(thing.values())
    if isinstance(thing, (paddle.nn.LayerList, paddle.nn.Sequential, paddle.nn.LayerDict, paddle.nn.ParameterList)):
        walks = (getattr(type(thing), name, None) for name in ("__iter__", "__getitem__", "__len__"))
        if all(walk is None or walk.__module__.startswith("paddle.") for walk in walks):
            inside = thing._parameters if isinstance(thing, paddle.nn.ParameterList) else thing._sub_layers
            return [each for each in inside.values() if each is not None]
    return None


@functools.cache
def _pure_functions() -> frozenset[int]:
    """The ids of Paddle's functions that compute with Tensors, and do nothing else."""
    own = [(paddle, name) for name in dir(paddle) if hasattr(paddle.tensor, name)]
    spaces = (paddle.nn.functional, paddle.linalg, paddle.fft, paddle.signal)
    named = own + [(space, name) for space in spaces for name in dir(space)]
    return frozenset(
        id(getattr(space, name))
        for space, name in named
        if not name.startswith("_")
        and not name.endswith("_")
        and not _RANDOM.search(name)
        and name not in _NOT_PURE
        and isinstance(getattr(space, name), FunctionType)
    )


def is_pure(function: Any) -> bool:
    """Whether it is a function of Paddle's that computes with Tensors, and does nothing else."""
    return id(function) in _pure_functions()
