"""The ``autohybrid`` logger: what each level tells, and who hears it.

``DEBUG``: kinds of calls, misses, the store's keys, and Paddle's own noise while it exports. ``INFO``: conversions made
or opened, with their seconds, regions placed, steps of a search. ``WARNING``: a region that eager answers from now on.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

LOGGER = logging.getLogger("autohybrid")
LOGGER.addHandler(logging.NullHandler())
if LOGGER.level == logging.NOTSET:
    # Paddle gives the root logger a handler, and INFO: every script would hear us. Whoever wants to sets a level.
    LOGGER.setLevel(logging.CRITICAL)


def warn(message: str, *, stacklevel: int = 1) -> None:
    """Tells of a fallback with one voice: the logger where somebody set its level, else a ``RuntimeWarning``.

    Args:
        stacklevel: which caller the warning points at, counted from the function that calls this one.
    """
    if LOGGER.isEnabledFor(logging.WARNING):
        LOGGER.warning(message)
    else:
        warnings.warn(f"autohybrid: {message}", RuntimeWarning, stacklevel=stacklevel + 1)


def show(verbosity: int) -> None:
    """Shows records on stderr: of ``INFO`` and above for 1, ``DEBUG`` too for 2 and more, nothing for 0."""
    if verbosity <= 0:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    # The script may configure the root logger, which would tell it all a second time.
    LOGGER.propagate = False


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"autohybrid: {level}{super().format(record)}"


def noise_is_wanted() -> bool:
    """Whether Paddle's own messages about exports are to be heard: at ``DEBUG``, or when ``GLOG_v`` asks for more."""
    return LOGGER.isEnabledFor(logging.DEBUG) or os.environ.get("GLOG_v", "0") not in ("", "0")  # noqa: SIM112 - glog's own name
