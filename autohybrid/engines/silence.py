"""Keeps what Paddle's compiled code prints off the script's stdout."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_kept() -> Iterator[None]:
    """Sends what is printed below Python to stderr: some passes name the operators that they look at.

    Not while other Python threads run, whose own output would go astray.
    """
    if threading.active_count() > 1:
        yield
        return
    flush = ctypes.CDLL(None).fflush
    _flushed(flush)
    try:
        kept = os.dup(1)
    except OSError:
        # No stdout at all: nothing to keep.
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _flushed(flush: ctypes._NamedFuncPointer) -> None:
    # What the script has printed is to come out where it belongs.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    flush(None)
