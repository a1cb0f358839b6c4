"""New Tensors for an engine's results, made at every call."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import paddle

from autohybrid.structure import Tensor

SMALL = 1 << 10
"""Elements up to which copying a Tensor takes less than ``paddle.empty``, a third of which is Python."""


def maker(shape: Sequence[int], dtype: Any) -> Callable[[], Tensor]:
    """What makes Tensors of this shape and dtype; their values are anything."""
    if math.prod(shape) > SMALL:
        return functools.partial(paddle.empty, list(shape), dtype)
    pattern: Any = paddle.empty(list(shape), dtype)
    copied: Callable[[], Tensor] = pattern.clone
    return copied
