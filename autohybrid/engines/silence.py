"""Holds back what Paddle's compiled code says while it exports and optimises, and keeps it off the script's stdout."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator

from paddle.base import libpaddle

from autohybrid.logs import noise_is_wanted

_LEAST_LEVEL = "_ZN3fLI17FLAGS_minloglevelE"
"""glog's variable for the least severity that it writes; Paddle's Python has no way to it after the import."""

_ERROR = 2


@contextlib.contextmanager
def warnings_held_back() -> Iterator[None]:
    """Within it glog writes errors and what is worse only, in all threads, unless noise is wanted."""
    level = None if noise_is_wanted() else _least_level()
    if level is None or level.value >= _ERROR:
        yield
        return
    before, level.value = level.value, _ERROR
    try:
        yield
    finally:
        level.value = before


def _least_level() -> ctypes.c_int | None:
    try:
        return ctypes.c_int.in_dll(ctypes.CDLL(libpaddle.__file__), _LEAST_LEVEL)
    except (OSError, ValueError):
        return None  # another build of Paddle: its warnings are heard


@contextlib.contextmanager
def stdout_kept() -> Iterator[None]:
    """Keeps what is printed below Python off stdout: some passes name the operators that they look at.

    It is dropped, or goes to stderr when noise is wanted. Not while other Python threads run, whose own output would go
    astray.
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
        _redirected_stdout()
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _redirected_stdout() -> None:
    if noise_is_wanted():
        os.dup2(2, 1)
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _flushed(flush: ctypes._NamedFuncPointer) -> None:
    # What the script has printed is to come out where it belongs.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    flush(None)
