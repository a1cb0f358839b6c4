"""What a region costs a call: not more than Paddle's wrapper, whichever engine."""

from __future__ import annotations

import sys
from pathlib import Path

import paddle
import pytest
from engine_regions import ENGINES

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from overhead import against_wrapper


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [1, 10])
def test_a_call_of_small_tensors_costs_no_more_than_the_wrapper(engine: str, count: int) -> None:
    with paddle.no_grad():
        row = against_wrapper(engine, count, rounds=200)
    assert "reason" not in row, row
    assert row["ratio"] < 1.5, row["median_us"]
