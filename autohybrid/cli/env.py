"""``autohybrid env``: what a bug report needs."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import Literal, get_args

import click

from autohybrid import inventory

Format = Literal["table", "json"]


@click.command(
    "env",
    epilog="""\b
Examples: autohybrid env
          autohybrid env --format json > env.json

Exit code 0, also where Paddle or an engine is missing: the table says so.""",
)
@click.option("--format", "shape", type=click.Choice(get_args(Format)), default="table", show_default=True)
def command(shape: Format) -> None:
    """Show versions, device, cores, threads, engines, cache and variables, for a bug report.

    The home directory is written as ~; no name, host or file of yours is shown.
    """
    found = inventory.env()
    if shape == "json":
        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        width = max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))
        click.echo(inventory.shown(found, width))
