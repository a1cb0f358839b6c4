"""Finds chains in the source of a forward: consecutive statements that only call sub-Layers and bind the results.

What is found may become a function of its own (:mod:`autohybrid.runtime.chain`). A statement qualifies when it can do
nothing but compute with Tensors and bind local names: calls of sub-Layers, of Paddle's own functions and of methods of
Tensors; loops and branches around such calls. Whatever else stands between ends the chain.
"""

from __future__ import annotations

import ast
import copy
import linecache
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import paddle

from autohybrid.plan import Place
from autohybrid.runtime.chain_reading import Reading
from autohybrid.runtime.chain_scope import Scope, held_by
from autohybrid.runtime.chain_source import (
    Source,
    guarded_lists,
    lists_inside,
    names_in,
    own_lists,
    source_of,
    statement_lists,
    surely_bound,
    wanted_behind,
)

FEWEST_CALLS = 2
"""Calls of sub-Layers that a chain has at least; a container that is walked counts as many."""


@dataclass(frozen=True, slots=True)
class Partly:
    """A container of Layers of which a chain uses only some: where it is below ``self``, how many it had when the chain
    was found, and the names of those that aren't used."""

    path: tuple[str, ...]
    count: int
    unused: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Statements of one function that may run as a function of their own.

    Attributes:
        text: the statements, as a syntax tree prints them.
        at: the number of the statement list, first and last statement behind: where it stands in the function.
        inputs: local names that it needs.
        attributes: what it reads of ``self`` besides sub-Layers: the name it goes by inside, and the expression.
        outputs: local names that it binds and that are needed behind it.
        perhaps: those of ``outputs`` that not every way through it binds.
        returns: whether it ends with the function's ``return``.
        roots: the sub-Layers of ``self`` that it begins from, by their own names.
        objects: attributes of ``self`` that it uses as they are: functions of Paddle's, Python containers of Layers.
        members: how many calls of sub-Layers it holds, as far as the source tells.
        place: where it begins.
        looked_at: those of ``inputs`` that it does something with, beside handing them to sub-Layers.
        aliases: those of ``outputs`` that may be what something else is a name of, too.
        presumed: conditions, what they are where the chain stands, and what must be so for that: the chain holds that
            branch alone.
        turns: for some turns of a loop, the first one and the one behind the last.
        partly: containers among ``roots`` and below them of which it uses only some Layers.
    """

    text: str
    at: tuple[int, int, int]
    inputs: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    perhaps: tuple[str, ...]
    returns: bool
    roots: tuple[str, ...]
    objects: tuple[str, ...]
    members: int
    place: Place
    looked_at: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    presumed: tuple[tuple[str, bool, str], ...] = ()
    turns: tuple[int, int] | None = None
    partly: tuple[Partly, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why no chain goes on at a place: a code of ``autohybrid.plan.reasons``, and the statement's kind in words."""

    code: str
    detail: str
    place: Place | None


@dataclass(slots=True)
class Found:
    """The chains of a function, and what ended them."""

    chains: list[Chain] = field(default_factory=list)
    obstacles: list[Obstacle] = field(default_factory=list)


def find(layer: Any, function: str = "forward") -> Found:
    """The longest chains in a method of ``layer``, in the order of the source.

    Raises:
        Refused: the function's source can't be worked with.
    """
    return _Finder(layer, source_of(type(layer), function)).found()


def find_again(layer: Any, function: str, text: str, line: int = 0) -> Chain | None:
    """The chain with this text in a method of ``layer``, of several the one that begins nearest to ``line``.

    Returns:
        None where the source has no such statements any more.

    Raises:
        Refused: the function's source can't be worked with.
    """
    found = _Finder(layer, source_of(type(layer), function)).with_text(text)
    return min(found, key=lambda chain: abs(chain.place.line - line), default=None)


def parts_of(
    layer: Any,
    function: str,
    chain: Chain,
    keep: Sequence[bool],
    turns: Mapping[int, Sequence[bool]] = MappingProxyType({}),
) -> list[Chain]:
    """The chains that are left of ``chain`` when only some of its statements may be in one.

    Args:
        keep: for each statement, whether it may.
        turns: for loops among those that may not, by number: for each turn, whether it may.

    Raises:
        Refused: the function's source can't be worked with.
    """
    return _Finder(layer, source_of(type(layer), function)).parts(chain, keep, turns)


def turns_of_statements(layer: Any, function: str, chain: Chain) -> dict[int, list[list[Any]]]:
    """For each loop among the statements of a chain, by its number: the Layers that each turn walks over.

    Loops whose turns depend on a call's arguments are left out.

    Raises:
        Refused: the function's source can't be worked with.
    """
    source = source_of(type(layer), function)
    reading = Reading(Scope(source, layer))
    found = {}
    for number, each in enumerate(statements_of(source.definition, chain)):
        turns = reading.turns(each.iter) if isinstance(each, ast.For) else None
        if turns is not None:
            found[number] = turns
    return found


def called_in_statements(layer: Any, function: str, chain: Chain) -> list[list[Any]]:
    """For each statement of a chain, the sub-Layers that it calls, or may call.

    Raises:
        Refused: the function's source can't be worked with.
    """
    source = source_of(type(layer), function)
    reading = Reading(Scope(source, layer))
    found = []
    for each in statements_of(source.definition, chain):
        reading.called = {}
        reading.takes(each, True)
        found.append(list(reading.called.values()))
    return found


def statements_of(definition: ast.FunctionDef, chain: Chain) -> list[ast.stmt]:
    """The statements of a chain in a function's syntax tree."""
    number, start, stop = chain.at
    statements = list(statement_lists(definition))[number][start:stop]
    return [some_turns(statements[0], *chain.turns)] if chain.turns is not None else statements


def some_turns(loop: ast.stmt, first: int, last: int | None) -> ast.For:
    """``for item in items: ...`` as ``for item in list(items)[first:last]: ...``."""
    assert isinstance(loop, ast.For), "only loops have turns"
    made = copy.copy(loop)
    cut = ast.parse(f"list()[{first}:{'' if last is None else last}]", mode="eval").body
    for node in ast.walk(cut):
        if isinstance(node, ast.expr):
            ast.copy_location(node, loop.iter)
    cut.value.args.append(loop.iter)  # type: ignore[attr-defined]
    made.iter = cut
    return made


class _Finder:
    """Looks through one function of one Layer."""

    def __init__(self, layer: Any, source: Source) -> None:
        self._layer = layer
        self._source = source
        self._definition = source.definition
        self._scope = Scope(source, layer)
        self._lists = list(statement_lists(self._definition))
        self._guarded = guarded_lists(self._definition)

    def found(self) -> Found:
        self._scope.check()
        found = Found()
        self._search(self._definition.body, found)
        return found

    def with_text(self, text: str) -> list[Chain]:
        self._scope.check()
        cut = _SOME_TURNS.search(text.partition("\n")[0])
        turns = (int(cut[1]), int(cut[2])) if cut is not None else (0, 0)
        try:
            wanted = [ast.dump(each) for each in ast.parse(text).body]
        except (SyntaxError, ValueError):
            return []
        found = []
        for number, statements in enumerate(self._lists):
            dumps = [_as_written(each) for each in statements]
            for start, each in enumerate(statements):
                stop = start + len(wanted)
                if wanted and dumps[start:stop] == wanted:
                    found.append(self._chain(number, start, stop))
                if cut is not None and isinstance(each, ast.For) and [_as_written(some_turns(each, *turns))] == wanted:
                    found.append(self._chain(number, start, start + 1, turns))
        return [chain for chain in found if chain is not None]

    def parts(self, chain: Chain, keep: Sequence[bool], turns: Mapping[int, Sequence[bool]]) -> list[Chain]:
        self._scope.check()
        number, start, stop = chain.at
        made = []
        for first, last in _stretches(keep):
            part = self._trimmed(number, start + first, start + last)
            if part is not None and part.at != (number, start, stop):
                made.append(part)
        for index, kept in turns.items():
            if not keep[index]:
                found = [self._chain(number, start + index, start + index + 1, each) for each in _stretches(kept)]
                made += [part for part in found if part is not None]
        return sorted(made, key=lambda part: (part.at, part.turns or (0, 0)))

    def _search(self, statements: list[ast.stmt], found: Found) -> None:
        number = next(index for index, each in enumerate(self._lists) if each is statements)
        start = 0
        while start < len(statements):
            stop, reading = self._longest(statements, start)
            if stop > start:
                chain = self._trimmed(number, start, stop)
                if chain is not None:
                    found.chains.append(chain)
                    if chain.at[2] < stop and self._calls_in_any(statements[chain.at[2] : stop]):
                        start = chain.at[2]
                        continue
            if stop < len(statements):
                self._note_end(statements[stop], reading, found)
                for inner in lists_inside(statements[stop]):
                    self._search(inner, found)
            start = stop + 1

    def _longest(self, statements: list[ast.stmt], start: int) -> tuple[int, Reading]:
        reading = Reading(self._scope)
        stop = start
        while stop < len(statements):
            last = isinstance(statements[stop], ast.Return) and statements is self._definition.body
            if not reading.takes(statements[stop], last):
                break
            stop += 1
            if last:
                break
        return stop, reading

    def _note_end(self, statement: ast.stmt, reading: Reading, found: Found) -> None:
        uses = any(self._scope.is_member(node) for node in ast.walk(statement) if isinstance(node, ast.Attribute))
        if uses or reading.calls:
            found.obstacles.append(
                Obstacle(code="between", detail=self._line_of(statement), place=self._place(statement))
            )

    def _place(self, statement: ast.stmt) -> Place:
        code = self._source.function.__code__
        return Place(file=code.co_filename, line=statement.lineno, function=self._source.function.__qualname__)

    def _line_of(self, statement: ast.stmt) -> str:
        line = linecache.getline(self._source.function.__code__.co_filename, statement.lineno).strip()
        return line or ast.unparse(statement).splitlines()[0]

    def _trimmed(self, number: int, start: int, stop: int) -> Chain | None:
        """The chain in a stretch of statements, without those at its ends that call nothing."""
        statements = self._lists[number]
        while stop > start and not self._calls_in(statements[stop - 1]):
            stop -= 1
        first = start
        while first < stop and not self._calls_in(statements[first]):
            first += 1
        for end in range(stop, first, -1):
            # What stands before the first call is left out, unless the chain needs it: a list that it appends to.
            for begin in range(first, start - 1, -1):
                chain = self._chain(number, begin, end)
                if chain is not None:
                    return chain
        return None

    def _calls_in_any(self, statements: Sequence[ast.stmt]) -> bool:
        return any(map(self._calls_in, statements))

    def _calls_in(self, statement: ast.stmt) -> int:
        reading = Reading(self._scope)
        reading.lenient = True
        reading.takes(statement, True)
        return reading.calls

    def _chain(self, number: int, start: int, stop: int, turns: tuple[int, int] | None = None) -> Chain | None:
        if number in self._guarded:
            return None  # where it raises in the middle, what it has bound so far is seen
        statements = self._lists[number][start:stop]
        if turns is not None and not self._has_turns(statements[0]):
            return None
        parted = [some_turns(statements[0], *turns)] if turns is not None else statements
        reading = Reading(self._scope)
        for each in parted:
            if not reading.takes(each, each is statements[-1] and isinstance(each, ast.Return)):
                return None
        if reading.calls < FEWEST_CALLS:
            return None
        returns = isinstance(statements[-1], ast.Return)
        before = self._surely_bound_before(number, start)
        wanted = wanted_behind(self._definition, self._lists[number], start, stop)
        if turns is not None:
            wanted |= reading.needed
        outputs = tuple(sorted(reading.bound & wanted)) if not returns else ()
        # What only the chain binds, and perhaps doesn't, isn't there before either.
        inputs = reading.needed - self._bound_only_by(number, statements, turns)
        perhaps = [name for name in outputs if name not in reading.surely]
        inputs |= before.intersection(perhaps)
        if reading.needed.difference(inputs) & set(perhaps):
            return None  # whether it is bound matters inside, too
        if not inputs | reading.conditional <= before or (not outputs and not returns):
            return None
        if any(name in reading.members for name in outputs) or reading.conditional & reading.bound:
            return None
        text = "\n".join(ast.unparse(each) for each in parted)
        return Chain(
            text=text,
            at=(number, start, stop),
            inputs=tuple(sorted(inputs)),
            attributes=tuple(sorted(reading.attributes.items())),
            outputs=outputs,
            perhaps=tuple([name for name in perhaps if name not in inputs]),
            returns=returns,
            roots=tuple(sorted(reading.roots)),
            objects=tuple(sorted(reading.objects)),
            members=reading.calls,
            place=self._place(statements[0]),
            looked_at=tuple(sorted(reading.looked_at & inputs)),
            aliases=tuple([name for name in outputs if name in reading.aliases]),
            presumed=tuple(sorted((test, *decided) for test, decided in reading.presumed.items())),
            turns=turns,
            partly=tuple([part for root in sorted(reading.roots) for part in self._partly((root,), reading.used)]),
        )

    def _partly(self, path: tuple[str, ...], used: set[int]) -> Iterator[Partly]:
        container = self._scope.value(path)
        if id(container) in used or held_by(container) is None or isinstance(container, paddle.nn.ParameterList):
            return
        inside = container._sub_layers
        unused = frozenset(name for name, each in inside.items() if each is not None and not _uses(each, used))
        if unused:
            yield Partly(path, len(inside), unused)
        for name in inside:
            if name not in unused:
                yield from self._partly((*path, name), used)

    def _has_turns(self, loop: ast.stmt) -> bool:
        """Whether a loop can be walked in parts, one after the other."""
        if not isinstance(loop, ast.For) or loop.orelse or self._scope.builtin(ast.Name(id="list")) != "list":
            return False
        bound = {node.id for node in ast.walk(loop) if isinstance(node, ast.Name) and _is_stored(node)}
        return not bound & names_in(loop.iter) and not any(map(_breaks, loop.body))

    def _bound_only_by(self, number: int, statements: list[ast.stmt], turns: tuple[int, int] | None) -> set[str]:
        """Names that nothing but these statements, running once, can have bound when they run."""
        if turns is not None or self._is_in_a_loop(number):
            return set()
        inside = {id(node) for each in statements for node in ast.walk(each)}
        stored = [node for node in ast.walk(self._definition) if isinstance(node, ast.Name) and _is_stored(node)]
        elsewhere = {node.id for node in stored if id(node) not in inside} | self._scope.parameters
        return {node.id for node in stored} - elsewhere

    def _is_in_a_loop(self, number: int) -> bool:
        loops = [node for node in ast.walk(self._definition) if isinstance(node, (ast.For, ast.While))]
        return any(each is self._lists[number] for node in loops for each in statement_lists(node))

    def _surely_bound_before(self, number: int, start: int) -> set[str]:
        bound = set(self._scope.parameters)
        wanted = self._lists[number]

        def walk(statements: list[ast.stmt], so_far: set[str]) -> set[str] | None:
            so_far = set(so_far)
            for index, each in enumerate(statements):
                if statements is wanted and index == start:
                    return so_far
                inner = so_far | (names_in(each.target) if isinstance(each, ast.For) else set())
                for below in lists_inside(each):
                    found = walk(below, inner)
                    if found is not None:
                        return found
                so_far |= surely_bound(each)
            return None

        return walk(self._definition.body, bound) or bound


_SOME_TURNS = re.compile(r"\[(\d+):(\d+)\]:$")


def _uses(layer: Any, used: set[int]) -> bool:
    return any(id(each) in used for each in layer.sublayers(include_self=True))


def _as_written(statement: ast.stmt) -> str:
    """A statement, however a version of Python prints it."""
    return ast.dump(ast.parse(ast.unparse(statement)).body[0])


def _is_stored(node: ast.Name) -> bool:
    return not isinstance(node.ctx, ast.Load)


def _breaks(statement: ast.stmt) -> bool:
    if isinstance(statement, (ast.For, ast.While)):
        return any(map(_breaks, statement.orelse))
    return isinstance(statement, ast.Break) or any(
        map(_breaks, [each for inner in own_lists(statement) for each in inner])
    )


def _stretches(keep: Sequence[bool]) -> Iterator[tuple[int, int]]:
    start = 0
    for index, kept in enumerate([*keep, False]):
        if not kept:
            if index > start:
                yield start, index
            start = index + 1
