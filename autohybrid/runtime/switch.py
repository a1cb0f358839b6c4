"""Switches all regions off: in a block, in a thread's present call, or for the whole process."""

from __future__ import annotations

import posix
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Switch(threading.local):
    off = ""


_switch = _Switch()

_environment = posix.environ
"""What ``os.environ`` reads and writes; asked directly, since it is asked at every call of a region."""


@contextmanager
def eager() -> Iterator[None]:
    """Within it, every region of this thread answers from eager."""
    before = _switch.off
    _switch.off = "switched off"
    try:
        yield
    finally:
        _switch.off = before


def switched_off() -> str:
    """Why regions are off in this thread, or empty."""
    return _switch.off or ("switched off" if _environment.get(b"AUTOHYBRID", b"").lower() == b"off" else "")


@contextmanager
def eager_inside() -> Iterator[None]:
    """Around an eager call that a region makes: what lies inside is to answer eagerly too."""
    before = _switch.off
    _switch.off = before or "called inside a region that is being proven"
    try:
        yield
    finally:
        _switch.off = before
