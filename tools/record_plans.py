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

COMMANDS = {
    "autoencoder": ["tests/scripts/autoencoder.py"],
    "bad_conversions": ["--engine", "incubate", "--budget", "60", "tests/scripts/bad_conversions.py"],
    "chained": ["tests/scripts/chained.py"],
    "greedy_decode": ["--budget", "60", "profiles/greedy_decode/infer.py"],
    "small": ["profiles/small/infer.py"],
    "tagger": ["tests/scripts/tagger.py"],
    "wide": ["--engine", "predictor", "tests/scripts/wide.py"],
}
"""What is given to ``autohybrid profile``; the script comes last."""

PRIVATE = re.compile(r"(?:/[^\s/\"']+)+/(?=(?:site-packages|profiles|tests|tmp|autohybrid)/|autohybrid-)")


def main() -> int:
    """Writes a plan and its snapshots for each name, all of them without names."""
    words = sys.argv[1:]
    given = None
    if "--from" in words:
        place = words.index("--from")
        given = Path(words[place + 1])
        del words[place : place + 2]
    for name in words or [each for each in COMMANDS if given is None or (given / f"{each}.json").exists()]:
        made = plan.load(given / f"{name}.json") if given else _profiled(*COMMANDS[name])
        record(name, made)
    return 0


def record(name: str, made: plan.Plan) -> None:
    """Writes the plan without anything private, and what each format says of it."""
    content = _without_places(json.loads(plan.dump(made)))
    (RECORDED / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    for shown, text in reports(plan.load(RECORDED / f"{name}.json")).items():
        (RECORDED / f"{name}.{shown}").write_text(text + "\n", newline="")


def _profiled(*words: str) -> plan.Plan:
    *options, script = words
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "plan.json"
        name = Path(script).name
        command = [sys.executable, "-m", "autohybrid", "profile", "--fresh", "-o", str(place), *options, name]
        subprocess.run(command, cwd=(ROOT / script).parent, check=True, stdout=subprocess.DEVNULL)
        return plan.load(place)


def _without_places(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _without_places(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_without_places(value) for value in part]
    return PRIVATE.sub("/", part) if isinstance(part, str) else part


if __name__ == "__main__":
    sys.exit(main())
