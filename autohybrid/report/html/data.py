"""What the page's script draws: the two trees, and what the panel says of each Layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autohybrid.plan import Model, Plan, Samples
from autohybrid.plan.reasons import MEANINGS
from autohybrid.report import columns, rows
from autohybrid.report.columns import duration, engine_and_options, filled, interval
from autohybrid.report.signatures import signature_text, varying
from autohybrid.report.tree import Box, eager_boxes, hybrid_boxes
from autohybrid.sizes import counted
from autohybrid.stats import median


def page_data(plan: Plan) -> dict[str, Any]:
    """Plain values, for JSON. Times are seconds per root call, lists of boxes are one list for each field."""
    return {
        "models": [_model(model) for model in plan.models],
        "meanings": dict(MEANINGS),
        "uninteresting": rows.UNINTERESTING,
    }


def _model(model: Model) -> dict[str, Any]:
    eager = eager_boxes(model)
    ranking = filled(columns.RANKED, rows.layers(model))
    found = model.confirmation
    return {
        "id": model.id,
        "eager": _boxes(eager),
        "hybrid": _boxes(hybrid_boxes(model, eager)) if model.regions else None,
        "layerFacts": ranking.headers,
        "layers": ranking.cells,
        "calledIn": [row.called_in for row in rows.layers(model)],
        "regions": _regions(model),
        "fates": _fates(model),
        "confirmation": found and {"eager": found.eager_samples(), "hybrid": found.hybrid_samples()},
    }


def _boxes(boxes: Sequence[Box]) -> dict[str, list[Any]]:
    return {name: [getattr(box, name) for box in boxes] for name in Box.__slots__}


def _regions(model: Model) -> list[dict[str, Any]]:
    table = filled(columns.REGION, [rows.region_row(region) for region in model.regions])
    return [
        {
            # What the ranking says of the Layer isn't said again.
            "facts": [
                fact
                for column, *fact in zip(table.columns, table.headers, cells, strict=True)
                if column.key not in ("region", "class", "calls", "share")
            ],
            "inputs": [signature_text(each) for each in region.inputs],
            "outputs": signature_text(region.outputs),
            "varying": sorted({text for each in region.inputs for text in varying(each)}),
            "measuredOn": "" if region.measured_on in (region.name, region.path) else region.measured_on,
            "eager": region.samples.eager,
            "hybrid": region.samples.hybrid,
            "equality": _equality(region.equality.limit, region.equality.noise, region.equality.inputs_compared),
        }
        for region, cells in zip(model.regions, table.cells, strict=True)
    ]


def _equality(limit: float, noise: float, compared: int) -> str:
    return f"allowed {limit:.1e} there, eager's own noise {noise:.1e}, {counted(compared, 'input')} compared"


def _times(samples: Samples | None) -> str:
    if samples is None:
        return ""
    eager, hybrid = median(samples.eager), median(samples.hybrid)
    return f"{duration(eager)} → {duration(hybrid)}, {interval(samples.comparison())}"


def _fates(model: Model) -> dict[str, list[dict[str, str]]]:
    """By name of a Layer all that is recorded of it in the plan's rejections."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in model.rejected:
        said = {
            "reason": row.reason,
            "engine": engine_and_options(row.engine, row.options),
            "times": _times(row.samples),
            "detail": row.detail,
            "hint": row.hint,
            "evidence": row.evidence,
            "reproduce": row.reproduce,
            "source": f"{row.source.file}:{row.source.line}" if row.source else "",
        }
        found.setdefault(row.name, []).append({key: value for key, value in said.items() if value})
    return found
