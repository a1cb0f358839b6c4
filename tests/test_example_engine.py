"""An engine from another package: installed is all that it has to be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

EXAMPLE = Path(__file__).parent / "example_engine"

SCRIPT = """
import paddle
from paddle import nn

paddle.seed(0)
model = nn.Sequential(*[nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.LayerNorm(16)) for _ in range(30)])
model.eval()
x = paddle.ones([2, 16])
with paddle.no_grad():
    for _ in range(60):
        y = model(x)
print("done", list(y.shape))
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which the example lies as pip would have put it there, and where other processes look."""
    site = tmp_path / "site"
    shutil.copytree(EXAMPLE / "tracing_engine", site / "tracing_engine")
    metadata = site / "tracing_engine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tracing-engine\nVersion: 1.0\n")
    described = (EXAMPLE / "pyproject.toml").read_text()
    entry = next(line for line in described.splitlines() if line.startswith("tracing = "))
    (metadata / "entry_points.txt").write_text("[autohybrid.engines]\n" + entry.replace('"', "") + "\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


def command(*words: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autohybrid", *words], cwd=directory, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_profile_with_it_makes_a_plan_that_runs(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "infer.py").write_text(SCRIPT)
    # Whether it is faster depends on the machine; whether it is tried, right and measured doesn't.
    made = command(
        "profile", "--engine", "tracing", "--budget", "20", "--min-gain", "1.0", "infer.py", directory=tmp_path
    )
    assert made.returncode == 0, made.stderr
    plan: Any = msgspec.json.decode((tmp_path / "plan.json").read_bytes())
    assert plan["environment"]
    regions = [region for model in plan["models"] for region in model["regions"]]
    rejected = [each["reason"] for model in plan["models"] for each in model["rejected"]]
    assert {region["engine"] for region in regions} <= {"tracing"}
    assert regions or "not_faster" in rejected, rejected
    again = command("run", "--plan", "plan.json", "infer.py", directory=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "done [2, 16]" in again.stdout


def test_it_is_listed_with_the_others_and_answers(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "by_hand.py"
    script.write_text(
        "import paddle, autohybrid\n"
        "from autohybrid import engines\n"
        "assert 'tracing' in engines.available()\n"
        "layer = paddle.nn.Linear(4, 4)\n"
        "x = paddle.ones([2, 4])\n"
        "expected = layer(x)\n"
        "autohybrid.inference(layer, engine='tracing')\n"
        "with paddle.no_grad():\n"
        "    answers = [layer(x) for _ in range(5)]\n"
        "assert max(float((each - expected).abs().max()) for each in answers) < 1e-6\n"
        "(region,) = autohybrid.status(layer).regions\n"
        "assert region.hybrid_calls, region\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_without_it_the_name_is_unknown_and_the_message_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "infer.py").write_text("print('never')")
    ended = command("profile", "--engine", "tracing", "infer.py", directory=tmp_path)
    assert ended.returncode == 2
    assert "no engine 'tracing'" in ended.stderr
    assert "predictor" in ended.stderr
