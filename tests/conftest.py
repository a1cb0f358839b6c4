"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paddle
import pytest


@pytest.fixture(autouse=True)
def _a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("AUTOHYBRID_CACHE", str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """Each test leaves Paddle's classes as it found them."""
    before = {name: paddle.nn.Layer.__dict__[name] for name in ("__call__", "__setattr__", "train")}
    yield
    assert {name: paddle.nn.Layer.__dict__[name] for name in before} == before
