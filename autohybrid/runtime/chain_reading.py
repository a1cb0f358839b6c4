"""Which statements a chain may hold: such as can do nothing but compute with Tensors and bind local names."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import paddle

from autohybrid.runtime.chain_source import Refused, Source, names_in

_PLAIN = (bool, int, float, str, type(None), paddle.Tensor, paddle.dtype, np.dtype)
_WALKS = frozenset({"enumerate", "zip", "reversed", "list", "tuple"})
_LOOKS = frozenset({"len", "range"})
_SPIES = frozenset({"locals", "vars", "eval", "exec", "globals", "dir"})
_EFFECTS = frozenset(
    {"numpy", "item", "tolist", "backward", "register_hook", "clear_grad", "clear_gradient", "set_value", "cpu", "cuda"}
    | {"pin_memory", "gradient", "normal", "uniform", "exponential", "bernoulli", "multinomial", "detach", "value"}
    | {name for kind in (list, dict, set, bytearray) for name in dir(kind)}
)
_TENSOR_METHODS = frozenset(
    name for name in dir(paddle.Tensor) if not name.startswith("_") and not name.endswith("_") and name not in _EFFECTS
)
_RANDOM = re.compile(r"(^|_)(rand\w*|normal|gaussian|uniform|bernoulli|multinomial|gumbel_softmax|poisson)($|_)")


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
        """What ``self.a.b`` is now; raises ``AttributeError``."""
        found = self._layer
        for name in names:
            found = getattr(found, name)
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
        """What a dotted name of a global, builtin or closed-over value is; raises ``LookupError``."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self.is_local(node.id):
            raise LookupError
        function = self._source.function
        closed = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if node.id in closed:
            try:
                found: Any = closed[node.id].cell_contents
            except ValueError as error:
                raise LookupError from error
        elif node.id in function.__globals__:
            found = function.__globals__[node.id]
        else:
            found = getattr(builtins, node.id, None)
        for name in reversed(names):
            if not isinstance(found, ModuleType):
                raise LookupError
            found = getattr(found, name, None)
        if found is None:
            raise LookupError
        return found


MEMBER, VALUE = "member", "value"

Kind = str | tuple[Any, ...] | None
"""``MEMBER`` for a Layer or several, ``VALUE``, a tuple of these for what unpacks so, None for what no chain holds."""


_WALKED: dict[str, Kind] = {"values": MEMBER, "items": (VALUE, MEMBER), "keys": VALUE}


class Reading:
    """Reads statements one after another, as long as they qualify.

    Attributes:
        needed: local names read where they may not be bound yet.
        bound: local names bound; ``surely`` in every case.
        members: local names that stand for Layers.
        attributes: hoisted expressions on ``self``, by the names they get.
        roots: sub-Layers of ``self`` that are used; ``functions`` likewise.
        calls: calls of sub-Layers; two for a call in a loop over several.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._walking = 0
        self.lenient = False
        self.needed: set[str] = set()
        self.bound: set[str] = set()
        self.surely: set[str] = set()
        self.members: set[str] = set()
        self.lists: set[str] = set()
        self.attributes: dict[str, str] = {}
        self.roots: set[str] = set()
        self.functions: set[str] = set()
        self.calls = 0

    def takes(self, statement: ast.stmt, may_return: bool = False) -> bool:
        """Whether the statement qualifies; if so, it belongs to what was read."""
        before = (set(self.needed), set(self.bound), set(self.surely), set(self.members), set(self.lists))
        attributes, roots, calls = dict(self.attributes), set(self.roots), self.calls
        functions = set(self.functions)
        if self._statement(statement, may_return):
            return True
        if not self.lenient:
            self.needed, self.bound, self.surely, self.members, self.lists = before
            self.attributes, self.roots, self.functions, self.calls = attributes, roots, functions, calls
        return False

    def _statement(self, node: ast.stmt, may_return: bool = False) -> bool:
        if isinstance(node, ast.Assign):
            kind = self._kind(node.value)
            return kind is not None and all(self._bind(target, kind, node.value) for target in node.targets)
        if isinstance(node, ast.AnnAssign):
            kind = self._kind(node.value) if node.value is not None else None
            return kind is not None and node.value is not None and self._bind(node.target, kind, node.value)
        if isinstance(node, ast.AugAssign):
            return (
                isinstance(node.target, ast.Name)
                and self._load(node.target.id) == VALUE
                and self._kind(node.value) == VALUE
                and self._bind(node.target, VALUE)
            )
        if isinstance(node, ast.Return):
            return may_return and node.value is not None and self._kind(node.value) == VALUE
        if isinstance(node, ast.For):
            return self._loop(node)
        if isinstance(node, ast.If):
            return self._kind(node.test) == VALUE and self._branches(node.body, node.orelse)
        if isinstance(node, ast.Expr):
            return self._appends(node.value)
        return isinstance(node, ast.Pass) or (isinstance(node, (ast.Break, ast.Continue)) and self._walking > 0)

    def _branches(self, *branches: Sequence[ast.stmt]) -> bool:
        before, ends = self.surely, []
        for branch in branches:
            self.surely = set(before)
            if not all(self._statement(each) for each in branch):
                self.surely = before
                return False
            ends.append(self.surely)
        self.surely = set.intersection(*ends)
        return True

    def _loop(self, node: ast.For) -> bool:
        if node.orelse:
            return False
        items = self._items(node.iter)
        several = 2 if items is not None and items != VALUE else 1
        if isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Name) and node.iter.func.id == "range":
            several = 2
        if items is None:
            return False
        self._walking += 1
        before, surely = self.calls, self.surely
        self.surely = set(surely)
        try:
            if not self._bind(node.target, items):
                return False
            if not all(self._statement(each) for each in node.body):
                return False
        finally:
            self._walking -= 1
            self.surely = surely  # the loop may have no turn at all
            self.calls = before + (self.calls - before) * several
        return True

    def _appends(self, node: ast.expr) -> bool:
        """``found.append(x)`` on a list that the chain itself has made; or a docstring."""
        if isinstance(node, ast.Constant):
            return True
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "append"
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in self.lists
            and len(node.args) == 1
            and not node.keywords
            and self._kind(node.args[0]) == VALUE
        )

    def _bind(self, target: ast.expr, kind: Kind, value: ast.expr | None = None) -> bool:
        if isinstance(target, ast.Name):
            name = target.id
            if not self._scope.is_local(name):
                return False
            self.bound.add(name)
            self.surely.add(name)
            (self.members.add if kind == MEMBER or isinstance(kind, tuple) else self.members.discard)(name)
            (self.lists.add if isinstance(value, ast.List) else self.lists.discard)(name)
            return True
        if isinstance(target, (ast.Tuple, ast.List)):
            parts = kind if isinstance(kind, tuple) else (kind,) * len(target.elts)
            return len(parts) == len(target.elts) and all(map(self._bind, target.elts, parts))
        return False

    def _load(self, name: str) -> Kind:
        if name not in self.surely:
            self.needed.add(name)
        return MEMBER if name in self.members else VALUE

    def _items(self, node: ast.expr) -> Kind:
        """What walking over an expression gives in each turn."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not self._scope.is_local(node.func.id):
            name = node.func.id
            if node.keywords and name != "enumerate":
                return None
            if name == "enumerate" and node.args:
                inner = self._items(node.args[0])
                rest = [self._kind(each) for each in (*node.args[1:], *(word.value for word in node.keywords))]
                return (VALUE, inner) if inner is not None and all(kind == VALUE for kind in rest) else None
            if name == "zip":
                parts = tuple([self._items(each) for each in node.args])
                return None if None in parts else parts
            if name in ("reversed", "list", "tuple") and len(node.args) == 1:
                return self._items(node.args[0])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args and not node.keywords:
            walked = node.func.attr
            if walked in _WALKED and self._kind(node.func.value) == MEMBER:
                return _WALKED[walked]
        kind = self._kind(node)
        return kind if kind in (MEMBER, VALUE) else None

    def _kind(self, node: ast.expr) -> Kind:
        handler = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        return handler(node) if handler is not None else None

    def _all_values(self, nodes: Sequence[ast.expr | None]) -> Kind:
        return VALUE if all(each is None or self._kind(each) == VALUE for each in nodes) else None

    def _of_name(self, node: ast.Name) -> Kind:
        if node.id == self._scope.self_name:
            return None
        if self._scope.is_local(node.id):
            return self._load(node.id)
        try:
            return VALUE if isinstance(self._scope.outside(node), _PLAIN) else None
        except LookupError:
            return VALUE if node.id == "None" else None

    def _of_constant(self, node: ast.Constant) -> Kind:
        return VALUE

    def _of_attribute(self, node: ast.Attribute) -> Kind:
        names = self._scope.on_self(node)
        if names is None:
            try:
                return VALUE if isinstance(self._scope.outside(node), _PLAIN) else None
            except LookupError:
                kind = self._kind(node.value)
                return VALUE if kind == VALUE else None
        try:
            value = self._scope.value(names)
        except AttributeError:
            return None
        if isinstance(value, paddle.nn.Layer):
            if not self._scope.has_root(names[0]):
                return None
            self.roots.add(names[0])
            return MEMBER
        return self._hoisted(names, value)

    def _hoisted(self, names: Sequence[str], value: Any) -> Kind:
        if not _is_plain(value):
            return None
        name = "_".join([self._scope.self_name, *names])
        while self._scope.is_local(name):
            name += "_"
        self.attributes[name] = ".".join([self._scope.self_name, *names])
        return VALUE

    def _of_subscript(self, node: ast.Subscript) -> Kind:
        kind = self._kind(node.value)
        if kind is None or isinstance(kind, tuple) or self._kind(node.slice) != VALUE:
            return None
        return kind

    def _of_slice(self, node: ast.Slice) -> Kind:
        return self._all_values([node.lower, node.upper, node.step])

    def _of_binop(self, node: ast.BinOp) -> Kind:
        return self._all_values([node.left, node.right])

    def _of_unaryop(self, node: ast.UnaryOp) -> Kind:
        return self._all_values([node.operand])

    def _of_boolop(self, node: ast.BoolOp) -> Kind:
        return self._all_values(node.values)

    def _of_compare(self, node: ast.Compare) -> Kind:
        return self._all_values([node.left, *node.comparators])

    def _of_ifexp(self, node: ast.IfExp) -> Kind:
        return self._all_values([node.test, node.body, node.orelse])

    def _of_tuple(self, node: ast.Tuple) -> Kind:
        return self._all_values(node.elts)

    def _of_list(self, node: ast.List) -> Kind:
        return self._all_values(node.elts)

    def _of_dict(self, node: ast.Dict) -> Kind:
        return self._all_values([*node.keys, *node.values]) if None not in node.keys else None

    def _of_starred(self, node: ast.Starred) -> Kind:
        return self._all_values([node.value])

    def _of_listcomp(self, node: ast.ListComp) -> Kind:
        (generator, *more) = node.generators
        if more or generator.ifs or generator.is_async:
            return None
        items = self._items(generator.iter)
        names = names_in(generator.target)
        if items is None or names & (self.needed | self.bound) or names & self._scope.parameters:
            return None
        inner = Reading(self._scope)
        inner.members, inner.surely = set(self.members), set(self.surely)
        inner._comprehends(names, generator.target, items)
        if inner._kind(node.elt) != VALUE:
            return None
        self.needed |= inner.needed - names
        self.attributes |= inner.attributes
        self.roots |= inner.roots
        self.functions |= inner.functions
        self.calls += inner.calls * (2 if items != VALUE else 1)
        return VALUE

    def _comprehends(self, names: set[str], target: ast.expr, items: Kind) -> None:
        """Has the names of a comprehension stand for what it walks over."""
        parts = items if isinstance(items, tuple) and isinstance(target, ast.Tuple) else (items,)
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        for each, part in zip(targets, parts, strict=False):
            if isinstance(each, ast.Name) and part == MEMBER:
                self.members.add(each.id)
        self.surely |= names
        self._comprehended = names

    _comprehended: frozenset[str] | set[str] = frozenset()

    def _of_call(self, node: ast.Call) -> Kind:
        arguments = [*node.args, *(word.value for word in node.keywords)]
        function = node.func
        if isinstance(function, ast.Name) and not self._scope.is_local(function.id):
            if function.id in _LOOKS and getattr(builtins, function.id) is self._outside(function):
                looked = [self._kind(each) for each in arguments]
                return VALUE if all(kind in (MEMBER, VALUE) for kind in looked) else None
            if function.id in _WALKS and getattr(builtins, function.id) is self._outside(function):
                return self._all_values(arguments)
        if _is_pure(self._outside(function)):
            return self._all_values(arguments)
        if self._is_member(function):
            self.calls += 1
            return self._all_values(arguments)
        if self._is_absent(function) or self._is_kept_function(function):
            return self._all_values(arguments)
        if (
            isinstance(function, ast.Attribute)
            and function.attr in _TENSOR_METHODS
            and self._kind(function.value) == VALUE
        ):
            return self._all_values(arguments)
        return None

    def _outside(self, node: ast.expr) -> Any:
        try:
            return self._scope.outside(node)
        except LookupError:
            return None

    def _is_kept_function(self, node: ast.expr) -> bool:
        """Whether it is one of Paddle's pure functions, kept on ``self``."""
        names = self._scope.on_self(node)
        try:
            if names is None or len(names) != 1 or not _is_pure(self._scope.value(names)):
                return False
        except AttributeError:
            return False
        self.functions.add(names[0])
        return True

    def _is_absent(self, node: ast.expr) -> bool:
        """Whether it is a sub-Layer that this model was made without: a branch that isn't taken calls it."""
        names = self._scope.on_self(node)
        try:
            return names is not None and self._scope.value(names) is None and self._kind(node) == VALUE
        except AttributeError:
            return False

    def _is_member(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name) and (self._scope.is_local(node.id) or node.id in self._comprehended):
            return node.id in self.members
        return isinstance(node, (ast.Attribute, ast.Subscript)) and self._kind(node) == MEMBER


def _is_plain(value: Any, depth: int = 3) -> bool:
    if isinstance(value, _PLAIN):
        return True
    if isinstance(value, (list, tuple)) and depth:
        return all(_is_plain(each, depth - 1) for each in value)
    return False


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
        and name not in ("create_parameter", "set_printoptions", "Tensor")
        and callable(getattr(space, name))
    )


def _is_pure(function: Any) -> bool:
    return id(function) in _pure_functions()
