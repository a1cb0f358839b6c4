"""The command line: one file a command, each parses, calls, prints, exits. Nothing here imports Paddle."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from autohybrid import __version__
from autohybrid.errors import AutohybridError, ExitCode

_COMMANDS = {
    "profile": "find, try, choose and confirm what is worth converting in a script",
    "run": "run a script with a plan applied",
    "bench": "measure a plan again: each root, and the whole script",
    "check": "for CI: does a plan still apply, is it still equal and faster",
    "report": "show a plan",
    "cache": "list, verify, clear or fill the store of conversions",
    "diff": "show what changed from one plan to another",
    "export": "a plan as plain code or static models, to run without autohybrid",
    "env": "show what a bug report needs to know of this machine",
}


class _Commands(click.Group):
    """Loads a command's module when it is asked for, so that ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"autohybrid.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="autohybrid")
def group() -> None:
    """Runs the slow parts of PaddlePaddle dygraph models as static graphs, where that is proven right and faster."""


def main() -> None:
    """The entry point: errors that a user can mend become one line and an exit code, bugs keep their traceback."""
    try:
        code = group.main(standalone_mode=False)
    except AutohybridError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    sys.exit(code if isinstance(code, int) else ExitCode.DONE)
