"""What lies in a cache: entries, journals of searches, what dead processes left. Reads and removes; makes nothing."""

from __future__ import annotations

import contextlib
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import msgspec

from autohybrid.store.document import ENTRY, FORMAT, KIND, Entry, StoredFile
from autohybrid.store.store import STALE, discard_unused

JOURNALS = "journals"

Kind = Literal["conversion", "graph", "journal", "leftover"]

ENTRIES = frozenset({"conversion", "graph"})
"""The kinds that have a directory with an ``entry.json``."""

_UNREADABLE = (OSError, ValueError, msgspec.MsgspecError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing in a cache.

    Attributes:
        kind: a ``conversion``; a ``graph``, an exported program that conversions with other weights are made from; a
            ``journal``, what searches learnt; a ``leftover`` of a dead process or of another
            version of autohybrid.
        place: its directory or file; ``name`` is short and tells it from others.
        region: the class and function that were converted; empty for journals and leftovers.
        key: by name what it depends on, as digests and short texts.
        size: bytes on disk.
        used: when it was last used, in seconds since 1970.
        verified: whether a process has written down that it answers as eager.
        problem: why it won't be used, empty where nothing is known against it.
    """

    kind: Kind
    place: Path
    size: int
    used: float
    region: str = ""
    key: dict[str, str] = field(default_factory=dict)
    verified: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        return self.place.stem[:8] if self.kind != "leftover" else self.place.name[:24]


def contents(root: Path) -> list[Found]:
    """What lies in the cache at ``root``, conversions first, of each kind the last used first. Files aren't compared
    with their digests, see :func:`altered`."""
    found = [*_entries(root), *_journals(root), *_leftovers(root)]
    order = get_args(Kind)
    return sorted(found, key=lambda each: (order.index(each.kind), -each.used))


def altered(found: Found) -> str:
    """What is incomplete or was altered, comparing every byte with what was written; empty for nothing."""
    if found.problem or found.kind not in ENTRIES:
        return found.problem
    try:
        entry = Entry.read(found.place)
        for name, file in entry.files.items():
            if Path(name).name != name or not _is_plain(found.place / name):
                return f"{name} is missing"
            if StoredFile.of(found.place / name) != file:
                return f"{name} was altered"
    except _UNREADABLE as error:
        return _said(error)
    return ""


def remove(found: Found) -> bool:
    """Removes it; False where a process has it open, or it can't be removed."""
    if found.kind in ENTRIES:
        return discard_unused(found.place)
    if found.place.is_dir() and not found.place.is_symlink():
        shutil.rmtree(found.place, ignore_errors=True)
    else:
        found.place.unlink(missing_ok=True)
    return not found.place.exists()


def _entries(root: Path) -> Iterator[Found]:
    for place in _directories(root / f"v{FORMAT}", depth=2):
        size, used = _extent(place)
        try:
            entry, used = Entry.read(place), (place / ENTRY).lstat().st_mtime
        except _UNREADABLE as error:
            yield Found(kind="conversion", place=place, size=size, used=used, problem=_said(error))
            continue
        yield Found(
            kind="graph" if entry.fields.get(KIND) == "graph" else "conversion",
            place=place,
            size=size,
            used=used,
            region=entry.region,
            key=entry.fields,
            verified=entry.verified is not None,
        )


def _journals(root: Path) -> Iterator[Found]:
    for place in _children(root / JOURNALS):
        if place.suffix == ".jsonl":
            found = place.lstat()
            problem = "" if stat.S_ISREG(found.st_mode) else "is no file"
            yield Found(kind="journal", place=place, size=found.st_size, used=found.st_mtime, problem=problem)


def _leftovers(root: Path) -> Iterator[Found]:
    """Entries that were half made long ago, and the entries of other formats."""
    others = [path for path in _children(root) if path.name.startswith("v") and path.name[1:].isdigit()]
    halves = [path for region in _directories(root / f"v{FORMAT}", depth=1) for path in region.glob(".*-*")]
    for place in [*(path for path in others if path.name != f"v{FORMAT}"), *halves]:
        size, used = _extent(place)
        if place in halves and time.time() - used < STALE:
            continue  # a process may be at it
        yield Found(kind="leftover", place=place, size=size, used=used)


def _directories(root: Path, depth: int) -> list[Path]:
    found = [path for path in _children(root) if not path.name.startswith(".") and stat.S_ISDIR(path.lstat().st_mode)]
    return found if depth == 1 else [below for path in found for below in _directories(path, depth - 1)]


def _children(root: Path) -> list[Path]:
    try:
        return sorted(root.iterdir())
    except OSError:
        return []


def _extent(place: Path) -> tuple[int, float]:
    """Bytes, and when it was last written."""
    seen = []
    for path in (place, *place.rglob("*")):
        with contextlib.suppress(OSError):  # another process may be removing it
            seen.append(path.lstat())
    size = sum(each.st_size for each in seen if stat.S_ISREG(each.st_mode))
    return size, max((each.st_mtime for each in seen), default=0.0)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _said(error: Exception) -> str:
    return f"{ENTRY} is missing" if isinstance(error, FileNotFoundError) else f"{ENTRY} was altered"
