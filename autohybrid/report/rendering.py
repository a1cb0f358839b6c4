"""What was found, as text in one of the formats."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, TypeAlias

from autohybrid.errors import UsageError
from autohybrid.plan import Plan, load
from autohybrid.plan.measurement import Measurement
from autohybrid.report import comma_separated, data, difference_formats, html, markdown, measurement, table
from autohybrid.report.difference import PlanDifference
from autohybrid.report.table import WIDTH

Format: TypeAlias = Literal["table", "markdown", "json", "csv", "html"]


def render(
    found: Plan | Measurement | PlanDifference | str | os.PathLike[str], format: Format = "table", *, width: int = WIDTH
) -> str:
    """A plan (or the file of one), a measurement or a difference as text; ends without a newline, but for HTML.

    Args:
        format: ``"table"``, ``"markdown"``, ``"json"``, ``"csv"`` (not for a difference) or ``"html"``.
        width: columns of the table.

    Raises:
        UsageError: it has no such format.
        PlanError: the file can't be read.
    """
    plan_file = "plan.json" if isinstance(found, (Plan, Measurement, PlanDifference)) else os.fspath(found)
    what = load(plan_file) if isinstance(found, (str, os.PathLike)) else found
    ways = _ways(what, width, plan_file)
    if format not in ways:
        raise UsageError(f"There is no format {format!r} for it.", f"It is one of {', '.join(map(repr, ways))}.")
    return ways[format]()


def _ways(what: Plan | Measurement | PlanDifference, width: int, plan_file: str) -> dict[str, Callable[[], str]]:
    if isinstance(what, Plan):
        return {
            "table": lambda: table.render(what, plan_file=plan_file, width=width),
            "markdown": lambda: markdown.render(what, plan_file=plan_file),
            "json": lambda: data.render(what),
            "csv": lambda: comma_separated.render(what),
            "html": lambda: html.render(what, plan_file=plan_file),
        }
    if isinstance(what, Measurement):
        return {
            "table": lambda: measurement.as_table(what, width),
            "markdown": lambda: measurement.as_markdown(what),
            "json": lambda: measurement.as_json(what),
            "csv": lambda: measurement.as_csv(what),
            "html": lambda: measurement.as_page(what),
        }
    return {
        "table": lambda: difference_formats.as_table(what, width=width),
        "markdown": lambda: difference_formats.as_markdown(what),
        "json": lambda: difference_formats.as_json(what),
        "html": lambda: difference_formats.as_html(what),
    }
