"""Engines that run the program in eager mode: honest ones, and such that go wrong in one way each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import paddle

from autohybrid.engines import Dimension, Request
from autohybrid.errors import ConversionError

Tensors = list[Any]


class Honest:
    """Answers what eager answers; remembers what it was asked."""

    name = "fake"
    dimensions: Sequence[Dimension] = ()

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.runs = 0
        self.closed = 0

    def unavailable(self) -> str | None:
        return None

    def check_options(self, options: dict[str, Any]) -> None:
        if options:
            raise ConversionError(f"the fake engine has no options, got {options}")

    def convert(self, request: Request) -> Executable:
        self.requests.append(request)
        return Executable(self, request)

    def answer(self, compute: Callable[[], Tensors], given: Tensors) -> Tensors:
        """What :meth:`Executable.run` returns for one run."""
        return compute()


class Executable:
    """Runs the program of a request in eager mode, without gradients."""

    concurrent = False

    def __init__(self, engine: Honest, request: Request) -> None:
        self._engine = engine
        self._request = request

    def run(self, tensors: Sequence[Any]) -> Tensors:
        assert all(tensor.is_contiguous() for tensor in tensors), "engines get contiguous Tensors only"

        def compute() -> Tensors:
            with paddle.no_grad():
                program = self._request.program
                return [output.clone() for output in program.called(list(tensors))]

        self._engine.runs += 1
        return self._engine.answer(compute, list(tensors))

    def close(self) -> None:
        self._engine.closed += 1


class Liar(Honest):
    """Is wrong by a tenth of the scale in one element."""

    def answer(self, compute: Callable[[], Tensors], given: Tensors) -> Tensors:
        made = compute()
        made[0].reshape_([-1])[0] += 0.1 * float(made[0].abs().max())
        return made


class RightOnce(Honest):
    """Gives the answer to its first call for ever: right for one input, wrong for the next."""

    def __init__(self) -> None:
        super().__init__()
        self._first: Tensors = []

    def answer(self, compute: Callable[[], Tensors], given: Tensors) -> Tensors:
        self._first = self._first or compute()
        return [output.clone() for output in self._first]


class WritesNothing(Honest):
    """Fills its buffer at the first call only, and hands the same buffer out again."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer: Tensors = []

    def answer(self, compute: Callable[[], Tensors], given: Tensors) -> Tensors:
        self._buffer = self._buffer or compute()
        return self._buffer


class OneBuffer(Honest):
    """Is right, but writes every answer into the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer: Tensors = []

    def answer(self, compute: Callable[[], Tensors], given: Tensors) -> Tensors:
        made = compute()
        if not self._buffer:
            self._buffer = made
        for kept, new in zip(self._buffer, made, strict=True):
            paddle.assign(new, output=kept)
        return list(self._buffer)


class ChangesInputs(Honest):
    """Is right, and overwrites its first input."""

    def answer(self, compute: Callable[[], Tensors], given: Tensors) -> Tensors:
        made = compute()
        given[0].zero_()
        return made


class Refuses(Honest):
    """Converts nothing."""

    def convert(self, request: Request) -> Executable:
        self.requests.append(request)
        raise ValueError("the operator foo isn't known")


class Breaks(Honest):
    """Answers rightly for so many runs, then raises."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def answer(self, compute: Callable[[], Tensors], given: Tensors) -> Tensors:
        if self.runs > self._after:
            raise RuntimeError("the engine broke")
        return compute()


class Waits(Honest):
    """Answers only when it is let go, once it has been told to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self.entered = threading.Event()
        self.go = threading.Event()

    def answer(self, compute: Callable[[], Tensors], given: Tensors) -> Tensors:
        if self.waiting.is_set():
            self.entered.set()
            assert self.go.wait(30.0)
        return compute()
