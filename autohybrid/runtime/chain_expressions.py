"""Which expressions a chain may hold: such as can do nothing but compute with Tensors and call sub-Layers."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from autohybrid.runtime.chain_scope import TENSOR_METHODS, Scope, attribute, held_by, is_plain, is_pure
from autohybrid.runtime.chain_source import names_in

_LOOKS = frozenset({"len", "range", "isinstance", "type", "min", "max"})
NOT_NEW = (ast.Name, ast.Attribute, ast.Subscript, ast.IfExp, ast.BoolOp, ast.Starred)
_COPIES = frozenset({"list", "tuple"})


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What is a Layer or holds some: those on the live model that an expression may stand for."""

    things: tuple[Any, ...]

    def items(self) -> Kind:
        """What lies inside; None where that isn't known."""
        inside = [held_by(each) for each in self.things]
        if any(each is None for each in inside):
            return None
        return _kind_of(each for things in inside for each in things or ())

    def parts(self, count: int) -> tuple[Kind, ...] | None:
        """What each of ``count`` names gets that the items are bound to."""
        inside = [held_by(each) for each in self.things]
        if any(each is None or len(each) != count for each in inside):
            return None
        return tuple([_kind_of(each[index] for each in inside if each is not None) for index in range(count)])


VALUE = "value"

Kind = str | Held | tuple[Any, ...] | None
"""``VALUE``, a :class:`Held`, a tuple of these for what unpacks so, None for what no chain holds."""


def _kind_of(things: Iterable[Any]) -> Kind:
    found = tuple(things)
    if found and all(is_plain(each) for each in found):
        return VALUE
    if all(isinstance(each, paddle.nn.Layer) or held_by(each) is not None for each in found):
        return Held(found)
    return None


def _only(kind: Kind, turns: list[list[Any]] | None) -> Kind:
    """What some turns of a loop walk over, of what all of them do."""
    if turns is None:
        return kind
    if isinstance(kind, tuple):
        return tuple([_only(each, turns) for each in kind])
    walked = {id(layer) for turn in turns for layer in turn}
    return Held(tuple([each for each in kind.things if id(each) in walked])) if isinstance(kind, Held) else kind


def _literal_slice(node: ast.Slice) -> slice:
    """Raises ``ValueError`` where the bounds aren't constants."""
    return slice(*[None if each is None else ast.literal_eval(each) for each in (node.lower, node.upper, node.step)])


class Expressions:
    """Reads expressions, and notes what they need.

    Attributes:
        needed: local names read where they may not be bound yet.
        looked_at: those of them that are used otherwise than as arguments of sub-Layers.
        bound: local names bound; ``surely`` in every case.
        members: local names that stand for Layers.
        lists: local names that stand for lists made here; ``aliases`` for what may be known by another name too.
        attributes: hoisted expressions on ``self``, by the names they get.
        roots: sub-Layers of ``self`` that are used.
        objects: attributes of ``self`` that are used as they are: functions of Paddle's, Python containers of Layers.
        calls: calls of sub-Layers; two for a call in a loop over several.
        called: the sub-Layers that they may be calls of, by ``id``; ``used`` also those whose attributes it reads.
        presumed: conditions, as text, with what they are where the chain holds, and what must be so for that.
        conditional: local names that the latter read.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._walking = 0
        self._comprehended: set[str] = set()
        self._handed = False
        self.lenient = False
        self.needed: set[str] = set()
        self.looked_at: set[str] = set()
        self.bound: set[str] = set()
        self.surely: set[str] = set()
        self.members: dict[str, Held] = {}
        self.lists: set[str] = set()
        self.aliases: set[str] = set()
        self.attributes: dict[str, str] = {}
        self.roots: set[str] = set()
        self.objects: set[str] = set()
        self.calls = 0
        self.called: dict[int, Any] = {}
        self.used: set[int] = set()
        self.presumed: dict[str, tuple[bool, str]] = {}
        self.conditional: set[str] = set()

    def _now(self) -> dict[str, Any]:
        return {name: copy.copy(value) for name, value in vars(self).items() if name != "_scope"}

    def _back_to(self, before: dict[str, Any]) -> None:
        vars(self).update({name: copy.copy(value) for name, value in before.items()})

    def _load(self, name: str) -> Kind:
        if name not in self.surely:
            self.needed.add(name)
            if not self._handed:
                self.looked_at.add(name)
        return self.members.get(name, VALUE)

    def _builtin_called(self, node: ast.expr) -> str:
        return self._scope.builtin(node.func) if isinstance(node, ast.Call) else ""

    def _items(self, node: ast.expr) -> Kind:
        """What walking over an expression gives in each turn."""
        called = self._builtin_called(node)
        if called:
            found = self._items_of_builtin(called, node)  # type: ignore[arg-type]
            if found is not None:
                return found
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args and not node.keywords:
            inner = self._kind(node.func.value)
            if isinstance(inner, Held):
                return self._items_of_dict(node.func.attr, inner)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and self._builtin_called(node.value):
            items = self._items(node.value) if self._kind(node.slice) == VALUE else None
            return _only(items, self.turns(node))
        kind = self._kind(node)
        if isinstance(kind, Held):
            return VALUE if all(isinstance(each, (dict, paddle.nn.LayerDict)) for each in kind.things) else kind.items()
        return kind if kind == VALUE else None

    def turns(self, node: ast.expr) -> list[list[Any]] | None:
        """The Layers that each turn of a loop over an expression gets, as the model is now; None where that depends on
        a call's arguments."""
        called = self._builtin_called(node)
        if isinstance(node, ast.Call) and called in ("enumerate", "list", "tuple", "reversed") and node.args:
            inner = self.turns(node.args[0])
            return inner[::-1] if inner is not None and called == "reversed" else inner
        if isinstance(node, ast.Call) and called == "zip":
            held = [turns for each in node.args if (turns := self.turns(each)) is not None]
            return [[layer for part in parts for layer in part] for parts in zip(*held)] if held else None  # noqa: B905
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("values", "items")
        ):
            return self.turns(node.func.value)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            inner = self.turns(node.value)
            try:
                return inner[_literal_slice(node.slice)] if inner is not None else None
            except ValueError:
                return None
        kind = self._kind(node)
        if isinstance(kind, Held) and len(kind.things) == 1 and isinstance(kind.items(), Held):
            return [[each] for each in held_by(kind.things[0]) or ()]
        return None

    def _items_of_builtin(self, called: str, node: ast.Call) -> Kind:
        if node.keywords and called != "enumerate":
            return None
        if called == "enumerate" and node.args:
            inner = self._items(node.args[0])
            rest = [self._kind(each) for each in (*node.args[1:], *(word.value for word in node.keywords))]
            return (VALUE, inner) if inner is not None and all(kind == VALUE for kind in rest) else None
        if called == "zip":
            parts = tuple([self._items(each) for each in node.args])
            return None if None in parts else parts
        if called in ("reversed", "list", "tuple") and len(node.args) == 1:
            return self._items(node.args[0])
        return None

    def _items_of_dict(self, walked: str, held: Held) -> Kind:
        if not all(isinstance(each, (dict, paddle.nn.LayerDict)) for each in held.things):
            return None
        if walked == "keys":
            return VALUE
        inner = held.items()
        return {"values": inner, "items": (VALUE, inner)}.get(walked) if inner is not None else None

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
        if node.id in self._comprehended:
            return self.members.get(node.id, VALUE)
        found = self._scope.outside(node)
        return VALUE if found is not None and is_plain(found) else None

    def _of_constant(self, node: ast.Constant) -> Kind:
        return VALUE

    def _of_attribute(self, node: ast.Attribute) -> Kind:
        names = self._scope.on_self(node)
        if names is not None:
            return self._on_self(names)
        found = self._scope.outside(node)
        if found is not None:
            return VALUE if is_plain(found) else None
        kind = self._kind(node.value)
        if isinstance(kind, Held):
            self.used |= {id(each) for each in kind.things}
            try:
                return _kind_of([attribute(each, node.attr) for each in kind.things]) if kind.things else None
            except AttributeError:
                return None
        return VALUE if kind == VALUE else None

    def _on_self(self, names: tuple[str, ...]) -> Kind:
        try:
            value = self._scope.value(names)
        except AttributeError:
            return None
        if self._scope.has_root(names[0]):
            # What a sub-Layer holds may change while it is called: it is read where it stands.
            self.roots.add(names[0])
            along = [self._scope.value(names[:count]) for count in range(1, len(names) + 1)]
            self.used |= {id(each) for each in along if held_by(each) is None}
            return _kind_of([value])
        if is_plain(value):
            return self._hoisted(names)
        kind = _kind_of([value])
        if isinstance(kind, Held) and len(names) == 1 and not isinstance(value, paddle.nn.Layer):
            self.objects.add(names[0])
            return kind
        return None

    def _hoisted(self, names: Sequence[str]) -> Kind:
        name = "_".join([self._scope.self_name, *names])
        while self._scope.is_local(name):
            name += "_"
        self.attributes[name] = ".".join([self._scope.self_name, *names])
        return VALUE

    def _of_subscript(self, node: ast.Subscript) -> Kind:
        kind = self._kind(node.value)
        if self._kind(node.slice) != VALUE:
            return None
        if isinstance(kind, Held):
            return self._part_of(kind, node.slice)
        return kind if kind == VALUE else None

    def _part_of(self, held: Held, index: ast.expr) -> Kind:
        """What an index or a slice gives; all that it may give, where it depends on a call's arguments."""
        inside = [held_by(each) for each in held.things]
        if any(each is None for each in inside):
            return None
        lists = [each for each in inside if each is not None]
        try:
            if isinstance(index, ast.Slice):
                cut = _literal_slice(index)
                return Held(tuple([each[cut] for each in lists]))
            return _kind_of([each[ast.literal_eval(index)] for each in lists])
        except (ValueError, TypeError, LookupError):
            return held if isinstance(index, ast.Slice) else held.items()

    def _of_slice(self, node: ast.Slice) -> Kind:
        return self._all_values([node.lower, node.upper, node.step])

    def _of_binop(self, node: ast.BinOp) -> Kind:
        return self._all_values([node.left, node.right])

    def _of_unaryop(self, node: ast.UnaryOp) -> Kind:
        return self._all_values([node.operand])

    def _of_boolop(self, node: ast.BoolOp) -> Kind:
        return self._all_values(node.values)

    def _of_compare(self, node: ast.Compare) -> Kind:
        kinds = [self._kind(each) for each in (node.left, *node.comparators)]
        if all(isinstance(each, (ast.Is, ast.IsNot)) for each in node.ops) and None not in kinds:
            return VALUE  # whether there is such a sub-Layer at all
        return VALUE if all(kind == VALUE for kind in kinds) else None

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
        inner = Expressions(self._scope)
        inner.members, inner.surely = dict(self.members), set(self.surely)
        if not inner._comprehends(names, generator.target, items) or inner._kind(node.elt) != VALUE:
            return None
        self.needed |= inner.needed - names
        self.looked_at |= inner.looked_at - names
        self.attributes |= inner.attributes
        self.roots |= inner.roots
        self.objects |= inner.objects
        self.called |= inner.called
        self.used |= inner.used
        self.calls += inner.calls * (2 if items != VALUE else 1)
        return VALUE

    def _comprehends(self, names: set[str], target: ast.expr, items: Kind) -> bool:
        """Has the names of a comprehension stand for what it walks over."""
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        parts: Any = items
        if isinstance(target, ast.Tuple) and isinstance(items, Held):
            parts = items.parts(len(targets))
        elif not isinstance(items, tuple):
            parts = (items,) * len(targets)
        if parts is None or len(parts) != len(targets):
            return False
        for each, part in zip(targets, parts, strict=True):
            if not isinstance(each, ast.Name) or isinstance(part, tuple) or part is None:
                return False
            if isinstance(part, Held):
                self.members[each.id] = part
        self.surely |= names
        self._comprehended = names
        return True

    def _of_call(self, node: ast.Call) -> Kind:
        arguments = [*node.args, *(word.value for word in node.keywords)]
        function = node.func
        called = self._scope.builtin(function)
        if called:
            return self._of_builtin(called, arguments)
        if is_pure(self._scope.outside(function)) or self._is_kept_function(function):
            return self._all_values(arguments)
        if isinstance(function, (ast.Name, ast.Attribute, ast.Subscript)):
            kind = self._called(function)
            if isinstance(kind, Held):
                return self._member_called(kind, arguments)
            if self._is_absent(function):
                return self._all_values(arguments)
        if (
            isinstance(function, ast.Attribute)
            and function.attr in TENSOR_METHODS
            and self._kind(function.value) == VALUE
        ):
            return self._all_values(arguments)
        return None

    def _called(self, function: ast.expr) -> Kind:
        """What is called, if it is a sub-Layer; else nothing is noted of it."""
        before = self._now()
        kind = self._kind(function)
        if not isinstance(kind, Held):
            self._back_to(before)
        return kind

    def _member_called(self, held: Held, arguments: Sequence[ast.expr]) -> Kind:
        if not all(isinstance(each, paddle.nn.Layer) for each in held.things):
            return None
        self.calls += 1
        self.called |= {id(each): each for each in held.things}
        self.used |= set(self.called)
        kinds = []
        for each in arguments:
            # Whatever object it is, only the sub-Layer does something with it.
            self._handed = isinstance(each, ast.Name)
            kinds.append(self._kind(each))
            self._handed = False
        return VALUE if all(kind == VALUE for kind in kinds) else None

    def _of_builtin(self, called: str, arguments: Sequence[ast.expr]) -> Kind:
        if called == "isinstance":
            checked, *kinds = arguments
            return VALUE if self._kind(checked) == VALUE and all(map(self._is_type, kinds)) else None
        if called in _LOOKS:
            looked = [self._kind(each) for each in arguments]
            held = called == "len" and all(isinstance(kind, Held) and kind.items() is not None for kind in looked)
            return VALUE if held or all(kind == VALUE for kind in looked) else None
        return self._all_values(arguments) if called in _COPIES else None

    def _is_type(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Tuple):
            return all(map(self._is_type, node.elts))
        return isinstance(self._scope.outside(node), type) or self._kind(node) == VALUE

    def _is_kept_function(self, node: ast.expr) -> bool:
        """Whether it is one of Paddle's pure functions, kept on ``self``."""
        names = self._scope.on_self(node)
        try:
            if names is None or len(names) != 1 or not is_pure(self._scope.value(names)):
                return False
        except AttributeError:
            return False
        self.objects.add(names[0])
        return True

    def _is_absent(self, node: ast.expr) -> bool:
        """Whether it is a sub-Layer that this model was made without: a branch that isn't taken calls it."""
        names = self._scope.on_self(node)
        try:
            return names is not None and self._scope.value(names) is None and self._kind(node) == VALUE
        except AttributeError:
            return False
