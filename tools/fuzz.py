"""The differential fuzzer for a length of time.

python tools/fuzz.py --seconds 600 [--engine onnxruntime]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


def main() -> int:
    """Runs examples until the time is over; 1 when one differs."""
    from hazards.fuzz import Call, Change, Program, first_difference
    from hypothesis import HealthCheck, given, settings
    from test_fuzz import PROGRAMS, STEPS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--engine", help="what converts  [default: as autohybrid.inference chooses]")
    chosen = parser.parse_args()
    deadline = time.monotonic() + chosen.seconds
    counted = 0

    @settings(max_examples=4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(PROGRAMS, STEPS)
    def batch(program: Program, steps: list[tuple[Call, Change | None]]) -> None:
        nonlocal counted
        counted += 1
        assert not first_difference(program, steps, chosen.engine)

    warnings.simplefilter("ignore")
    while time.monotonic() < deadline:
        batch()
    print(f"{counted} examples, no difference")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
