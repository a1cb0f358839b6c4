"""Renews the plans that the tests of the reports show: real profiles of real scripts, and their reports as snapshots.

Usage: python tools/record_plans.py [NAME...] [--from DIRECTORY]

Without ``--from`` the scripts are profiled again, which takes some minutes; with it plans that were made before are
taken from there, NAME.json. What is particular to this machine is left out: directories. After a change of what reports
say, only the snapshots need to be made again: ``--from tests/recorded``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from recordings import RECORDED, reports  # noqa: E402

from autohybrid import plan  # noqa: E402

SCRIPTS = {
    "bad_conversions": ROOT / "tests" / "scripts" / "bad_conversions.py",
    "greedy_decode": ROOT / "profiles" / "greedy_decode" / "infer.py",
    "encoder_decoder": ROOT / "profiles" / "encoder_decoder" / "infer.py",
    "small": ROOT / "profiles" / "small" / "infer.py",
}

PRIVATE = re.compile(r"(?:/[^\s/\"']+)+/(?=(?:site-packages|profiles|tests|tmp)/|autohybrid-)")


def main() -> int:
    """Writes a plan and its snapshots for each name, all of them without names."""
    words = sys.argv[1:]
    given = None
    if "--from" in words:
        place = words.index("--from")
        given = Path(words[place + 1])
        del words[place : place + 2]
    for name in words or SCRIPTS:
        made = plan.load(given / f"{name}.json") if given else _profiled(SCRIPTS[name])
        record(name, made)
    return 0


def record(name: str, made: plan.Plan) -> None:
    """Writes the plan without anything private, and what each format says of it."""
    content = _without_places(json.loads(plan.dump(made)))
    (RECORDED / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    for shown, text in reports(plan.load(RECORDED / f"{name}.json")).items():
        (RECORDED / f"{name}.{shown}").write_text(text + "\n", newline="")


def _profiled(script: Path) -> plan.Plan:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "plan.json"
        command = [sys.executable, "-m", "autohybrid", "profile", "-o", str(place), script.name]
        subprocess.run(command, cwd=script.parent, check=True, stdout=subprocess.DEVNULL)
        return plan.load(place)


def _without_places(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _without_places(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_without_places(value) for value in part]
    return PRIVATE.sub("/", part) if isinstance(part, str) else part


if __name__ == "__main__":
    sys.exit(main())
