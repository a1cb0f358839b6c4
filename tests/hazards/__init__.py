"""Everyday Paddle code that a static graph gets wrong, refuses, or dies of: one row a situation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

Step = Callable[[Any], Any]
"""One thing that is done with a model: usually a call; what it returns, or raises, must be what eager gives."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One situation.

    Attributes:
        name: as in the table.
        make: builds the model.
        steps: what is done with it, in this order.
        comes: ``"hybrid"``, ``"adapted"`` (hybrid after a repair or behind an adapter) or ``"eager"``.
        why: for ``eager``, a part of the reason that the region gives.
        wrap: how the region is put; by default around the whole model.
        training: whether the model is left in training mode.
        child: whether it runs in a process of its own, since without guards it kills or hangs it.
        last_is_hybrid: whether the last step must be answered by a conversion, not just some step.
    """

    name: str
    make: Callable[[], Any]
    steps: Sequence[Step]
    comes: str
    why: str = ""
    wrap: Callable[[Any], Any] | None = None
    training: bool = False
    child: bool = False
    last_is_hybrid: bool = False


ROWS: list[Row] = []


def row(name: str, make: Callable[[], Any], steps: Sequence[Step], comes: str = "hybrid", **more: Any) -> None:
    """Adds a row to the table."""
    ROWS.append(Row(name=name, make=make, steps=steps, comes=comes, **more))


def numbers(*shape: int, seed: int = 0, dtype: str = "float32") -> Any:
    """A Tensor of normal random numbers that depends on shape and seed only."""
    generator = np.random.default_rng(seed)
    if dtype.startswith("int"):
        return paddle.to_tensor(generator.integers(0, 8, shape), dtype=dtype)
    return paddle.to_tensor(generator.standard_normal(shape), dtype="float64").cast(dtype)


def calls(*shape: int, times: int = 4, **keywords: Any) -> list[Step]:
    """Calls with one Tensor of that shape, each time other values."""

    def call(seed: int, model: Any) -> Any:
        return model(numbers(*shape, seed=seed), **keywords)

    return [functools.partial(call, seed) for seed in range(times)]


def each(*steps: Step, times: int = 4) -> list[Step]:
    """The steps, one after the other, several times."""
    return list(steps) * times


def doing(change: Step, then: Sequence[Step]) -> list[Step]:
    """The change, whose own result is of no interest, and then the steps."""

    def changed(model: Any) -> None:
        change(model)

    return [changed, *then]
