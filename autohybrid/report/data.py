"""The plan's content as JSON, with all numbers that are derived from samples."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import msgspec

from autohybrid.plan import Plan
from autohybrid.report import rows
from autohybrid.stats import Comparison


def render(plan: Plan) -> str:
    """One JSON object; ``derived`` stands beside the samples that its numbers come from."""
    content = msgspec.to_builtins(plan)
    content["derived"] = {
        "headline": rows.headline(plan),
        "script": rows.script_sentence(plan),
        "recommends_change": plan.recommends_change,
    }
    for model, shown in zip(plan.models, content["models"], strict=True):
        for region, shown_region in zip(model.regions, shown["regions"], strict=True):
            row = rows.region_row(region)
            shown_region["derived"] = {
                **comparison_values(row.comparison),
                "eager_seconds": row.eager,
                "hybrid_seconds": row.hybrid,
                "break_even_calls": row.break_even,
            }
        if model.confirmation is not None:
            found = model.confirmation
            shown["confirmation"]["derived"] = {**comparison_values(found.comparison()), "verdict": found.verdict()}
    if plan.whole_script is not None:
        compared = plan.whole_script.comparison()
        content["whole_script"]["derived"] = {**comparison_values(compared), "verdict": compared.verdict(1.0)}
    return json.dumps(content, indent=2, ensure_ascii=False)


def comparison_values(found: Comparison) -> dict[str, Any]:
    """The numbers of a comparison as JSON values."""
    # JSON has no infinity: an open limit is null.
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(found).items()
    }
