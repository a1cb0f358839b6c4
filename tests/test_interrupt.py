"""A search that is interrupted, at whatever moment: a valid plan or none, and the next one goes on behind it."""

from __future__ import annotations

import random
from pathlib import Path

import commands
import pytest
from commands import AUTOHYBRID, SCRIPTS, autohybrid
from interrupt import Bench, interrupted, problems_of

from autohybrid import plan


def test_a_repeated_search_starts_from_what_the_first_one_learnt(tmp_path: Path) -> None:
    words = ["profile", "--force", "--budget", "10", str(SCRIPTS / "healthy.py")]
    first = autohybrid(*words, cwd=tmp_path)
    assert "earlier search" not in first.err + first.out
    assert plan.load(tmp_path / "plan.json").trials > 0
    again = autohybrid(*words, cwd=tmp_path)
    assert again.code == 0
    assert "known from an earlier search" in again.err
    assert "known from an earlier search" in again.out, "in the report"
    made = plan.load(tmp_path / "plan.json")
    assert made.trials == 0
    assert made.models[0].regions
    fresh = autohybrid("profile", "--fresh", *words[1:], cwd=tmp_path)
    assert "earlier search" not in fresh.err + fresh.out
    assert plan.load(tmp_path / "plan.json").trials > 0


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
