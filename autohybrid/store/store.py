"""The store: one directory for each key, shared by processes, bounded in size.

``<root>/v1/<region>/<key>/`` holds ``entry.json`` and the exported files. An entry is written in a directory beside it
and renamed; making one is done under a lock of its key, so that of several processes that miss at once one exports;
an entry that some process has open isn't evicted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from autohybrid.errors import SetupError
from autohybrid.logs import warn
from autohybrid.sizes import parsed_size
from autohybrid.store.document import ENTRY, FORMAT, Entry, Key, StoredFile, Verified

DEFAULT_SIZE = 8 << 30
PATIENCE = 120.0
"""Seconds to wait for another process that is making the same entry, before making one without it."""

_POLL = 0.05
STALE = 3600.0
"""Seconds after which a half-made entry is taken for left behind."""

_UNREADABLE = (OSError, ValueError, msgspec.MsgspecError)


class Stored:
    """An entry that this process has open; it stays until :meth:`close`, whatever the store's size."""

    def __init__(self, directory: Path, entry: Entry, descriptor: int) -> None:
        self.directory = directory
        self.entry = entry
        self._descriptor = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class Store:
    """Artifacts below ``root``, at most ``limit`` bytes of them; only written, never found, without ``reads``.

    Raises:
        SetupError: ``root`` belongs to somebody else, or others may write to it, or it can't be made.
    """

    def __init__(self, root: Path, *, limit: int = DEFAULT_SIZE, reads: bool = True) -> None:
        self.root = root / f"v{FORMAT}"
        self.limit = limit
        self.reads = reads
        for directory in (root, self.root):
            _own(directory)

    def find(self, key: Key) -> Stored | None:
        """The entry for ``key`` if it is there, complete, and unaltered; counts as a use."""
        return self._opened(key) if self.reads else None

    def verified(self, key: Key) -> Verified | None:
        """What is written down of a proof of the entry for ``key``; its files aren't looked at."""
        if not self.reads:
            return None
        try:
            entry = Entry.read(self._place(key))
        except _UNREADABLE:
            return None
        return None if entry.region != key.region or key.differing(entry.fields) else entry.verified

    def knows(self, region: str) -> bool:
        """Whether there may be an entry for what has this name, whatever its key."""
        return self.reads and self._region(region).is_dir()

    def _opened(self, key: Key) -> Stored | None:
        directory = self._place(key)
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            entry = Entry.read(directory)
            if entry.region != key.region or key.differing(entry.fields):
                raise ValueError("another key")
            for name, file in entry.files.items():
                if Path(name).name != name or StoredFile.of(directory / name) != file:
                    raise ValueError(f"{name} was altered")
            os.utime(directory / ENTRY)
        except _UNREADABLE:
            os.close(descriptor)
            return None
        return Stored(directory, entry, descriptor)

    def why_missing(self, key: Key) -> str:
        """In words, why :meth:`find` found nothing: the fields in which the nearest entry of the region differs."""
        if not self.reads:
            return "nothing was looked for"
        if self._place(key).exists():
            return "the entry is incomplete or was altered"
        nearest: list[str] | None = None
        for directory in self._entries(self._region(key.region, key.kind)):
            with contextlib.suppress(*_UNREADABLE):
                differing = key.differing(Entry.read(directory).fields)
                if nearest is None or len(differing) < len(nearest):
                    nearest = differing
        return f"{', '.join(nearest)} differ{'' if len(nearest) > 1 else 's'}" if nearest else "nothing stored yet"

    @contextlib.contextmanager
    def making(self, key: Key, patience: float = PATIENCE) -> Iterator[bool]:
        """Within it this process alone makes the entry for ``key``; False when another still is after ``patience``."""
        path = self._place(key).with_suffix(".lock")
        _own(path.parent)
        ends = time.monotonic() + patience
        descriptor = _locked(path)
        while descriptor is None and time.monotonic() < ends:
            time.sleep(_POLL)
            descriptor = _locked(path)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                path.unlink(missing_ok=True)
                os.close(descriptor)

    def stage(self, key: Key) -> Path:
        """A new directory to make an entry in."""
        _own(self._region(key.region, key.kind))
        return Path(tempfile.mkdtemp(prefix=".making-", dir=self._region(key.region, key.kind)))

    def publish(self, key: Key, stage: Path) -> Stored | None:
        """Makes what is in ``stage`` the entry for ``key``; None, and nothing done, when it is too large."""
        files = {path.name: StoredFile.of(path) for path in sorted(stage.iterdir())}
        entry = Entry(format=FORMAT, region=key.region, fields=dict(key.fields), files=files, verified=None)
        if entry.size > self.limit:
            return None
        for path in stage.iterdir():
            path.chmod(0o600)
        (stage / ENTRY).write_bytes(entry.encoded())
        place = self._place(key)
        _discard(place)
        try:
            stage.rename(place)
        except OSError:
            # Another process, that had lost patience, was faster.
            (stage / ENTRY).unlink(missing_ok=True)
            return None
        stored = self._opened(key)
        self._evict()
        return stored

    def record(self, stored: Stored, verified: Verified) -> None:
        """Writes down that an entry was verified; without effect when it is gone."""
        entry = msgspec.structs.replace(stored.entry, verified=verified)
        with contextlib.suppress(OSError):
            aside = stored.directory / f".{ENTRY}-{os.getpid()}"
            aside.write_bytes(entry.encoded())
            aside.replace(stored.directory / ENTRY)
            stored.entry = entry

    def discard(self, stored: Stored) -> None:
        """Removes an entry that turned out to be wrong."""
        stored.close()
        _discard(stored.directory)

    def _region(self, name: str, kind: str = "conversion") -> Path:
        # Entries are compared with their like only.
        name = name if kind == "conversion" else f"{kind} {name}"
        return self.root / hashlib.sha256(name.encode()).hexdigest()[:16]

    def _place(self, key: Key) -> Path:
        return self._region(key.region, key.kind) / key.digest[:32]

    @staticmethod
    def _entries(region: Path) -> list[Path]:
        with contextlib.suppress(OSError):
            return [path for path in region.iterdir() if not path.name.startswith(".") and path.is_dir()]
        return []

    def _evict(self) -> None:
        """Removes the entries that were used longest ago, until the rest fits, and what dead processes left behind."""
        found: list[tuple[float, int, Path]] = []
        for region in self._entries(self.root):
            for directory in self._entries(region):
                with contextlib.suppress(OSError):
                    size = sum(path.stat().st_size for path in directory.iterdir())
                    used = (directory / ENTRY).stat().st_mtime if (directory / ENTRY).exists() else 0.0
                    found.append((used, size, directory))
            for left in region.glob(".*-*"):
                with contextlib.suppress(OSError):
                    if time.time() - left.stat().st_mtime > STALE:
                        shutil.rmtree(left, ignore_errors=True)
        total = sum(size for _, size, _ in found)
        for _, size, directory in sorted(found):
            if total <= self.limit:
                return
            if discard_unused(directory):
                total -= size


def default() -> Store | None:
    """The user's store: ``$AUTOHYBRID_CACHE``, or ``autohybrid`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    ``AUTOHYBRID_CACHE=off`` means none. ``$AUTOHYBRID_CACHE_SIZE`` bounds it (bytes, or with K, M, G, T). A directory
    that can't be trusted means none, with a warning.
    """
    root = place()
    try:
        return Store(root, limit=_size(os.environ.get("AUTOHYBRID_CACHE_SIZE", ""))) if root else None
    except SetupError as error:
        warn(f"nothing is stored: {error}", stacklevel=2)
        return None


def directory(name: str) -> Path | None:
    """A private directory in the user's cache, beside the store's entries; None where :func:`default` is None."""
    root = place()
    if root is None:
        return None
    try:
        for each in (root, root / name):
            _own(each)
    except SetupError as error:
        warn(f"no {name} are kept: {error}", stacklevel=2)
        return None
    return root / name


def place() -> Path | None:
    """The user's cache, which may not be there yet; None where the environment says ``off``."""
    named = os.environ.get("AUTOHYBRID_CACHE", "")
    if named.lower() == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(base) / "autohybrid"


def _size(text: str) -> int:
    if not text.strip():
        return DEFAULT_SIZE
    try:
        return parsed_size(text)
    except ValueError:
        raise SetupError(
            f"AUTOHYBRID_CACHE_SIZE is {text!r}.", "It takes bytes, or a number with K, M, G or T."
        ) from None


def _own(directory: Path) -> None:
    """Makes sure that ``directory`` is there, ours, and closed to others' writing."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        found = directory.lstat()
    except OSError as error:
        raise SetupError(f"The cache directory {directory} can't be used ({error.strerror}).", _REMEDY) from error
    _check(directory, found)


def check(directory: Path) -> None:
    """Makes sure that a directory that is there is ours, and closed to others' writing.

    Raises:
        OSError: it isn't there, or can't be looked at.
        SetupError: it can't be trusted.
    """
    _check(directory, directory.lstat())


def _check(directory: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise SetupError(f"The cache directory {directory} is not a directory.", _REMEDY)
    if found.st_uid != os.geteuid():
        raise SetupError(f"The cache directory {directory} belongs to another user.", _REMEDY)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SetupError(f"Others may write to the cache directory {directory}.", f"chmod 700 it, or: {_REMEDY}")


_REMEDY = "Set AUTOHYBRID_CACHE to a directory of your own, or to 'off'."


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock, None when another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last holder may have removed the file in the meantime; then this lock is nobody's.
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def discard_unused(directory: Path) -> bool:
    """Removes an entry that no process has open; False when one has, or it can't be removed."""
    if not _unused(directory):
        return False
    _discard(directory)
    return not directory.exists()


def _unused(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(descriptor)
    return False


def _discard(directory: Path) -> None:
    """Removes an entry; first from its place, so that nobody finds half of it."""
    with contextlib.suppress(OSError):
        aside = directory.with_name(f".gone-{os.getpid()}-{directory.name}")
        directory.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
