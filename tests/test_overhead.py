"""What a region costs a call: not more than Paddle's wrapper, whichever engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import paddle
import pytest
from engine_regions import ENGINES

import autohybrid
from autohybrid.runtime.variant import UNUSUAL, Variant

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from overhead import Many, against_wrapper, serving

LIMIT = 1.2
"""Measured: 0.6 to 1.1 with one Tensor, 0.3 to 0.6 with ten. A machine that is busy with something else can only be
waited for, see :data:`TRIES`."""

TRIES = 5

FUNCTIONS = 16
"""Functions of Python's in a region's call on the short way; it takes 15, and twice as many without it."""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [1, 10])
def test_a_call_of_small_tensors_costs_no_more_than_the_wrapper(engine: str, count: int) -> None:
    rows = []
    with paddle.no_grad():
        for _ in range(TRIES):
            # The median of ratios of calls made one behind the other, with a region and a wrapper made anew.
            rows.append(against_wrapper(engine, count, rounds=150))
            assert "reason" not in rows[-1], rows[-1]
            if rows[-1]["ratio"] < LIMIT:
                return
    pytest.fail(f"{[row['ratio'] for row in rows]}, {rows[-1]['median_us']}")


def functions_called(call: Callable[[], Any]) -> list[str]:
    """The functions of Python's that a call runs, by name."""
    names: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            names.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return names[1:]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [1, 10])
def test_a_usual_call_runs_few_functions(engine: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the short way saves, told without a clock; their number doesn't grow with the Tensors.
    tensors = [paddle.randn([1, 4]) for _ in range(count)]
    model: Any = Many()
    model.eval()
    autohybrid.inference(model, engine=engine, isolation="none")
    try:
        with paddle.no_grad():
            region = serving(model, tensors)
            short = functions_called(lambda: region(tensors))
            monkeypatch.setattr(Variant, "again", lambda self, args, kwargs: UNUSUAL)
            long = functions_called(lambda: region(tensors))
    finally:
        autohybrid.restore(model)
    assert len(short) <= FUNCTIONS, short
    assert len(long) > FUNCTIONS, "without the short way there is nothing to be noticed"
