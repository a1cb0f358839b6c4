"""The whole script, run again with and without its plan: whether that may be done, and what comes of it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import plans
import pytest
from commands import SCRIPTS, autohybrid

from autohybrid import plan
from autohybrid.cli import whole
from autohybrid.cli.job import Job
from autohybrid.observe.deeds import Deeds
from autohybrid.report import rows

JOB = Job(action="profile", target="script.py", arguments=[], is_module=False)


def _writes(place: Path) -> None:
    (place / "answers.txt").write_text("1")


def _listens(_: Path) -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))


DEEDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "writes": (_writes, "it wrote to files (answers.txt)"),
    "renames": (lambda place: (place / "there").rename(place / "here"), "it wrote to files (there)"),
    "starts a process": (lambda _: subprocess.run([sys.executable, "--version"], check=True), "it started a process"),
    "listens": (_listens, "it used a socket"),
}


@pytest.mark.parametrize("name", DEEDS)
def test_what_a_script_does_beyond_computing_is_noted(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    deed, words = DEEDS[name]
    with Deeds() as deeds:
        deed(tmp_path)
    assert deeds.obstacle == words


def test_reading_and_importing_are_no_deeds(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("1")
    with Deeds() as deeds:
        (tmp_path / "weights").read_text()
        import wave  # noqa: F401 - a module of Python's that nothing here has imported yet
    assert deeds.obstacle == ""


def _made(*, outside: float, regions: bool = True, **changes: Any) -> plan.Plan:
    """A plan whose script spends the share ``outside`` of its time outside its one root."""
    made = plans.example()
    model = made.models[0] if regions else msgspec.structs.replace(made.models[0], regions=[])
    inside = model.seconds_per_call * (model.calls + model.training_calls)
    script = plan.Script(command=["script.py"], seconds=inside / (1.0 - outside), exit_code=0)
    fields = {"models": [model], "script": script, **changes}
    return msgspec.structs.replace(made, **fields)


class _Runs:
    """Stands for runs of the script, which take the seconds given and end with the codes given."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, eager: float, hybrid: float, codes: tuple[int, int] = (0, 0)
    ):
        self.made: list[bool] = []
        self.now = 1000.0
        self.slower_from = 1 << 30

        def run(runs: Any, *, applied: bool, code: int | None = None) -> tuple[int, float]:
            self.made.append(applied)
            seconds = (hybrid if applied else eager) * (3.0 if len(self.made) >= self.slower_from else 1.0)
            self.now += seconds
            if self.now > runs.ends:
                raise subprocess.TimeoutExpired("script.py", seconds)
            found = codes[applied]
            if code is not None and found != code:
                raise whole.Unlike(f"with the plan it ended with exit code {found}, not {code}")
            return found, seconds

        monkeypatch.setattr(whole.Runs, "_run", run)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def _confirmed(made: plan.Plan, tmp_path: Path, obstacle: str = "", **changes: Any) -> plan.Plan:
    return whole.confirmed(made, msgspec.structs.replace(JOB, **changes), obstacle, tmp_path / "plan.json")


def _long(**changes: Any) -> plan.Plan:
    made = _made(outside=0.5)
    return msgspec.structs.replace(
        made, settings=msgspec.structs.replace(made.settings, budget_seconds=1000.0), search_seconds=1.0, **changes
    )


def test_a_faster_script_is_measured_until_that_is_sure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = _Runs(monkeypatch, eager=4.0, hybrid=3.0)
    made = _confirmed(_long(), tmp_path)
    assert made.whole_script is not None
    assert made.whole_script.comparison().verdict(1.0) == "faster"
    assert len(made.whole_script.eager) < whole.MOST_PAIRS
    # In turn, the other way round each time, behind a first pair that isn't counted.
    assert runs.made[:6] == [False, True, False, True, True, False]
    assert "1.33x as fast" in rows.script_sentence(made)


def test_a_slower_script_is_said_to_be_slower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _Runs(monkeypatch, eager=3.0, hybrid=4.0)
    assert "The whole script is slower with it: 0.75x" in rows.script_sentence(_confirmed(_long(), tmp_path))


def test_few_pairs_are_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _Runs(monkeypatch, eager=100.0, hybrid=90.0)
    made = _confirmed(_long(), tmp_path)
    assert made.whole_script is not None
    assert len(made.whole_script.eager) == 4
    assert "in 4 pairs of runs: not enough to be sure" in rows.script_sentence(made)


def test_the_budget_bounds_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = _Runs(monkeypatch, eager=200.0, hybrid=200.0)
    made = _confirmed(_long(), tmp_path)
    assert made.whole_script is None
    assert made.notes[-1] == "The whole script was not measured: the budget was used up."
    assert len(runs.made) == 2


def test_a_run_that_is_cut_off_takes_nothing_from_those_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = _Runs(monkeypatch, eager=100.0, hybrid=90.0)
    runs.slower_from = 10
    made = _confirmed(_long(), tmp_path)
    assert made.whole_script is not None
    assert len(made.whole_script.eager) == len(made.whole_script.hybrid) == 3


def test_another_exit_code_with_the_plan_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _Runs(monkeypatch, eager=2.0, hybrid=1.0, codes=(0, 3))
    made = _confirmed(_long(), tmp_path)
    assert made.whole_script is None
    assert "exit code 3, not 0" in made.notes[-1]


@pytest.mark.parametrize(
    ("made", "obstacle", "told"),
    [
        (_long(), "it wrote to files (a.txt)", "it wrote to files (a.txt)"),
        (_made(outside=0.05), "", ""),
        (_made(outside=0.5, regions=False), "", ""),
    ],
    ids=["a deed", "all time at the roots", "nothing to change"],
)
def test_a_script_is_run_again_only_where_it_may_and_tells(
    made: plan.Plan, obstacle: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = _Runs(monkeypatch, eager=2.0, hybrid=1.0)
    confirmed = _confirmed(made, tmp_path, obstacle)
    assert not runs.made
    assert confirmed.whole_script is None
    assert (told in confirmed.notes[-1]) if told else confirmed.notes == made.notes


def test_rerun_allows_it_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _Runs(monkeypatch, eager=2.0, hybrid=1.0)
    assert _confirmed(_long(), tmp_path, "it read stdin", rerun=True).whole_script is not None


def test_a_script_that_trained_is_not_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = _Runs(monkeypatch, eager=2.0, hybrid=1.0)
    made = _long()
    trained = msgspec.structs.replace(made.models[0], training_calls=3)
    seconds = made.script.seconds * 10 if made.script else 0.0
    script = plan.Script(command=["script.py"], seconds=seconds, exit_code=0)
    confirmed = _confirmed(msgspec.structs.replace(made, models=[trained], script=script), tmp_path)
    assert not runs.made
    assert "it trained" in confirmed.notes[-1]


@pytest.mark.slow
def test_a_real_script_is_measured_as_a_whole(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    text = (SCRIPTS / "healthy.py").read_text()
    script.write_text(f"{text}\nimport time\ntime.sleep(1.0)\n")
    made = autohybrid("profile", "--budget", "70", "--report", "report.txt", script, cwd=tmp_path, seconds=300.0)
    assert made.code == 0, made.err
    written = plan.load(tmp_path / "plan.json")
    if not written.recommends_change:
        pytest.skip("the machine is too busy to prove any gain")
    assert written.whole_script is not None, written.notes
    assert min(written.whole_script.eager + written.whole_script.hybrid) > 1.0
    assert "script, hybrid" in (tmp_path / "report.txt").read_text()
