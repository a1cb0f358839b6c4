"""The user's source as a plan's places name it: read from the files, nothing of it is imported or run."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from autohybrid.exports.calls import NotInCode
from autohybrid.exports.wording import listed
from autohybrid.plan import Place
from autohybrid.runtime.chain_source import (
    needed_by,
    statement_lists,
    stored_in,
    stored_in_body,
    surely_bound,
    wanted_behind,
)

Lines: TypeAlias = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method as it stands in a file: its syntax tree, and the lines of the file."""

    definition: ast.FunctionDef
    lines: tuple[str, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """What it calls its positional arguments, ``self`` first."""
        arguments = self.definition.args
        return tuple(each.arg for each in arguments.posonlyargs + arguments.args)

    def text(self, first: int, last: int) -> Lines:
        """The lines with these numbers, the last one included, without the indentation of the first."""
        return textwrap.dedent("\n".join(self.lines[first - 1 : last])).splitlines()


def method_at(place: Place | None, name: str) -> Method:
    """The method of that name at a place.

    Raises:
        NotInCode: the file can't be read, or has no such method there.
    """
    if place is None:
        raise NotInCode("its source isn't known")
    try:
        text = Path(place.file).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError) as error:
        raise NotInCode(f"its source, {place.file}, can't be read") from error
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name == name
        and node.lineno <= place.line <= (node.end_lineno or node.lineno)
    ]
    if not around:
        raise NotInCode(f"there is no {name} at {place.file}, line {place.line}, any more")
    definition = max(around, key=lambda node: node.lineno)
    return Method(definition=definition, lines=tuple(text.splitlines()))


def parameters_at(place: Place | None, name: str) -> tuple[str, ...]:
    """What the method at a place calls its arguments, without ``self``; empty when that can't be found out."""
    try:
        return method_at(place, name).parameters[1:]
    except NotInCode:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Consecutive statements of a method, to be moved into a method of their own.

    Attributes:
        first, last: the lines that they are on.
        indent: how far they are indented.
        inputs: the local names that they need, in the order in which a chain takes them.
        outputs: the local names that are needed behind them; empty when they end with ``return``.
        returns: whether they do.
        turns: for some turns of a loop, the first one and the one behind the last.
    """

    method: Method
    statements: tuple[ast.stmt, ...]
    first: int
    last: int
    indent: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    returns: bool
    turns: tuple[int, int] | None

    def as_method(self, name: str) -> Lines:
        """The statements as a method."""
        own = self.method.parameters[0]
        lines = [f"def {name}({', '.join([own, *self.inputs])}):"]
        body = self._turns_of_loop(*self.turns) if self.turns else self.method.text(self.first, self.last)
        lines += [f"    {line}".rstrip() for line in body]
        if not self.returns:
            lines.append(f"    return {', '.join(self.outputs)}")
        return lines

    def replaced(self, name: str) -> Lines:
        """What stands in their place, with their own indentation."""
        call = f"{self.method.parameters[0]}.{name}"
        before = "return " if self.returns else f"{', '.join(self.outputs)} = "
        made = listed(f"{before}{call}(", self.inputs, ")").splitlines()
        if self.turns is not None:
            first, last = self.turns
            made = [*(self._turns_of_loop(0, first) if first else []), *made, *self._turns_of_loop(last, None)]
        return [" " * self.indent + line if line else line for line in made]

    def _turns_of_loop(self, first: int, last: int | None) -> Lines:
        (loop,) = self.statements
        assert isinstance(loop, ast.For), "only loops have turns"
        lines = self.method.text(self.first, self.last)
        body = lines[loop.body[0].lineno - loop.lineno :]
        cut = f"list({ast.unparse(loop.iter)})[{first}:{'' if last is None else last}]"
        return [f"for {ast.unparse(loop.target)} in {cut}:", *body]


_SOME_TURNS = re.compile(r"for (.*) in list\((.*)\)\[(\d+):(\d+)\]:$")


def stretch_at(place: Place | None, function: str, code: str) -> Stretch:
    """The statements of a chain in the source.

    Raises:
        NotInCode: they aren't there any more, or can't be moved out of their class.
    """
    method = method_at(place, function)
    assert place is not None, "there is a method"
    _check_movable(method)
    head, _, tail = code.partition("\n")
    cut = _SOME_TURNS.match(head)
    turns = (int(cut[3]), int(cut[4])) if cut else None
    found = _found(method, f"for {cut[1]} in {cut[2]}:\n{tail}" if cut else code)
    if not found and cut:  # the script itself may walk list(...)[a:b]
        turns, found = None, _found(method, code)
    if not found:
        raise NotInCode(f"its statements aren't in {place.file}, line {place.line}, any more")
    statements = min(found, key=lambda each: abs(each[0].lineno - place.line))
    return _stretch(method, statements, turns)


def _found(method: Method, code: str) -> list[list[ast.stmt]]:
    """Where these statements stand in a method."""
    try:
        wanted = [_dump(each) for each in ast.parse(code).body]
    except (SyntaxError, ValueError):
        return []
    return [
        statements[start : start + len(wanted)]
        for statements in statement_lists(method.definition)
        for start in range(len(statements))
        if wanted and [_dump(each) for each in statements[start : start + len(wanted)]] == wanted
    ]


def _stretch(method: Method, statements: Sequence[ast.stmt], turns: tuple[int, int] | None) -> Stretch:
    definition = method.definition
    first, last = statements[0].lineno, statements[-1].end_lineno or statements[-1].lineno
    indent = statements[0].col_offset
    if method.lines[first - 1][:indent].strip() or _shares_its_end(definition, last, statements):
        raise NotInCode("its statements share a line with others")
    local = stored_in_body(definition) | set(method.parameters) | _further_parameters(definition)
    own = method.parameters[0]
    returns = isinstance(statements[-1], ast.Return)
    bound = set().union(*map(stored_in, statements))
    holding = next(each for each in statement_lists(definition) if statements[0] in each)
    start = holding.index(statements[0])
    later = wanted_behind(definition, holding, start, start + len(statements))
    if turns is not None:
        later |= needed_by(list(statements))
    outputs = () if returns else tuple(sorted(bound & later))
    inputs = {name for name in needed_by(list(statements)) if name in local and name != own}
    if turns is None:
        # What only the stretch binds is not there before it.
        inputs -= {name for name in inputs & bound if not _bound_outside(definition, statements, name)}
    unsure = set(outputs) - inputs - _bound(statements)
    if unsure:
        raise NotInCode(f"it may leave {', '.join(sorted(unsure))} unbound")
    if not returns and not outputs:
        raise NotInCode("nothing that it binds is used")
    return Stretch(
        method=method,
        statements=tuple(statements),
        first=first,
        last=last,
        indent=indent,
        inputs=tuple(sorted(inputs)),
        outputs=outputs,
        returns=returns,
        turns=turns,
    )


def rewritten(method: Method, name: str, moved: Sequence[tuple[Stretch, str]]) -> Lines:
    """The method as a function of another name, with calls in the place of stretches.

    Args:
        moved: stretches, and the names of the methods that they became.

    Raises:
        NotInCode: two stretches are at one place.
    """
    definition = method.definition
    body_first = definition.body[0].lineno
    end = definition.end_lineno or body_first
    if body_first == definition.lineno:
        raise NotInCode("its method is on one line")
    made: Lines = []
    at = body_first
    for stretch, called in sorted(moved, key=lambda each: each[0].first):
        if stretch.first < at:
            raise NotInCode("two of its chains are parts of one loop")
        made += [*method.lines[at - 1 : stretch.first - 1], *stretch.replaced(called)]
        at = stretch.last + 1
    made += method.lines[at - 1 : end]
    indent = definition.body[0].col_offset
    body = [f"    {line[indent:]}" if line[:indent].isspace() else line.lstrip() for line in made]
    return [*_header(definition, name), *(line.rstrip() for line in body)]


def _header(definition: ast.FunctionDef, name: str) -> Lines:
    arguments = ast.arguments(
        posonlyargs=[ast.arg(arg=each.arg) for each in definition.args.posonlyargs],
        args=[ast.arg(arg=each.arg) for each in definition.args.args],
        vararg=ast.arg(arg=definition.args.vararg.arg) if definition.args.vararg else None,
        kwonlyargs=[ast.arg(arg=each.arg) for each in definition.args.kwonlyargs],
        kw_defaults=[each and _default(each) for each in definition.args.kw_defaults],
        kwarg=ast.arg(arg=definition.args.kwarg.arg) if definition.args.kwarg else None,
        defaults=[_default(each) for each in definition.args.defaults],
    )
    return [f"def {name}({ast.unparse(arguments)}):"]


def _default(node: ast.expr) -> ast.expr:
    # Names mean something else here; the method's own defaults are put in its place in any case.
    return node if isinstance(node, ast.Constant) else ast.Constant(value=...)


def _check_movable(method: Method) -> None:
    """Refuses what means something else outside of its class or its function."""
    definition = method.definition
    if definition.decorator_list:
        raise NotInCode("its method is decorated")
    if not method.parameters:
        raise NotInCode("its method has no self")
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and node.id in ("super", "__class__"):
            raise NotInCode("its method calls super()")
        if isinstance(node, (ast.Nonlocal, ast.Global, ast.Yield, ast.YieldFrom)):
            raise NotInCode("its method can't be moved out of its class")
        if isinstance(node, ast.Attribute) and node.attr.startswith("__") and not node.attr.endswith("__"):
            raise NotInCode(f"its method uses the private name {node.attr}")


def _dump(statement: ast.stmt) -> str:
    return ast.dump(ast.parse(ast.unparse(statement)).body[0])


def _further_parameters(definition: ast.FunctionDef) -> set[str]:
    arguments = definition.args
    more = [*arguments.kwonlyargs, *(each for each in (arguments.vararg, arguments.kwarg) if each)]
    return {each.arg for each in more}


def _shares_its_end(definition: ast.FunctionDef, last: int, statements: Sequence[ast.stmt]) -> bool:
    inside = {id(node) for each in statements for node in ast.walk(each)}
    return any(
        isinstance(node, ast.stmt) and node.lineno == last and id(node) not in inside for node in ast.walk(definition)
    )


def _bound_outside(definition: ast.FunctionDef, statements: Sequence[ast.stmt], name: str) -> bool:
    inside = {id(node) for each in statements for node in ast.walk(each)}
    arguments = {each.arg for each in ast.walk(definition.args) if isinstance(each, ast.arg)}
    return name in arguments or any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store) and id(node) not in inside
        for node in ast.walk(definition)
    )


def _bound(statements: Sequence[ast.stmt]) -> set[str]:
    """Names that the statements bind; a loop over Layers has a turn at least."""
    found: set[str] = set()
    for each in statements:
        found |= surely_bound(each)
        if isinstance(each, ast.For):
            found |= stored_in(each.target) | _bound(each.body)
    return found


def foreign_names(code: str) -> set[str]:
    """Names that functions in a module read, and that it doesn't have."""
    module = symtable.symtable(code, "<exported>", "exec")
    read: set[str] = set()
    waiting = [module]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        read |= {each.get_name() for each in table.get_symbols() if each.is_global() and each.is_referenced()}
    return (
        read
        - {each.get_name() for each in module.get_symbols() if each.is_assigned() or each.is_imported()}
        - _BUILT_IN
    )


_BUILT_IN = frozenset([*dir(builtins), "__file__", "__name__"])
