"""Sees what a script does beyond computing and printing: whether it may be run again without asking."""

from __future__ import annotations

import io
import os
import sys
import sysconfig
from collections.abc import Callable
from types import FrameType
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FILES = frozenset(
    f"os.{name}"
    for name in ("chmod", "chown", "link", "mkdir", "remove", "rename", "rmdir", "symlink", "truncate", "utime")
) | {"sqlite3.connect"}
_PROCESSES = frozenset(
    ["subprocess.Popen", *(f"os.{name}" for name in ("exec", "fork", "forkpty", "posix_spawn", "spawn", "system"))]
)
_SOCKETS = frozenset(f"socket.{name}" for name in ("bind", "connect", "sendmsg", "sendto"))
_LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_IMPORT = "<frozen importlib"


class Deeds:
    """While entered, notes the first deed for which a script must not be run again unasked: ``obstacle``, or empty.

    Writing files, reading stdin, starting processes and using sockets count; what a library does while it is imported
    doesn't. An audit hook can't be taken away again: it sleeps afterwards. Reading stdin raises no event, so that
    ``sys.stdin`` is one that tells, over the same file descriptor.
    """

    def __init__(self) -> None:
        self.obstacle = ""
        self._awake = False
        self._stdin: Any = None

    def __enter__(self) -> Deeds:
        self._stdin = sys.stdin
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin = _telling(sys.stdin, self._reads_stdin)
        # Only now: that opened the descriptor of stdin itself.
        self._awake = True
        sys.addaudithook(self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        self._awake = False
        sys.stdin = self._stdin

    def _reads_stdin(self) -> None:
        if self._awake:
            self._note("it read stdin")

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._awake or self.obstacle:
            return
        if event == "builtins.input":
            self._note("it read stdin")
        elif event == "open" or event in _FILES:
            self._file(event, arguments)
        elif event in _PROCESSES and not _imports_a_library(sys._getframe(1)):
            self._note("it started a process")
        elif event in _SOCKETS and not _imports_a_library(sys._getframe(1)):
            self._note("it used a socket")

    def _file(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = arguments[0]
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path)
        if event == "open":
            flags = arguments[2]
            if path in (0, "/dev/stdin"):
                self._note("it read stdin")
            if isinstance(path, int) or not (isinstance(flags, int) and flags & _WRITING):
                return
        if name == os.devnull or "__pycache__" in name or _imports_a_library(sys._getframe(2)):
            return
        self._note(f"it wrote to files ({os.path.basename(name) or name})")

    def _note(self, deed: str) -> None:
        self.obstacle = self.obstacle or deed


def _imports_a_library(frame: FrameType | None) -> bool:
    """Whether only a library's code lies between here and the import statement that led here."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_IMPORT):
            return True
        if not file.startswith((*_LIBRARIES, "<frozen")):
            return False
        frame = frame.f_back
    return False


class _TellingFile(io.FileIO):
    """Stdin's file, which tells that it is read. The descriptor stays open when it goes."""

    def __init__(self, descriptor: int, told: Callable[[], None]) -> None:
        super().__init__(descriptor, "r", closefd=False)
        self._told = told

    def readinto(self, buffer: Any, /) -> int | None:
        self._told()
        return super().readinto(buffer)

    def readall(self) -> bytes:
        self._told()
        return super().readall()

    def read(self, size: int | None = -1, /) -> bytes:
        self._told()
        return super().read(-1 if size is None else size)


def _telling(stdin: io.TextIOWrapper, told: Callable[[], None]) -> io.TextIOWrapper:
    try:
        raw = _TellingFile(stdin.fileno(), told)
    except (OSError, ValueError):
        return stdin
    raw.name = stdin.name
    made = io.TextIOWrapper(
        io.BufferedReader(raw), encoding=stdin.encoding, errors=stdin.errors, line_buffering=stdin.line_buffering
    )
    made.mode = "r"  # type: ignore[misc]
    return made
