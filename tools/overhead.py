"""What a region costs a call besides the program: the guards, the key, the rebuilt answer.

Prints microseconds, the best of several runs: a call of ten Tensors, the quick check in it, and the full check that
follows where the quick one sees a change.

python tools/overhead.py
"""

from __future__ import annotations

import timeit
from typing import Any
from unittest import mock

import paddle
from paddle import nn

import autohybrid
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


if __name__ == "__main__":
    print(f"{'parameters':>10}  {'a call, us':>12}  {'quick, us':>12}  {'full, us':>12}")
    for count in (10, 200, 2000):
        measure(count)
