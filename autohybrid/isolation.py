"""Runs a piece of work where it can do no harm: in a forked child that may crash, hang or eat memory.

The child has all live objects for nothing; what it answers comes back as JSON. A runaway costs the child only.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import select
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec

from autohybrid.device import clock, resident_memory
from autohybrid.logs import LOGGER

Work: TypeAlias = Callable[[], Any]
"""Something to do; what it returns must be expressible in JSON."""

_REQUESTS = (signal.SIGINT, signal.SIGTERM)
"""What asks a process to end."""

LOG_TAIL = 4000
"""Characters of a child's output that are kept as evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The work came to its end. ``value`` is what it returned, ``log`` the end of what it printed."""

    value: Any
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The work raised: a fault of ours or of the user's code, not of a conversion."""

    error: str
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """The process ended by itself: by a signal, or by an exit of its own."""

    how: str
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The process was killed from outside: it took too long, or too much memory (``limit`` says which)."""

    limit: str
    log: str = ""


Result: TypeAlias = Finished | Raised | Died | Stopped


class Isolation(Protocol):
    """Where trials are run. ``name`` is what plans and options call it."""

    name: str

    def run(self, work: Work, *, seconds: float, memory: int) -> Result:
        """Runs ``work`` for at most ``seconds``, with at most ``memory`` bytes more than this process has now."""
        ...


class InProcess:
    """No isolation: for those who ask for it, and for tests. Limits aren't kept, a crash is a crash of everything."""

    name = "none"

    def run(self, work: Work, *, seconds: float, memory: int) -> Result:
        try:
            return Finished(value=msgspec.to_builtins(work()))
        except Exception:  # noqa: BLE001 - a failed trial is data
            return Raised(error=traceback.format_exc())


class Forked:
    """A child for each piece of work."""

    name = "fork"

    def run(self, work: Work, *, seconds: float, memory: int) -> Result:
        reader, writer = os.pipe()
        # A child ends without cleaning up, or dies: what it writes goes where it can be removed.
        with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory(prefix="autohybrid-") as scratch:
            parent = os.getpid()
            sys.stdout.flush()
            sys.stderr.flush()
            with warnings.catch_warnings():
                # Python 3.12 and later warn that another thread might hold a lock; `obstacle` looks for such threads.
                warnings.simplefilter("ignore", DeprecationWarning)
                # What a signal's handler raises while Python forks is lost: functions called at a fork can't raise.
                allowed = signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)
                collecting = gc.isenabled()
                gc.disable()
                try:
                    child = os.fork()
                    if child == 0:
                        # What the parent has dropped is never taken apart here: for a library's object, whose threads
                        # aren't here, that is the end of the process.
                        gc.freeze()
                finally:
                    if collecting:
                        gc.enable()
            if child == 0:
                os.close(reader)
                tempfile.tempdir = scratch
                _be_child(work, writer, log.fileno(), parent, allowed)
            os.close(writer)
            try:
                return self._attend(child, reader, log.fileno(), seconds, memory + resident_memory(), allowed)
            finally:
                os.close(reader)

    def _attend(
        self, child: int, reader: int, log: int, seconds: float, memory: int, allowed: set[signal.Signals | int]
    ) -> Result:
        deadline = clock() + seconds
        received = bytearray()
        stopped = ""
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, allowed)
            while True:
                ready, _, _ = select.select([reader], [], [], 0.05)
                if ready:
                    chunk = os.read(reader, 1 << 16)
                    if not chunk:
                        break
                    received += chunk
                elif clock() > deadline:
                    stopped = f"{seconds:.0f} seconds"
                    break
                elif resident_memory(child) > memory:
                    stopped = f"{memory / 2**20:.0f} MiB of memory"
                    break
        finally:
            # Also on Ctrl-C here: nothing is left behind.
            if stopped or sys.exc_info()[0] is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        tail = _tail(log)
        if stopped:
            return Stopped(limit=stopped, log=tail)
        if received and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            answer = msgspec.json.decode(bytes(received))
            if "error" in answer:
                return Raised(error=answer["error"], log=tail)
            return Finished(value=answer["value"], log=tail)
        return Died(how=_ending(status), log=tail)


def _be_child(work: Work, writer: int, log: int, parent: int, allowed: set[signal.Signals | int]) -> None:
    """The child's whole life; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        _die_with(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, allowed)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # A notebook's streams go elsewhere than to the descriptors; what the child prints is evidence, not output.
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        LOGGER.disabled = True  # likewise: who listens to this process's records hears the parent
        _end_at_once_on_faults()
        try:
            answer = {"value": msgspec.to_builtins(work())}
        except BaseException:  # noqa: BLE001 - SystemExit included: paddle2onnx and others exit on what they can't do
            answer = {"error": traceback.format_exc()}
        sys.stdout.flush()
        sys.stderr.flush()
        content = msgspec.json.encode(answer)
        while content:
            content = content[os.write(writer, content) :]
        code = 0
    finally:
        os._exit(code)


_FAULTS = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)


def _end_at_once_on_faults() -> None:
    """Has a fault of compiled code end this process by its signal, with Python's stack in the log where that is wanted.

    Paddle's own handlers print the stack of compiled code. They run on a small stack of their own: where many libraries
    are loaded they overflow it, and sleep for ever then. A crash would be taken for a hang.
    """
    wanted = faulthandler.is_enabled()
    faulthandler.disable()  # which puts back what was there before it
    for number in _FAULTS:
        signal.signal(number, signal.SIG_DFL)
    if wanted:
        faulthandler.enable(file=2)


def _die_with(parent: int) -> None:
    """Asks the kernel to end this child when its parent ends."""
    set_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(70)


def _tail(log: int) -> str:
    size = os.fstat(log).st_size
    text = os.pread(log, LOG_TAIL, max(0, size - LOG_TAIL)).decode(errors="replace")
    return text


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(ValueError):
            return signal.Signals(number).name
        return f"signal {number}"
    return f"exit code {os.WEXITSTATUS(status)}"


_INFRASTRUCTURE = ("ipykernel", "IPython", "zmq", "tornado", "jupyter_client", "pydevd", "debugpy", "traitlets", "tqdm")
"""Packages whose threads take part in no computation; a child can live without them."""


def obstacle() -> str:
    """Why this process shouldn't be forked now, or empty.

    Another Python thread may hold a lock for ever; and in a child that was forked from another thread than the main
    one, Paddle takes itself for static mode, or dies.
    """
    if threading.current_thread() is not threading.main_thread():
        return f"this isn't the main thread ({threading.current_thread().name})"
    others = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not _is_infrastructure(thread)
    ]
    if others:
        return "other threads are running (" + ", ".join(sorted(thread.name for thread in others)) + ")"
    return ""


def _is_infrastructure(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    modules = (type(thread).__module__, getattr(target, "__module__", None) or "")
    return any(module.split(".")[0] in _INFRASTRUCTURE for module in modules)
