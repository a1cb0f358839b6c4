"""Switches all regions off: in a block, in a thread's present call, or for the whole process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_switch = threading.local()


@contextmanager
def eager() -> Iterator[None]:
    """Within it, every region of this thread answers from eager."""
    before = getattr(_switch, "off", "")
    _switch.off = "switched off"
    try:
        yield
    finally:
        _switch.off = before


def switched_off() -> str:
    """Why regions are off in this thread, or empty."""
    off: str = getattr(_switch, "off", "")
    return off or ("switched off" if os.environ.get("AUTOHYBRID", "").lower() == "off" else "")


@contextmanager
def eager_inside() -> Iterator[None]:
    """Around an eager call that a region makes: what lies inside is to answer eagerly too."""
    before = getattr(_switch, "off", "")
    _switch.off = before or "called inside a region that is being proven"
    try:
        yield
    finally:
        _switch.off = before
