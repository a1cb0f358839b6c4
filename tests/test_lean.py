"""Where memory is limited, options that hold less take part in the choice."""

from __future__ import annotations

from typing import Any

import msgspec
import paddle
import plans
import pytest
from fakes import Honest
from test_search import FAILED, Bench, MakeBench, _costing, bench

from autohybrid import device, engines
from autohybrid.engines import Alternative, Dimension, Engine, Machine
from autohybrid.report import table
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import Recipe
from autohybrid.search.rejections import Rejections

__all__ = ["bench"]

LIGHT = {"light": True}


class Lean(Honest):
    """Has an option that holds less."""

    dimensions = (Dimension(name="memory", alternatives=lambda machine: [Alternative(options=LIGHT, lean=True)]),)


def _searched(made: Bench) -> Bench:
    made.search.run()
    made.search.lighten()
    return made


def _chosen(made: Bench) -> dict[str, Any]:
    return {each.candidate.path: each.options for each in made.search.chosen(made.root)}


def _whole(light: float = 2.0) -> dict[str, list[Any]]:
    return {"": [_costing(3.0, 0.1, 1000), _costing(light, 0.1, 400)], "a": [FAILED], "b": [FAILED]}


def test_with_little_memory_the_plan_takes_the_option_with_fewer_copies(bench: MakeBench) -> None:
    made = _searched(bench(_whole(), engine=Lean(), memory_budget=500))
    assert _chosen(made) == {"": LIGHT}


def test_the_report_says_that_memory_kept_the_faster_one_out(bench: MakeBench) -> None:
    made = _searched(bench(_whole(), engine=Lean(), memory_budget=500))
    rejected = Rejections(
        findings=made.search.findings,
        ends_of_chains={},
        regions=made.search.chosen(made.root),
        dropped={},
        options=made.options,
        root=made.root,
        script=None,
        reproductions={},
        reproduces=False,
    ).rows(made.search.findings.candidates)
    (heavier,) = [row for row in rejected if row.path == "" and row.reason == "not_chosen"]
    assert heavier.detail.startswith("3.00x")
    assert heavier.detail.endswith("MiB, too much for the memory budget")
    chosen = plans.region("", {"tuple": []}, options=LIGHT)
    text = table.render(plans.whole([plans.model([chosen], rejected=[heavier])]))
    assert "without light=True: 3.00x" in text
    lost = msgspec.structs.replace(heavier, detail="1.50x")
    assert "without light" not in table.render(plans.whole([plans.model([chosen], rejected=[lost])]))


@pytest.mark.parametrize("limits", [{}, {"memory_budget": 1000}, {"convert_budget": 100.0}])
def test_where_it_fits_nothing_more_is_tried(limits: dict[str, Any], bench: MakeBench) -> None:
    made = _searched(bench(_whole(), engine=Lean(), **limits))
    assert _chosen(made) == {"": {}}
    assert LIGHT not in made.isolation.options


def test_what_holds_less_and_gains_nothing_is_not_planned(bench: MakeBench) -> None:
    assert _chosen(_searched(bench(_whole(light=0.9), engine=Lean(), memory_budget=500))) == {}


def test_of_regions_that_fit_alone_but_not_together_one_holds_less(bench: MakeBench) -> None:
    part = [_costing(3.0, 0.1, 400), _costing(2.0, 0.1, 150)]
    made = _searched(bench({"": [FAILED], "a": list(part), "b": list(part)}, engine=Lean(), memory_budget=600))
    chosen = _chosen(made)
    assert set(chosen) == {"a", "b"}
    assert sorted(map(len, chosen.values())) == [0, 1]


def test_an_attempt_that_was_given_up_is_not_chosen_again(bench: MakeBench) -> None:
    made = _searched(bench(_whole(), engine=Lean(), memory_budget=500))
    (attempt,) = made.search.chosen(made.root)
    made.search.findings._demoted.add(id(attempt))
    assert _chosen(made) == {}


@pytest.mark.parametrize("name", ["predictor", "onnxruntime"])
def test_the_engines_know_what_holds_less(name: str) -> None:
    engine = engines.by_name(name)
    offered = engines.lean(engine, Machine())
    assert offered
    for options in offered:
        if engine.unavailable() is None:
            engine.check_options(options)
    assert engines.lean(engine, Machine(gpu=True)) == []


def _held(engine: Engine, options: dict[str, Any]) -> int:
    """Bytes that a region for a large convolution holds."""
    layer = paddle.nn.Conv2D(768, 768, 3, padding=1)
    layer.eval()
    recipe = Recipe(
        layer=layer, function=layer.forward, engine=engine, options=options, tolerance=Tolerance(), proofs=1
    )
    region = Region(path="", recipe=recipe, admitted=None, policies=Policies(on_miss="convert", isolation="none"))
    x = paddle.randn([1, 768, 8, 8])
    with paddle.no_grad():
        layer(x)
        before = device.held_memory()
        for _ in range(3):
            region(x)
        held = device.held_memory() - before
    assert region.hybrid_calls
    region.close()
    return held


def test_without_onednn_a_predictor_holds_less() -> None:
    predictor = engines.by_name("predictor")
    assert _held(predictor, {"onednn": False}) < 0.8 * _held(predictor, {})


def test_openvino_holds_its_weights_once() -> None:
    pytest.importorskip("openvino")
    weights = 768 * 768 * 9 * 4
    engine = engines.by_name("openvino")
    if engine.unavailable():
        pytest.skip(str(engine.unavailable()))
    _held(engine, {})  # the library's own memory
    assert _held(engine, {}) < 1.7 * weights
