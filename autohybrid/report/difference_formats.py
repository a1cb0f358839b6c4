"""The difference of two plans for a terminal, a pull request, a tool and a notebook."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from autohybrid.report import markdown
from autohybrid.report.columns import Column, RowT, duration, filled, one_line, significant, times
from autohybrid.report.difference import FieldDifference, ModelDifference, PlanDifference, RegionDifference
from autohybrid.report.difference import RejectionDifference as Rejection
from autohybrid.report.html import fragment
from autohybrid.report.rows import RegionRow, WholeRow
from autohybrid.report.table import MOST_REJECTED, WIDEST, WIDTH, fitting, plain_table

_FATES = {"came": "came", "went": "went", "changed": "changed", "same": "as before"}
_GAINS = {"up": "gain up", "down": "gain down", "": ""}


def as_table(found: PlanDifference, *, width: int = WIDTH) -> str:
    """For a terminal; ends without a newline."""
    width = max(60, min(width, WIDEST))

    def wrapped(text: str) -> str:
        return textwrap.fill(one_line(text), width, subsequent_indent="  ")

    def table(columns: Sequence[Column[RowT]], rows: Sequence[RowT]) -> str:
        made = filled(fitting(columns, rows, width), rows)
        return plain_table(made.cells, made.headers, made.alignment, width, wraps=False)

    parts = [f"{wrapped(found.headline())}\n{wrapped(_titles(found))}"]
    for model in found.models:
        parts.append("\n".join(map(wrapped, _model_lines(model))))
        if model.regions:
            parts.append("\n".join([table(_region_columns(model), model.regions), *map(wrapped, _region_notes(model))]))
        if model.rejections:
            parts.append("\n".join([table(REJECTION, model.rejections[:MOST_REJECTED]), *_left_out(model)]))
    parts += map(wrapped, _surroundings(found))
    return "\n\n".join(parts)


def as_markdown(found: PlanDifference) -> str:
    """GitHub-flavoured Markdown; ends without a newline."""
    text = markdown.escaped
    parts = ["# autohybrid diff", text(found.headline()), text(_titles(found))]
    for model in found.models:
        heading, *rest = _model_lines(model)
        parts += [f"## {text(heading)}", *map(text, rest)]
        if model.regions:
            parts.append(markdown.filled_table(_region_columns(model), model.regions))
            parts.append("\n".join(f"- {text(line)}" for line in _region_notes(model)))
        if model.rejections:
            parts.append(markdown.filled_table(REJECTION, model.rejections[:MOST_REJECTED]))
            parts += _left_out(model)
    parts += map(text, _surroundings(found))
    return "\n\n".join(part for part in parts if part)


def as_json(found: PlanDifference) -> str:
    """One JSON object: seconds, bytes and fractions; an open confidence limit is null."""
    content = _closed(asdict(found))
    content["headline"] = found.headline()
    content["choice_changed"] = found.choice_changed
    for model, shown in zip(found.models, content["models"], strict=True):
        shown["fate"], shown["gain"] = model.fate, model.gain
        for region, shown_region in zip(model.regions, shown["regions"], strict=True):
            shown_region["gain"] = region.gain
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _closed(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _closed(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_closed(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _titles(found: PlanDifference) -> str:
    return f"{found.before} → {found.after}"


def _model_lines(model: ModelDifference) -> Iterator[str]:
    if model.fate in ("came", "went"):
        yield f"{model.name}: only in the {'second' if model.fate == 'came' else 'first'} plan"
    else:
        renamed = f" (was {model.before_id})" if model.before_id != model.after_id else ""
        yield f"{model.name}{renamed}: {_whole(model.before)} → {_whole(model.after)}{_told(_GAINS[model.gain])}"
    if model.structure:
        yield f"another structure: {model.structure}"


def _whole(row: WholeRow | None) -> str:
    if row is None or row.comparison is None:
        return "eager"
    return f"{times(row.comparison.speedup)} ({duration(row.seconds)} a call)"


def _told(words: str) -> str:
    return f", {words}" if words else ""


def _region_notes(model: ModelDifference) -> Iterator[str]:
    for region in model.regions:
        if region.changes:
            yield f"{region.name}: {'; '.join(map(str, region.changes))}"


def _left_out(model: ModelDifference) -> list[str]:
    more = len(model.rejections) - MOST_REJECTED
    return [f"and {more} more, see --format json"] if more > 0 else []


def _surroundings(found: PlanDifference) -> Iterator[str]:
    """What differs around the choice: the machines, the settings."""
    if found.environment:
        yield f"Environments: {_listed(found.environment)}. Speedups can be compared, times can't."
    else:
        yield "The same environment."
    if found.settings:
        yield f"Settings: {_listed(found.settings)}."


def _listed(fields: Sequence[FieldDifference]) -> str:
    return "; ".join(map(str, fields))


def _region_columns(model: ModelDifference) -> list[Column[RegionDifference]]:
    """The columns of the regions' table, all times in one unit; the two plans' values side by side."""
    sides = [row for region in model.regions for row in (region.before, region.after) if row is not None]
    largest = max((row.eager for row in sides), default=0.0)
    scale, unit = next((each for each in ((1.0, "s"), (1e-3, "ms")) if largest >= each[0]), (1e-6, "us"))

    def pair(name: str) -> Column[RegionDifference]:
        def shown(row: RegionRow | None) -> str:
            return "-" if row is None else significant(getattr(row, name) / scale)

        return Column(
            key=name,
            header=f"{name} {unit}",
            value=lambda row: None,
            text=lambda row: f"{shown(row.before)} → {shown(row.after)}",
            rank={"hybrid": 2, "eager": 3}[name],
        )

    return [
        Column(key="region", header="region", quantity="text", value=lambda row: row.name),
        Column(key="fate", header="", quantity="text", value=lambda row: _FATES[row.fate]),
        pair("eager"),
        pair("hybrid"),
        Column(
            key="speedup",
            header="speedup",
            value=lambda row: None,
            text=lambda row: f"{_speedup(row.before)} → {_speedup(row.after)}",
            rank=1,
        ),
        Column(key="gain", header="", quantity="text", value=lambda row: _GAINS[row.gain], rank=4),
        Column(key="engine", header="engine", quantity="text", value=lambda row: _engine(row), rank=5),
    ]


def _speedup(row: RegionRow | None) -> str:
    return "-" if row is None else times(row.comparison.speedup)


def _engine(region: RegionDifference) -> str:
    named = dict.fromkeys(row.engine for row in (region.before, region.after) if row is not None)
    return " → ".join(named)


REJECTION: list[Column[Rejection]] = [
    Column(key="name", header="not converted", quantity="text", value=lambda row: row.name),
    Column(key="fate", header="", quantity="text", value=lambda row: _FATES[row.fate]),
    Column(key="share", header="share", value=lambda row: row.share, text=lambda row: f"{row.share:.1%}"),
    Column(
        key="reason", header="reason", quantity="text", value=lambda row: f"{row.before or '-'} → {row.after or '-'}"
    ),
]


def as_html(found: PlanDifference) -> str:
    """For a notebook's cell."""
    parts = [fragment.heading(found.headline()), _titles(found)]
    for model in found.models:
        parts += _model_lines(model)
        parts += [fragment.table(_region_columns(model), model.regions), *_region_notes(model)]
        parts.append(fragment.table(REJECTION, model.rejections))
    return fragment.block(*parts, *_surroundings(found))
