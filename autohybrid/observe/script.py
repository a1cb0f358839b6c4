"""Runs a script as Python itself would, with its own ``__main__``, ``sys.argv`` and ``sys.path[0]``."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

import msgspec

from autohybrid.errors import ScriptError


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A script and its arguments: a file, or with ``is_module`` a module's name as for ``python -m``."""

    target: str
    arguments: list[str]
    is_module: bool = False

    def shown(self) -> list[str]:
        return [*(["-m"] if self.is_module else []), self.target, *self.arguments]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a script ended: the exit code it asked for, whether it was interrupted, whether it failed by an exception."""

    exit_code: int
    interrupted: bool = False
    failed: bool = False


def run(command: Command) -> Ending:
    """Runs the script to its end, prints its traceback where Python would, and waits for its threads.

    Raises:
        ScriptError: there is nothing to run; nothing of it has run.
    """
    main, code = _prepared(command)
    _become_main(main)
    try:
        exec(code, main.__dict__)  # the user's own script, as Python would run it
    except SystemExit as request:
        ending = Ending(exit_code=_exit_code(request))
    except KeyboardInterrupt:
        _print_traceback(*sys.exc_info())
        return Ending(exit_code=130, interrupted=True)
    except BaseException:  # noqa: BLE001 - the script's failure is reported as the script's
        _print_traceback(*sys.exc_info())
        ending = Ending(exit_code=1, failed=True)
    else:
        ending = Ending(exit_code=0)
    try:
        _join_threads()
    except KeyboardInterrupt:
        return Ending(exit_code=130, interrupted=True)
    return ending


def check(command: Command) -> None:
    """Raises the ``ScriptError`` that :func:`run` would raise, before anything expensive has been done."""
    if command.is_module:
        return
    path = Path(command.target)
    if not path.is_file():
        raise ScriptError(
            f"There is no script {command.target!r}.", "Give the path of a Python file, or -m and a module's name."
        )


def _prepared(command: Command) -> tuple[ModuleType, CodeType]:
    main = ModuleType("__main__")
    if command.is_module:
        sys.path[0] = os.getcwd()
        specification = _module_specification(command.target)
        loader = specification.loader
        code = loader.get_code(specification.name) if isinstance(loader, importlib.machinery.SourceFileLoader) else None
        if code is None:
            raise ScriptError(f"The module {command.target!r} has no Python code to run.")
        main.__spec__ = specification
        main.__package__ = specification.parent
        main.__file__ = specification.origin
        main.__loader__ = loader
        sys.argv = [specification.origin or command.target, *command.arguments]
        return main, code
    check(command)
    # As Python does: __file__ and tracebacks have the whole path, sys.argv has it as it was given.
    path = os.path.abspath(command.target)
    sys.path[0] = str(Path(path).resolve().parent)
    main.__file__ = path
    main.__dict__.update(__spec__=None, __package__=None, __cached__=None)
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    sys.argv = [command.target, *command.arguments]
    try:
        code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        traceback.print_exception(type(error), error, None)
        raise ScriptError(f"The script {command.target!r} isn't valid Python.", "See the message above.") from error
    return main, code


def _module_specification(name: str) -> importlib.machinery.ModuleSpec:
    try:
        specification = importlib.util.find_spec(name)
        if specification is not None and specification.submodule_search_locations is not None:
            specification = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise ScriptError(f"The module {name!r} can't be found ({error}).") from error
    if specification is None:
        raise ScriptError(f"There is no module {name!r} that could be run.", "Is it installed, or in this directory?")
    return specification


def _become_main(main: ModuleType) -> None:
    main.__dict__.setdefault("__builtins__", __builtins__)
    main.__annotations__ = {}
    sys.modules["__main__"] = main


def _exit_code(request: SystemExit) -> int:
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    print(request.code, file=sys.stderr)
    return 1


def _print_traceback(kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
    """Prints what Python would print: the frames from the script on, without ours above them."""
    assert error is not None
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.stdout.flush()
    sys.excepthook(kind, error.with_traceback(trace), trace)


def _join_threads() -> None:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
