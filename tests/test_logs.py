"""What is logged at which level, that a fallback is told once, and that Paddle's own noise is held back."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import paddle
import pytest
from fakes import Honest
from paddle import nn

from autohybrid import logs

LOGGER = logging.getLogger("autohybrid")


@pytest.fixture
def listening(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, logger="autohybrid"):
        yield caplog


def _told(listening: pytest.LogCaptureFixture, level: int) -> str:
    return "\n".join(record.getMessage() for record in listening.records if record.levelno == level)


def test_a_process_that_sets_no_level_hears_nothing() -> None:
    code = (
        "import logging, paddle, autohybrid; logging.basicConfig(level=logging.DEBUG, force=True)\n"
        "logger = logging.getLogger('autohybrid')\n"
        "assert isinstance(logger.handlers[0], logging.NullHandler)\n"
        "logger.warning('heard')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heard" not in ran.stderr


def test_a_level_that_was_set_before_the_import_stays() -> None:
    code = (
        "import logging; logger = logging.getLogger('autohybrid'); logger.setLevel(10)\n"
        "import autohybrid; print(logger.level)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"10\n"


def test_conversions_and_kinds_of_calls_are_told(listening: pytest.LogCaptureFixture, convert: Any) -> None:
    layer = nn.Linear(4, 4)
    layer.eval()
    region = convert(layer, Honest())
    with paddle.no_grad():
        for _ in range(4):
            region(paddle.ones([2, 4]))
    assert "converted with" in _told(listening, logging.INFO)
    assert "hybrid; 2 answers compared" in _told(listening, logging.INFO)
    assert "float32[2, 4]" in _told(listening, logging.DEBUG)
    assert "not converted yet" in _told(listening, logging.DEBUG)
    assert not _told(listening, logging.WARNING)


class _Counting(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x * self.calls


def test_a_refusal_is_told_once(listening: pytest.LogCaptureFixture, convert: Any) -> None:
    layer = _Counting()
    layer.eval()
    region = convert(layer, Honest())
    with paddle.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            region(paddle.ones([2, 4]))
    assert _told(listening, logging.WARNING).count("stays eager here") == 1


def test_a_failure_has_one_voice(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(RuntimeWarning, match="autohybrid: it fell back"):
        logs.warn("it fell back")
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="autohybrid"), warnings.catch_warnings():
        warnings.simplefilter("error")
        logs.warn("it fell back")
    assert [record.getMessage() for record in caplog.records] == ["it fell back"]


class _Inner(nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        LOGGER.debug("of a region inside")
        return x + 1


def test_a_record_of_our_own_is_no_effect_of_the_forward(listening: pytest.LogCaptureFixture, convert: Any) -> None:
    layer = _Inner()
    layer.eval()
    region = convert(layer, Honest())
    with paddle.no_grad():
        for _ in range(4):
            region(paddle.ones([2, 4]))
    assert region.hybrid_calls > 0


NOISY = """
import sys, paddle, autohybrid
from autohybrid import logs
logs.show(int(sys.argv[1]))
layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4), paddle.nn.ReLU())
layer.eval()
autohybrid.inference(layer)
with paddle.no_grad():
    for _ in range(4):
        layer(paddle.ones([1, 3, 8, 8]))
assert autohybrid.status(layer).regions[0].hybrid_calls
print("done")
"""


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_paddles_own_noise_is_heard_only_when_asked_for(verbosity: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", NOISY, str(verbosity)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == "done\n"
    foreign = [line for line in ran.stderr.splitlines() if not line.startswith("autohybrid: ")]
    assert bool(foreign) == (verbosity == 2), ran.stderr
    assert ("converted with" in ran.stderr) == (verbosity >= 1)
