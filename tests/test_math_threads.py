"""Math threads: what a process is told before it imports Paddle, what comes too late, and what stays eager's own."""

from __future__ import annotations

import html
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import paddle
import plans
import pytest
from commands import AUTOHYBRID, CHANGES
from engine_regions import ENGINES, region_of, settled

import autohybrid
from autohybrid import device, engines, plan
from autohybrid.cli import whole
from autohybrid.cli.job import Job
from autohybrid.report import rendering
from autohybrid.runtime import threads
from autohybrid.runtime.applier import Applier
from autohybrid.runtime.fingerprint import fingerprint, structure_lines
from autohybrid.runtime.signature import recorded
from autohybrid.search import sampling, session
from autohybrid.search.options import Options
from autohybrid.structure import flatten

X = paddle.ones([2, 4])
needs_two_cores = pytest.mark.skipif(device.most_math_threads() < 2, reason="needs two cores")


@pytest.fixture(autouse=True)
def _nobody_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_told", set())


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(device, "cores_granted", lambda: count)


@pytest.fixture
def model() -> Iterator[Any]:
    made = paddle.nn.Sequential(paddle.nn.Linear(4, 4), paddle.nn.ReLU())
    made.eval()
    yield made
    autohybrid.restore(made)


def _plan(*, eagers: int = 1, options: dict[str, Any] | None = None, path: str = "0") -> plan.Plan:
    """A plan for ``model`` with one region, measured where eager had so many threads."""
    layer = paddle.nn.Sequential(paddle.nn.Linear(4, 4), paddle.nn.ReLU())
    tensors, structure = flatten(((X,), {}))
    call = recorded(structure, tensors, ((-1, 4),))
    region = plans.region(path, call, engine="predictor", options=options or {}, class_name="Linear")
    lines = structure_lines(layer)
    entry = plans.model([region], fingerprint=fingerprint(lines), structure=lines, class_name="Sequential")
    return plans.whole([entry], environment=_environment(eagers))


def _environment(eagers: int) -> plan.Environment:
    fields = {name: getattr(plans.ENVIRONMENT, name) for name in plan.Environment.__struct_fields__}
    return plan.Environment(**{**fields, "math_threads": eagers})


# Before Paddle is imported.


@pytest.mark.parametrize(
    ("eagers", "given", "said"),
    [
        (2, None, {"OMP_NUM_THREADS": "2"}),
        (2, "", {"OMP_NUM_THREADS": "2"}),
        (2, "1", {}),
        (8, None, {"OMP_NUM_THREADS": "4"}),
        (1, None, {}),
    ],
)
def test_a_process_is_told_what_the_user_left_open(
    eagers: int,
    given: str | None,
    said: dict[str, str],
    cores: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores(4)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads.variables_for(_plan(eagers=eagers)) == said


def test_a_plan_that_changes_nothing_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    made = plans.whole([plans.model([])], environment=_environment(2))
    assert threads.variables_for(made) == {}
    assert threads.notes(made) == ()


SCRIPT = """
import os, threading
import paddle
from autohybrid import device

model = paddle.nn.Sequential(paddle.nn.Linear(4, 4), paddle.nn.ReLU())
model.eval()
with paddle.no_grad():
    for _ in range(5):
        model(paddle.ones([2, 4]))
seen = [os.environ["OMP_NUM_THREADS"], device.math_threads_now()]
other = threading.Thread(target=lambda: seen.append(device.math_threads_now()))
other.start()
other.join()
print(*seen)
"""


def _run(command: list[str], folder: Path, own: str | None = None) -> subprocess.CompletedProcess[str]:
    """``autohybrid COMMAND script.py`` where the user has, or hasn't, said how many threads there are to be."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [*AUTOHYBRID, *command, "script.py"],
        cwd=folder,
        env={**environment, **CHANGES, **({"OMP_NUM_THREADS": own} if own else {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@needs_two_cores
def test_run_gives_every_thread_of_the_script_what_the_plan_was_measured_with(tmp_path: Path) -> None:
    plan.save(_plan(eagers=2), tmp_path / "plan.json")
    done = _run(["run", "--plan", "plan.json"], tmp_path)
    assert done.stdout.split() == ["2", "2", "2"]
    assert "autohybrid: ran with OMP_NUM_THREADS=2, as the plan was measured." in done.stderr
    assert "hybrid" in done.stderr
    assert "too late" not in done.stderr


@needs_two_cores
def test_the_users_own_number_stays_and_the_difference_is_said_once(tmp_path: Path) -> None:
    plan.save(_plan(eagers=2), tmp_path / "plan.json")
    done = _run(["run", "--plan", "plan.json"], tmp_path, own="1")
    assert done.stdout.split() == ["1", "1", "1"]
    assert " ".join(done.stderr.split()).count("The plan was measured with 2 math threads, this process has 1") == 1
    assert "ran with" not in done.stderr


def test_both_sides_of_a_whole_script_have_the_same_threads(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os, sys; sys.exit(int(os.environ['OMP_NUM_THREADS']))")
    plan.save(plans.whole([plans.model([])]), tmp_path / "plan.json")
    job = Job(action="measure", target=str(script), arguments=[], is_module=False, variables={"OMP_NUM_THREADS": "7"})
    runs = whole.Runs(job=job, plan_file=tmp_path / "plan.json", ends=time.monotonic() + 200.0)
    assert [runs._run(applied=applied)[0] for applied in (False, True)] == [7, 7]


TOLD = """
import contextlib, os, sys
from autohybrid import device
from autohybrid.cli import worker
{before}
{paddle}
print(device.math_threads_told(), device.most_math_threads())
"""
SET = "os.environ['OMP_NUM_THREADS'] = '1'"
ARRIVED = "with worker._arrival_of_paddle(contextlib.nullcontext):\n    {}\n    import paddle"


@pytest.mark.parametrize(
    ("own", "before", "paddle", "told"),
    [
        (None, "", "import paddle", None),
        (None, "", ARRIVED.format("pass"), None),
        ("1", "", "import paddle", 1),
        ("7", "", "import paddle", 7),
        ("1,2", "", "import paddle", 1),
        (None, SET, "", 1),
        (None, "", ARRIVED.format(SET), 1),
    ],
)
def test_paddles_own_number_is_not_taken_for_the_users(
    own: str | None, before: str, paddle: str, told: int | None
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TOLD.format(before=before, paddle=paddle)],
        env={**environment, **({"OMP_NUM_THREADS": own} if own else {})},
        capture_output=True,
        text=True,
        check=True,
    )
    cores = device.cores_granted()
    assert done.stdout.split() == [str(told), str(min(told or cores, cores))]


def test_the_users_own_number_limits_a_search_and_that_is_noted(
    cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(4)
    monkeypatch.setattr(device, "math_threads_told", lambda: 2)
    assert [Options(threads=asked).most_threads for asked in ("auto", 3)] == [2, 3]
    assert engines.this_machine(threads=3).threads == 2
    (note,) = session._limits_of_threads(Options())
    assert note.startswith("OMP_NUM_THREADS=2 was set, so no more threads than that were tried")
    assert session._limits_of_threads(Options(threads=2)) == []
    monkeypatch.setattr(device, "math_threads_told", lambda: None)
    assert session._limits_of_threads(Options()) == []
    assert engines.this_machine(threads=3).threads == 3


# A plan whose regions have more threads than eager, from the file to the engine.


FEWER = "were measured with 2 math threads; they get 1, which OMP_NUM_THREADS was set to."


def _threaded(engine: str, path: str = "") -> plan.Plan:
    made = _plan(options={"threads": 2}, path=path)
    (entry,) = made.models
    regions = [msgspec.structs.replace(region, engine=engine) for region in entry.regions]
    alone = plan.EagerThreads(threads=2, set_by="a_function", samples=plan.Samples(eager=[1.5] * 12, hybrid=[1.0] * 12))
    return plans.whole(
        [msgspec.structs.replace(entry, regions=regions, eager_threads=alone)],
        environment=made.environment,
        script=plan.Script(command=["script.py"], seconds=1.0, exit_code=0),
    )


@needs_two_cores
@pytest.mark.parametrize("engine", ["predictor", "onnxruntime", "openvino"])
def test_the_threads_of_a_plan_reach_its_engine(
    engine: str, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engines.by_name(engine).unavailable():
        pytest.skip(str(engines.by_name(engine).unavailable()))
    asked: list[int | None] = []
    granted = device.granted_threads

    def noted(count: int | None) -> int:
        asked.append(count)
        return granted(count)

    monkeypatch.setattr(device, "granted_threads", noted)
    plan.save(_threaded(engine), tmp_path / "plan.json")
    with warnings.catch_warnings(), paddle.no_grad():
        warnings.simplefilter("error", RuntimeWarning)
        autohybrid.apply(model, plan=tmp_path / "plan.json")
        for _ in range(4):
            model(X)
    (region,) = autohybrid.status(model).regions
    assert region.hybrid_calls
    assert asked
    assert set(asked) == {2}


def test_every_report_of_such_a_plan_has_eager_with_as_many_threads_and_the_way_without(tmp_path: Path) -> None:
    plan.save(_threaded("predictor"), tmp_path / "plan.json")
    made = plan.load(tmp_path / "plan.json")
    assert made == _threaded("predictor")
    for shape in ("table", "markdown", "html"):
        text = " ".join(html.unescape(rendering.render(made, shape)).split())
        assert "eager, 2 threads" in text
        assert "threads=2" in text
        assert "autohybrid profile --threads 1 --force -o plan.json script.py" in text


@needs_two_cores
@pytest.mark.parametrize(("own", "said"), [(None, False), ("1", True)])
def test_run_gives_regions_their_threads_unless_the_user_has_set_fewer(
    own: str | None, said: bool, tmp_path: Path
) -> None:
    plan.save(_threaded("predictor", path="0"), tmp_path / "plan.json")
    done = _run(["run", "--plan", "plan.json"], tmp_path, own=own)
    assert done.stdout.split() == ["1", "1", "1"], "eager keeps what it had when the plan was measured"
    assert "hybrid" in done.stderr
    assert (FEWER in " ".join(done.stderr.split())) == said


@pytest.mark.slow
@needs_two_cores
def test_what_is_measured_again_with_fewer_threads_says_so(tmp_path: Path) -> None:
    plan.save(_threaded("predictor"), tmp_path / "plan.json")
    done = _run(["bench", "--budget", "1", "--plan", "plan.json"], tmp_path, own="1")
    assert done.returncode == 0, done.stderr
    assert FEWER in " ".join(done.stdout.split())


# Too late.


@pytest.mark.parametrize(
    ("eagers", "here", "options", "path", "differs"),
    [
        (2, 1, {}, "0", True),
        (1, 2, {}, "0", True),
        (2, 2, {}, "0", False),
        (2, 1, {"threads": 2}, "0", True),  # what is beside the region is eager
        (2, 1, {"threads": 2}, "", False),
        (2, 1, {}, "", True),
        (8, 4, {}, "0", False),  # there aren't more cores
    ],
)
def test_what_comes_too_late_is_said(
    eagers: int,
    here: int,
    options: dict[str, Any],
    path: str,
    differs: bool,
    cores: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores(4)
    monkeypatch.setattr(device, "math_threads", lambda: here)
    made = _plan(eagers=eagers, options=options, path=path)
    assert bool(threads.difference(made)) == differs
    assert threads.notes(made) == ((threads.difference(made),) if differs else ())


def test_fewer_cores_than_a_region_had_are_said(cores: Callable[[int], None]) -> None:
    made = _plan(options={"threads": 8})
    cores(8)
    assert threads.notes(made) == ()
    cores(2)
    (note,) = threads.notes(made)
    assert note == "The plan's regions were measured with 8 math threads; they get 2, one a core that may be used."


def test_apply_warns_once_and_status_goes_on_saying_it(model: Any, cores: Callable[[int], None]) -> None:
    cores(2)
    made = _plan(eagers=2)
    with pytest.warns(RuntimeWarning, match="set OMP_NUM_THREADS=2 before Python starts"):
        autohybrid.apply(model, made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        autohybrid.restore(model)
        assert autohybrid.status(model).notes == ()
        autohybrid.apply(model, made)
    assert "this process has 1" in str(autohybrid.status(model))
    assert autohybrid.status(model).notes == threads.notes(made)


def test_a_script_that_is_run_with_a_plan_sees_no_warning(model: Any, cores: Callable[[int], None]) -> None:
    cores(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Applier(_plan(eagers=2)) as applier, paddle.no_grad():
            model(X)
    assert "this process has 1" in " ".join(applier.summary().split())


@needs_two_cores
def test_a_late_number_is_the_calling_threads_own() -> None:
    # What makes it too late: if this fails, Paddle has changed, and apply could set what it only says.
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(device.math_threads_now()))
    try:
        device.set_math_threads(2)
        assert device.math_threads_now() == 2
        other.start()
        other.join()
    finally:
        device.set_math_threads(device.math_threads())
    assert seen == [device.math_threads()]


@needs_two_cores
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "incubate"])
def test_the_threads_of_a_region_are_not_left_to_eager(engine: str) -> None:
    before = device.math_threads_now()
    with region_of(paddle.nn.Linear(4, 4), engine, options={"threads": 2}) as region:
        for _ in range(3):
            region(X)
            assert device.math_threads_now() == before


@pytest.mark.parametrize("engine", ENGINES)
def test_a_region_leaves_eager_the_threads_that_it_was_told_late(engine: str) -> None:
    with region_of(paddle.nn.Linear(4, 4), engine) as region:
        settled(region, X)
        try:
            device.set_math_threads(3)
            region(X)
            assert device.math_threads_now() == 3
        finally:
            device.set_math_threads(device.math_threads())


# Cores.


def test_a_quota_of_the_control_group_is_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "usable_cores", lambda: 8)
    for limit, granted in ((None, 8), (16.0, 8), (2.5, 2), (0.5, 1)):
        monkeypatch.setattr(device, "core_limit", lambda limit=limit: limit)
        assert device.cores_granted() == granted


def test_a_process_that_may_use_one_core_is_offered_one_thread() -> None:
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from autohybrid import device, engines
from autohybrid.search.options import Options
print(Options(threads="auto").most_threads, engines.this_machine(threads=8).threads, device.granted_threads(8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]


def test_all_granted_cores_are_tried_where_that_is_asked_for(cores: Callable[[int], None]) -> None:
    cores(6)
    assert Options(threads="auto").most_threads == 6
    assert engines.this_machine(threads=6).threads == 6


# Time.


@pytest.mark.parametrize(
    ("options", "counted"), [([], False), ([{"threads": 1}, {}], False), ([{}, {"threads": 2}], True)]
)
def test_waiting_counts_where_a_conversion_has_threads(options: list[dict[str, Any]], counted: bool) -> None:
    assert sampling.have_threads(options) == counted


def test_waiting_for_ones_own_threads_is_no_time_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    waited = iter(range(1000))
    monkeypatch.setattr(sampling, "clock", lambda: float(next(clock)))
    monkeypatch.setattr(sampling, "seconds_kept_waiting", lambda: next(waited) / 2)
    monkeypatch.setattr(sampling, "repeats_for", lambda *_: 1)

    def taken(wall_clock: bool) -> float:
        found = sampling.in_turn(int, int, min_gain=1.05, seconds=0.0, fewest=1, wall_clock=wall_clock)
        return found.eager[0]

    assert (taken(True), taken(False)) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("threads", "wall_clock", "rests"), [(1, False, []), (2, False, ["rest"]), (1, True, ["rest"]), (2, True, ["rest"])]
)
def test_what_others_left_spinning_is_let_go_to_sleep(
    threads: int, wall_clock: bool, rests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(sampling, "math_threads", lambda: threads)
    monkeypatch.setattr(sampling, "let_threads_rest", lambda: done.append("rest"))
    sampling.duration(lambda: done.append("call"), 2, wall_clock=wall_clock)
    uncounted = ["call"] if rests else []
    assert done == [*rests, *uncounted, "call", "call"]
    done.clear()
    sampling.duration(lambda: done.append("call"), 2, wall_clock=wall_clock, again=True)
    assert done == ["call", "call"]


@pytest.mark.parametrize(("seconds", "calls"), [(0.2, 1), (0.05, 2)])
def test_a_long_call_wakes_its_threads_itself(seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now, made = 0.0, 0

    def call() -> None:
        nonlocal now, made
        now, made = now + seconds, made + 1

    monkeypatch.setattr(sampling, "math_threads", lambda: 2)
    monkeypatch.setattr(sampling, "let_threads_rest", lambda: None)
    monkeypatch.setattr(sampling, "clock", lambda: now)
    assert sampling.duration(call) == pytest.approx(seconds)
    assert made == calls


@pytest.mark.parametrize(("busy", "looks"), [(0, 1), (3, 4), (1000, 20)])
def test_nobody_waits_for_threads_that_rest(busy: int, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    now, worked, slept = 0.0, 0.0, 0

    def sleep(seconds: float) -> None:
        nonlocal now, worked, slept
        now, slept = now + device.LOOK, slept + 1
        worked += 0.9 * device.LOOK if slept <= busy else 0.0

    monkeypatch.setattr(device, "clock", lambda: now)
    monkeypatch.setattr("autohybrid.device.time.sleep", sleep)
    monkeypatch.setattr("autohybrid.device.time.process_time", lambda: worked)
    device.let_threads_rest()
    assert abs(slept - looks) <= (looks > 10)


@pytest.mark.parametrize(("told", "seconds"), [("", 0.2), ("0", 0.0), ("50ms", 0.05), ("infinite", 0.2)])
def test_how_long_idle_threads_spin_is_what_openmp_was_told(
    told: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMP_BLOCKTIME", told)
    assert device.seconds_of_spinning() == seconds
