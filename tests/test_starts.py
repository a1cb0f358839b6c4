"""A later start: nothing is traced, nothing is exported, and it takes less than the first one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import paddle
import plans
import pytest
from engine_regions import STORABLE

from autohybrid import plan
from autohybrid.runtime.fingerprint import fingerprint, structure_lines
from autohybrid.runtime.signature import recorded
from autohybrid.structure import flatten

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from starts import NoStart, bare, start

MODEL = "paddle.vision.models.LeNet(), (paddle.randn([1, 1, 28, 28]),)"

OLDER = {"program": "pdmodel"}


def whole_model(engine: str, options: dict[str, Any], place: Path) -> Path:
    """A plan that converts the whole model."""
    model, inputs = eval(MODEL, {"paddle": paddle})
    tensors, structure = flatten((inputs, {}))
    called = recorded(structure, tensors, tuple([tuple(tensor.shape) for tensor in tensors]))
    lines = structure_lines(model)
    region = plans.region("", called, engine=engine, options=options)
    entry = plans.model([region], fingerprint=fingerprint(lines), structure=lines, class_name="LeNet")
    plan.save(plans.whole([entry]), place)
    return place


@pytest.mark.parametrize(
    ("engine", "options"),
    [*(pytest.param(each.values[0], {}, marks=each.marks) for each in STORABLE), ("predictor", OLDER)],
    ids=[*(str(each.values[0]) for each in STORABLE), "predictor:pdmodel"],
)
def test_a_later_start_traces_and_exports_nothing_and_takes_less(
    engine: str, options: dict[str, Any], tmp_path: Path
) -> None:
    planned, cache = whole_model(engine, options, tmp_path / "plan.json"), tmp_path / "cache"
    first, later = start(MODEL, planned, cache), start(MODEL, planned, cache)
    assert (first["traces"], first["exports"]) == (1, 1)
    assert (later["traces"], later["exports"]) == (0, 0)
    assert later["open"] > 0.0
    assert later["first run"] > 0.0
    assert later["first result"] < first["first result"]
    assert 0.0 <= later["rest"] < later["first result"]
    beside = bare(MODEL, planned, cache)
    assert (beside is not None) == (engine == "predictor")


def test_where_regions_stay_eager_there_is_no_start(tmp_path: Path) -> None:
    planned = whole_model("predictor", {}, tmp_path / "plan.json")
    other = MODEL.replace("[1, 1, 28, 28]", "[2, 1, 28, 28]")
    with pytest.raises(NoStart, match="not in the plan"):
        start(other, planned, tmp_path / "cache")
