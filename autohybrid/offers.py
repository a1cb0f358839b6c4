"""The engines that installed packages offer, by the names of their entry points. Nothing of them is imported here."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from autohybrid.errors import UsageError

GROUP = "autohybrid.engines"


def offered() -> list[EntryPoint]:
    """The entry points of all engines, by name."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def offer(name: str) -> EntryPoint:
    """The entry point of the engine of that name.

    Raises:
        UsageError: no installed package offers it; the message lists those that are there.
    """
    for point in entry_points(group=GROUP, name=name):
        return point
    known = ", ".join(dict.fromkeys(point.name for point in offered()))
    raise UsageError(f"There is no engine {name!r}.", f"Installed: {known}.")
