"""The source of a method, as a syntax tree: its statement lists, and which names its statements bind and read."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any


class Refused(Exception):
    """A function's source can't be worked with; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A method's source: its definition with line numbers as in the file, the function, and the class that has it."""

    definition: ast.FunctionDef
    function: FunctionType
    owner: type

    @property
    def self_name(self) -> str:
        arguments = self.definition.args
        return (arguments.posonlyargs + arguments.args)[0].arg


def source_of(kind: type, function: str) -> Source:
    """The source of a method of a class; its tree isn't to be changed.

    Raises:
        Refused: there is none, or the method isn't a plain undecorated function.
    """
    owner = next((base for base in kind.__mro__ if function in vars(base)), kind)
    found = vars(owner).get(function)
    if not isinstance(found, FunctionType):
        raise Refused("it isn't a plain method")
    return _source(owner, found)


@functools.lru_cache(maxsize=256)
def _source(owner: type, found: FunctionType) -> Source:
    if hasattr(found, "__wrapped__"):
        raise Refused("it is decorated")
    definition = _definition(found)
    if not (definition.args.posonlyargs or definition.args.args):
        raise Refused("it has no self")
    if owner.__name__.startswith("_") or "__" in ast.dump(definition):
        definition = _Mangler(owner.__name__.lstrip("_")).visit(definition)
    return Source(definition=definition, function=found, owner=owner)


def _definition(function: FunctionType) -> ast.FunctionDef:
    try:
        lines, first = inspect.getsourcelines(function)
        (definition,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError) as error:
        raise Refused("its source can't be read") from error
    if not isinstance(definition, ast.FunctionDef) or definition.decorator_list:
        raise Refused("it is decorated")
    ast.increment_lineno(definition, first - 1)
    return definition


class _Mangler(ast.NodeTransformer):
    """Does to private names what a class body does to them."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def _mangled(self, name: str) -> str:
        private = name.startswith("__") and not name.endswith("__")
        return f"_{self._owner}{name}" if private and self._owner else name

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        node.attr = self._mangled(node.attr)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> Any:
        node.id = self._mangled(node.id)
        return node


def statement_lists(definition: ast.AST) -> Iterator[list[ast.stmt]]:
    """The statement lists of a function, always in the same order; those of functions inside it left out."""
    for name in ("body", "orelse", "finalbody"):
        statements = getattr(definition, name, None)
        if isinstance(statements, list) and statements:
            yield statements
            for each in statements:
                if not isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    yield from statement_lists(each)
    for handler in getattr(definition, "handlers", ()):
        yield from statement_lists(handler)


def guarded_lists(definition: ast.FunctionDef) -> frozenset[int]:
    """The numbers of the statement lists that the function goes on behind when an exception is raised in them."""
    inside: set[int] = set()
    for node in ast.walk(definition):
        catches = isinstance(node, ast.Try) or type(node).__name__ == "TryStar"
        swallows = isinstance(node, ast.With) and any("suppress" in ast.unparse(each) for each in node.items)
        if catches or swallows:
            inside |= {id(each) for each in statement_lists(ast.Module(body=node.body, type_ignores=[]))}  # type: ignore[attr-defined]
    return frozenset(number for number, each in enumerate(statement_lists(definition)) if id(each) in inside)


def own_lists(statement: ast.AST) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        below = getattr(statement, name, None)
        if isinstance(below, list) and below:
            yield below
    for handler in getattr(statement, "handlers", ()):
        yield handler.body


def read_in(tree: ast.AST, without: set[int]) -> set[str]:
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store) and id(node) not in without
    }


def needed_by(statements: Sequence[ast.stmt], bound: frozenset[str] = frozenset()) -> set[str]:
    """Names that statements, one after another, may read before they have bound them; ``bound`` are bound before."""
    needed: set[str] = set()
    for each in statements:
        if isinstance(each, (ast.For, ast.AsyncFor)):
            needed |= read_in(each.iter, set()) - bound
            # Names in a target that isn't a plain name are read.
            needed |= read_in(each.target, set()) - bound
            needed |= needed_by(each.body, bound | stored_in(each.target)) | needed_by(each.orelse, bound)
        elif isinstance(each, (ast.If, ast.While)):
            needed |= read_in(each.test, set()) - bound
            needed |= needed_by(each.body, bound) | needed_by(each.orelse, bound)
        else:
            needed |= read_in(each, set()) - bound
            if isinstance(each, ast.AugAssign):
                needed |= names_in(each.target) - bound
        bound = bound | surely_bound(each)
    return needed


def stored_in_body(definition: ast.FunctionDef) -> set[str]:
    """Names that a function's own statements bind."""
    return set().union(*map(stored_in, definition.body))


_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def stored_in(tree: ast.AST) -> set[str]:
    """Names that are bound somewhere in a tree, those in scopes of their own left out."""
    if isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {tree.name}
    if isinstance(tree, ast.Name):
        return {tree.id} if isinstance(tree.ctx, ast.Store) else set()
    if isinstance(tree, ast.alias):
        return {(tree.asname or tree.name).partition(".")[0]}
    if isinstance(tree, _OWN_SCOPE):
        return set()
    return set().union(*map(stored_in, ast.iter_child_nodes(tree)))


def lists_inside(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statement lists right inside a statement that belong to the same function."""
    if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield from own_lists(statement)


_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.GeneratorExp)
"""What reads names when it is called or walked, wherever it stands."""


def wanted_behind(definition: ast.FunctionDef, holding: list[ast.stmt], start: int, stop: int) -> set[str]:
    """Names that are read behind a stretch of statements, in a loop around it, or by a function that keeps them.

    Args:
        holding: the statement list of ``definition`` that the stretch from ``start`` to ``stop`` is in.
    """

    def walk(statements: list[ast.stmt]) -> set[str] | None:
        if statements is holding:
            return needed_by(statements[stop:])
        for index, each in enumerate(statements):
            for below in lists_inside(each):
                found = walk(below)
                if found is None:
                    continue
                if isinstance(each, (ast.For, ast.While)):
                    found |= needed_by([each])
                elif not isinstance(each, ast.If):
                    found |= read_in(each, set())
                return found | needed_by(statements[index + 1 :])
        return None

    wanted = walk(definition.body) or set()
    inside = {id(node) for each in holding[start:stop] for node in ast.walk(each)}
    for node in ast.walk(definition):
        # Those inside are in branches that the chain is without.
        if isinstance(node, _LATER) and node is not definition and id(node) not in inside:
            wanted |= read_in(node, set())
    return wanted


def names_in(target: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def surely_bound(statement: ast.stmt) -> set[str]:
    """Names that a statement binds in every case."""
    if isinstance(statement, ast.Assign):
        return {
            node.id
            for target in statement.targets
            for node in ast.walk(target)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
    if isinstance(statement, (ast.AnnAssign, ast.AugAssign)) and isinstance(statement.target, ast.Name):
        return {statement.target.id} if statement.value is not None else set()
    if isinstance(statement, ast.If):
        ways = [bound for way in (statement.body, statement.orelse) if (bound := _bound_by_way(way)) is not None]
        return set.intersection(*ways) if ways else set()
    if isinstance(statement, ast.With):
        return set().union(*map(surely_bound, statement.body))
    return set()


def _bound_by_way(statements: list[ast.stmt]) -> set[str] | None:
    """What one branch binds; None when the function ends in it."""
    bound: set[str] = set()
    for each in statements:
        if isinstance(each, (ast.Return, ast.Raise)):
            return None
        bound |= surely_bound(each)
    return bound
