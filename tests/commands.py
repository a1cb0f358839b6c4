"""Running the command line, and scripts without it, as a user does: in processes of their own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"

CHANGES = {"COLUMNS": "80", "PYTHONWARNINGS": "ignore", "GLOG_minloglevel": "3"}

AUTOHYBRID = (sys.executable, "-m", "autohybrid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a process went."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """What of stderr is not from Paddle's logging."""
        return [
            line for line in self.err.splitlines() if line.strip() and not line.startswith(("W1", "W0", "I1", "I0"))
        ]


def run(command: Sequence[str | Path], cwd: Path, stdin: str = "", seconds: float = 240.0) -> Run:
    """Runs a command to its end."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **CHANGES},
    )
    return Run(code=done.returncode, out=done.stdout, err=done.stderr)


def autohybrid(*words: str | Path, cwd: Path, stdin: str = "", seconds: float = 240.0) -> Run:
    """Runs ``autohybrid`` to its end."""
    return run([*AUTOHYBRID, *words], cwd, stdin, seconds)


def run_plainly(script: Path, cwd: Path, seconds: float = 240.0) -> Run:
    """Runs a script as its user would without us."""
    return run([sys.executable, script], cwd, seconds=seconds)


def run_in_terminal(command: Sequence[str | Path], cwd: Path) -> bytes:
    """What a command writes to a terminal that is its stdin and stdout, byte for byte."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **CHANGES},
    )
    os.close(terminal)
    written = bytearray()
    while True:
        try:
            chunk = os.read(controller, 4096)
        except OSError:  # how Linux says that the last process has closed the terminal
            break
        if not chunk:
            break
        written += chunk
    os.close(controller)
    assert process.wait(60.0) == 0
    return bytes(written)


def interrupted(
    command: Sequence[str | Path], cwd: Path, lines: int, pause: float = 0.0, terminated: bool = False
) -> Run:
    """Runs a command in a process group of its own; once it has written so many lines, sends Ctrl-C to the group.

    Args:
        pause: seconds to wait before that.
        terminated: send SIGTERM instead, and to the one process only, as a supervisor does.
    """
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **CHANGES},
        # Who runs the tests in the background has Ctrl-C ignored, and what is ignored is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        errors: list[str] = []
        assert process.stdout is not None
        assert process.stderr is not None
        reading = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(process.stderr,))
        reading.start()
        # Whoever is left behind holds our pipes open.
        last_resort = threading.Timer(90.0, os.killpg, (process.pid, signal.SIGKILL))
        last_resort.start()
        seen = []
        for line in process.stdout:
            seen.append(line)
            if len(seen) == lines:
                time.sleep(pause)
                if terminated:
                    process.terminate()
                else:
                    os.killpg(process.pid, signal.SIGINT)
        reading.join()
        assert last_resort.is_alive(), "a process was left behind"
        last_resort.cancel()
    return Run(code=process.returncode, out="".join(seen), err=errors[0])
