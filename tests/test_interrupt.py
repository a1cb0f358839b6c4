"""A search that is interrupted, at whatever moment: a valid plan or none, and the next one goes on behind it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import commands
import pytest
from commands import AUTOHYBRID, SCRIPTS, autohybrid
from interrupt import Bench, interrupted, problems_of

from autohybrid import plan


def test_a_repeated_search_starts_from_what_the_first_one_learnt(tmp_path: Path) -> None:
    words = ["profile", "--force", "--budget", "15", str(SCRIPTS / "healthy.py")]
    first = autohybrid(*words, cwd=tmp_path)
    assert "earlier search" not in first.err + first.out
    assert plan.load(tmp_path / "plan.json").trials > 0
    learnt = _converted_in(tmp_path)
    again = autohybrid(*words, cwd=tmp_path)
    assert again.code == 0
    assert "known from an earlier search" in again.err
    assert "known from an earlier search" in again.out, "in the report"
    made = plan.load(tmp_path / "plan.json")
    assert made.models[0].regions
    # On a slow machine the first one may have left something to try: it goes on behind that.
    known = _converted_in(tmp_path)
    assert known[: len(learnt)] == learnt
    assert len(known) == len(set(known)), "nothing is tried twice"
    assert made.trials >= len(known) - len(learnt)
    fresh = autohybrid("profile", "--fresh", *words[1:], cwd=tmp_path)
    assert "earlier search" not in fresh.err + fresh.out
    assert plan.load(tmp_path / "plan.json").trials > 0


def _converted_in(directory: Path) -> list[str]:
    """The keys of the trials that have come to a conversion, in their order, of one search's memory."""
    (memory,) = (directory / "store" / "journals").glob("*.jsonl")
    entries = [json.loads(line) for line in memory.read_text().splitlines() if line]
    return [entry["key"] for entry in entries if entry["outcome"]["type"] == "Converted"]


@pytest.mark.parametrize("terminated", [False, True], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_search_writes_the_best_that_was_proven(terminated: bool, tmp_path: Path) -> None:
    stopping = tmp_path / "script.py"
    stopping.write_text((SCRIPTS / "healthy.py").read_text() + INTERRUPTED_LATER)
    command = [*AUTOHYBRID, "profile", "--budget", "10", str(stopping)]
    found = commands.interrupted(command, tmp_path, lines=9, terminated=terminated)
    assert found.code == 130, found.err
    made = plan.load(tmp_path / "plan.json")
    assert made.models[0].regions
    assert made.models[0].confirmation is not None
    assert not made.complete
    assert "the best that had been confirmed" in found.out


INTERRUPTED_LATER = """

# Says in a line of its own that something has been confirmed.
from autohybrid.search.proofs import Proofs

noted = Proofs.note


def note(self, root, proven, *, complete):
    noted(self, root, proven, complete=complete)
    print("confirmed", flush=True)


Proofs.note = note
"""


@pytest.mark.slow
def test_at_random_moments_there_is_a_valid_plan_or_none_and_a_journal_to_go_on_behind(tmp_path: Path) -> None:
    bench = Bench(directory=tmp_path, command=[str(SCRIPTS / "healthy.py")], options=["--budget", "10"])
    assert problems_of(interrupted(bench, 3, random.Random(0))) == []
