"""``autohybrid diff``: what changed from one plan to another."""

from __future__ import annotations

import shutil
from typing import Literal, get_args

import click

from autohybrid.report import difference_formats
from autohybrid.report.difference import diff
from autohybrid.report.table import WIDTH

Format = Literal["table", "markdown", "json"]


@click.command(
    "diff",
    epilog="""\b
Examples: autohybrid diff old.json plan.json
          autohybrid diff old.json plan.json --format markdown

Models are matched by their structure, regions by their place. Exit code 0, also
when the plans differ.""",
)
@click.argument("before", metavar="PLAN1")
@click.argument("after", metavar="PLAN2")
@click.option("--format", "shape", type=click.Choice(get_args(Format)), default="table", show_default=True)
def command(before: str, after: str, shape: Format) -> None:
    """Show what changed from PLAN1 to PLAN2: regions, times, rejections, environment."""
    found = diff(before, after)
    if shape == "markdown":
        click.echo(difference_formats.as_markdown(found))
    elif shape == "json":
        click.echo(difference_formats.as_json(found))
    else:
        width = shutil.get_terminal_size((WIDTH, 24)).columns
        click.echo(difference_formats.as_table(found, width=width))
