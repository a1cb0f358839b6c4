"""Every trial's result, written down as it is made, so that a process that dies takes none of them along."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from autohybrid.search.outcomes import Outcome, Raced


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a trial that was begun, and with ``outcome`` one that ended."""

    key: str
    outcome: Outcome | Raced | None = None


class Journal:
    """A file of JSON lines; without a path it lives in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, Outcome | Raced | None] = {}
        if path is not None and path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    entry = msgspec.json.decode(line, type=Entry)
                except msgspec.DecodeError:
                    continue  # the last line of a process that died while writing it
                self._known[entry.key] = entry.outcome

    def recall(self, key: str) -> Outcome | Raced | None:
        """What is known of a trial that ended before."""
        return self._known.get(key)

    def was_fatal(self, key: str) -> bool:
        """Whether a process began this trial and didn't live to write its end."""
        return key in self._known and self._known[key] is None

    def begin(self, key: str) -> None:
        self._write(Entry(key=key))

    def end(self, key: str, outcome: Outcome | Raced) -> None:
        self._write(Entry(key=key, outcome=outcome))

    def _write(self, entry: Entry) -> None:
        self._known[entry.key] = entry.outcome
        if self._path is not None:
            with open(self._path, "ab") as file:
                file.write(msgspec.json.encode(entry) + b"\n")
                file.flush()
                os.fsync(file.fileno())


def key_of(*parts: Any) -> str:
    """A trial's name in the journal."""
    return msgspec.json.encode(parts, order="deterministic").decode()
