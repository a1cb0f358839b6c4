"""What an engine is: flat Tensors in, flat Tensors out.

An engine gets a :class:`Request` (a Layer whose forward takes one list of Tensors and returns another) and answers with
an :class:`Executable`. It knows nothing of the user's arguments, keys, checks or counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from autohybrid.structure import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One conversion.

    Attributes:
        program: a ``paddle.nn.Layer``; ``program.forward(tensors)`` takes a list of Tensors, gives a list of Tensors.
        inputs: Tensors of the kind that will come, contiguous.
        shapes: for each input its shape, with -1 for the dimensions that vary.
        options: the engine's own settings, as in the plan.
        directory: an empty directory of its own for whatever the engine writes.
    """

    program: Any
    inputs: Sequence[Tensor]
    shapes: Sequence[Sequence[int]]
    options: dict[str, Any] = field(default_factory=dict)
    directory: Path


class Executable(Protocol):
    """A converted program. Not thread-safe by itself."""

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Runs the program on contiguous Tensors of the requested dtypes and shapes."""
        ...

    def close(self) -> None:
        """Gives back what the executable holds."""
        ...


class Engine(Protocol):
    """Something that converts. ``name`` is what plans and options call it."""

    name: str

    def unavailable(self) -> str | None:
        """Why it can't be used here, or None."""
        ...

    def check_options(self, options: dict[str, Any]) -> None:
        """Raises ``ConversionError`` for an option that it doesn't know or can't do here."""
        ...

    def attempts(self) -> Sequence[dict[str, Any]]:
        """Options worth trying: the defaults first, then what is known to cure a wrong or failed conversion."""
        ...

    def convert(self, request: Request) -> Executable:
        """Converts. Whatever it raises means: this can't be converted so."""
        ...
