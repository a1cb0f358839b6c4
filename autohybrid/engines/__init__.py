"""The engines, found through the entry points ``autohybrid.engines``; nothing else knows one by its name."""

from __future__ import annotations

from functools import cache

from autohybrid.engines.dimensions import Alternative, Dimension, Machine, attempts, combined, lean, this_machine
from autohybrid.engines.interface import Busy, Engine, Executable, Request, StorableEngine, StoredExecutable
from autohybrid.offers import GROUP, offer, offered

__all__ = [
    "GROUP",
    "Alternative",
    "Busy",
    "Dimension",
    "Engine",
    "Executable",
    "Machine",
    "Request",
    "StorableEngine",
    "StoredExecutable",
    "attempts",
    "available",
    "by_name",
    "combined",
    "lean",
    "runtime_of",
    "this_machine",
]


@cache
def by_name(name: str) -> Engine:
    """The engine of that name.

    Raises:
        UsageError: no installed package offers it; the message lists those that are there.
    """
    engine: Engine = offer(name).load()()
    return engine


def available() -> list[str]:
    """The names of the engines that can be used here: ``predictor`` first, then the reference, then the others."""
    names = {point.name for point in offered()}
    return sorted((name for name in names if by_name(name).unavailable() is None), key=_rank)


def runtime_of(engine: Engine) -> str:
    """What computes for an engine: its ``runtime`` where it names one that it shares with others, else its name."""
    return str(getattr(engine, "runtime", engine.name))


def _rank(name: str) -> tuple[bool, bool, str]:
    return (name != "predictor", name != "incubate", name)
