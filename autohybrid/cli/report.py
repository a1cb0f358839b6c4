"""``autohybrid report``: a plan as a table, Markdown, JSON, CSV or an HTML page."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import get_args

import click

from autohybrid import plan
from autohybrid.errors import UsageError
from autohybrid.report import table
from autohybrid.report.rendering import Format, render


@click.command(
    "report",
    epilog="""\b
Examples: autohybrid report plan.json
          autohybrid report plan.json --format html -o report.html""",
)
@click.argument("plan_file", metavar="PLAN")
@click.option("--format", "shape", type=click.Choice(get_args(Format)), default="table", show_default=True)
@click.option("-o", "--output", metavar="FILE", help="Write the report there, not to the standard output.")
def command(plan_file: str, shape: Format, output: str | None) -> None:
    """Show the plan in the file PLAN."""
    if output is not None and Path(output).resolve() == Path(plan_file).resolve():
        raise UsageError(f"{output} is the plan itself.", "Name another file with -o.")
    text = _rendered(plan.load(plan_file), shape, plan_file, on_screen=output is None)
    if output is None:
        click.echo(text)
        return
    try:
        Path(output).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror}.", "Name another file with -o.") from error


def _rendered(made: plan.Plan, shape: Format, plan_file: str, on_screen: bool) -> str:
    return on_terminal(made, plan_file) if on_screen and shape == "table" else render(plan_file, shape)


def on_terminal(made: plan.Plan, plan_file: str | None) -> str:
    """The table as wide as the terminal (or as COLUMNS says), with colour where that is welcome.

    Args:
        plan_file: where the plan is; None when it wasn't written.
    """
    width = shutil.get_terminal_size((table.WIDTH, 24)).columns
    return table.render(made, plan_file=plan_file, width=width, colour=_wants_colour())


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
