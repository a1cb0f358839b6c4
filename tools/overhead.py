"""What a region costs a call besides the program: the guards, the key, the rebuilt answer.

Prints microseconds, the best of several runs: a call of ten Tensors, the quick check in it, and the full check that
follows where the quick one sees a change. Then what each engine takes for 1, 10 and 50 small Tensors in and as many
out, with next to nothing computed: without a region, within one, and Paddle's wrapper for comparison.

python tools/overhead.py
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import timeit
from typing import Any
from unittest import mock

import paddle
from paddle import nn

import autohybrid
from autohybrid import engines
from autohybrid.engines.silence import stdout_kept
from autohybrid.runtime.variant import Variant

RUNS = 7
CALLS = 2000


class Wide(nn.Layer):  # type: ignore[misc]
    """Ten Tensors in, as many parameters as asked for, next to nothing computed."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.layers = nn.LayerList([nn.Linear(1, 1) for _ in range(parameters // 2)])

    def forward(self, *tensors: Any) -> Any:
        return self.layers[0](sum(tensors))


def best(call: Any, calls: int = CALLS) -> float:
    """Microseconds for one call, the least of several runs."""
    return min(timeit.repeat(call, number=calls, repeat=RUNS)) / calls * 1e6


def measure(parameters: int) -> None:
    """Prints one row."""
    model: Any = Wide(parameters)
    model.eval()
    autohybrid.inference(model)
    tensors = [paddle.ones([1, 1]) for _ in range(10)]
    with paddle.no_grad():
        for _ in range(4):
            model(*tensors)
        region = model.forward
        (variant,) = region.variants
        snapshot = region._snapshot
        outputs = variant.run(tensors)
        # A mock would cost more than what is measured.
        with mock.patch.object(Variant, "run", lambda self, inputs: outputs):  # noqa: PT008
            call = best(lambda: region(*tensors))
        full = best(lambda: snapshot.what_changed(type(snapshot).of(model)), calls=20)
    print(f"{parameters:>10}  {call:>12.1f}  {best(snapshot.looks_unchanged):>12.1f}  {full:>12.0f}")
    autohybrid.restore(model)


class Many(nn.Layer):  # type: ignore[misc]
    """Tensors in, as many out."""

    def forward(self, tensors: Any) -> Any:
        return [tensor * 2.0 for tensor in tensors]


def measure_wrapper(tensors: list[Any]) -> str:
    """Microseconds for a call of ``paddle.incubate.jit.inference``."""
    with tempfile.TemporaryDirectory() as directory, stdout_kept(), contextlib.redirect_stdout(sys.stderr):
        wrapped = paddle.incubate.jit.inference(Many(), save_model_dir=directory)
        wrapped(tensors)
        return f"{'wrapper':>12}  {len(tensors):>8}  {'':>12}  {best(lambda: wrapped(tensors), CALLS // 10):>12.1f}"


def measure_engine(name: str, tensors: list[Any]) -> str:
    """Microseconds for a call of an engine's executable, and of a region around it."""
    model: Any = Many()
    model.eval()
    autohybrid.inference(model, engine=name)
    for _ in range(6):
        model(tensors)
    region = model.forward
    (variant,) = region.variants
    if not region.hybrid_calls:
        return f"{name:>12}  {len(tensors):>8}  {variant.reason}"
    alone = best(lambda: variant.executable.run(tensors), CALLS // 10)
    line = f"{name:>12}  {len(tensors):>8}  {alone:>12.1f}  {best(lambda: region(tensors), CALLS // 10):>12.1f}"
    autohybrid.restore(model)
    return line


def measure_engines() -> None:
    """Prints a row for each engine and number of Tensors."""
    print(f"\n{'engine':>12}  {'Tensors':>8}  {'alone, us':>12}  {'a call, us':>12}")
    with paddle.no_grad():
        for count in (1, 10, 50):
            tensors = [paddle.randn([1, 4]) for _ in range(count)]
            print(measure_wrapper(tensors))
            for name in engines.available():
                print(measure_engine(name, tensors))


if __name__ == "__main__":
    print(f"{'parameters':>10}  {'a call, us':>12}  {'quick, us':>12}  {'full, us':>12}")
    for count in (10, 200, 2000):
        measure(count)
    measure_engines()
