"""``autohybrid.profile`` in a living process: what it gives, and what it leaves alone."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

import autohybrid
from autohybrid.errors import ScriptError, SetupError, UsageError


class Model(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(3, 8, 3), nn.BatchNorm2D(8), nn.ReLU())
        self.head = nn.Linear(8, 2)
        self.eval()

    def forward(self, image: Any, *, scale: float = 1.0) -> Any:
        return self.head(self.body(image).max([2, 3])) * scale


IMAGE = paddle.randn([1, 3, 32, 32])


def _traces(model: Any) -> list[Any]:
    return [(sorted(sub.__dict__), sub.training) for sub in model.sublayers(include_self=True)]


def _random_state() -> list[Any]:
    return [random.getstate(), repr(np.random.get_state()), repr(paddle.get_rng_state()[0].current_seed())]


@pytest.mark.parametrize("isolation", ["fork", "none"])
def test_a_model_is_profiled_and_left_as_it_was(isolation: Any) -> None:
    model = Model()
    model.train()
    model.body[1].eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before, state = _traces(model), _random_state()
    options = autohybrid.Options(budget=8.0, isolation=isolation)
    with paddle.no_grad():
        made = autohybrid.profile(model, IMAGE, scale=2.0, options=options)
    (entry,) = made.models
    assert entry.class_name == "Model"
    assert made.settings.isolation == isolation
    assert made.trials > 0
    assert _traces(model) == before
    assert _random_state() == state
    assert all(bool((model.state_dict()[name] == value).all()) for name, value in weights.items())
    assert autohybrid.status(model).regions == ()


def test_a_plan_that_was_made_here_is_applied_here() -> None:
    model = Model()
    with paddle.no_grad():
        made = autohybrid.profile(model, IMAGE, options=autohybrid.Options(budget=10.0, min_gain=1.0))
        expected = model(IMAGE)
        with autohybrid.applied(model, made):
            for _ in range(5):
                assert float((model(IMAGE) - expected).abs().max()) < 1e-4
            served = [region.hybrid_calls for region in autohybrid.status(model).regions]
    assert made.recommends_change == bool(served)
    assert all(served)


def test_a_function_that_calls_models_is_profiled_too() -> None:
    models = [Model(), nn.Linear(4, 4)]
    models[1].eval()

    def infer(size: int) -> None:
        models[0](IMAGE)
        models[1](paddle.ones([size, 4]))

    made = autohybrid.profile(infer, 3, options=autohybrid.Options(dry_run=True))
    assert [entry.class_name for entry in made.models] == ["Model", "Linear"]
    assert made.trials == 0
    assert {row.reason for entry in made.models for row in entry.rejected} <= {"dry_run", "too_small"}


def test_what_cannot_be_called_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="got int"):
        autohybrid.profile(3)  # type: ignore[arg-type]


def test_a_function_that_calls_no_model_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ScriptError, match="calls no Layer") as caught:
        autohybrid.profile(lambda: 3)
    assert caught.value.remedy


def test_where_trials_cannot_be_isolated_that_is_said_with_the_way_out() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="loader")
    thread.start()
    try:
        with pytest.raises(SetupError, match="loader") as caught:
            autohybrid.profile(Model(), IMAGE, options=autohybrid.Options(budget=5.0))
    finally:
        go.set()
        thread.join()
    assert "isolation='none'" in caught.value.remedy


@pytest.mark.parametrize(
    "wrong",
    [{"budget": 0.0}, {"rtol": -1.0}, {"min_gain": 0.5}, {"max_calls": 0}, {"max_memory": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_options_without_sense_are_usage_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        autohybrid.Options(**wrong)
