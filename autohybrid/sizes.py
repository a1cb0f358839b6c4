"""Amounts as people write them, of memory and of things."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", re.IGNORECASE)


def parsed_size(text: str) -> int:
    """Bytes from ``"8589934592"``, ``"500M"``, ``"500MB"`` or ``"2 GiB"``; K, M, G and T are powers of 1024.

    Raises:
        ValueError: it is no such amount.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no amount of memory")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def size_text(size: int) -> str:
    """``512 B``, ``1.5 MiB``: three digits at most before the unit changes."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1000.0 or unit == "TiB":
            break
        value /= 1024.0
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100.0 else f"{value:.1f} {unit}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 call``, ``2 calls``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
