"""Arguments and results as a flat list of Tensors and a hashable description of everything else.

``flatten`` takes the Tensors out of any nesting of lists, tuples, dicts, named tuples and dataclasses; the
``Structure`` that stays says where they were and keeps the constants. ``Structure.rebuild`` puts Tensors back.
Two calls whose structures, dtypes and ranks are equal can be served by one static graph.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import paddle

Tensor: TypeAlias = Any
"""A ``paddle.Tensor``; Paddle ships no types that a checker for Python 3.10 could rely on."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a Tensor: its index in the flat list. A Tensor that occurs twice has one index."""

    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value that isn't a Tensor. Equal only to a constant of the same type and value: ``1``, ``1.0`` and ``True``
    are three different constants, and so are ``0.0`` and ``-0.0``."""

    value: Any
    identity: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@dataclass(frozen=True, slots=True)
class Sequence_:
    """A list, a tuple, or a named tuple (``kind``) of parts."""

    kind: type
    parts: tuple[Structure, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A dict, or a subclass of it (``kind``); ``keys`` in their order, ``factory`` of a defaultdict."""

    kind: type
    keys: tuple[Any, ...]
    parts: tuple[Structure, ...]
    factory: Any = None


@dataclass(frozen=True, slots=True)
class Record:
    """A dataclass instance (``kind``) with its fields."""

    kind: type
    keys: tuple[str, ...]
    parts: tuple[Structure, ...]


Structure: TypeAlias = "Slot | Constant | Sequence_ | Mapping | Record"

_VALUE_TYPES = (bool, int, str, bytes, complex, type(None), type(Ellipsis), slice, paddle.dtype, np.dtype, type)


_SLOTS = tuple([Slot(index) for index in range(64)])
"""Made once: a region takes its arguments apart at every call."""


def flatten(value: Any) -> tuple[list[Tensor], Structure]:
    """Takes the Tensors out of ``value``.

    Returns:
        The distinct Tensors in the order they are met, and the structure without them.
    """
    tensors: list[Tensor] = []
    places: dict[int, int] = {}
    return tensors, _take_apart(value, tensors, places)


def _take_apart(value: Any, tensors: list[Tensor], places: dict[int, int]) -> Structure:
    if isinstance(value, paddle.Tensor):
        index = places.get(id(value))
        if index is None:
            index = places[id(value)] = len(tensors)
            tensors.append(value)
        return _SLOTS[index] if index < len(_SLOTS) else Slot(index)
    kind = type(value)
    if kind is tuple or kind is list or (isinstance(value, tuple) and hasattr(kind, "_fields")):
        return Sequence_(kind, tuple([_take_apart(part, tensors, places) for part in value]))
    if isinstance(value, dict):
        parts = tuple([_take_apart(part, tensors, places) for part in value.values()])
        return Mapping(kind, tuple(value), parts, value.default_factory if isinstance(value, defaultdict) else None)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = _record_names(value)
        parts = tuple([_take_apart(getattr(value, name), tensors, places) for name in names])
        return Record(kind, names, parts)
    return Constant(value, _identity(value))


def _record_names(value: Any) -> tuple[str, ...]:
    # Its __dict__ may hold more than the fields.
    return tuple(getattr(value, "__dict__", ())) or tuple(field.name for field in dataclasses.fields(value))


Reader: TypeAlias = "Callable[[Any], list[Tensor] | None]"

CallReader: TypeAlias = "Callable[[tuple[Any, ...], dict[str, Any]], list[Tensor] | None]"


def call_reader(structure: Structure) -> CallReader:
    """A :func:`reader` for the structure of a call's ``(args, kwargs)``.

    The usual calls, with nothing but different Tensors one by one or in one list or tuple, are read by one function.
    """
    if isinstance(structure, Sequence_) and structure.parts[1:] == (Mapping(dict, (), ()),):
        positional = structure.parts[0]
        assert isinstance(positional, Sequence_), "the positional arguments are a tuple"
        if row_kind(positional) is tuple:
            return _row_reader(len(positional.parts))
        inner = positional.parts[0] if len(positional.parts) == 1 else None
        if isinstance(inner, Sequence_) and row_kind(inner) is not None:
            return _only_row_reader(inner.kind, len(inner.parts))
    read = reader(structure)
    return lambda args, kwargs: read((args, kwargs))


def row_kind(structure: Structure) -> type | None:
    """``list`` or ``tuple`` where it is one of different Tensors and nothing else, the first that are met; ``Slot``
    where it is the first Tensor by itself; else None."""
    if structure == Slot(0):
        return Slot
    if not isinstance(structure, Sequence_) or structure.kind not in (list, tuple) or not structure.parts:
        return None
    return structure.kind if structure.parts == tuple(map(Slot, range(len(structure.parts)))) else None


def _row_reader(count: int) -> CallReader:
    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor] | None:
        if len(args) != count or kwargs or len(set(map(id, args))) != count:
            return None
        return list(args) if set(map(type, args)) == _TENSORS_ONLY or _are_tensors(args) else None

    return read


def _only_row_reader(kind: Any, count: int) -> CallReader:
    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor] | None:
        if len(args) != 1 or kwargs:
            return None
        row: Any = args[0]
        if type(row) is not kind or len(row) != count or len(set(map(id, row))) != count:
            return None
        return list(row) if set(map(type, row)) == _TENSORS_ONLY or _are_tensors(row) else None

    return read


def reader(structure: Structure) -> Reader:
    """What :func:`flatten` takes out of a value of this structure, as a function; of any other value it gives None.

    Made once and called often: at a part of the price, since nothing is described.
    """
    take = _taking(structure, [0])

    def read(value: Any) -> list[Tensor] | None:
        tensors: list[Tensor] = []
        return tensors if take(value, tensors) and _are_different_tensors(tensors) else None

    return read


_Take: TypeAlias = Callable[[Any, list[Tensor]], bool]
"""Adds what stands in new slots to the list, and says whether all else is as it was."""


def _taking(structure: Structure, met: list[int]) -> _Take:
    """``met`` counts the slots that were met; they are numbered in this order."""
    if isinstance(structure, Slot):
        return _taking_slot(structure.index, met)
    if isinstance(structure, Constant):
        return lambda value, tensors: _is_constant(structure, value)
    kind: Any = structure.kind
    count = len(structure.parts)
    if not count and not isinstance(structure, Record):
        return lambda value, tensors: type(value) is kind and not len(value)
    if isinstance(structure, Sequence_) and structure.parts == tuple(map(Slot, range(met[0], met[0] + count))):
        met[0] += count

        def take_row(value: Any, tensors: list[Tensor]) -> bool:
            if type(value) is not kind or len(value) != count:
                return False
            tensors += value
            return True

        return take_row
    takes = [_taking(part, met) for part in structure.parts]
    parts_of_value = None if isinstance(structure, Sequence_) else _parts(structure)

    def take(value: Any, tensors: list[Tensor]) -> bool:
        if type(value) is not kind:
            return False
        values = value if parts_of_value is None else parts_of_value(value)
        if values is None or len(values) != count:
            return False
        for each, inner in zip(takes, values, strict=True):  # noqa: SIM110 - a generator would cost as much as the rest
            if not each(inner, tensors):
                return False
        return True

    return take


def _taking_slot(index: int, met: list[int]) -> _Take:
    if index < met[0]:
        return lambda value, tensors: index < len(tensors) and tensors[index] is value
    met[0] += 1

    def take(value: Any, tensors: list[Tensor]) -> bool:
        tensors.append(value)
        return True

    return take


def _parts(structure: Mapping | Record) -> Callable[[Any], Any]:
    """What takes a value of the structure's kind apart; None from it means that the keys are others."""
    keys = structure.keys
    if isinstance(structure, Record):
        return lambda value: [getattr(value, name) for name in keys] if _record_names(value) == keys else None
    return lambda value: value.values() if tuple(value) == keys else None


_TENSORS_ONLY = {paddle.Tensor}


def _are_different_tensors(values: list[Any]) -> bool:
    """Not one object in two places, where the structure has two Tensors."""
    if set(map(type, values)) != _TENSORS_ONLY and not _are_tensors(values):
        return False
    return len(values) < 2 or len(set(map(id, values))) == len(values)


def _are_tensors(values: Sequence[Any]) -> bool:
    """Parameters too, which are of a type of their own."""
    return all(isinstance(value, paddle.Tensor) for value in values)


def _is_constant(constant: Constant, value: Any) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return kind is type(constant.value) and bool(value == constant.value)
    return not isinstance(value, paddle.Tensor) and bool(_identity(value) == constant.identity)


_PLAIN = frozenset({bool, int, str, bytes, type(None)})
"""Types whose equal values are the same constant."""


def _identity(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return (float, struct.pack("d", value))
    if isinstance(value, slice):
        return (slice, _identity(value.start), _identity(value.stop), _identity(value.step))
    if kind in _VALUE_TYPES or isinstance(value, (enum.Enum, type)):
        return (kind, value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return (np.ndarray, str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, np.generic):
        return (kind, value.tobytes())
    if isinstance(value, (frozenset, range)):
        return (kind, value)
    return (Opaque(value), content(value))


class Opaque:
    """An object that is only known by its identity; it is kept alive, so that its address can't be given away."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


_CONTENT_DEPTH = 4
_CONTENT_LENGTH = 256


def content(value: Any, depth: int = _CONTENT_DEPTH) -> Any:
    """What a value says, as something hashable: two equal contents mean that nothing was changed in between.

    Plain values by type and value; lists, tuples, dicts, sets and the attributes of objects by their parts, down to a
    certain depth; Tensors by identity and in-place version; everything else by identity.
    """
    kind = type(value)
    if kind in (bool, int, str, bytes, type(None)):
        return (kind, value)
    if kind is float:
        return (float, struct.pack("d", value))
    if isinstance(value, paddle.Tensor):
        return (id(value), value.inplace_version)
    if isinstance(value, np.ndarray) and value.dtype != object and value.nbytes <= SMALL_ARRAY:
        return (str(value.dtype), value.shape, value.tobytes())
    parts = parts_of(value)
    if parts is None or depth == 0 or len(parts) > _CONTENT_LENGTH:
        return (kind, id(value))
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset([content(part, depth - 1) for part in parts]))
    names = tuple([repr(name) for name in value]) if isinstance(value, dict) else ()
    return (kind, names, tuple([content(part, depth - 1) for part in parts]))


SMALL_ARRAY = 4096
"""Bytes up to which the values of a NumPy array kept somewhere are watched."""


def parts_of(value: Any) -> list[Any] | None:
    """What a container or an object of the user's holds; None for what isn't looked into."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    kind = type(value)
    if kind.__module__.split(".")[0] in _CLOSED or isinstance(value, (type, paddle.nn.Layer)):
        return None
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return None
    return [part for pair in attributes.items() for part in pair]


_CLOSED = frozenset({"builtins", "paddle", "numpy", "functools", "logging", "threading", "weakref", "autohybrid"})


def holds_tensors(value: Any, depth: int = _CONTENT_DEPTH) -> bool:
    """Whether Tensors or Layers lie somewhere inside a constant, out of reach of :func:`flatten`."""
    if isinstance(value, (paddle.Tensor, paddle.nn.Layer)):
        return True
    parts = parts_of(value) if depth else None
    return any(holds_tensors(part, depth - 1) for part in parts or ())


def rebuild(structure: Structure, tensors: Sequence[Tensor]) -> Any:
    """The inverse of :func:`flatten`: the same types, the same constants, ``tensors`` in the slots."""
    if isinstance(structure, Slot):
        return tensors[structure.index]
    if isinstance(structure, Constant):
        return structure.value
    parts = [tensors[part.index] if type(part) is Slot else rebuild(part, tensors) for part in structure.parts]
    if isinstance(structure, Sequence_):
        return _sequence(structure.kind, parts)
    if isinstance(structure, Mapping):
        return _mapping(structure, parts)
    return _record(structure, parts)


def _sequence(kind: type, parts: list[Any]) -> Any:
    if kind is list:
        return parts
    return tuple(parts) if kind is tuple else kind(*parts)


def _mapping(structure: Mapping, parts: list[Any]) -> Any:
    plain = dict(zip(structure.keys, parts, strict=True))
    if structure.kind is dict:
        return plain
    if dataclasses.is_dataclass(structure.kind):
        # Model outputs that are a dataclass and a dict at once fill the dict from their fields.
        return structure.kind(**plain)
    made: Any = structure.kind(structure.factory) if issubclass(structure.kind, defaultdict) else structure.kind()
    made.update(plain)
    return made


def _record(structure: Record, parts: list[Any]) -> Any:
    # Not through __init__, which may check, convert or compute.
    made: Any = object.__new__(structure.kind)
    for name, part in zip(structure.keys, parts, strict=True):
        object.__setattr__(made, name, part)
    return made


def constants(structure: Structure) -> Iterator[Any]:
    """The values in ``structure`` that are no Tensors."""
    if isinstance(structure, Constant):
        yield structure.value
    elif not isinstance(structure, Slot):
        for part in structure.parts:
            yield from constants(part)


def map_constants(structure: Structure, change: Callable[[Any], Any]) -> Structure:
    """``structure`` with each constant replaced by ``change(value)``."""
    if isinstance(structure, Constant):
        value = change(structure.value)
        return structure if value is structure.value else Constant(value, _identity(value))
    if isinstance(structure, Slot):
        return structure
    parts = tuple(map_constants(part, change) for part in structure.parts)
    return dataclasses.replace(structure, parts=parts)


def describe(structure: Structure, tensor: Callable[[int], Any]) -> Any:
    """``structure`` as plain JSON values: ``{"tensor": ...}`` from ``tensor(index)``, ``{"list": [...]}``,
    ``{"tuple": [...]}``, ``{"dict": {...}}``, ``{"object": {...}, "class": ...}`` and ``{"constant": ...}``.

    Constants that JSON has no value for are shown as ``{"opaque": "<their type>"}``: what a user's objects hold is
    nobody's business in a plan.
    """
    if isinstance(structure, Slot):
        return {"tensor": tensor(structure.index)}
    if isinstance(structure, Constant):
        return _describe_constant(structure.value)
    parts = [describe(part, tensor) for part in structure.parts]
    if isinstance(structure, Sequence_):
        if structure.kind in (list, tuple):
            return {structure.kind.__name__: parts}
        names = cast(Any, structure.kind)._fields
        return {"object": dict(zip(names, parts, strict=True)), "class": qualified_name(structure.kind)}
    keyed = {str(key): part for key, part in zip(structure.keys, parts, strict=True)}
    if isinstance(structure, Mapping) and structure.kind is dict:
        return {"dict": keyed}
    return {"object": keyed, "class": qualified_name(structure.kind)}


def _describe_constant(value: Any) -> dict[str, Any]:
    if isinstance(value, (bool, int, str, type(None))) and not isinstance(value, enum.Enum):
        return {"constant": value}
    if isinstance(value, float):
        return {"constant": value if np.isfinite(value) else str(value)}
    if isinstance(value, np.ndarray):
        return {"opaque": f"numpy.ndarray {value.dtype} {list(value.shape)}"}
    return {"opaque": qualified_name(type(value))}


def described_as(description: Any, slot: Callable[[Any], int]) -> Structure:
    """The structure that :func:`describe` has described so, of plain containers and constants; ``slot`` gives the index
    of a Tensor from what stands for it.

    What JSON has no value for isn't told apart from what it is shown as: whoever needs to be sure compares.

    Raises:
        ValueError: it isn't such a description, or has an object in it.
    """
    if not isinstance(description, dict) or len(description) != 1:
        raise ValueError("an object, or no description of a structure")
    ((kind, held),) = description.items()
    if kind == "tensor":
        return Slot(slot(held))
    if kind == "constant":
        return Constant(held, _identity(held))
    if kind in ("list", "tuple"):
        return Sequence_({"list": list, "tuple": tuple}[kind], tuple([described_as(part, slot) for part in held]))
    if kind == "dict":
        return Mapping(dict, tuple(held), tuple([described_as(part, slot) for part in held.values()]))
    raise ValueError(f"no structure is described by {kind!r}")


def qualified_name(kind: type) -> str:
    """``module.Class``, without the module for classes of the script itself."""
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def signature(tensors: Sequence[Tensor]) -> tuple[tuple[str, int], ...]:
    """Dtype and rank of each Tensor: with a :data:`Structure`, what decides whether two calls share a graph."""
    return tuple([(str(tensor.dtype), tensor.ndim) for tensor in tensors])


def dtype_name(tensor: Tensor) -> str:
    """``float32`` for a Tensor of ``paddle.float32``."""
    return str(tensor.dtype).rpartition(".")[2]
