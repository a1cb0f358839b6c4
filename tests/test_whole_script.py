"""Whether a script may be run again, and what running it again says of its plan."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import plans
import pytest

from autohybrid import plan
from autohybrid.cli import job as jobs
from autohybrid.cli import whole
from autohybrid.observe.deeds import Deeds
from autohybrid.report import comma_separated, data, html, markdown, rows, table

SLOWER = plan.Samples(eager=[1.0] * 12, hybrid=[2.0] * 12)
FASTER = plan.Samples(eager=[2.0] * 12, hybrid=[1.0] * 12)


def _deeds(code: str, tmp_path: Path, stdin: str = "") -> str:
    """What keeps this code from being run again; audit hooks stay for good, hence a process of its own."""
    script = tmp_path / "deeds.py"
    script.write_text(
        "from autohybrid.observe.deeds import Deeds\nimport os, socket, subprocess, sys\n"
        f"with Deeds() as deeds:\n    {code}\nprint('obstacle:' + deeds.obstacle)\n"
    )
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, input=stdin, capture_output=True, text=True, check=True
    )
    return done.stdout.rpartition("obstacle:")[2].strip()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("open('made.txt', 'w').close()", "it wrote to files (made.txt)"),
        ("open('made.txt', 'a').close()", "it wrote to files (made.txt)"),
        ("os.mkdir('made')", "it wrote to files (made)"),
        ("os.rename('deeds.py', 'other.py')", "it wrote to files (deeds.py)"),
        ("input()", "it read stdin"),
        ("sys.stdin.readline()", "it read stdin"),
        ("sys.stdin.buffer.read(1)", "it read stdin"),
        ("subprocess.run(['true'])", "it started a process"),
        ("os.system('true')", "it started a process"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 0))", "it used a socket"),
        ("print(open('deeds.py').read()[:4])", ""),
        ("open(os.devnull, 'w').close()", ""),
        ("print('only this')", ""),
    ],
)
def test_deeds_that_forbid_another_run_are_seen(code: str, said: str, tmp_path: Path) -> None:
    assert _deeds(code, tmp_path, stdin="a line\n") == said


def test_what_comes_after_the_script_is_not_its_deed(tmp_path: Path) -> None:
    with Deeds() as deeds:
        pass
    (tmp_path / "later").write_text("")
    assert deeds.obstacle == ""


def _job(script: Path) -> jobs.Job:
    return jobs.Job(action="profile", target=str(script), arguments=[], is_module=False)


def _mostly_outside(**changes: object) -> plan.Plan:
    return plans.whole([plans.model([plans.region("body", "x")])], **changes)


def test_a_script_that_must_not_be_run_again_is_not(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("open('ran', 'w')")
    made = whole.confirmed(_mostly_outside(), _job(script), "it wrote to files (ran)", tmp_path / "plan.json")
    assert made.whole_script is None
    assert "it wrote to files" in made.notes[-1]
    assert "--rerun" in made.notes[-1]


def test_a_script_that_trained_is_not_run_again(tmp_path: Path) -> None:
    trained = plans.whole([plans.model([plans.region("body", "x")], training_calls=1)])
    made = whole.confirmed(trained, _job(tmp_path / "script.py"), "", tmp_path / "plan.json")
    assert "it trained" in made.notes[-1]


def test_a_script_that_is_all_root_is_not_run_again(tmp_path: Path) -> None:
    inside = plans.whole([plans.model([plans.region("body", "x")], seconds_per_call=0.099)])
    assert whole.confirmed(inside, _job(tmp_path / "script.py"), "", tmp_path / "plan.json") == inside


def test_without_a_budget_that_is_enough_nothing_is_said_of_the_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import time; time.sleep(60)")
    short = _mostly_outside(settings=msgspec.structs.replace(plans.SETTINGS, budget_seconds=2.5))
    started = time.monotonic()
    made = whole.confirmed(short, _job(script), "", tmp_path / "plan.json")
    assert time.monotonic() - started < 30.0
    assert made.whole_script is None
    assert "budget" in made.notes[-1]


class _Clockwork(whole.Runs):
    """Runs that take no time and say what they are told."""

    hybrid = 1.0

    def _run(self, *, applied: bool) -> float:
        return self.hybrid if applied else 1.0


def _clockwork(hybrid: float) -> plan.Samples:
    runs = _Clockwork(job=_job(Path("x")), plan_file=Path("p"), ends=time.monotonic() + 1e6, min_gain=1.05)
    type(runs).hybrid = hybrid
    return runs.in_turn()


def test_pairs_go_on_until_there_is_a_verdict() -> None:
    for hybrid, verdict in ((0.5, "faster"), (1.0, "same"), (2.0, "slower")):
        found = _clockwork(hybrid)
        assert found.comparison().verdict(1.05) == verdict
        assert whole.FEWEST_PAIRS < len(found.eager) < whole.MOST_PAIRS


def test_another_exit_code_with_the_plan_is_no_measurement(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; sys.exit('autohybrid' in sys.modules)")
    plan.save(plans.example(), tmp_path / "plan.json")
    made = whole.confirmed(_mostly_outside(settings=_with_budget(240.0)), _job(script), "", tmp_path / "plan.json")
    assert made.whole_script is None
    assert "exit code" in made.notes[-1]


def _with_budget(seconds: float) -> plan.Settings:
    return msgspec.structs.replace(plans.SETTINGS, budget_seconds=seconds)


def test_a_slower_script_is_in_the_headline_with_break_even() -> None:
    said = rows.headline(_mostly_outside(whole_script=SLOWER))
    assert "as a whole is slower (0.50x)" in said
    assert "pays after 101 calls; this script makes 10" in said
    assert "as a whole" not in rows.headline(_mostly_outside(whole_script=FASTER))
    unclear = plan.Samples(eager=[1.0] * 3, hybrid=[1.0] * 3)
    assert "isn't proven faster" in rows.headline(_mostly_outside(whole_script=unclear))


def test_every_format_has_the_whole_script() -> None:
    made = _mostly_outside(whole_script=SLOWER)
    for text in (table.render(made), markdown.render(made), html.render(made)):
        assert "script, hybrid" in text
        assert "slower: 12 pairs of whole processes" in text
    assert '"verdict": "slower"' in data.render(made)
    assert "(whole script),,script,,slower" in comma_separated.render(made)
