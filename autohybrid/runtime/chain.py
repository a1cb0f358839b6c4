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
from collections.abc import Callable, Mapping, Sequence
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import paddle

from autohybrid.runtime.chain_finder import Chain, statements_of
from autohybrid.runtime.chain_source import Source, source_of, statement_lists
from autohybrid.runtime.changes import counter

Callee = Callable[..., Any]


class ChainLayers(paddle.nn.Layer):  # type: ignore[misc]
    """Holds what a chain uses of ``self``, under the same names: what a region there depends on.

    It is no part of the model.
    """

    def __init__(self, parent: Any, chain: Chain) -> None:
        super().__init__()
        self.__dict__["training"] = False  # its own flag says nothing; the members' do
        for name in chain.roots:
            self._sub_layers[name] = parent._sub_layers[name]
        for name in chain.functions:
            self.__dict__[name] = getattr(parent, name)
        self.__dict__["_autohybrid_functions"] = chain.functions

    def follow(self, parent: Any) -> None:
        """Takes over what was replaced in the parent since."""
        own, theirs = self._sub_layers, parent._sub_layers
        for name, layer in own.items():
            if theirs.get(name) is not layer:
                own[name] = theirs.get(name)
                counter.changed(self)
        for name in self._autohybrid_functions:
            if getattr(parent, name, None) is not self.__dict__[name]:
                self.__dict__[name] = getattr(parent, name, None)
                counter.changed(self)


def chain_function(layer: Any, function: str, chain: Chain) -> FunctionType:
    """The chain as a function of ``self`` and its inputs, then its attributes.

    Returns:
        A function that answers with the chain's outputs: one by itself, several as a tuple, or what the chain returns.
    """
    return _chain_function(source_of(type(layer), function), chain)


@functools.lru_cache(maxsize=1024)
def _chain_code(function: FunctionType, chain: Chain, source_text: str, file: str) -> CodeType:
    free = function.__code__.co_freevars
    (definition,) = ast.parse(source_text).body
    factory = _factory([*free], [definition])
    module = ast.Module(body=[factory], type_ignores=[])
    return _code_named(compile(ast.fix_missing_locations(module), file, "exec"), definition.name)  # type: ignore[attr-defined]


def _chain_function(source: Source, chain: Chain) -> FunctionType:
    name = f"{source.definition.name}_chain"
    statements = [_Hoisted(dict(chain.attributes)).visit(each) for each in _copied(source, chain)]
    # A name that was left unbound is told by an Ellipsis, and left unbound again behind the call.
    statements[:0] = [ast.parse(f"{name} = ...").body[0] for name in chain.perhaps]
    if not chain.returns:
        names = [ast.Name(id=each, ctx=ast.Load()) for each in chain.outputs]
        value: ast.expr = names[0] if len(names) == 1 else ast.Tuple(elts=list(names), ctx=ast.Load())
        statements.append(ast.Return(value=value))
    parameters = [source.self_name, *chain.inputs, *(name for name, _ in chain.attributes)]
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=each) for each in parameters], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    definition = ast.FunctionDef(name=name, args=arguments, body=statements, decorator_list=[])
    definition.type_params = []  # type: ignore[attr-defined]
    text = ast.unparse(ast.fix_missing_locations(definition)) + "\n"
    place = f"{source.function.__qualname__} in {chain.place.file.rpartition('/')[2]} line {chain.place.line}"
    # No colon and no comma: Paddle takes a place apart at them.
    file = f"<chain of {place} #{hashlib.sha256(text.encode()).hexdigest()[:8]}>"
    # Paddle's tracer asks inspect for the source of what it converts.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    code = _chain_code(source.function, chain, text, file)
    made = _function(source.function, code, {})
    made.__qualname__ = f"{source.owner.__qualname__}.{name}"
    return made


def _copied(source: Source, chain: Chain) -> list[ast.stmt]:
    return copy.deepcopy(statements_of(source.definition, chain))


class _Hoisted(ast.NodeTransformer):
    """Replaces what is read of ``self`` by the names that it is handed in by."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = {expression: name for name, expression in names.items()}

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        name = self._names.get(ast.unparse(node))
        return ast.Name(id=name, ctx=ast.Load()) if name is not None else self.generic_visit(node)


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
    for number, chain in reversed(list(enumerate(chains))):
        which, start, stop = chain.at
        lists[which][start:stop] = _call(source.self_name, chain, number, lists[which][start])
    names = [*function.__code__.co_freevars, *(_POINT.format(number) for number in range(len(chains)))]
    module = ast.Module(body=[_factory(names, [definition])], type_ignores=[])
    compiled = compile(ast.fix_missing_locations(module), function.__code__.co_filename, "exec")
    return _code_named(compiled, definition.name)


def _call(self_name: str, chain: Chain, number: int, at: ast.stmt) -> list[ast.stmt]:
    """The statements that take the place of a chain's."""
    given = ", ".join([self_name, *chain.inputs, *(expression for _, expression in chain.attributes)])
    call = f"{_POINT.format(number)}({given})"
    lines = [f"return {call}" if chain.returns else f"{', '.join(chain.outputs)} = {call}"]
    lines += [f"if {name} is ...: del {name}" for name in chain.perhaps]
    made = ast.parse("\n".join(lines))
    for node in ast.walk(made):
        ast.copy_location(node, at)
    return made.body


class ChainCall:
    """What a rewritten function calls: follows replaced members, then asks what stands there."""

    __slots__ = ("callee", "layers")

    def __init__(self, layers: ChainLayers, callee: Callee) -> None:
        self.layers = layers
        self.callee = callee

    def __call__(self, parent: Any, *inputs: Any) -> Any:
        self.layers.follow(parent)
        return self.callee(*inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> ChainCall:
        return ChainCall(copy.deepcopy(self.layers, memo), copy.deepcopy(self.callee, memo))


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
        return self._bound(*args, **kwargs)

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
        chains = tuple(sorted(self._calls, key=lambda each: each.at))
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
