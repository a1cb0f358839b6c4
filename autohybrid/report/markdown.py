"""The report for a pull request or an issue."""

from __future__ import annotations

from collections.abc import Sequence

from autohybrid.plan import Model, Plan
from autohybrid.report import rows


def render(plan: Plan) -> str:
    """GitHub-flavoured Markdown; ends without a newline."""
    parts = ["# autohybrid", rows.headline(plan)]
    for model in plan.models:
        parts += _model(model)
    parts.append(rows.measured_where(plan))
    return "\n\n".join(part for part in parts if part)


def _model(model: Model) -> list[str]:
    parts = [f"## {model.id}: {model.calls} calls, {model.share:.0%} of the inference time"]
    if model.confirmation is not None:
        found = model.confirmation.comparison()
        shown = [[row.name, f"{row.seconds * 1e3:.3g}", *rows.gain_cells(row)] for row in rows.whole_rows(model)]
        parts.append(_table([f"whole {model.class_name}", "ms", "speedup", f"{found.confidence:.0%} interval"], shown))
        parts.append(rows.verdict_line(model.confirmation) + ".")
        if model.eager_threads is not None:
            parts.append(rows.threads_note(model))
    if model.regions:
        shown = [
            [
                row.name,
                row.class_name,
                " ".join([row.engine, *(f"{key}={value}" for key, value in row.options.items())]),
                f"{row.eager * 1e3:.3g}",
                f"{row.hybrid * 1e3:.3g}",
                f"{row.comparison.speedup:.2f}x",
                f"{row.share:.1%}",
                rows.relative_error(row),
                f"{row.conversion:.1f}",
                str(row.break_even or ""),
            ]
            for row in rows.region_rows(model)
        ]
        headers = [
            "region",
            "class",
            "engine",
            "eager ms",
            "hybrid ms",
            "gain",
            "share",
            "largest error",
            "conversion s",
            "pays after calls",
        ]
        parts.append(_table(headers, shown))
    listed = rows.listed(model)
    if listed:
        shown = [
            [
                row.name,
                row.first.reason,
                row.first.detail,
                f"{row.share:.1%}",
                rows.place(row.first.source),
                row.first.hint,
            ]
            for row in listed
        ]
        parts.append(_table(["not converted", "reason", "detail", "share", "source", "hint"], shown))
    return parts


def _table(headers: Sequence[str], shown: Sequence[Sequence[str]]) -> str:
    lines = [_line(headers), _line(["---"] * len(headers)), *(_line(row) for row in shown)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    escaped = (" ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(escaped) + " |"
