"""The user's cache from Python: what ``autohybrid cache`` does, with typed values."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from autohybrid import store
from autohybrid.plan import Model, Plan, Region, load
from autohybrid.store.contents import Found, Kind, altered, contents, remove

__all__ = ["Cleared", "Found", "Kind", "clear", "entries", "is_chain", "of_plan", "unused_for", "verify"]

DAY = 86400.0

_CHAIN = "autohybrid.runtime.chain.ChainLayers."
"""How the names of regions begin that are chains: what they hold depends on the code around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What was removed, and what was kept because a process has it open; ``freed`` in bytes."""

    removed: tuple[Found, ...]
    kept: tuple[Found, ...]

    @property
    def freed(self) -> int:
        return sum(each.size for each in self.removed)


def entries() -> list[Found]:
    """What lies in the user's cache; nothing where there is none.

    Raises:
        SetupError: the cache belongs to somebody else, or others may write to it.
    """
    root = store.place()
    if root is None or not root.exists():
        return []
    store.check(root)
    return contents(root)


def verify() -> list[Found]:
    """The entries that are incomplete or were altered, every byte compared; ``problem`` says what. Such an entry is
    never used, and made again when it is needed.

    Raises:
        SetupError: see :func:`entries`.
    """
    return [replace(each, problem=problem) for each in entries() if (problem := altered(each))]


def clear(found: Iterable[Found] | None = None) -> Cleared:
    """Removes everything, or what is given of :func:`entries`.

    Raises:
        SetupError: see :func:`entries`.
    """
    chosen = entries() if found is None else list(found)
    gone = {each.place: remove(each) for each in chosen}
    return Cleared(
        removed=tuple([each for each in chosen if gone[each.place]]),
        kept=tuple([each for each in chosen if not gone[each.place]]),
    )


def unused_for(found: Iterable[Found], days: float) -> list[Found]:
    """Those that nobody has used for so many days."""
    return [each for each in found if time.time() - each.used > days * DAY]


def is_chain(found: Found) -> bool:
    """Whether it is the conversion, or the graph, of a chain."""
    return found.region.startswith(_CHAIN)


def of_plan(found: Iterable[Found], plan: Plan | str | os.PathLike[str]) -> list[Found]:
    """The conversions and graphs of a plan's regions, with whatever weights and options: a Layer's are told by its
    structure and arguments, a chain's by its arguments.

    Raises:
        PlanError: the file can't be read as a plan.
    """
    made = plan if isinstance(plan, Plan) else load(plan)
    wanted = {signature for model in made.models for region in model.regions for signature in _wanted(model, region)}
    return [each for each in found if each.kind in ("conversion", "graph") and _signature(each) in wanted]


def _wanted(model: Model, region: Region) -> Iterator[tuple[str, str, str]]:
    structure = "" if region.kind == "chain" else _structure_below(model, region.path)
    name = _CHAIN if region.kind == "chain" else region.function
    for inputs in region.inputs:
        yield name, structure, _compact(inputs)


def _signature(found: Found) -> tuple[str, str, str]:
    inputs = found.key.get("inputs", "")
    if is_chain(found):
        return _CHAIN, "", inputs
    return found.region.rpartition(".")[2], found.key.get("structure", ""), inputs


def _structure_below(model: Model, path: str) -> str:
    """The fingerprint that the Layer at a path of the model has by itself, as the store's keys have it."""
    lines = []
    for line in model.structure:
        place, _, rest = line.partition(" ")
        if not path or place == path or place.startswith(path + "."):
            lines.append(f"{place[len(path) :].lstrip('.') or '.'} {rest}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
