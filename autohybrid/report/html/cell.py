"""A plan in a notebook's cell."""

from __future__ import annotations

from autohybrid.plan import Model, Plan
from autohybrid.report import columns, rows
from autohybrid.report.columns import duration
from autohybrid.report.html import fragment
from autohybrid.report.table import MOST_REGIONS, MOST_REJECTED, WIDEST, fitting
from autohybrid.sizes import counted


def of_plan(plan: Plan) -> str:
    """The verdict, and for each model what was converted, what it gained, and what stays eager and why."""
    parts = [fragment.heading(rows.headline(plan)), rows.script_sentence(plan)]
    for model in plan.models:
        parts += _model(model)
    parts.append(fragment.table(columns.WHOLE, rows.script_rows(plan)))
    return fragment.block(*parts, rows.measured_where(plan), *plan.notes)


def _model(model: Model) -> list[str]:
    spent = duration(model.calls * model.seconds_per_call)
    listed, regions = rows.listed(model), rows.region_rows(model)
    more = len(regions) - MOST_REGIONS
    return [
        fragment.heading(f"{model.id}: {counted(model.calls, 'call')}, {spent} in all"),
        fragment.table(fitting(columns.REGION, regions, WIDEST), regions[:MOST_REGIONS]),
        f"and {counted(more, 'more region')}" if more > 0 else "",
        fragment.table(columns.WHOLE, rows.whole_rows(model)),
        rows.threads_note(model),
        fragment.table(columns.REJECTED, listed[:MOST_REJECTED]),
        rows.others_line(model),
    ]
