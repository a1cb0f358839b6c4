"""Writes the plan's published JSON Schema from the classes that read plans.

Usage: python tools/write_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path

from autohybrid import plan

PLACE = Path(__file__).resolve().parent.parent / "autohybrid" / "plan" / "schema.json"


def main() -> None:
    """Replaces the published schema by the one of this version."""
    PLACE.write_text(json.dumps(plan.json_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
