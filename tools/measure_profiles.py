"""Profiles the workloads of ``profiles/`` and puts their reports into ``profiles/README.md``.

Usage: python tools/measure_profiles.py [NAME ...]    # all of them without a name
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / "profiles"
HEADING = "## Measured reports\n"
INTRODUCTION = (
    "Each by the command above it, one after another on an otherwise idle machine, by "
    "`python tools/measure_profiles.py`.\nThe samples behind the numbers are in the plan that the command writes.\n"
)

WORKLOADS: dict[str, list[str]] = {
    "example_layer": ["train_infer.py"],
    "resnet50": ["infer.py"],
    "resnet50, batch 4": ["infer.py", "--batch", "4"],
    "mobilenet_v3": ["infer.py"],
    "mobilenet_v3, batch 4": ["infer.py", "--batch", "4"],
    "transformer_blocks": ["infer.py"],
    "encoder_decoder": ["infer.py"],
    "greedy_decode": ["infer.py"],
    "small": ["infer.py"],
    "ppocr_rec": ["infer.py"],
}


def measured(name: str) -> str:
    """The workload's command and its report, as a part of the page."""
    folder = HOME / name.partition(",")[0]
    command = ["profile", *WORKLOADS[name]]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.txt")
        files = ["-o", str(Path(scratch, "plan.json")), "--report", str(report)]
        subprocess.run(
            [sys.executable, "-m", "autohybrid", command[0], "--fresh", *files, *command[1:]],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        text = report.read_text(encoding="utf-8")
    return f"### {name}\n\n```\n$ autohybrid {' '.join(command)}\n{text}```\n"


def main() -> None:
    """Measures what was asked for; parts of the page about other workloads stay."""
    page = HOME / "README.md"
    before, _, after = page.read_text(encoding="utf-8").partition(HEADING)
    parts = {part.partition("\n")[0]: f"### {part.rstrip()}\n" for part in after.split("\n### ")[1:]}
    for name in sys.argv[1:] or WORKLOADS:
        print(name, flush=True)
        parts[name] = measured(name)
    listed = "\n".join(parts[name] for name in WORKLOADS if name in parts)
    page.write_text(f"{before.rstrip()}\n\n{HEADING}\n{INTRODUCTION}\n{listed}", encoding="utf-8")


if __name__ == "__main__":
    main()
