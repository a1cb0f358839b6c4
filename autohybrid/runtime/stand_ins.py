"""Puts something else in an attribute's place for a while.

What :mod:`unittest.mock` does as well, without all that it imports: every process that applies a plan would pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_MISSING: Any = object()


@contextmanager
def standing_in(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` within it; afterwards it is where and what it was, also inherited or not there."""
    before = vars(owner).get(name, _MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def items_standing_in(container: dict[str, Any], items: Mapping[str, Any]) -> Iterator[None]:
    """A dict has these ``items`` within it."""
    before = {name: container.get(name, _MISSING) for name in items}
    container.update(items)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is _MISSING:
                container.pop(name, None)
            else:
                container[name] = value
