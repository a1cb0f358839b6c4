"""A script's own preparations for Paddle come before Paddle, with us as without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from commands import autohybrid

from autohybrid.errors import PlanError
from autohybrid.observe.arrival import Arrival

PREPARING = """
import os, sys
os.environ["OMP_NUM_THREADS"] = "2"
os.environ["FLAGS_eager_delete_tensor_gb"] = "0.125"
assert "paddle" not in sys.modules
import paddle
print("threads", os.environ["OMP_NUM_THREADS"], paddle.get_flags("FLAGS_eager_delete_tensor_gb"))
print(type(paddle.__loader__).__name__, type(paddle.__spec__.loader).__name__)
model = paddle.nn.Sequential(*[paddle.nn.Linear(8, 8) for _ in range(4)])
model.eval()
with paddle.no_grad():
    for _ in range(4):
        model(paddle.ones([2, 8]))
"""


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that nobody has imported yet."""
    (tmp_path / "a_newcomer.py").write_text("import json\nvalue = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "a_newcomer"
    sys.modules.pop("a_newcomer", None)


@contextmanager
def _noting(into: list[str]) -> Iterator[str]:
    into.append("begun")
    yield "it"
    into.append("ended")


def test_something_begins_when_the_module_comes_and_ends_with_the_block(newcomer: str) -> None:
    seen: list[str] = []
    with Arrival(newcomer, lambda: _noting(seen)) as arrival:
        assert not seen
        module = __import__(newcomer)
        assert (seen, arrival.begun) == (["begun"], "it")
    assert seen == ["begun", "ended"]
    assert arrival.seconds > 0.0
    assert isinstance(module.__loader__, SourceFileLoader)
    assert module.__spec__ is not None
    assert isinstance(module.__spec__.loader, SourceFileLoader), "the module doesn't show who waited for it"


def test_a_module_that_is_there_has_come(newcomer: str) -> None:
    __import__(newcomer)
    seen: list[str] = []
    with Arrival(newcomer, lambda: _noting(seen)):
        assert seen == ["begun"]


def test_nothing_is_left_behind_where_the_module_never_comes() -> None:
    before = list(sys.meta_path)
    seen: list[str] = []
    with Arrival("a_module_that_is_nowhere", lambda: _noting(seen)) as arrival, pytest.raises(ModuleNotFoundError):
        __import__("a_module_that_is_nowhere")
    assert (seen, arrival.begun, sys.meta_path) == ([], None, before)


def test_an_error_ends_the_script_and_is_told_at_the_end(newcomer: str) -> None:
    def refuses() -> None:
        raise PlanError("no such engine", "install it")

    def script() -> None:
        try:
            __import__(newcomer)
        except Exception:  # noqa: BLE001 - as scripts do that can run without
            pytest.fail("went on")

    with (
        pytest.raises(PlanError, match="no such engine"),
        Arrival(newcomer, refuses),  # type: ignore[arg-type]
        pytest.raises(SystemExit),
    ):
        script()


@pytest.mark.slow
@pytest.mark.parametrize("action", ["profile", "run"])
def test_what_a_script_sets_for_paddle_reaches_paddle(action: str, tmp_path: Path) -> None:
    (tmp_path / "infer.py").write_text(PREPARING)
    made = autohybrid("profile", "--dry-run", "-o", "plan.json", "infer.py", cwd=tmp_path)
    if action == "run":
        made = autohybrid("run", "infer.py", cwd=tmp_path)
    assert made.code == 0, made.err
    assert "threads 2 {'FLAGS_eager_delete_tensor_gb': 0.125}" in made.out
    assert "SourceFileLoader SourceFileLoader" in made.out


@pytest.mark.slow
def test_a_script_without_paddle_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "infer.py").write_text(PREPARING)
    assert autohybrid("profile", "--dry-run", "-o", "plan.json", "infer.py", cwd=tmp_path).code == 0
    (tmp_path / "other.py").write_text("print('nothing to do')\n")
    ran = autohybrid("run", "other.py", cwd=tmp_path)
    assert (ran.code, ran.out) == (0, "nothing to do\n")
    assert "never imported Paddle" in ran.err
    profiled = autohybrid("profile", "-o", "another.json", "other.py", cwd=tmp_path)
    assert profiled.code == 3
    assert "calls no Layer" in profiled.err
