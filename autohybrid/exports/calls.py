"""The structures of arguments and answers, as a plan describes them, in the words of Python code.

Arguments become a pattern for ``match args, kwargs``; an answer becomes one expression for each of its Tensors, and an
expression that puts them together again.
"""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autohybrid.exports.wording import Names

RESERVED = ("args", "kwargs", "model", "layer", "eager", "graphs", "graph", "answer", "rest", "paddle", "self")


class NotInCode(Exception):
    """Something in the plan has no words in plain code; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """One structure of arguments.

    Attributes:
        patterns: of the positional arguments and of the keyword arguments.
        tensors: the names that the patterns give to the Tensors.
        passed: the arguments as they are written in a call.
        sizes: dtype and shape of each Tensor, as they are written in code.
        conditions: what must be so besides.
    """

    patterns: tuple[str, str]
    tensors: tuple[str, ...]
    passed: tuple[str, ...]
    sizes: tuple[str, ...]
    conditions: tuple[str, ...]


def arguments_of(structure: Any, parameters: Sequence[str] = ()) -> Arguments:
    """Reads the structure of a call.

    Args:
        parameters: what the function calls its positional arguments, as far as that is known.

    Raises:
        NotInCode: an argument is an object that only lives in the process that was profiled.
    """
    match structure:
        case {"tuple": [{"tuple": list(args)}, {"dict": dict(kwargs)}]}:
            pass
        case _:
            raise NotInCode("its arguments are described in a form that isn't known")
    reader = _Reader()
    hints = [*parameters, *(f"x{number}" for number in range(len(parameters), len(args)))]
    positional = [reader.read(part, hint) for part, hint in zip(args, hints)]  # noqa: B905
    named = {key: reader.read(part, key) for key, part in kwargs.items()}
    rest = reader.rest()
    return Arguments(
        patterns=(
            f"[{', '.join(pattern for pattern, _ in positional)}]",
            "{" + ", ".join([*(f'"{key}": {pattern}' for key, (pattern, _) in named.items()), f"**{rest}"]) + "}",
        ),
        tensors=tuple(reader.tensors),
        passed=(*(text for _, text in positional), *(f"{key}={text}" for key, (_, text) in named.items())),
        sizes=tuple(reader.sizes),
        conditions=tuple(reader.conditions),
    )


class _Reader:
    """Reads the parts of a call one after the other: each as a pattern, and as it is passed on."""

    def __init__(self) -> None:
        self.tensors: list[str] = []
        self.sizes: list[str] = []
        self.conditions: list[str] = []
        self._names = Names(RESERVED)

    def rest(self) -> str:
        """A name for what a dict holds besides; there must be nothing."""
        name = self._names.free("more")
        self.conditions.append(f"not {name}")
        return name

    def read(self, structure: Any, hint: str) -> tuple[str, str]:
        match structure:
            case {"tensor": {"dtype": str(dtype), "shape": list(shape)}}:
                return self._tensor(dtype, shape, hint)
            case {"constant": value}:
                return _constant_pattern(value), repr_(value)
            case {"list": list(parts)} | {"tuple": list(parts)}:
                kind = next(iter(structure))
                made = [self.read(part, f"{hint}_{number}") for number, part in enumerate(parts)]
                patterns, texts = [pattern for pattern, _ in made], [text for _, text in made]
                inside = f"[{', '.join(patterns)}]"
                return f"{inside} as {self._kind(hint, kind)}", _sequence(kind, texts)
            case {"dict": dict(parts)}:
                read = {key: self.read(part, key) for key, part in parts.items()}
                patterns = [f"{repr_(key)}: {pattern}" for key, (pattern, _) in read.items()]
                texts = [f"{repr_(key)}: {text}" for key, (_, text) in read.items()]
                return "{" + ", ".join([*patterns, f"**{self.rest()}"]) + "}", "{" + ", ".join(texts) + "}"
            case {"opaque": str(name)} | {"class": str(name)}:
                raise NotInCode(f"an argument is a {name}, which the plan can't describe")
        raise NotInCode("an argument is described in a form that isn't known")

    def _tensor(self, dtype: str, shape: list[Any], hint: str) -> tuple[str, str]:
        name = self._names.free(hint if hint.isidentifier() and not keyword.iskeyword(hint) else "x")
        self.tensors.append(name)
        sizes = [str(size) if isinstance(size, int) else "None" for size in shape]
        self.sizes.append(f'("{dtype}", {_sequence("tuple", sizes)})')
        return name, name

    def _kind(self, hint: str, kind: str) -> str:
        name = self._names.free(f"{hint}_all" if f"{hint}_all".isidentifier() else "x_all")
        self.conditions.append(f"type({name}) is {kind}")
        return name


def _constant_pattern(value: Any) -> str:
    # A plain 2 would fit 2.0 and True as well.
    return f"{type(value).__name__}({value!r})" if type(value) in (int, float) else repr_(value)


def repr_(value: Any) -> str:
    """A constant as code, strings in double quotes."""
    if not isinstance(value, str):
        return repr(value)
    text = repr(value)
    return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text


def _sequence(kind: str, parts: Sequence[str]) -> str:
    inside = ", ".join(parts)
    if kind == "list":
        return f"[{inside}]"
    return f"({inside},)" if len(parts) == 1 else f"({inside})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The structure of an answer.

    Attributes:
        taken: where each of its Tensors is found in ``answer``, as expressions.
        names: what the Tensors are called when they come back.
        rebuilt: the answer, made of those names.
        modules: what is to be imported for that.
    """

    taken: tuple[str, ...]
    names: tuple[str, ...]
    rebuilt: str
    modules: tuple[str, ...]


def answer_of(structure: Any) -> Answer:
    """Reads the structure of an answer.

    Raises:
        NotInCode: it holds something that has no words in code.
    """
    reader = _AnswerReader()
    rebuilt = reader.read(structure, "answer")
    order = sorted(reader.places)
    if not order:
        raise NotInCode("its answer holds no Tensor")
    return Answer(
        taken=tuple(reader.places[index] for index in order),
        names=tuple(f"y{index}" for index in order),
        rebuilt=rebuilt,
        modules=tuple(sorted(reader.modules)),
    )


class _AnswerReader:
    """Reads the parts of an answer: where its Tensors are, and how each part is made again."""

    def __init__(self) -> None:
        self.places: dict[int, str] = {}
        self.modules: set[str] = set()

    def read(self, structure: Any, place: str) -> str:
        """The part as it is made again.

        Args:
            place: the expression for the part in an answer of eager's.
        """
        match structure:
            case {"tensor": {"index": int(index)}}:
                self.places.setdefault(index, place)
                return f"y{index}"
            case {"constant": value}:
                return repr_(value)
            case {"list": list(parts)} | {"tuple": list(parts)}:
                texts = [self.read(part, f"{place}[{number}]") for number, part in enumerate(parts)]
                return _sequence(next(iter(structure)), texts)
            case {"dict": dict(parts)}:
                texts = [f"{repr_(key)}: {self.read(part, f'{place}[{repr_(key)}]')}" for key, part in parts.items()]
                return "{" + ", ".join(texts) + "}"
            case {"object": dict(parts), "class": str(name)} if "." in name and _is_dotted(name):
                self.modules.add(name.rpartition(".")[0])
                texts = [f"{key}={self.read(part, f'{place}.{key}')}" for key, part in parts.items()]
                return f"{name}({', '.join(texts)})"
            case {"opaque": str(name)} | {"class": str(name)}:
                raise NotInCode(f"its answer holds a {name}, which plain code can't make")
        raise NotInCode("its answer is described in a form that isn't known")


def _is_dotted(name: str) -> bool:
    return all(map(str.isidentifier, name.split(".")))
