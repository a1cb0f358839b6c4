"""Chains as functions: a stretch of a Layer's forward that can be called, replaced, and put back.

The forward is compiled anew, in memory, with one question before the chain: where a region stands, its call takes the
place of the statements; where none does, the statements run as they are. Globals, closure, defaults, file and line
numbers stay those of the original. The members' own forwards aren't touched.
"""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
import linecache
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import paddle

from autohybrid.runtime.chain_finder import Chain, Partly, some_turns, statements_of
from autohybrid.runtime.chain_scope import held_by, is_plain, is_pure
from autohybrid.runtime.chain_source import (
    Source,
    names_in,
    read_in,
    source_of,
    statement_lists,
    stored_in,
    stored_in_body,
)
from autohybrid.runtime.changes import counter
from autohybrid.runtime.frames import set_reader
from autohybrid.runtime.reach import saved, still

Callee = Callable[..., Any]


class ChainLayers(paddle.nn.Layer):  # type: ignore[misc]
    """Holds what a chain uses of ``self``, under the same names: what a region there depends on.

    It is no part of the model.
    """

    def __init__(self, parent: Any, chain: Chain) -> None:
        super().__init__()
        self.__dict__["training"] = False  # its own flag says nothing; the members' do
        self.follow(parent, chain)

    def follow(self, parent: Any, chain: Chain) -> list[tuple[Any, Any]]:
        """Takes over what the parent holds now.

        Returns:
            The dicts that say what it holds, each with what was in it.
        """
        watched = [(parent._sub_layers, saved(parent._sub_layers))]
        changed = False
        partly = {part.path: part for part in chain.partly}
        for name in chain.roots:
            now = _seen_in_part(parent._sub_layers.get(name), (name,), partly, watched)
            if not _is_same(self._sub_layers.get(name), now):
                self._sub_layers[name] = now
                changed = True
        for name in chain.objects:
            now = getattr(parent, name, None)
            if self.__dict__.get(name) is not now:
                self.__dict__[name] = now
                changed = True
        if changed:
            counter.changed(self)
        return watched


class _Unused(paddle.nn.Layer):  # type: ignore[misc]
    """Stands in a container for a Layer that a chain doesn't use."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["training"] = False


def _seen_in_part(
    thing: Any, path: tuple[str, ...], partly: Mapping[tuple[str, ...], Partly], watched: list[tuple[Any, Any]]
) -> Any:
    """A Layer, or in the place of a container one that holds only what is used of it."""
    below = [each for each in partly if each[: len(path)] == path]
    if not below or held_by(thing) is None:
        return thing
    inside = thing._sub_layers
    watched.append((inside, saved(inside)))
    part = partly.get(path, Partly(path, len(inside), frozenset()))
    if len(inside) != part.count:
        return thing  # what was counted from the end is another one now
    made = object.__new__(type(thing))
    made.__dict__.update(thing.__dict__, training=False, _sub_layers=OrderedDict(), _autohybrid_part=True)
    for name, each in inside.items():
        seen = _Unused() if name in part.unused else _seen_in_part(each, (*path, name), partly, watched)
        made._sub_layers[name] = seen
    return made


def _is_same(one: Any, other: Any) -> bool:
    if one is other or (type(one) is _Unused and type(other) is _Unused):
        return True
    if not all("_autohybrid_part" in getattr(each, "__dict__", ()) for each in (one, other)):
        return False
    # Both made here, of the same container at different times.
    return one._sub_layers.keys() == other._sub_layers.keys() and all(
        map(_is_same, one._sub_layers.values(), other._sub_layers.values())
    )


def chain_function(layer: Any, function: str, chain: Chain) -> FunctionType:
    """The chain as a function of ``self`` and its inputs, then its attributes.

    Returns:
        A function that answers with the chain's outputs: one by itself, several as a tuple, or what the chain returns.
        It stands at the lines of the user's file; as its ``__wrapped__`` it has the same with a text of its own, which
        is what its source is asked for.
    """
    source = source_of(type(layer), function)
    definition = _chain_definition(source, chain)
    text = ast.unparse(definition) + "\n"
    file = _file_of(source, chain, text)
    # Paddle's tracer asks inspect for the source of what it converts.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    code = source.function.__code__
    made = _function(source.function, _code_of(definition, code.co_freevars, code.co_filename), {})
    (alone,) = ast.parse(text).body
    made.__wrapped__ = _function(source.function, _code_of(alone, code.co_freevars, file), {})  # type: ignore[attr-defined]
    for each in (made, made.__wrapped__):  # type: ignore[attr-defined]
        each.__name__ = definition.name
        each.__qualname__ = f"{source.owner.__qualname__}.{definition.name}"
    return made


def _file_of(source: Source, chain: Chain, text: str) -> str:
    place = f"{source.function.__qualname__} in {chain.place.file.rpartition('/')[2]} line {chain.place.line}"
    # No colon and no comma: Paddle takes a place apart at them.
    return f"<chain of {place} #{hashlib.sha256(text.encode()).hexdigest()[:8]}>"


def _code_of(definition: Any, free: Sequence[str], file: str) -> CodeType:
    module = ast.Module(body=[_factory(free, [definition])], type_ignores=[])
    return _code_named(compile(ast.fix_missing_locations(module), file, "exec"), definition.name)


def _chain_definition(source: Source, chain: Chain) -> ast.FunctionDef:
    originals = copy.deepcopy(statements_of(source.definition, chain))
    at = originals[0]
    statements = _InChain(chain).changed(originals)
    # A name that was left unbound is told by an Ellipsis.
    statements[:0] = _parsed("\n".join(f"{name} = ..." for name in chain.perhaps), at)
    if not chain.returns:
        names = [ast.Name(id=each, ctx=ast.Load()) for each in chain.outputs]
        value: ast.expr = names[0] if len(names) == 1 else ast.Tuple(elts=list(names), ctx=ast.Load())
        statements.append(ast.Return(value=value))
    parameters = [source.self_name, *chain.inputs, *(name for name, _ in chain.attributes)]
    read = {name for each in statements for name in read_in(each, set())}
    statements += _still_local(read & stored_in_body(source.definition) - set(parameters), statements, at)
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=each) for each in parameters], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    name = f"{source.definition.name}_chain"
    made = ast.FunctionDef(name=name, args=arguments, body=statements, decorator_list=[])
    made.type_params = []  # type: ignore[attr-defined]
    return ast.fix_missing_locations(ast.copy_location(made, at))


class _InChain(ast.NodeTransformer):
    """Replaces what is read of ``self`` by the names that it is handed in by, and branches by what is presumed."""

    def __init__(self, chain: Chain) -> None:
        self._names = {expression: name for name, expression in chain.attributes}
        self._presumed = {test: truth for test, truth, _ in chain.presumed}

    def changed(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        return self.visit(ast.Module(body=list(statements), type_ignores=[])).body  # type: ignore[no-any-return]

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        name = self._names.get(ast.unparse(node))
        return (
            ast.copy_location(ast.Name(id=name, ctx=ast.Load()), node) if name is not None else self.generic_visit(node)
        )

    def visit_If(self, node: ast.If) -> Any:
        truth = self._presumed.get(ast.unparse(node.test))
        if truth is None:
            return self.generic_visit(node)
        return self.changed(node.body if truth else node.orelse) or ast.copy_location(ast.Pass(), node)


def _factory(names: Sequence[str], body: list[Any]) -> ast.FunctionDef:
    """A function in which ``names`` are bound, so that functions in its body close over them."""
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=each) for each in names], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    made = ast.FunctionDef(name="factory", args=arguments, body=body, decorator_list=[])
    made.type_params = []  # type: ignore[attr-defined]
    return made


def _code_named(code: CodeType, name: str) -> CodeType:
    """The code of the function ``name`` in the factory in a module's code."""
    (factory,) = [each for each in code.co_consts if isinstance(each, CodeType)]
    (found,) = [each for each in factory.co_consts if isinstance(each, CodeType) and each.co_name == name]
    return found


def _function(original: FunctionType, code: CodeType, more: Mapping[str, Any]) -> FunctionType:
    """``code`` as a function with the globals and the closure of ``original``, and what ``more`` names."""
    cells = dict(zip(original.__code__.co_freevars, original.__closure__ or (), strict=True))
    cells |= {name: CellType(value) for name, value in more.items()}
    closure = tuple([cells[name] for name in code.co_freevars])
    return FunctionType(code, original.__globals__, code.co_name, None, closure)


_POINT = "__autohybrid_chain_{}"


@functools.lru_cache(maxsize=1024)
def _rewritten_code(function: FunctionType, kind: type, chains: tuple[Chain, ...]) -> CodeType:
    """The code of a method with calls in the places of ``chains``, which are in the order of the source."""
    source = source_of(kind, function.__name__)
    definition = copy.deepcopy(source.definition)
    lists = list(statement_lists(definition))
    numbered = list(enumerate(chains))
    for at, group in reversed([(at, list(group)) for at, group in groupby(numbered, lambda each: each[1].at)]):
        which, start, stop = at
        lists[which][start:stop] = _in_place_of(lists[which][start:stop], group, source.self_name)
    names = [*function.__code__.co_freevars, *(_POINT.format(number) for number in range(len(chains)))]
    return _code_of(definition, names, function.__code__.co_filename)


def _in_place_of(statements: list[ast.stmt], group: Sequence[tuple[int, Chain]], self_name: str) -> list[ast.stmt]:
    """What takes the place of statements in which there is one chain, or which are a loop with several."""
    number, chain = group[0]
    if chain.turns is None:
        return _call(self_name, chain, number, statements)
    loop: Any = statements[0]
    made: list[ast.stmt] = []
    behind = 0
    for number, chain in group:
        assert chain.turns is not None, "chains at one place are parts of one loop"
        first, last = chain.turns
        if first > behind:
            made.append(copy.deepcopy(some_turns(loop, behind, first)))
        made += _call(self_name, chain, number, [copy.deepcopy(some_turns(loop, first, last))])
        behind = last
    made.append(copy.deepcopy(some_turns(loop, behind, None)))
    walked = sorted(names_in(loop.iter) & set(chain.looked_at))
    if not walked:
        return made
    # What can be walked once only isn't walked in parts.
    return [_guarded(f"{_POINT.format(number)}.takes({', '.join(walked)})", made, number, statements)]


def _call(self_name: str, chain: Chain, number: int, statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements that take the place of a chain's."""
    point = _POINT.format(number)
    given = ", ".join([self_name, *chain.inputs, *(expression for _, expression in chain.attributes)])
    held = {name: f"{point}_{name}" for name in chain.perhaps}
    targets = ", ".join(held.get(name, name) for name in chain.outputs)
    lines = [f"return {point}({given})" if chain.returns else f"{targets} = {point}({given})"]
    lines += [f"if {new} is not ...: {name} = {new}" for name, new in held.items()]
    made = _parsed("\n".join(lines), statements[0])
    made += _still_local({name for each in statements for name in stored_in(each)}, made, statements[0])
    conditions = [f"({decides})" if truth else f"not ({decides})" for _, truth, decides in chain.presumed]
    if chain.looked_at:
        conditions.append(f"{point}.takes({', '.join(chain.looked_at)})")
    return [_guarded(" and ".join(conditions), made, number, statements)] if conditions else made


def _guarded(condition: str, made: list[ast.stmt], number: int, statements: list[ast.stmt]) -> ast.stmt:
    """``made`` where a condition holds, else the statements as they are."""
    (guard,) = _parsed(f"if {condition}: pass\nelse: {_POINT.format(number)}.passed_by()", statements[0])
    assert isinstance(guard, ast.If), "as it was written"
    guard.body = made
    guard.orelse += statements
    return guard


def _still_local(names: set[str], statements: Sequence[ast.stmt], at: ast.stmt) -> list[ast.stmt]:
    """Has names be local that were bound in what is left out: none of them becomes a global of the same name."""
    missing = names.difference(*map(stored_in, statements))
    return _parsed(f"if 0: {' = '.join(sorted(missing))} = None", at) if missing else []


def _parsed(text: str, at: ast.stmt) -> list[ast.stmt]:
    made = ast.parse(text)
    for node in ast.walk(made):
        ast.copy_location(node, at)
    return made.body


OTHER_WAY = "another way through its code, or an argument of another kind"
"""Why a chain's statements run as they are without being asked for."""

SHARED = "what it binds is known by another name too, and may be changed"


class ChainCall:
    """What a rewritten function calls: follows replaced members, then asks what stands there."""

    __slots__ = ("_aliases", "_chain", "_followed", "callee", "eager", "layers", "shared")

    def __init__(self, chain: Chain, layers: ChainLayers, eager: Callee, callee: Callee) -> None:
        self.layers = layers
        self.eager = eager
        self.callee = callee
        self.shared = False
        self._chain = chain
        self._followed: list[tuple[Any, Any]] | None = None
        self._aliases = tuple([name in chain.aliases for name in chain.outputs]) if chain.aliases else ()

    def __call__(self, parent: Any, *inputs: Any) -> Any:
        if self._followed is None or self._chain.objects or not all(still(*each) for each in self._followed):
            self._followed = self.layers.follow(parent, self._chain)
        if self.shared or not self._is_as_it_was_read(parent, inputs):
            self.passed_by(SHARED if self.shared else OTHER_WAY)
            return self.eager(*inputs)
        if not self._aliases:
            return self.callee(*inputs)
        before = self._hybrid_calls()
        outputs = self.callee(*inputs)
        if self._shares(outputs):
            # A conversion gives a copy, and nobody would see what is put into the original.
            self.shared = True
            if self._hybrid_calls() != before:
                return self.eager(*inputs)
        return outputs

    def _is_as_it_was_read(self, parent: Any, inputs: Sequence[Any]) -> bool:
        """Whether what is used of ``self`` is still of kinds that do nothing but compute."""
        chain = self._chain
        return (
            self.takes(*inputs[len(chain.inputs) :])
            and None not in map(parent._sub_layers.get, chain.roots)
            and all(is_pure(kept := getattr(parent, name, None)) or held_by(kept) is not None for name in chain.objects)
        )

    def _hybrid_calls(self) -> int:
        return getattr(self.callee, "hybrid_calls", 0)

    def _shares(self, outputs: Any) -> bool:
        values = outputs if len(self._aliases) > 1 else (outputs,)
        return any(aliased and isinstance(value, (list, dict, set)) for aliased, value in zip(self._aliases, values))  # noqa: B905

    @staticmethod
    def takes(*inputs: Any) -> bool:
        """Whether what the chain does something with is of kinds that do nothing but compute."""
        return all(isinstance(each, _COMPUTING) or is_plain(each) or _holds_plain(each) for each in inputs)

    def passed_by(self, reason: str = OTHER_WAY) -> None:
        """Notes that the statements run as they are."""
        note = getattr(self.callee, "passed_by", None)
        if note is not None:
            note(reason)

    def __deepcopy__(self, memo: dict[int, Any]) -> ChainCall:
        made = copy.copy(self)
        made._followed = None
        made.layers = copy.deepcopy(self.layers, memo)
        made.eager = copy.deepcopy(self.eager, memo)
        made.callee = copy.deepcopy(self.callee, memo)
        return made


_COMPUTING = (paddle.Tensor, bool, int, float, str, type(None), slice, range, np.ndarray, np.generic, type)


def _holds_plain(value: Any, depth: int = 4) -> bool:
    """Whether a dict, list or tuple holds nothing but plain values, or such again."""
    if type(value) is dict:
        value = list(value.values())
    if type(value) not in (list, tuple) or not depth:
        return False
    return all(isinstance(each, _COMPUTING) or _holds_plain(each, depth - 1) for each in value)


class Rewritten:
    """Stands in a Layer's ``__dict__`` for one of its methods, with calls in the places of some of its chains."""

    def __init__(self, layer: Any, function: str) -> None:
        self.layer = layer
        self.function = function
        self.original: FunctionType = source_of(type(layer), function).function
        self._calls: dict[Chain, ChainCall] = {}
        functools.update_wrapper(self, MethodType(self.original, layer), updated=())
        self._made()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # What Paddle's reader of bytecode does in a region it would do to what is around it here.
        reader = set_reader(None)
        try:
            return self._bound(*args, **kwargs)
        finally:
            set_reader(reader)

    @property
    def calls(self) -> dict[Chain, ChainCall]:
        """What stands at each chain that is replaced."""
        return dict(self._calls)

    def put(self, chain: Chain, call: ChainCall) -> None:
        self._calls[chain] = call
        self._made()

    def lift(self, chain: Chain) -> None:
        self._calls.pop(chain, None)
        self._made()

    def _made(self) -> None:
        chains = tuple(sorted(self._calls, key=lambda each: (each.at, each.turns or (0, 0))))
        original = self.original
        code = _rewritten_code(original, self.layer.__class__, chains)
        points = {_POINT.format(number): self._calls[chain] for number, chain in enumerate(chains)}
        made = _function(original, code, points)
        made.__defaults__, made.__kwdefaults__ = original.__defaults__, original.__kwdefaults__
        functools.update_wrapper(made, original)
        del made.__dict__["__wrapped__"]
        self._bound = MethodType(made, self.layer)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rewritten:
        copied = Rewritten(copy.deepcopy(self.layer, memo), self.function)
        memo[id(self)] = copied
        for chain, call in self._calls.items():
            copied.put(chain, copy.deepcopy(call, memo))
        return copied

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        """What is pickled is the method as it was."""
        return (_unpickled, (MethodType(self.original, self.layer),))


def _unpickled(function: Any) -> Any:
    return function
