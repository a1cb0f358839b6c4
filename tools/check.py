"""Runs every check: format, lint, types, tests. One command for people and for CI.

Usage: python tools/check.py [--fast]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Runs the checks one after another; returns 1 when one of them failed, after all have run."""
    python = sys.executable
    checks = [
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "mypy"],
        [python, "-m", "pytest", *(["-m", "not slow"] if "--fast" in sys.argv else [])],
    ]
    failed = []
    for check in checks:
        print("$", " ".join(check[1:]), flush=True)
        if subprocess.run(check, cwd=ROOT, check=False).returncode != 0:
            failed.append(" ".join(check[2:4]))
    if failed:
        print("failed: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
