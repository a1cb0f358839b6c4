"""Paddle's reader of bytecode: ``paddle.jit.to_static`` sets it for a thread, and it reads all that is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paddle.base import core as paddle_core


def setter_of(core: Any) -> Callable[[Any], Any]:
    """What sets this thread's reader, None for none, and returns the one before; Paddle has none for newer Pythons."""
    return getattr(core, "set_eval_frame", _nothing_set)


def _nothing_set(reader: Any) -> Any:
    return reader


set_reader = setter_of(paddle_core)
