"""Paddle's older program format as an option of the predictor: kept as it was optimised, right or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import paddle
import pytest
from engine_regions import Residual, apart, region_of, settled

from autohybrid.engines import Machine, by_name, older_program
from autohybrid.engines.predictor import configured
from autohybrid.errors import ConversionError
from autohybrid.runtime.variant import State
from autohybrid.store import Store

OLDER = {"program": "pdmodel"}


class Convolutions(paddle.nn.Layer):  # type: ignore[misc]
    """Something for the optimiser to fuse; answers with a constant beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = paddle.nn.Sequential(paddle.nn.Conv2D(3, 8, 3, padding=1), paddle.nn.BatchNorm2D(8))

    def forward(self, x: Any) -> Any:
        y = paddle.nn.functional.relu(self.inner(x))
        return {"y": y, "n": 3, "shifted": y + 1.0}


class Multiplying(paddle.nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return paddle.matmul(x, x) + 1.0


class KeepsInList(paddle.nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.kept = [paddle.ones([16])]

    def forward(self, x: Any) -> Any:
        return x * self.kept[0]


def images(count: int = 1) -> Any:
    return paddle.randn([count, 3, 8, 8])


def test_a_later_process_opens_what_was_optimised(tmp_path: Path) -> None:
    store, layer = Store(tmp_path / "cache"), Convolutions()
    for note in ("stored: nothing stored yet", "from the store"):
        with region_of(layer, options=OLDER, store=store) as region:
            variant = settled(region, images())
            assert (variant.state, variant.store_note) == (State.SERVING, note)
            for _ in range(3):
                x = images()
                found, expected = region(x), layer(x)
                assert found["n"] == 3
                assert max(apart(found[name], expected[name]) for name in ("y", "shifted")) < 1e-4
    (entry,) = store.root.glob("*/*/entry.json")
    assert set(json.loads(entry.read_text())["files"]) == {"infer.pdmodel", "infer.pdiparams"}
    assert not configured(entry.parent, OLDER).ir_optim(), "the passes have been over it"


def test_sizes_may_vary() -> None:
    layer = Convolutions()
    with region_of(layer, options=OLDER, dynamic=((images(),), ((-1, 3, 8, 8),))) as region:
        settled(region, images())
        for count in (2, 5, 1):
            x = images(count)
            assert apart(region(x)["y"], layer(x)["y"]) < 1e-4
        assert len(region.variants) == 1


@pytest.mark.parametrize("layer", [Multiplying(), KeepsInList()])
def test_what_it_cannot_hold_stays_eager_and_harms_no_later_conversion(layer: Any) -> None:
    x = paddle.randn([16, 16])
    with region_of(layer, options=OLDER) as region, pytest.warns(RuntimeWarning, match="can't be converted"):
        assert settled(region, x).state is State.REFUSED
    assert paddle.in_dynamic_mode()
    for made in (Multiplying(), Residual()):
        with region_of(made) as region:
            assert settled(region, x).state is State.SERVING
            assert apart(region(x), made(x)) < 1e-3


def test_without_the_format_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(paddle.pir_utils, "OldIrGuard")
    with pytest.raises(ConversionError, match="doesn't write its older program format"):
        older_program._older_programs()


@pytest.mark.parametrize("name", ["ir_optim", "optimization_level", "precision", "cinn"])
def test_how_to_optimise_cannot_be_told_to_what_is_optimised(name: str) -> None:
    value = {"ir_optim": True, "optimization_level": 1, "precision": "float32", "cinn": False}[name]
    with pytest.raises(ConversionError, match=f'{name} has no effect with program="pdmodel"'):
        by_name("predictor").check_options({**OLDER, name: value})


@pytest.mark.parametrize(
    ("machine", "offered"),
    [(Machine(), False), (Machine(starts=True), True), (Machine(starts=True, gpu=True), False)],
)
def test_a_search_tries_it_where_starts_count(machine: Machine, offered: bool) -> None:
    choices = [each.options for choice in by_name("predictor").dimensions for each in choice.alternatives(machine)]
    assert (OLDER in choices) is offered
