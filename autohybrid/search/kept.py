"""What trials have converted, kept until the search ends: races and confirmations open it instead of converting again.

A trial itself never opens anything: how long a conversion takes is one of its results.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autohybrid.errors import SetupError
from autohybrid.store import Store

SHARE_OF_OPENING = 0.4
"""Of the time of a conversion, what opening one that was kept is expected to take at most."""

LARGEST = 4 << 30
SHARE_OF_DISK = 0.25
"""What it may hold, in bytes, and as a part of what is free where temporary files are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One directory seen in two ways; None where there can't be one.

    Attributes:
        written: for trials, which leave their conversions there.
        read: for what comes after them.
    """

    written: Store | None = None
    read: Store | None = None


@contextmanager
def conversions_kept() -> Iterator[Kept]:
    """A place of this search's own, gone at its end."""
    with tempfile.TemporaryDirectory(prefix="autohybrid-", ignore_cleanup_errors=True) as name:
        try:
            limit = min(LARGEST, int(SHARE_OF_DISK * shutil.disk_usage(name).free))
            kept = Kept(
                written=Store(Path(name), limit=limit, reads=False),
                read=Store(Path(name), limit=limit),
            )
        except (OSError, SetupError):
            kept = Kept()
        yield kept
