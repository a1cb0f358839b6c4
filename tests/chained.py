"""Models whose forwards hold chains, and regions at them."""

from __future__ import annotations

from typing import Any

import paddle
import paddle.nn.functional as F
from fakes import Honest
from paddle import nn

import autohybrid
from autohybrid.runtime.attach import Placed, placed_in
from autohybrid.runtime.chain_finder import Chain, find
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.region import Region
from autohybrid.runtime.sites import ChainSite
from autohybrid.runtime.variant import Recipe

WIDTH = 4
X = paddle.linspace(-1.0, 1.0, 2 * WIDTH).reshape([2, WIDTH])


class Block(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Any, y: Any = None, scale: float = 1.0) -> Any:
        x = x + F.silu(self.linear(x)) * scale
        return x if y is None else (x, y + x)


class Stack(nn.Layer):  # type: ignore[misc]
    """Blocks and ends, used in a different way by each subclass."""

    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        paddle.seed(depth)
        self.blocks = nn.LayerList([Block() for _ in range(depth)])
        self.before, self.after = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.eval()


class Put:
    """Puts a region at each chain of a model, and takes all out again."""

    def __init__(self) -> None:
        self._models: list[Any] = []

    def __call__(self, model: Any, engine: Any = None) -> list[Placed]:
        for chain in find(model).chains:
            self.at(model, chain, engine or Honest())
        return placed_in(model)

    def at(self, model: Any, chain: Chain, engine: Any) -> Region:
        self._models.append(model)
        site = ChainSite(model, "forward", chain)
        region = Region(
            path=chain.text,
            recipe=Recipe(
                layer=site.layer, function=site.eager, engine=engine, options={}, tolerance=Tolerance(), proofs=2
            ),
            admitted=None,
            policies=Policies(on_miss="convert", isolation="none"),
        )
        site.put(region)
        return region

    def close(self) -> None:
        for model in self._models:
            autohybrid.restore(model)
