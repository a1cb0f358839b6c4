"""Exported programs that serve again with other parameters: for blocks of one structure, and for weights that changed.

A trace depends on the values of weights only where Python code reads them; such a program is of no use with others.
What is kept here holds no weights.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import paddle
from paddle.base import core as paddle_core

from autohybrid.structure import Tensor, dtype_name

core: Any = paddle_core

State = Sequence[tuple[str, Tensor]]
"""The parameters and buffers of a Layer, each with its path."""


Place = tuple[int, int, str]
"""Where a parameter stands in a file: offset and size in bytes, and its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blank:
    """A file with gaps where the bytes of parameters go: between each two ``pieces``, by ``names``."""

    pieces: Sequence[bytes]
    names: Sequence[str]

    @classmethod
    def cut(cls, content: bytes, places: Sequence[Place]) -> Blank:
        """A file without what stands in ``places``."""
        pieces, end = [], 0
        for offset, size, _ in sorted(places):
            pieces.append(content[end:offset])
            end = offset + size
        return cls(pieces=[*pieces, content[end:]], names=[name for _, _, name in sorted(places)])

    def filled(self, values: Mapping[str, bytes]) -> bytes:
        parts = [self.pieces[0]]
        for name, piece in zip(self.names, self.pieces[1:], strict=True):
            parts += [values[name], piece]
        return b"".join(parts)


def places_in(
    content: bytes, values: Mapping[str, bytes], other: bytes, other_values: Mapping[str, bytes]
) -> list[Place] | None:
    """Where parameters stand in a file, found by making it twice, the second time with random ones.

    None where the two files differ in anything else, or it can't be told: something then depends on the parameters in
    another way.

    Args:
        content: the file, made with the parameters ``values``.
        other: the file made with ``other_values``, of which all bytes are others.
    """
    wanted = {name: value for name, value in other_values.items() if value}
    if len(set(wanted.values())) < len(wanted) or any(values[name] == value for name, value in wanted.items()):
        return None
    places: list[Place] = []
    # The largest first: within them, a small one may be found by chance.
    for name, value in sorted(wanted.items(), key=lambda each: -len(each[1])):
        at = other.find(value)
        while at >= 0:
            free = not any(start < at + len(value) and at < start + size for start, size, _ in places)
            if free and content[at : at + len(value)] == values[name]:
                places.append((at, len(value), name))
            at = other.find(value, at + 1)
    return places if Blank.cut(content, places).filled(other_values) == other else None


@dataclass(slots=True, kw_only=True)
class Graph:
    """An exported program without its parameters.

    Attributes:
        program: what stands in its file.
        parameters: the path of each parameter in the state of the Layer that was traced, by its name in the program.
        onnx: the same program as an ONNX model, where that holds the parameters unchanged and nothing else that depends
            on them; ``onnx_sought`` once that was looked into.
    """

    program: bytes
    parameters: Mapping[str, str]
    onnx: Blank | None = None
    onnx_sought: bool = False

    def named(self, state: State) -> dict[str, Tensor]:
        """Another Layer's Tensors by the program's names for them."""
        found = dict(state)
        return {name: found[path] for name, path in self.parameters.items()}


class Graphs(Protocol):
    """Where a conversion looks for a program that was traced before, and leaves its own."""

    def find(self, state: Sequence[str]) -> Graph | None:
        """The graph of an equal program with parameters like ``state``, see :func:`described`."""
        ...

    def keep(self, state: Sequence[str], graph: Graph) -> None:
        """Takes what was traced just now."""
        ...

    def reject(self, state: Sequence[str]) -> None:
        """Takes note that a program of this kind holds values of the weights that it was traced with."""
        ...


def state_of(program: Any) -> State:
    """What Paddle saves as the parameters of a Layer that is exported."""
    return list(program.to_static_state_dict().items())


def described(state: State) -> list[str]:
    """For each parameter its path, dtype and shape, and the first path at which the same Tensor stands."""
    first: dict[int, str] = {}
    return [
        f"{path} {dtype_name(tensor)}{list(tensor.shape)} {first.setdefault(id(tensor), path)}"
        for path, tensor in state
    ]


def paths_of(parameters: tuple[Sequence[Tensor], Sequence[Any]], state: State) -> dict[str, str] | None:
    """The path of each of a traced program's parameters, by the program's name for it; None where one has none.

    Args:
        parameters: Paddle's record of the Tensors that the trace met, and of the values that stand for them.
        state: of the Layer that was traced.
    """
    places = {id(tensor): path for path, tensor in state}
    saved = [(tensor, value) for tensor, value in zip(*parameters, strict=True) if value.persistable]
    if not all(id(tensor) in places for tensor, _ in saved):
        return None
    return {value.name: places[id(tensor)] for tensor, value in saved}


def bytes_of(tensor: Tensor) -> bytes:
    """The content of a Tensor on a CPU."""
    dense = tensor if tensor.is_contiguous() else tensor.clone()
    return ctypes.string_at(dense.data_ptr(), dense.size * dense.element_size()) if dense.size else b""


def read_parameters(file: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """What :func:`write_parameters`, or Paddle, wrote; ``names`` are all names, in whatever order."""
    found = {name: paddle.empty([1]) for name in sorted(names)}
    places = [tensor.value().get_tensor() for tensor in found.values()]
    core.load_combine_func(str(file), list(found), places, False, paddle.framework._current_expected_place())
    return found


def random_like(tensor: Tensor) -> Tensor:
    """A Tensor of the same dtype and shape with other values."""
    if tensor.dtype == paddle.bool:
        return paddle.logical_not(tensor)
    if paddle.is_floating_point(tensor):
        return (paddle.rand(tensor.shape) + 0.5).cast(tensor.dtype)
    return paddle.randint(1, 100, tensor.shape).cast(tensor.dtype)


def write_parameters(named: Mapping[str, Tensor], file: Path) -> None:
    """Writes parameters as Paddle does for an exported program; nothing where there are none."""
    if not named:
        return
    names = sorted(named)
    # Kept until they are written.
    tensors = [each if each.is_contiguous() else each.clone() for each in (named[name] for name in names)]
    core.save_combine_func([each.value().get_tensor() for each in tensors], names, str(file), True, False, False)


@dataclass(slots=True)
class Reads:
    """Whether the values of a Tensor were read."""

    happened: bool = False


_READERS = ("numpy", "_getitem_from_offset", "__dlpack__", "data_ptr")
"""The methods of Tensors through which all others, ``float`` and ``bool`` too, come to a value in Python."""


@contextlib.contextmanager
def value_reads() -> Iterator[Reads]:
    """Tells whether this thread's Python code looks at values of Tensors: what it does then may depend on them.

    While a program is traced, inputs and results have no values; only parameters and other Tensors kept do.
    """
    reads, thread = Reads(), threading.get_ident()
    originals = {name: paddle.Tensor.__dict__[name] for name in _READERS if name in paddle.Tensor.__dict__}

    def heard(original: Any) -> Any:
        def read(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == thread:
                reads.happened = True
            return original(self, *args, **kwargs)

        return read

    for name, original in originals.items():
        setattr(paddle.Tensor, name, heard(original))
    try:
        yield reads
    finally:
        for name, original in originals.items():
            setattr(paddle.Tensor, name, original)
