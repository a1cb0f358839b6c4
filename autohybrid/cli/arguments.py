"""What the commands that run a script have in common: the script and its own arguments."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from autohybrid.errors import UsageError

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def script_arguments(function: CommandT) -> CommandT:
    """``SCRIPT [ARGS]...``: everything behind the script is the script's own."""
    decorated = click.argument("script", nargs=-1, type=click.UNPROCESSED, metavar="SCRIPT [ARGS]...")(function)
    return decorated


def verbosity(function: CommandT) -> CommandT:
    """``-v``: what the library logs, on stderr."""
    return click.option(
        "-v",
        "--verbose",
        "verbosity",
        count=True,
        help="Say on stderr what is done; -vv also what calls are like, and what Paddle says while it exports.",
    )(function)


class ScriptCommand(click.Command):
    """A command that runs a script: what follows ``-m MODULE`` is the module's own, as for ``python -m``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with_value = {
            name
            for each in self.params
            if isinstance(each, click.Option) and not each.is_flag and not each.count
            for name in each.opts
        }
        place = 0
        while place < len(args) and args[place].startswith("-") and args[place] not in ("-", "--"):
            if args[place] == "-m":
                args = [*args[: place + 2], "--", *args[place + 2 :]]
                break
            place += 2 if args[place] in with_value else 1
        return super().parse_args(ctx, args)


def split_command(module: str | None, script: tuple[str, ...]) -> tuple[str, list[str]]:
    """The script's path (or module) and its arguments.

    Raises:
        UsageError: there is none, or no such file.
    """
    if module is not None:
        return module, list(script)
    if not script:
        raise UsageError("No script was given.", "Example: autohybrid profile train_infer.py")
    target, *arguments = script
    if not Path(target).is_file():
        raise UsageError(
            f"There is no script {target!r}.", "Give the path of a Python file, or -m and a module's name."
        )
    return target, arguments


def must_be_writable(place: Path, force: bool) -> None:
    """Told before anything long is begun.

    Raises:
        UsageError: something is there, or nothing can be put there.
    """
    if place.is_dir():
        raise UsageError(f"{place} is a directory.", "Name a file.")
    if place.exists() and not force:
        raise UsageError(f"{place} exists already.", "Overwrite it with --force, or name another place with -o.")
    try:
        with tempfile.TemporaryFile(dir=place.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"Nothing can be written to {place.parent}: {error.strerror}.", "Name another place."
        ) from error
