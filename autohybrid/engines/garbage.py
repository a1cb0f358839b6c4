"""How often a program of Paddle's gives back the memory of values that it doesn't need any more.

On a CPU Paddle hands each such value to a thread of its own (``NoEventGarbageCollector``), which is woken for nearly
every operator: on small Tensors that costs more than the operators. Told to collect some bytes first, a program wakes
it once for many.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import paddle

from autohybrid import device

COLLECTED = 1 << 20
"""Bytes that a program may keep before it gives them back."""

_FLAG = "FLAGS_eager_delete_tensor_gb"


class _Setting:
    """Paddle's flag, which is the whole process's: set while any thread needs it, nobody waits for another's run."""

    def __init__(self) -> None:
        self._needed = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        with self._lock:
            if not self._needed and paddle.get_flags(_FLAG)[_FLAG] == 0.0:
                paddle.set_flags({_FLAG: COLLECTED / (1 << 30)})
            self._needed += 1

    def give_back(self) -> None:
        with self._lock:
            self._needed -= 1
            if not self._needed and paddle.get_flags(_FLAG)[_FLAG] == COLLECTED / (1 << 30):
                paddle.set_flags({_FLAG: 0.0})


_setting = _Setting()


@contextmanager
def collected() -> Iterator[None]:
    """Around the first run of a program: that is when it reads how much it may keep.

    Changes nothing on a GPU, and where somebody has set Paddle's flag already.
    """
    if device.on_gpu():
        yield
        return
    _setting.take()
    try:
        yield
    finally:
        _setting.give_back()
