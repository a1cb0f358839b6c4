"""Comparing what a converted Layer answers with what eager answers."""

from __future__ import annotations

from typing import Any

import autohybrid
from autohybrid.runtime.equality import Tolerance, difference
from autohybrid.structure import flatten


def alike(one: Any, other: Any) -> bool:
    """Whether two answers have the same structure, types and constants, and equal Tensors by the package's rule."""
    ones, one_structure = flatten(one)
    others, other_structure = flatten(other)
    return one_structure == other_structure and difference(ones, others, Tolerance()).equal


def of_eager(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """What the Layer answers with its regions switched off."""
    with autohybrid.eager():
        return layer(*args, **kwargs)


def warm(layer: Any, region: Any, *args: Any, **kwargs: Any) -> None:
    """Calls the Layer until its region serves. Some Layers of Paddle's first have to settle their own attributes."""
    for _ in range(10):
        before = region.hybrid_calls
        layer(*args, **kwargs)
        if region.hybrid_calls > before:
            return
    raise AssertionError(f"never served: {dict(region.eager_calls)}")
