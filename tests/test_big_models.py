"""Models of large packages, in small: profiled as scripts, and run with their plans.

Skipped where the package is missing. Each needs an environment of its own (``pip install paddleclas``; ``pip install
ppdiffusers``), since what they ask of other packages differs.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from commands import SCRIPTS, autohybrid, run_plainly

from autohybrid import plan


@pytest.mark.heavy
@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "package", "class_name"),
    [("convnext.py", "paddleclas", "ConvNeXt"), ("dit.py", "ppdiffusers", "Transformer2DModel")],
)
def test_a_model_of_a_large_package_is_converted_right_and_faster(
    script: str, package: str, class_name: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    made = autohybrid(
        "profile", "--budget", "90", "--report", "report.txt", SCRIPTS / script, cwd=tmp_path, seconds=900.0
    )
    assert made.code == 0, made.err
    written = plan.load(tmp_path / "plan.json")
    (model,) = [each for each in written.models if each.class_name == class_name]
    assert model.regions
    confirmation = model.confirmation
    assert confirmation is not None
    assert confirmation.comparison().low >= 1.05
    plain = run_plainly(SCRIPTS / script, tmp_path)
    hybrid = autohybrid("run", "--plan", "plan.json", SCRIPTS / script, cwd=tmp_path, seconds=300.0)
    assert hybrid.code == 0, hybrid.err
    answer, same = (float(each.out.rsplit("mean square", 1)[1]) for each in (plain, hybrid))
    assert same == pytest.approx(answer, rel=1e-3)
