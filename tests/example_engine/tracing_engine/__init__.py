"""A third-party engine: ``paddle.jit.to_static``, run by Paddle's own executor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle

from autohybrid.engines import Request
from autohybrid.engines.dimensions import Alternative, Dimension
from autohybrid.errors import ConversionError


class TracingEngine:
    """Traces, and runs what was traced.

    Options:
        backend: None, or ``"CINN"`` where Paddle was built with that compiler.
    """

    name = "tracing"
    # What a search tries besides the defaults: where the compiler is, whether it makes it faster.
    dimensions = (
        Dimension(
            name="compiler",
            alternatives=lambda machine: [Alternative(options={"backend": "CINN"}, hope=1.5)] if machine.cinn else [],
        ),
    )

    def unavailable(self) -> str | None:
        """None: it needs nothing but Paddle. Elsewhere this names what is to be installed."""
        return None

    def check_options(self, options: dict[str, Any]) -> None:
        for name, value in options.items():
            if name != "backend" or value not in (None, "CINN"):
                raise ConversionError(f"{self.name} can't do {name}={value!r}", "It has: backend (null or CINN).")

    def convert(self, request: Request) -> Traced:
        self.check_options(request.options)
        specs = [
            paddle.static.InputSpec(list(shape), tensor.dtype)
            for shape, tensor in zip(request.shapes, request.inputs, strict=True)
        ]
        backend = request.options.get("backend")
        # Of the Layer's forward, not of the Layer: that would change the Layer itself.
        program = paddle.jit.to_static(request.program.forward, input_spec=[specs], full_graph=True, backend=backend)
        traced = Traced(program)
        # What fails only when it runs is to fail here.
        traced.run(request.inputs)
        return traced


class Traced:
    """A traced program."""

    concurrent = False

    def __init__(self, program: Any) -> None:
        self._program = program

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        with paddle.no_grad():
            results = self._program(list(tensors))
        return list(results) if isinstance(results, (list, tuple)) else [results]

    def close(self) -> None:
        self._program = None
