"""What a command and the process that runs the script tell each other, through files in a private directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec

from autohybrid.errors import AutohybridError, ExitCode


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A script to run, and what to do with it.

    ``options`` are the fields of :class:`autohybrid.Options`; ``variables`` is added to the environment of the process
    that runs the script, also when it is run plainly; ``repeated`` says that this is not the first run, so that its
    output isn't wanted; ``quiet`` that nothing is to be told at its end; ``verbosity`` as in
    :func:`autohybrid.logs.show`.
    """

    action: Literal["profile", "run", "measure", "export", "warm"]
    target: str
    arguments: list[str]
    is_module: bool
    options: dict[str, Any] = {}
    plan: str = ""
    variables: dict[str, str] = {}
    rerun: bool = False
    repeated: bool = False
    show_progress: bool = False
    quiet: bool = False
    verbosity: int = 0
    release_weights: bool = False


class Warmed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of filling the store for a region: whether it is there now, and in words."""

    region: str
    engine: str
    stored: bool
    told: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a job went: the script's own end, and an error of ours if there was one.

    ``obstacle`` says why the script must not be run again unasked, empty when nothing stands against it.
    """

    script_exit_code: int
    script_failed: bool
    interrupted: bool
    obstacle: str = ""
    error: str = ""
    error_code: int = 0
    warmed: list[Warmed] = []


MEASUREMENT = "measurement.json"
JOB, OUTCOME, PLAN, JOURNAL, REPRODUCTIONS = "job.json", "outcome.json", "plan.json", "journal.jsonl", "reproductions"
STATIC_MODELS = "static"


def start(job: Job, directory: Path, *, silent: bool = False) -> subprocess.Popen[bytes]:
    """Starts the process that runs the script; it inherits stdin, stderr, the terminal, and, unless silent, stdout."""
    stdin = subprocess.DEVNULL if job.repeated else None
    stdout = subprocess.DEVNULL if job.repeated or silent else None
    return subprocess.Popen(command(job, directory), stdin=stdin, stdout=stdout, env={**os.environ, **job.variables})


def command(job: Job, directory: Path) -> list[str]:
    """Makes the directory ready for a job, and gives what starts its process."""
    (directory / JOB).write_bytes(msgspec.json.encode(job))
    (directory / OUTCOME).unlink(missing_ok=True)
    return [sys.executable, "-m", "autohybrid.cli.worker", str(directory)]


def wait(process: subprocess.Popen[bytes]) -> int:
    """Waits for it; Ctrl-C is its business (the terminal sends it to both), a request to terminate is handed on."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminate = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, terminate)


def outcome_in(directory: Path) -> Outcome | None:
    """What the process left, None when it died before it could."""
    try:
        return msgspec.json.decode((directory / OUTCOME).read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        return None


class ReportedError(AutohybridError):
    """An error that the other process raised, with the exit code that it had there."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.exit_code = ExitCode(outcome.error_code)
