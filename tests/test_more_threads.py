"""A whole search in which more math threads gain, or only seem to: a fake engine that shares its wait among them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import paddle
import pytest
from fakes import Tensors
from paddle import nn
from test_trial import Quick, Waiting

import autohybrid
from autohybrid import device, engines, plan
from autohybrid.engines import Request
from autohybrid.engines.dimensions import THREADS
from autohybrid.runtime import threads

X = paddle.ones([2, 4])


class Sharing(Quick):
    """Waits for ``seconds``, shared among its threads."""

    dimensions = (THREADS,)

    def __init__(self, seconds: float) -> None:
        super().__init__(wrong_for=self)
        self.seconds = seconds

    def check_options(self, options: dict[str, Any]) -> None:
        assert set(options) <= {"threads"}

    def convert(self, request: Request) -> Any:
        count = device.granted_threads(request.options.get("threads"))
        return _Shared(super().convert(request), self.seconds / count)


class _Shared:
    concurrent = False

    def __init__(self, made: Any, seconds: float) -> None:
        self._made, self._seconds = made, seconds

    def run(self, tensors: Sequence[Any]) -> Tensors:
        time.sleep(self._seconds)
        answers: Tensors = self._made.run(tensors)
        return answers

    def close(self) -> None:
        self._made.close()


class Slow(nn.Layer):  # type: ignore[misc]
    """Waits in eager mode; with ``shares``, as long as a part of its math threads."""

    def __init__(self, seconds: float, shares: bool) -> None:
        super().__init__()
        self.seconds, self.shares = seconds, shares
        self.fc = nn.Linear(4, 4)
        self.eval()

    def forward(self, x: Any) -> Any:
        if not Waiting.awake:
            time.sleep(self.seconds / (device.math_threads_now() if self.shares else 1))
        return self.fc(x)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cores_granted", lambda: 2)
    monkeypatch.setattr(device, "math_threads_told", lambda: None)
    monkeypatch.setattr(threads, "_told", set())
    monkeypatch.setenv("KMP_BLOCKTIME", "0")  # nobody spins here


def _searched(monkeypatch: pytest.MonkeyPatch, shares: bool, **options: Any) -> plan.Plan:
    monkeypatch.setattr(engines, "by_name", lambda name: Sharing(0.030))
    wanted = autohybrid.Options(engines=("fake",), budget=120.0, fresh=True, **options)
    with paddle.no_grad():
        return autohybrid.profile(Slow(0.040, shares), X, options=wanted)


def _options(made: plan.Plan) -> list[dict[str, Any]]:
    return [region.options for region in made.models[0].regions]


@pytest.mark.slow
def test_more_threads_are_found_recorded_and_told_apart_from_the_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _searched(monkeypatch, shares=False)
    (entry,) = made.models
    assert _options(made) == [{"threads": 2}]
    assert entry.confirmation is not None
    assert entry.confirmation.comparison().speedup > 1.8
    assert entry.eager_threads is not None
    assert entry.eager_threads.threads == 2
    assert entry.eager_threads.samples.comparison().speedup < 1.3
    text = " ".join(autohybrid.render(made, "markdown").split())
    assert "eager, 2 threads" in text
    assert "The regions use 2 math threads." in text
    again = plan.parse(plan.dump(made).decode())
    assert again == made
    model = Slow(0.040, shares=False)
    with paddle.no_grad():
        autohybrid.apply(model, again)
        for _ in range(4):
            model(X)
    assert autohybrid.status(model).regions[0].hybrid_calls
    autohybrid.restore(model)


@pytest.mark.slow
def test_where_only_the_threads_gain_enough_nothing_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    # With as many threads the conversion is 1.33x as fast as eager; with two it is 2.67x eager with one.
    made = _searched(monkeypatch, shares=True, min_gain=1.6)
    assert _options(made) == []
    assert made.models[0].confirmation is None
    (note,) = [note for note in made.notes if "alone make eager" in note]
    assert note.endswith("For the threads set OMP_NUM_THREADS=2 before Python starts, and profile again.")


@pytest.mark.slow
def test_no_more_than_allowed_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _searched(monkeypatch, shares=False, threads=1)
    assert _options(made) == [{}]
    assert made.models[0].eager_threads is None
    assert not [row for row in made.models[0].rejected if "threads" in row.options]
