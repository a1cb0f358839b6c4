"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paddle
import pytest
from chained import Put
from fakes import Honest

import autohybrid
from autohybrid import engines
from autohybrid.runtime import graphs, rehearsal
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import Recipe

WATCHED = [
    *[
        (paddle.nn.Layer, name)
        for name in ("__call__", "__init__", "__setattr__", "train", "eval", "to", "set_state_dict")
    ],
    (paddle.Tensor, "set_value"),
    (paddle.optimizer.Optimizer, "step"),
    (paddle.optimizer.Adam, "step"),
    (paddle.nn.layer.norm._BatchNormBase, "forward"),
]

Convert = Callable[..., Region]


@pytest.fixture(autouse=True)
def _a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache, or finds what another one has traced."""
    monkeypatch.setenv("AUTOHYBRID_CACHE", str(tmp_path / "store"))
    graphs.forget_all()
    rehearsal.forget_all()


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """Each test leaves Paddle's classes as it found them."""
    before = [owner.__dict__.get(name) for owner, name in WATCHED]
    yield
    assert [owner.__dict__.get(name) for owner, name in WATCHED] == before


@pytest.fixture
def convert() -> Iterator[Convert]:
    """Puts a region into a Layer's place, and takes it out again after the test."""
    converted: list[Any] = []

    def put(layer: Any, engine: Any = None, **changes: Any) -> Region:
        recipe = Recipe(
            layer=layer,
            function=layer.forward,
            engine=engine or engines.by_name("incubate"),
            options=changes.pop("options", {}),
            tolerance=changes.pop("tolerance", Tolerance()),
            proofs=changes.pop("proofs", 2),
        )
        fields = {
            "path": "",
            "admitted": None,
            "previous": layer.__dict__.get("forward"),
            "policies": Policies(on_miss="convert", isolation="none"),
            **changes,
        }
        region = Region(recipe=recipe, **fields)
        layer.__dict__["forward"] = region
        converted.append(layer)
        return region

    yield put
    for layer in converted:
        autohybrid.restore(layer)


@pytest.fixture
def honest() -> Honest:
    """An engine that converts at once and answers rightly."""
    return Honest()


@pytest.fixture
def put() -> Iterator[Put]:
    """Puts regions at the chains of models, and takes them out again after the test."""
    made = Put()
    yield made
    made.close()
