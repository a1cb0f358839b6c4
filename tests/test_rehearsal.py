"""Which conversions are tried in a child first, and for which another one's rehearsal stands."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paddle
import pytest
from engine_regions import apart, region_of, settled
from paddle import nn
from test_graphs import Baked

from autohybrid.device import on_gpu
from autohybrid.engines.predictor import PredictorEngine
from autohybrid.runtime import proof, rehearsal
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import State
from autohybrid.store import Store

X = paddle.linspace(-1, 1, 32).reshape([4, 8])

pytestmark = pytest.mark.skipif(on_gpu(), reason="a process that uses a GPU isn't forked")


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes of each conversion that is tried in a child."""
    found: list[Any] = []
    original = rehearsal.rehearse

    def noting(variant: Any, *args: Any) -> Any:
        found.append(variant.shapes)
        return original(variant, *args)

    monkeypatch.setattr(proof, "rehearse", noting)
    return found


def isolated(layer: Any, engine: Any = "predictor", **recipe: Any) -> Region:
    with region_of(layer, engine, **recipe) as plain:
        found = plain.recipe
    return Region(path="", recipe=found, admitted=None, policies=Policies(on_miss="convert"))


def converted(layer: Any, inputs: Sequence[Any] = (X,), **recipe: Any) -> Region:
    """A region that serves calls with each of ``inputs``."""
    region = isolated(layer, **recipe)
    with paddle.no_grad():
        for x in inputs:
            variant = settled(region, x)
            assert variant.state is State.SERVING, variant.reason
            assert apart(region(x), layer(x)) < 1e-4
    return region


def test_a_process_in_which_warnings_are_errors_can_be_forked() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rehearsal.forks_work.__wrapped__()


@pytest.mark.parametrize("stored", [False, True])
def test_of_equal_blocks_one_is_rehearsed(stored: bool, rehearsed: list[Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "cache") if stored else None
    for _ in range(4):
        converted(nn.Linear(8, 8), store=store).close()
    assert len(rehearsed) == 1


def test_changed_weights_are_not_rehearsed_again(rehearsed: list[Any]) -> None:
    layer = nn.Linear(8, 8)
    region = converted(layer)
    layer.weight.set_value(2.0 * layer.weight)
    with paddle.no_grad():
        assert settled(region, X).state is State.SERVING
        assert apart(region(X), layer(X)) < 1e-4
    assert len(rehearsed) == 1
    region.close()


@pytest.mark.parametrize(
    ("layer", "inputs", "recipe"),
    [
        (nn.Linear(8, 4), (X,), {}),
        (nn.Linear(8, 8), (X[:2],), {}),
        (nn.Linear(8, 8), (X,), {"options": {"onednn": False}}),
        (nn.Linear(8, 8), (X,), {"engine": "incubate"}),
    ],
    ids=["structure", "sizes", "options", "engine"],
)
def test_what_differs_in_more_than_weights_is_rehearsed(
    layer: Any, inputs: Sequence[Any], recipe: Any, rehearsed: list[Any]
) -> None:
    converted(nn.Linear(8, 8)).close()
    converted(layer, inputs, **recipe).close()
    assert len(rehearsed) == 2


def test_where_dimensions_vary_each_block_is_rehearsed(rehearsed: list[Any]) -> None:
    for _ in range(2):
        converted(nn.Linear(8, 8), (X, X[:2])).close()
    assert [shapes for shapes in rehearsed if shapes == ((-1, 8),)] == [((-1, 8),)] * 2


def test_a_graph_with_a_weights_value_in_it_is_always_rehearsed(rehearsed: list[Any]) -> None:
    for _ in range(2):
        converted(Baked()).close()
    assert len(rehearsed) == 2


class Mortal(PredictorEngine):
    """Fails, or ends the process, from the conversion in this process on that it is told to."""

    name = "mortal"

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.ends_children = False
        self._home = os.getpid()

    def convert(self, request: Any) -> Any:
        if self.ends_children and os.getpid() != self._home:
            os._exit(9)
        if self.fails and os.getpid() == self._home:
            raise RuntimeError("not this one")
        return super().convert(request)


def test_a_block_that_fails_without_a_rehearsal_is_eager() -> None:
    engine = Mortal()
    converted(nn.Linear(8, 8), engine=engine).close()
    engine.fails = True
    layer = nn.Linear(8, 8)
    region = isolated(layer, engine)
    with paddle.no_grad():
        with pytest.warns(RuntimeWarning, match="not this one"):
            variant = settled(region, X)
        assert variant.refusal == "failed"
        assert apart(region(X), layer(X)) == 0.0
    region.close()


def test_a_rehearsal_that_ended_badly_stands_for_no_other(rehearsed: list[Any]) -> None:
    engine = Mortal()
    engine.ends_children = True
    for _ in range(2):
        region = isolated(nn.Linear(8, 8), engine)
        with paddle.no_grad(), pytest.warns(RuntimeWarning, match="dies"):
            variant = settled(region, X)
        assert variant.refusal == "crashed"
        region.close()
    assert len(rehearsed) > 2, "each way of tracing, for each of the blocks"
