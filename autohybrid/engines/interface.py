"""What an engine is: flat Tensors in, flat Tensors out.

An engine gets a :class:`Request` (a Layer whose forward takes one list of Tensors and returns another) and answers with
an :class:`Executable`. It knows nothing of the user's arguments, keys, checks or counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from autohybrid.structure import Tensor

if TYPE_CHECKING:
    from autohybrid.engines.dimensions import Dimension
    from autohybrid.engines.graphs import Graphs


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One conversion.

    Attributes:
        program: a ``paddle.nn.Layer``; ``program.forward(tensors)`` takes a list of Tensors, gives a list of Tensors.
        inputs: Tensors of the kind that will come, contiguous.
        shapes: for each input its shape, with -1 for the dimensions that vary.
        options: the engine's own settings, as in the plan.
        directory: an empty directory of its own for whatever the engine writes.
        proven: whether another process has had right answers of just this: it needn't be run to see whether it runs.
        graphs: where programs that were exported before are; ``paddle_export.export`` asks it. None for none.
    """

    program: Any
    inputs: Sequence[Tensor]
    shapes: Sequence[Sequence[int]]
    options: dict[str, Any] = field(default_factory=dict)
    directory: Path
    proven: bool = False
    graphs: Graphs | None = None


class Busy(Exception):
    """An executable can't take a call just now: eager answers this one, and the executable stays."""


class Executable(Protocol):
    """A converted program.

    Attributes:
        concurrent: whether threads may call ``run`` at the same time. Then it must not wait for another thread's
            run (it may raise :class:`Busy`), and its results must be the caller's own: no later run, in whichever
            thread, changes them. Where it is False, one thread calls at a time, and results may be overwritten.
    """

    concurrent: bool

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Runs the program on contiguous Tensors of the requested dtypes and shapes."""
        ...

    def close(self) -> None:
        """Gives back what the executable holds."""
        ...


class Engine(Protocol):
    """Something that converts.

    Attributes:
        name: what plans and options call it.
        dimensions: what can be chosen about its conversions, those that cure in the order in which they are tried.
    """

    name: str

    @property
    def dimensions(self) -> Sequence[Dimension]: ...

    def unavailable(self) -> str | None:
        """Why it can't be used here, or None."""
        ...

    def check_options(self, options: dict[str, Any]) -> None:
        """Raises ``ConversionError`` for an option that it doesn't know or can't do here."""
        ...

    def convert(self, request: Request) -> Executable:
        """Converts. Whatever it raises means: this can't be converted so."""
        ...


@runtime_checkable
class StorableEngine(Engine, Protocol):
    """An engine whose conversions can be kept on disk: ``convert`` leaves all that ``open`` needs in the directory."""

    def made_with(self) -> dict[str, str]:
        """What its files depend on besides the request, Paddle and Paddle's device: libraries' versions, a processor.

        Files that were made with anything else aren't opened.
        """
        ...

    def open(self, directory: Path, request: Request) -> StoredExecutable:
        """Opens what an earlier ``convert`` of an equal request wrote, without tracing and without exporting.

        ``request.program`` may be None, ``request.directory`` isn't used.
        """
        ...


class StoredExecutable(Executable, Protocol):
    """An executable that reads its files from a directory."""

    def moved(self, directory: Path) -> None:
        """Tells that its files are elsewhere now, and belong to somebody else, who removes them."""
        ...
