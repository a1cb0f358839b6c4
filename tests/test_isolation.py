"""Work in a forked child: whatever becomes of it, the parent lives on and knows."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import paddle
import pytest

from autohybrid.isolation import Died, Finished, Forked, InProcess, Raised, Result, Stopped, obstacle

MEMORY = 1 << 30


def _forked(work: Callable[[], Any], seconds: float = 60.0, memory: int = MEMORY) -> Result:
    return Forked().run(work, seconds=seconds, memory=memory)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _children() -> str:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        return "children are left"
    return ""


def test_the_result_comes_back() -> None:
    assert _forked(lambda: {"a": [1, 2.5, None]}) == Finished(value={"a": [1, 2.5, None]})


def test_a_large_result_comes_back_whole() -> None:
    result = _forked(lambda: "x" * 3_000_000)
    assert isinstance(result, Finished)
    assert len(result.value) == 3_000_000


def test_live_tensors_are_there_and_what_the_child_does_to_them_stays_there() -> None:
    tensor = paddle.ones([3])

    def work() -> float:
        tensor.add_(paddle.ones([3]))
        return float(paddle.matmul(tensor, tensor))

    assert _forked(work) == Finished(value=12.0)
    assert float(tensor.sum()) == 3.0


def test_what_the_child_prints_is_evidence_and_not_output(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        print("from Python")
        os.write(2, b"from below\n")
        return 1

    result = _forked(work)
    assert "from Python" in result.log
    assert "from below" in result.log
    assert capfd.readouterr() == ("", "")


def test_what_the_parent_has_not_yet_written_is_not_written_twice(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("once")
    _forked(lambda: print("child"))
    assert capfd.readouterr().out == "once"


@pytest.mark.parametrize("error", [ValueError("bad value"), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_comes_back_with_its_traceback(error: BaseException) -> None:
    def work() -> None:
        raise error

    result = _forked(work)
    assert isinstance(result, Raised)
    assert type(error).__name__ in result.error
    assert "in work" in result.error


def test_an_answer_that_json_has_no_word_for_is_an_error_and_not_a_death() -> None:
    result = _forked(lambda: object())
    assert isinstance(result, Raised)
    assert "object" in result.error


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_a_crash_is_named_by_its_signal(number: signal.Signals) -> None:
    def work() -> None:
        print("last words")
        sys.stdout.flush()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    result = _forked(work)
    assert isinstance(result, Died)
    assert result.how == number.name
    assert "last words" in result.log


@pytest.mark.parametrize("code", [0, 7])
def test_an_exit_of_its_own_is_a_death(code: int) -> None:
    result = _forked(lambda: os._exit(code))
    assert isinstance(result, Died)
    assert result.how == f"exit code {code}"


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_hang_is_stopped_at_the_limit(stubborn: bool) -> None:
    def work() -> None:
        if stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(0.01)

    started = time.monotonic()
    result = _forked(work, seconds=0.5)
    assert isinstance(result, Stopped)
    assert "second" in result.limit
    assert time.monotonic() - started < 30.0


def test_a_child_that_eats_memory_is_stopped() -> None:
    def work() -> None:
        eaten = []
        while True:
            eaten.append(bytearray(b"x" * (16 << 20)))
            time.sleep(0.005)

    result = _forked(work, seconds=60.0, memory=200 << 20)
    assert isinstance(result, Stopped)
    assert "memory" in result.limit


class _OnlyAtHome:
    """Ends any other process that takes it apart; never refers to anything but itself."""

    def __init__(self) -> None:
        self.home = os.getpid()
        self.itself = self

    def __del__(self) -> None:
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)


def test_what_the_parent_has_dropped_is_not_taken_apart_in_the_child() -> None:
    _OnlyAtHome()
    assert isinstance(_forked(gc.collect), Finished)
    gc.collect()


def test_the_childs_own_children_go_with_it() -> None:
    reader, writer = os.pipe()

    def work() -> None:
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            time.sleep(600.0)
        time.sleep(600.0)

    assert isinstance(_forked(work, seconds=1.0), Stopped)
    grandchild = int(os.read(reader, 32))
    os.close(reader)
    os.close(writer)
    for _ in range(100):
        state = ""
        with contextlib.suppress(OSError), open(f"/proc/{grandchild}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        if state in ("", "Z"):
            return
        time.sleep(0.05)
    pytest.fail("the grandchild lives on")


def test_the_parent_is_as_it_was_after_all_of_this() -> None:
    files, cwd = _open_files(), os.getcwd()
    for work in (lambda: 1, lambda: os._exit(1), lambda: os.chdir("/"), lambda: os.kill(os.getpid(), 9)):
        _forked(work)
    assert _open_files() == files
    assert os.getcwd() == cwd
    assert _children() == ""


def test_an_interrupt_here_leaves_no_child_behind() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            _forked(lambda: time.sleep(600.0), seconds=600.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert _children() == ""


def test_a_child_does_not_read_our_input() -> None:
    assert _forked(lambda: os.read(0, 10) == b"") == Finished(value=True)


def test_threads_are_an_obstacle_unless_they_only_carry_messages() -> None:
    assert obstacle() == ""
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="loader")
    thread.start()
    try:
        assert "loader" in obstacle()
    finally:
        go.set()
        thread.join()
    assert obstacle() == ""


def test_threads_of_a_notebook_are_no_obstacle() -> None:
    go = threading.Event()

    class Heartbeat(threading.Thread):
        __module__ = "ipykernel.heartbeat"

        def run(self) -> None:
            go.wait()

    thread = Heartbeat()
    thread.start()
    try:
        assert obstacle() == ""
    finally:
        go.set()
        thread.join()


def test_without_isolation_a_failure_is_still_data() -> None:
    def work() -> None:
        raise ValueError("bad value")

    assert InProcess().run(lambda: 5, seconds=1.0, memory=1) == Finished(value=5)
    result = InProcess().run(work, seconds=1.0, memory=1)
    assert isinstance(result, Raised)
    assert "bad value" in result.error


def test_a_fault_is_traced_in_the_log_and_not_in_the_scripts_output(capfd: pytest.CaptureFixture[str]) -> None:
    faulthandler.enable(file=2)
    try:
        result = Forked().run(lambda: os.abort(), seconds=60.0, memory=1 << 30)
    finally:
        faulthandler.disable()
    assert isinstance(result, Died)
    assert "_pytest" in result.log, "the Python stack, of which the end is kept"
    assert "most recent call first" not in capfd.readouterr().err


def test_a_fault_ends_the_child_whatever_handlers_its_parent_has() -> None:
    """Paddle's handlers sometimes hang in a child, where many libraries are loaded."""
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    before = libc.signal(signal.SIGABRT, ctypes.cast(libc.pause, ctypes.c_void_p))
    try:
        result = _forked(lambda: os.abort(), seconds=20.0)
    finally:
        libc.signal(signal.SIGABRT, before)
    assert isinstance(result, Died)
    assert result.how == "SIGABRT"


def test_ctrl_c_is_not_lost_while_python_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork

    def interrupted_fork() -> int:
        with contextlib.suppress(KeyboardInterrupt):  # as Python does with what functions called at a fork raise
            signal.raise_signal(signal.SIGINT)
        return fork()

    monkeypatch.setattr(os, "fork", interrupted_fork)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Forked().run(lambda: 1, seconds=30.0, memory=MEMORY)
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
