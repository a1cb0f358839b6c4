"""Small Layers, and regions around them, for the tests of engines, store and threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import paddle
import pytest
from paddle.nn import functional as F

from autohybrid import engines
from autohybrid.engines import Engine, StorableEngine
from autohybrid.engines.paddle_export import conversion_lock
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.region import Region
from autohybrid.runtime.signature import recorded
from autohybrid.runtime.variant import Recipe, State, Variant
from autohybrid.store import Store
from autohybrid.structure import flatten


def _parameter(name: str) -> Any:
    engine = engines.by_name(name)
    why = engine.unavailable()
    return pytest.param(name, marks=pytest.mark.skipif(why is not None, reason=f"{name}: {why}"))


ENGINES = [_parameter(name) for name in sorted({point.name for point in entry_points(group=engines.GROUP)})]
"""Every engine that the installation names, as values for a test; skipped where it can't be used."""

STORABLE = [each for each in ENGINES if isinstance(engines.by_name(each.values[0]), StorableEngine)]
"""Those of them whose conversions can be kept on disk."""


class Residual(paddle.nn.Layer):  # type: ignore[misc]
    """Needs its operand again behind an activation: what Paddle's ``inplace_pass`` gets wrong."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.inner = paddle.nn.Linear(width, width)
        self.times = 2

    def forward(self, x: Any, unused: Any = None) -> Any:
        y = x
        for _ in range(self.times):
            y = y + self.inner(F.silu(y))
        return y


class Upsampling(paddle.nn.Layer):  # type: ignore[misc]
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 8, 3, padding=1)
        self.mode = mode

    def forward(self, x: Any) -> Any:
        return F.interpolate(F.relu(self.conv(x)), scale_factor=2, mode=self.mode)


@contextlib.contextmanager
def region_of(
    layer: Any,
    engine: str | Engine = "predictor",
    *,
    options: dict[str, Any] | None = None,
    store: Store | None = None,
    proofs: int = 2,
    dynamic: tuple[Any, ...] = (),
    tolerance: Tolerance | None = None,
) -> Iterator[Region]:
    """A region around ``layer.forward`` without gradients.

    ``dynamic``: arguments and, for each Tensor, a shape with -1; the region then admits only such calls.
    """
    layer.eval()
    admitted = None
    if dynamic:
        args, shapes = dynamic
        tensors, structure = flatten((args, {}))
        admitted = [recorded(structure, tensors, shapes)]
    recipe = Recipe(
        layer=layer,
        function=layer.forward,
        engine=engines.by_name(engine) if isinstance(engine, str) else engine,
        options=options or {},
        tolerance=tolerance or Tolerance(),
        proofs=proofs,
        store=store,
    )
    policies = Policies(on_miss="convert", isolation="none")
    region = Region(path="", recipe=recipe, admitted=admitted, policies=policies)
    try:
        with paddle.no_grad():
            yield region
    finally:
        region.close()


@contextlib.contextmanager
def converting_elsewhere() -> Iterator[None]:
    """Within it another thread converts something."""
    begun, end = threading.Event(), threading.Event()

    def convert() -> None:
        with conversion_lock:
            begun.set()
            end.wait()

    thread = threading.Thread(target=convert)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        end.set()
        thread.join()


def settled(region: Region, *args: Any, calls: int = 6) -> Variant:
    """Calls the region until the variant of the last call serves or is refused."""
    for _ in range(calls):
        region(*args)
        variant = region.variants[-1]
        if variant.state in (State.SERVING, State.REFUSED):
            return variant
    raise AssertionError(f"still {region.variants[-1].state} after {calls} calls")


def apart(one: Any, other: Any) -> float:
    """The largest difference of two Tensors."""
    return float((one - other).abs().max())
