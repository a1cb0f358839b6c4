"""The command line as a user meets it, in processes of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import commands
import plans
import pytest
from commands import AUTOHYBRID, SCRIPTS, autohybrid, run, run_in_terminal

from autohybrid import plan
from autohybrid.cli import _COMMANDS

SNAPSHOTS = Path(__file__).parent / "snapshots"
PYTHON = (sys.executable,)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with the scripts in it."""
    for script in SCRIPTS.glob("*.py"):
        shutil.copy(script, tmp_path)
    return tmp_path


def _dry(*words: str) -> list[str]:
    return [*AUTOHYBRID, "profile", "--dry-run", "--report", "report.txt", *words]


@pytest.mark.parametrize(
    "command", ["", *_COMMANDS, *(f"cache {each}" for each in ("list", "verify", "clear", "warm"))]
)
def test_the_help_text_is_as_it_was_agreed(command: str, here: Path) -> None:
    found = autohybrid(*command.split(), "--help", cwd=here)
    snapshot = SNAPSHOTS / f"{'-'.join(['help', *command.split()])}.txt"
    assert found.code == 0
    assert found.out == snapshot.read_text(), f"if this is wanted, write it to {snapshot.name}"


def test_the_version_is_told(here: Path) -> None:
    assert autohybrid("--version", cwd=here).out == "autohybrid, version 0.1.0\n"


# A script behaves as it does without us.

WAYS = [
    ["echo.py", "--flag", "-o", "x", "--", "a b"],
    ["sub/echo.py"],
    ["-m", "echo", "1"],
    ["-m", "package", "-m", "2"],
]


@pytest.fixture
def everywhere(here: Path) -> Path:
    """The scripts in the directory, in one below it, and as a package."""
    (here / "sub").mkdir()
    (here / "package").mkdir()
    for script in ("echo.py", "neighbour.py"):
        shutil.copy(here / script, here / "sub")
    shutil.copy(here / "echo.py", here / "package" / "__main__.py")
    (here / "package" / "__init__.py").write_text('NAME = "a package"\n')
    return here


@pytest.mark.parametrize("words", WAYS, ids=lambda words: " ".join(words[:2]))
def test_a_profiled_script_sees_and_writes_what_it_does_alone(words: list[str], everywhere: Path) -> None:
    alone = run([*PYTHON, *words], everywhere, stdin="typed\n")
    found = run(_dry(*words), everywhere, stdin="typed\n")
    assert alone.code == 0, alone.err
    assert found.out == alone.out
    assert found.code == 0
    assert "Ranked only" in (everywhere / "report.txt").read_text()


def test_a_script_on_a_terminal_writes_what_it_writes_alone(here: Path) -> None:
    alone = run_in_terminal([*PYTHON, "echo.py"], here)
    assert b'"terminal": [true, true]' in alone
    assert run_in_terminal(_dry("echo.py"), here) == alone


def test_without_a_report_file_the_report_follows_the_scripts_own_output(here: Path) -> None:
    alone = run([*PYTHON, "echo.py"], here)
    found = autohybrid("profile", "--dry-run", "echo.py", cwd=here)
    assert found.out.startswith(alone.out + "\n")
    assert "Ranked only" in found.out[len(alone.out) :]
    assert not (here / "plan.json").exists()


def test_progress_is_quiet_when_stderr_is_no_terminal(here: Path) -> None:
    assert run(_dry("echo.py"), here).error_lines == []


@pytest.mark.parametrize(("code", "told"), [("0", 0), ("-1", 3), ("told why", 3)])
def test_an_exit_code_of_the_scripts_own_is_told(code: str, told: int, here: Path) -> None:
    alone = run([*PYTHON, "echo.py", "--exit", code], here)
    found = autohybrid("profile", "--dry-run", "-o", "p.json", "echo.py", "--exit", code, cwd=here)
    assert found.code == told
    assert found.out.startswith(alone.out)
    if told:
        assert f"exit code {alone.code}" in found.err
        assert not (here / "p.json").exists()
        assert "Linear" in found.out, "what was seen is reported all the same"


def test_a_script_that_raises_is_reported_as_the_scripts_failure(here: Path) -> None:
    alone = run([*PYTHON, "raising.py"], here)
    found = autohybrid("profile", "--budget", "5", "raising.py", cwd=here)
    assert found.code == 3
    start = found.err.index("Traceback")
    assert found.err[start:].startswith(alone.err[alone.err.index("Traceback") :].rstrip())
    assert "autohybrid/" not in found.err[start:]
    assert "raising.py failed with exit code 1; no plan was written." in found.err
    assert not (here / "plan.json").exists()


def test_ctrl_c_ends_the_script_and_leaves_a_report(here: Path) -> None:
    found = commands.interrupted([*AUTOHYBRID, "profile", "endless.py"], here, lines=12)
    assert found.code == 130
    assert "KeyboardInterrupt" in found.err
    assert "Linear" in found.out
    assert "Ranked only" in found.out
    assert not (here / "plan.json").exists()


@pytest.mark.parametrize("command", [["profile"], ["run", "--plan", "p.json"]], ids=["profile", "run"])
def test_a_command_that_is_terminated_leaves_no_process_behind(command: list[str], here: Path) -> None:
    plan.save(plans.example(), here / "p.json")
    found = commands.interrupted([*AUTOHYBRID, *command, "endless.py"], here, lines=12, terminated=True)
    assert found.code == (3 if command[0] == "profile" else 143)


@pytest.mark.slow
def test_ctrl_c_ends_the_search_and_leaves_a_report(here: Path) -> None:
    command = [*AUTOHYBRID, "profile", "bad_conversions.py"]
    found = commands.interrupted(command, here, lines=4, pause=4.0)
    assert found.code == 130
    assert "Mixed" in found.out


def test_an_interrupted_search_ends_with_the_code_for_it_and_writes_nothing(here: Path) -> None:
    command = [*AUTOHYBRID, "profile", "bad_conversions.py"]
    found = commands.interrupted(command, here, lines=4, pause=4.0)
    assert found.code == 130
    assert not (here / "plan.json").exists()
    assert not any("Traceback" in line for line in found.error_lines)


# What is wrong is said in a line, with what to do about it.


def _one_line(found: commands.Run, code: int, *parts: str) -> None:
    assert found.code == code, found.err
    assert found.error_lines[-1].startswith("Error: ")
    assert not any("Traceback" in line for line in found.error_lines)
    assert len(found.error_lines) == 1, found.err
    for part in parts:
        assert part in found.error_lines[0]


def test_a_missing_script(here: Path) -> None:
    _one_line(autohybrid("profile", "none.py", cwd=here), 2, "'none.py'", "Give the path")
    _one_line(autohybrid("profile", cwd=here), 2, "No script was given", "Example")
    _one_line(autohybrid("profile", "-m", "no_such_module", cwd=here), 3, "no_such_module", "Is it installed")


def test_a_script_that_calls_no_layer(here: Path) -> None:
    found = autohybrid("profile", "idle.py", cwd=here)
    _one_line(found, 3, "idle.py calls no Layer in inference", "Profile a script")
    assert found.out == "2.0\n"
    assert not (here / "plan.json").exists()


def test_a_script_that_is_no_python(here: Path) -> None:
    (here / "broken.py").write_text("def f(:\n")
    found = autohybrid("profile", "broken.py", cwd=here)
    assert found.code == 3
    assert "SyntaxError" in found.err
    assert "Error: The script 'broken.py' isn't valid Python." in found.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--budget", "0"], "--budget"),
        (["--budget", "-3"], "--budget"),
        (["--min-gain", "0.5"], "--min-gain"),
        (["--rtol", "-1"], "--rtol"),
        (["--max-calls", "0"], "--max-calls"),
        (["--max-memory", "0"], "--max-memory"),
        (["-o", "no/such/directory/plan.json"], "no/such/directory"),
        (["--report", "no/such/directory/report"], "no/such/directory"),
    ],
)
def test_an_option_without_sense_is_refused_before_the_script_runs(words: list[str], part: str, here: Path) -> None:
    found = autohybrid("profile", *words, "echo.py", cwd=here)
    _one_line(found, 2, part)
    assert found.out == ""


def test_an_unknown_engine_is_refused_with_the_list_of_those_that_are_there(here: Path) -> None:
    _one_line(autohybrid("profile", "--engine", "nonsense", "echo.py", cwd=here), 2, "'nonsense'", "incubate")


def test_an_unknown_engine_is_refused_before_the_script_runs(here: Path) -> None:
    assert autohybrid("profile", "--engine", "nonsense", "echo.py", cwd=here).out == ""


def test_an_existing_plan_is_not_overwritten_and_the_script_not_run(here: Path) -> None:
    place = here / "plan.json"
    place.write_text("mine")
    found = autohybrid("profile", "echo.py", cwd=here)
    _one_line(found, 2, "plan.json exists already", "--force")
    assert found.out == ""
    assert place.read_text() == "mine"


def test_a_plan_is_overwritten_only_by_a_plan(here: Path) -> None:
    place = here / "plan.json"
    place.write_text("mine")
    assert autohybrid("profile", "--force", "--budget", "1", "raising.py", cwd=here).code == 3
    assert place.read_text() == "mine"
    assert autohybrid("profile", "--dry-run", "--force", "-o", "plan.json", "echo.py", cwd=here).code == 0
    assert plan.load(place).models


def test_a_directory_that_is_in_the_way_is_not_removed(here: Path) -> None:
    (here / "plan.repro").mkdir()
    (here / "plan.repro" / "mine.txt").write_text("mine")
    autohybrid("profile", "--dry-run", "-o", "plan.json", "echo.py", cwd=here)
    assert (here / "plan.repro" / "mine.txt").exists()


def _changed(**changes: Any) -> str:
    content = json.loads(plan.dump(plans.example()))
    content.update(changes)
    return json.dumps(content)


def _with_path(path: str) -> str:
    content = json.loads(plan.dump(plans.example()))
    content["models"][0]["regions"][0]["path"] = path
    return json.dumps(content)


BROKEN_PLANS = {
    "not JSON": ("{", "isn't JSON"),
    "wrong version": (_changed(schema_version=99), "schema_version 99"),
    "unknown field": (_changed(colour="red"), "colour"),
    "path not there": (_with_path("no.such"), "'no.such'"),
}


@pytest.mark.parametrize("name", BROKEN_PLANS)
@pytest.mark.parametrize(
    "command", [["report", "p.json"], ["run", "--plan", "p.json", "echo.py"]], ids=["report", "run"]
)
def test_a_broken_plan(name: str, command: list[str], here: Path) -> None:
    text, part = BROKEN_PLANS[name]
    (here / "p.json").write_text(text)
    found = autohybrid(*command, cwd=here)
    _one_line(found, 4, part, "p.json", "autohybrid")
    assert found.out == ""
    assert (here / "p.json").read_text() == text


def test_a_plan_with_an_engine_that_is_not_there_is_refused_before_the_script_runs(here: Path) -> None:
    entry = plans.model([plans.region("body", None, engine="nonsense")])
    plan.save(plans.whole([entry]), here / "p.json")
    found = autohybrid("run", "--plan", "p.json", "echo.py", cwd=here)
    _one_line(found, 4, "'nonsense'", "'body'", "Installed: incubate")
    assert found.out == ""


def test_a_missing_plan(here: Path) -> None:
    for command in (["report", "p.json"], ["run", "--plan", "p.json", "echo.py"]):
        _one_line(autohybrid(*command, cwd=here), 4, "p.json", "'autohybrid profile SCRIPT' writes one")


def test_a_result_that_cannot_be_written_is_told_before_the_script_runs(here: Path) -> None:
    plan.save(plans.example(), here / "p.json")
    found = autohybrid("bench", "--plan", "p.json", "-o", "no/such/directory/b.json", "raising.py", cwd=here)
    _one_line(found, 2, "no/such/directory", "another place")


# Reports of a plan.


def test_a_report_comes_in_each_format(here: Path) -> None:
    plan.save(plans.example(), here / "p.json")
    table = autohybrid("report", "p.json", cwd=here)
    assert table.out == (SNAPSHOTS / "report-table.txt").read_text()
    markdown = autohybrid("report", "p.json", "--format", "markdown", cwd=here)
    assert markdown.out == (SNAPSHOTS / "report-markdown.txt").read_text()
    content = json.loads(autohybrid("report", "p.json", "--format", "json", cwd=here).out)
    assert content["schema_version"] == plan.SCHEMA_VERSION
    assert content["models"][0]["regions"][0]["derived"]["speedup"] == 2.0
    assert content["models"][0]["confirmation"]["derived"]["verdict"] == "faster"


def test_an_unknown_format_is_a_usage_error(here: Path) -> None:
    plan.save(plans.example(), here / "p.json")
    found = autohybrid("report", "p.json", "--format", "nonsense", cwd=here)
    assert found.code == 2
    assert "'nonsense' is not one of 'table', 'markdown', 'json', 'csv', 'html'" in found.err


# The whole way: profile, plan, run.


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a script that converts well was profiled."""
    directory = tmp_path_factory.mktemp("healthy")
    shutil.copy(SCRIPTS / "healthy.py", directory)
    found = autohybrid("profile", "--budget", "30", "--report", "report.txt", "healthy.py", cwd=directory)
    assert found.code == 0, found.err
    return directory


@pytest.mark.slow
def test_a_model_that_converts_well_gets_a_plan(healthy: Path) -> None:
    made = plan.load(healthy / "plan.json")
    (model,) = made.models
    assert model.class_name == "Classifier"
    assert model.confirmation is not None
    assert model.confirmation.verdict() == "faster"
    assert model.regions
    assert made.complete
    assert model.calls == 8
    assert "x as fast" in (healthy / "report.txt").read_text()
    assert not (healthy / "plan.repro").exists()


@pytest.mark.slow
def test_a_script_answers_the_same_with_its_plan_and_says_so_on_stderr_only(healthy: Path) -> None:
    alone = run([*PYTHON, "healthy.py"], healthy)
    found = autohybrid("run", "--plan", "plan.json", "healthy.py", cwd=healthy)
    assert found.code == 0
    numbers = [[json.loads(line) for line in each.out.splitlines()] for each in (alone, found)]
    assert len(numbers[0]) == len(numbers[1]) == 8
    assert all(abs(a - b) < 2e-3 for one, other in zip(*numbers, strict=True) for a, b in zip(one, other, strict=True))
    told = re.search(r"autohybrid: (\d+) of \d+ calls of \d+ regions? were hybrid", found.err)
    assert told is not None
    assert int(told[1]) > 0


@pytest.mark.slow
def test_run_passes_the_scripts_own_exit_code_and_traceback_on(healthy: Path, here: Path) -> None:
    place = healthy / "plan.json"
    assert autohybrid("run", "--plan", place, "echo.py", "--exit", "7", cwd=here).code == 7
    found = autohybrid("run", "--plan", place, "raising.py", cwd=here)
    assert found.code == 1
    assert "LookupError: the script's own fault" in found.err
    assert "no region of the plan was used" in found.err


KNOWN = """
import os, signal, sys, paddle
layer = paddle.nn.Linear(4, 4)
layer.eval()
for _ in range(5):
    layer(paddle.ones([2, 4]))
how = sys.argv[1]
if how == "raise":
    raise LookupError("the script's own fault")
if how == "interrupt":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    signal.raise_signal(signal.SIGINT)
if how == "deaf":
    sys.stderr.close()
sys.exit({"exit": 7, "deaf": 9}.get(how, 0))
"""


@pytest.mark.parametrize(("how", "code"), [("", 0), ("exit", 7), ("raise", 1), ("interrupt", 130), ("deaf", 9)])
def test_however_a_script_ends_run_tells_what_it_did_and_exits_alike(how: str, code: int, here: Path) -> None:
    (here / "known.py").write_text(KNOWN)
    plan.save(plans.whole([plans.model([plans.region("body", None)])]), here / "p.json")
    found = autohybrid("run", "--plan", "p.json", "known.py", how, cwd=here)
    assert found.code == code
    assert found.out == ""
    assert ("autohybrid: no region of the plan was used" in found.err) == (how != "deaf")
    quiet = autohybrid("run", "-q", "--plan", "p.json", "known.py", how, cwd=here)
    assert quiet.code == code
    assert "autohybrid: " not in quiet.err


# Conversions that go wrong, each in its own way.


def _reasons(made: plan.Plan) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in made.models[0].rejected:
        found.setdefault(row.path, set()).add(row.reason)
    return found


def _check_bad_conversions(made: plan.Plan) -> None:
    reasons = _reasons(made)
    assert "crashed" in reasons["unbinds"]
    assert "timed_out" in reasons["comprehends"]
    assert "wrong" in reasons["repeats"]
    evidence = {(row.path, row.reason): row for row in made.models[0].rejected}
    assert "SIGABRT" in evidence["unbinds", "crashed"].detail
    assert "stopped after" in evidence["comprehends", "timed_out"].detail
    assert "largest error" in evidence["repeats", "wrong"].evidence
    regions = {region.path: region for region in made.models[0].regions}
    assert "" not in regions
    for path in {"unbinds", "comprehends"} & regions.keys():
        assert "dyn" not in str(regions[path].inputs), "each size by itself, as a graph for all sizes is what failed"


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the script with the bad conversions was profiled."""
    directory = tmp_path_factory.mktemp("bad")
    shutil.copy(SCRIPTS / "bad_conversions.py", directory)
    words = ["--engine", "incubate", "--budget", "40", "--report", "report.txt"]
    found = autohybrid("profile", *words, "bad_conversions.py", cwd=directory)
    assert found.code == 0, found.err
    alone = run([*PYTHON, "bad_conversions.py"], directory)
    assert found.out == alone.out
    return directory


@pytest.mark.slow
def test_each_bad_conversion_is_recorded_as_what_it_is_and_the_rest_converted(bad: Path) -> None:
    made = plan.load(bad / "plan.json")
    _check_bad_conversions(made)
    assert any(region.path.startswith("healthy") for region in made.models[0].regions)
    assert made.models[0].confirmation is not None
    shown = (bad / "report.txt").read_text()
    # Of a Layer that was converted another way in the end, the report doesn't list what failed before.
    converted = {region.path for region in made.models[0].regions}
    for path, reason in (("unbinds", "crashed"), ("comprehends", "timed_out"), ("repeats", "wrong")):
        assert path in converted or reason in shown


def _script_for(bad: Path, path: str, reason: str) -> Path:
    made = plan.load(bad / "plan.json")
    names = [row.reproduce for row in made.models[0].rejected if (row.path, row.reason) == (path, reason)]
    assert names
    assert names[0]
    return bad / "plan.repro" / names[0]


@pytest.mark.slow
def test_the_reproduction_of_a_crash_crashes(bad: Path) -> None:
    found = run([*PYTHON, _script_for(bad, "unbinds", "crashed")], bad)
    assert found.code == -6
    assert "length_error" in found.err


@pytest.mark.slow
def test_the_reproduction_of_a_hang_hangs(bad: Path) -> None:
    # It would eat all memory; the limit ends it.
    limited = f"ulimit -v 12000000; exec {sys.executable} {_script_for(bad, 'comprehends', 'timed_out')}"
    with pytest.raises(subprocess.TimeoutExpired):
        run(["bash", "-c", limited], bad, seconds=10.0)


@pytest.mark.slow
def test_the_reproduction_of_a_wrong_answer_is_wrong(bad: Path) -> None:
    found = run([*PYTHON, _script_for(bad, "repeats", "wrong")], bad)
    assert found.code == 0, found.err
    words = next(line.split() for line in found.out.splitlines() if line.startswith("largest difference"))
    assert float(words[2]) > 1e-2 * float(words[-1])


NOTEBOOK = """
import json
import bad_conversions
import autohybrid
from autohybrid import plan

model = bad_conversions.made()
before = [sorted(sub.__dict__) for sub in model.sublayers(include_self=True)]
sums = bad_conversions.call(model)
options = autohybrid.Options(budget=40.0, engines=("incubate",))
made = autohybrid.profile(bad_conversions.call, model, options=options)
assert [sorted(sub.__dict__) for sub in model.sublayers(include_self=True)] == before, "the model was touched"
assert bad_conversions.call(model) == sums
plan.save(made, "notebook.json")
print("alive")
"""


@pytest.mark.slow
def test_a_notebooks_process_stays_alive_through_the_same(here: Path) -> None:
    found = run([*PYTHON, "-c", NOTEBOOK], here)
    assert found.code == 0, found.err
    assert found.out.splitlines()[-1] == "alive"
    _check_bad_conversions(plan.load(here / "notebook.json"))
