"""``autohybrid report``: a plan as a table, Markdown or JSON."""

from __future__ import annotations

import click

from autohybrid import plan
from autohybrid.report import data, markdown, table

_FORMATS = {"table": table.render, "markdown": markdown.render, "json": data.render}


@click.command("report", epilog="Example: autohybrid report plan.json --format markdown")
@click.argument("plan_file", metavar="PLAN")
@click.option("--format", "shape", type=click.Choice(list(_FORMATS)), default="table", show_default=True)
def command(plan_file: str, shape: str) -> None:
    """Show the plan in the file PLAN."""
    click.echo(_FORMATS[shape](plan.load(plan_file)))
