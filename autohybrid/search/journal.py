"""Every trial's result, written down as it is made, so that a process that dies takes none of them along."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from autohybrid.search.outcomes import Outcome, Raced, TimedOut

ENOUGH_TIME = 0.9
"""What ended early is believed where it had this part of the time that it would be given now."""

LARGEST_MEMORY = 32 << 20
"""Bytes from which on nothing more is added to what later searches are to know."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a trial that was begun, and with ``outcome`` one that ended within its ``limit`` in seconds."""

    key: str
    outcome: Outcome | Raced | None = None
    limit: float = 0.0


class Journal:
    """What is known of trials: of this search, also before a restart, and of earlier searches for the same.

    A trial that was begun in this search and has no end killed its process. Of an earlier search only ends are known:
    whoever kills a whole search leaves the trial that happened to run to be tried again.

    Args:
        path: a file of JSON lines for this search; None holds it in memory only.
        memory: another one, that outlives the search: see :mod:`autohybrid.search.memory`.
    """

    def __init__(self, path: Path | None = None, memory: Path | None = None) -> None:
        self._path = path
        self._memory = memory
        self._earlier = {entry.key: entry for entry in _entries(memory) if entry.outcome is not None}
        self._known = {entry.key: entry for entry in _entries(path)}
        self._recalled: set[str] = set()

    @property
    def recalled(self) -> str:
        """How many trials weren't made because an earlier search had made them, in a sentence; empty for none."""
        known = len(self._recalled)
        if not known:
            return ""
        return f"{known} trial{' was' if known == 1 else 's were'} known from an earlier search and not made again."

    def recall(self, key: str, limit: float = 0.0) -> Outcome | Raced | None:
        """What is known of a trial that ended before.

        Args:
            key: the trial's name, from :func:`key_of`.
            limit: seconds that it would have now: what ended for want of time says nothing about longer.
        """
        entry = self._known.get(key)
        if entry is not None:
            return entry.outcome
        entry = self._earlier.get(key)
        if entry is None or (_ended_early(entry.outcome) and entry.limit < ENOUGH_TIME * limit):
            return None
        self._recalled.add(key)
        return entry.outcome

    def was_fatal(self, key: str) -> bool:
        """Whether a process began this trial and didn't live to write its end."""
        return key in self._known and self._known[key].outcome is None

    def begin(self, key: str) -> None:
        self._note(Entry(key=key))

    def end(self, key: str, outcome: Outcome | Raced, limit: float = 0.0, *, lasting: bool = True) -> None:
        """Notes what came of a trial that had ``limit`` seconds; for later searches too if it is ``lasting``."""
        entry = Entry(key=key, outcome=outcome, limit=limit)
        self._note(entry)
        if lasting and self._memory is not None and not _is_full(self._memory):
            _append(self._memory, entry)

    def _note(self, entry: Entry) -> None:
        self._known[entry.key] = entry
        if self._path is not None:
            _append(self._path, entry)


def _entries(path: Path | None) -> Iterator[Entry]:
    if path is None or not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            continue  # a line that its process died in, or the empty one between two


def ended(path: Path) -> dict[str, Outcome | Raced]:
    """The trials that a file knows the end of, by their keys."""
    return {entry.key: entry.outcome for entry in _entries(path) if entry.outcome is not None}


def _append(path: Path, entry: Entry) -> None:
    """Adds a line at once and whole, also behind the half line of a process that died, and beside other processes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"\n" + msgspec.json.encode(entry) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_full(path: Path) -> bool:
    return path.exists() and path.stat().st_size >= LARGEST_MEMORY


def _ended_early(outcome: Outcome | Raced | None) -> bool:
    return isinstance(outcome, TimedOut) or (isinstance(outcome, Raced) and bool(outcome.detail))


def key_of(*parts: Any) -> str:
    """A trial's name in the journal."""
    return msgspec.json.encode(parts, order="deterministic").decode()
