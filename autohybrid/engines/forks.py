"""Objects of libraries with threads of their own, in a process that is forked.

A child has none of its parent's threads. Taking such an object apart waits for them, for ever: in a child it must stay
until the process has ended, at which the kernel takes all of it. So must what the libraries themselves hold: a child
that ends as usual leaves out what compiled code wants to do at the end (ONNX Runtime 1.32 waits there for threads that
it begins when it is imported).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import weakref
from typing import Any

_alive: weakref.WeakSet[Any] = weakref.WeakSet()
_libraries: set[str] = set()
"""Where they come from: a library's own threads are there as long as the process, also when all objects are gone."""


def never_destroyed_in_children(*things: Any) -> None:
    """Has forked children keep what they inherit of ``things``, whatever drops it there."""
    _alive.update(things)
    _libraries.update(type(thing).__module__ for thing in things)


def _keep_inherited() -> None:
    if _libraries:
        _end_without_taking_apart()
    for thing in list(_alive):
        # A reference that nobody holds: those in a list would be dropped when Python ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    _alive.clear()


def _end_without_taking_apart() -> None:
    """Has this process end, with its own exit code, right after Python has cleaned up and buffers are written."""
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # a C library without on_exit
        # Called before whatever was there at the fork: the last one comes first.
        libc.on_exit(libc._exit, None)
        atexit.register(libc.fflush, None)


os.register_at_fork(after_in_child=_keep_inherited)
