"""What can go wrong, one class for each party who can mend it.

Every error says what happened, where, and what to do; the command line turns it into one line on stderr and
the exit code of its class.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the commands."""

    DONE = 0
    GATE = 1
    USAGE = 2
    SCRIPT = 3
    PLAN = 4
    SETUP = 5
    INTERRUPTED = 130


class AutohybridError(Exception):
    """Base of all errors that a user can mend.

    Args:
        problem: what happened, with the place.
        remedy: what to do about it; empty where nothing sensible can be said.
    """

    exit_code = ExitCode.SETUP

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".strip()


class UsageError(AutohybridError):
    """The call itself was wrong: an argument, a file that is in the way."""

    exit_code = ExitCode.USAGE


class ScriptError(AutohybridError):
    """The user's script failed, or did nothing that can be worked with."""

    exit_code = ExitCode.SCRIPT


class PlanError(AutohybridError):
    """The plan can't be read, or doesn't belong to this model."""

    exit_code = ExitCode.PLAN


class SetupError(AutohybridError):
    """The environment lacks something: Paddle, a platform, an engine, the possibility to fork."""

    exit_code = ExitCode.SETUP


class ConversionError(AutohybridError):
    """An engine could not convert a region; the region stays eager.

    It becomes a trial's outcome or a reason in ``status``; of a converted model's calls it never comes out.

    Args:
        exported: what the engine's options work on had been made (Paddle's program, an ONNX model). What failed came
            after it, and other options may mend it.
    """

    def __init__(self, problem: str, remedy: str = "", *, exported: bool = False) -> None:
        super().__init__(problem, remedy)
        self.exported = exported
