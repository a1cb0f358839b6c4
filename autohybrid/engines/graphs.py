"""Exported programs that serve again with other parameters: for blocks of one structure, and for weights that changed.

A trace depends on the values of weights only where Python code reads them; such a program is of no use with others.
What is kept here holds no weights.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
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

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return sum(len(piece) for piece in self.pieces)

    def filled(self, named: Mapping[str, Tensor]) -> Iterator[bytes]:
        """The file with these parameters, part by part: a copy of one parameter at a time is in memory."""
        yield self.pieces[0]
        for name, piece in zip(self.names, self.pieces[1:], strict=True):
            yield bytes_of(named[name])
            yield piece

    def write(self, named: Mapping[str, Tensor], file: Path) -> None:
        with file.open("wb") as out:
            out.writelines(self.filled(named))


def places_in(
    content: bytes,
    values: Mapping[str, bytes],
    other: bytes,
    other_values: Mapping[str, bytes],
    rest: Callable[[Sequence[bytes]], Any] = list,
) -> list[Place] | None:
    """Where parameters stand in a file, found by making it twice, the second time with random ones.

    None where the two files differ in anything else, or it can't be told: something then depends on the parameters in
    another way.

    Args:
        content: the file, made with the parameters ``values``.
        other: the file made with ``other_values``, of which all bytes are others.
        rest: what must be equal of the pieces between the parameters.
    """
    wanted = {name: value for name, value in other_values.items() if value}
    if any(values[name] == value for name, value in wanted.items()):
        return None
    places = found_in(other, wanted, lambda at, name: content.startswith(values[name], at))
    if places is None or rest(Blank.cut(content, places).pieces) != rest(Blank.cut(other, places).pieces):
        return None
    return places


def found_in(
    content: bytes, values: Mapping[str, bytes], fits: Callable[[int, str], bool] = lambda at, name: True
) -> list[Place] | None:
    """Where these parameters stand in a file, as far as their bytes alone tell; None where two are alike.

    Args:
        fits: whether a parameter may stand at an offset.
    """
    wanted = {name: value for name, value in values.items() if value}
    if len(set(wanted.values())) < len(wanted):
        return None
    places: list[Place] = []
    gaps = [(0, len(content))]
    # The largest first: within them, a small one may be found by chance.
    for name, value in sorted(wanted.items(), key=lambda each: -len(each[1])):
        left = []
        for start, end in gaps:
            at = content.find(value, start, end)
            while at >= 0:
                after = at + 1
                if fits(at, name):
                    places.append((at, len(value), name))
                    left.append((start, at))
                    start = after = at + len(value)
                at = content.find(value, after, end)
            left.append((start, end))
        gaps = left
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file that was made of a graph with parameters that may be gone by now: its digest tells it again.

    Neither the file nor the parameters are kept.
    """

    digest: bytes
    parameters: Mapping[str, weakref.ref[Tensor]]

    @classmethod
    def of(cls, file: Path, named: Mapping[str, Tensor]) -> Made:
        digest = hashlib.sha256(file.read_bytes()).digest()
        return cls(digest=digest, parameters={name: weakref.ref(tensor) for name, tensor in named.items()})

    def made_by(self, blank: Blank) -> bool:
        """Whether it is what the blank is with the parameters, as they are now."""
        alive = {name: tensor() for name, tensor in self.parameters.items()}
        named = {name: tensor for name, tensor in alive.items() if tensor is not None and tensor._is_initialized()}
        if not named.keys() >= set(blank.names):
            return False
        digest = hashlib.sha256()
        for part in blank.filled(named):
            digest.update(part)
        return digest.digest() == self.digest


@dataclass(slots=True, kw_only=True)
class Graph:
    """An exported program without its parameters.

    Attributes:
        program: what stands in its file.
        parameters: the path of each parameter in the state of the Layer that was traced, by its name in the program.
        blanks: other files that are made of it (an ONNX model, what an engine compiles), by what they are: where they
            hold the parameters unchanged and nothing else that depends on them; None where that isn't so.
        made: whether this process has made an ONNX model of it.
        first: that model, until there is a second one.
    """

    program: bytes
    parameters: Mapping[str, str]
    blanks: dict[str, Blank | None] = field(default_factory=dict)
    made: bool = False
    first: Made | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.program) + sum(blank.size for blank in self.blanks.values() if blank is not None)

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


def random_like(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the same dtypes and shapes with other values. Nothing is drawn from Paddle's random numbers."""
    generator = np.random.default_rng()

    def other(tensor: Tensor) -> Tensor:
        if tensor.dtype == paddle.bool:
            return paddle.logical_not(tensor)
        if paddle.is_floating_point(tensor):
            values = generator.random(tensor.shape, dtype=np.float32) + np.float32(0.5)
        else:
            values = generator.integers(1, 100, tensor.shape, dtype=np.int32)
        return paddle.to_tensor(values).cast(tensor.dtype)

    return {name: other(tensor) for name, tensor in named.items()}


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
