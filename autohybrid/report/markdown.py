"""The report for a pull request or an issue."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autohybrid.plan import Model, Plan
from autohybrid.report import columns, rows
from autohybrid.report.advice import next_steps
from autohybrid.report.columns import Column, RowT, filled
from autohybrid.sizes import counted


def render(plan: Plan, *, plan_file: str = "plan.json") -> str:
    """GitHub-flavoured Markdown; ends without a newline.

    Args:
        plan_file: what the commands that it suggests call the plan.
    """
    parts = ["# autohybrid", escaped(rows.headline(plan)), escaped(rows.script_sentence(plan))]
    for model in plan.models:
        parts += _model(model)
    script = rows.script_rows(plan)
    parts.append(filled_table(columns.WHOLE, script) if script else "")
    parts += [_steps(plan, plan_file), escaped(rows.measured_where(plan)), *map(escaped, plan.notes)]
    return "\n\n".join(part for part in parts if part)


def _model(model: Model) -> list[str]:
    parts = [f"## {escaped(model.id)}: {counted(model.calls, 'call')}, {model.share:.0%} of the inference time"]
    if model.confirmation is not None:
        parts.append(filled_table(columns.WHOLE, rows.whole_rows(model)))
        parts.append(rows.verdict_line(model.confirmation) + ".")
        if model.eager_threads is not None:
            parts.append(escaped(rows.threads_note(model)))
    if model.regions:
        parts.append(filled_table(columns.REGION, rows.region_rows(model)))
    listed = rows.listed(model)
    if listed:
        parts.append(filled_table(columns.REJECTED, listed))
    parts.append(rows.others_line(model))
    return parts


def _steps(plan: Plan, plan_file: str) -> str:
    """The commands as a block that can be copied, each below what it is for."""
    steps = next_steps(plan, plan_file)
    lines = [line for step in steps for line in (f"# {step.purpose}", step.command)]
    return "\n".join(["What to run next:", "", "```", *lines, "```"])


def filled_table(shown: Sequence[Column[RowT]], content: Sequence[RowT]) -> str:
    """A table of these rows in all of these columns."""
    table = filled(shown, content)
    return _table(table.headers, table.cells, table.alignment)


def _table(headers: Sequence[str], shown: Sequence[Sequence[str]], alignment: str) -> str:
    rulers = ["---:" if letter == "r" else "---" for letter in alignment]
    lines = [_line(headers), _line(rulers), *(_line(row) for row in shown)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escaped, cells)) + " |"


def escaped(text: str) -> str:
    """On one line, and without what Markdown or HTML in it would take for markup: ``main.<locals>.Net``."""
    return re.sub(r"([\\|<*`\[])", r"\\\1", " ".join(text.split()).replace("&", "&amp;"))
