"""The ``predictor`` engine on real Paddle: right by default, its options do what they say, nothing is left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import paddle
import pytest
from engine_regions import Residual, Upsampling, apart, region_of, settled
from paddle import inference

from autohybrid import device, engines
from autohybrid.engines import Request, StorableEngine, predictor
from autohybrid.engines.paddle_export import WRAPPER_DELETED_PASSES, export, removed_with
from autohybrid.engines.predictor import PredictorEngine, PredictorExecutable, configured, deleted_passes
from autohybrid.engines.small_program import ELEMENTS, is_small
from autohybrid.errors import ConversionError
from autohybrid.isolation import Finished, Forked
from autohybrid.plan import Equality, Samples
from autohybrid.runtime.equality import Tolerance, tolerance_for
from autohybrid.runtime.variant import State
from autohybrid.search.findings import Attempt, Findings
from autohybrid.search.outcomes import Converted, Crashed, Failed, Unfit, Wrong
from autohybrid.search.search import Search


def _exported(layer: Any, shape: tuple[int, ...], directory: Path) -> Path:
    class Flat(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, tensors: Any) -> Any:
            return [self.layer(tensors[0])]

    x = paddle.randn([abs(size) for size in shape])
    directory.mkdir()
    export(Request(program=Flat(), inputs=[x], shapes=[shape], directory=directory))
    return directory


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A directory with an exported program: one Linear, input 2x4."""
    return _exported(paddle.nn.Linear(4, 4), (2, 4), tmp_path / "exported")


def test_it_is_installed_and_can_be_stored() -> None:
    assert "predictor" in engines.available()
    assert isinstance(engines.by_name("predictor"), StorableEngine)
    assert not isinstance(engines.by_name("incubate"), StorableEngine)


def test_an_operand_that_is_needed_again_is_right_by_default() -> None:
    with region_of(Residual()) as region:
        variant = settled(region, paddle.randn([4, 16]))
        assert variant.state is State.SERVING, variant.reason


def test_with_paddles_own_passes_the_same_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "DELETED_PASSES", WRAPPER_DELETED_PASSES)
    with region_of(Residual(), options={"onednn": True}) as region:
        assert settled(region, paddle.randn([4, 16])).refusal == "wrong"


def test_without_any_pass_it_is_right_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "DELETED_PASSES", WRAPPER_DELETED_PASSES)
    with region_of(Residual(), options={"onednn": True, "optimization_level": 0}) as region:
        assert settled(region, paddle.randn([4, 16])).state is State.SERVING


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_is_right_with_one_of_the_attempts(mode: str) -> None:
    layer, x = Upsampling(mode), paddle.randn([1, 3, 8, 8])
    for options in engines.attempts(engines.by_name("predictor"), engines.this_machine()):
        with region_of(layer, options=options) as region:
            if settled(region, x).state is State.SERVING:
                assert apart(region(x), layer(x)) < 1e-4
                assert region.hybrid_calls
                return
    pytest.fail("no attempt converts it")


def test_a_tensor_that_is_not_contiguous_is_read_rightly() -> None:
    layer = Residual()
    with region_of(layer) as region:
        settled(region, paddle.randn([16, 4]).t())
        x = paddle.randn([16, 4]).t()
        assert not x.is_contiguous()
        assert apart(region(x), layer(x)) < 1e-4
        assert region.hybrid_calls == 1
        assert not x.is_contiguous(), "the caller's Tensor was changed"


def test_an_input_that_is_not_used_is_no_obstacle() -> None:
    layer, x, unused = Residual(), paddle.randn([4, 16]), paddle.randn([3])
    with region_of(layer) as region:
        settled(region, x, unused)
        assert apart(region(x, unused), layer(x)) < 1e-4
        assert region.hybrid_calls == 1


def test_a_dimension_that_varies_needs_one_conversion() -> None:
    layer, x = Residual(), paddle.randn([4, 16])
    with region_of(layer, dynamic=((x,), ((-1, 16),))) as region:
        settled(region, x)
        for size in (1, 7, 3):
            x = paddle.randn([size, 16])
            assert apart(region(x), layer(x)) < 1e-4
        assert len(region.variants) == 1
        assert region.hybrid_calls == 3


class Two(paddle.nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any, y: Any) -> Any:
        return x - 2 * y


def test_the_names_of_tensors_do_not_move_them() -> None:
    layer, x, y = Two(), paddle.randn([4]), paddle.randn([4])
    with region_of(layer) as region:
        settled(region, x, y)
        # These are what Paddle calls the inputs of such a function when nobody names them.
        x.name, y.name = "tensors_1", "tensors_0"
        assert apart(region(x, y), layer(x, y)) < 1e-6
        x.name, y.name = "x1", "x0"
        assert apart(region(x, y), layer(x, y)) < 1e-6
        assert region.hybrid_calls == 2


def test_results_stay_as_they_are_when_the_next_call_is_made() -> None:
    # A convolution's result is a buffer of Paddle's predictor; asked of the executable, for a region may copy as well.
    layer = paddle.nn.Conv2D(3, 8, 3, padding=1)
    with region_of(layer) as region:
        executable = settled(region, paddle.randn([1, 3, 8, 8])).executable
        assert executable is not None
        assert executable.concurrent
        x = paddle.randn([1, 3, 8, 8])
        (first,) = executable.run([x])
        executable.run([paddle.randn([1, 3, 8, 8])])
        assert apart(first, layer(x)) < 1e-4


def test_onednn_false_switches_it_off(exported: Path) -> None:
    assert configured(exported, {}).onednn_enabled()
    assert not configured(exported, {"onednn": False}).onednn_enabled()


def test_a_float64_activation_that_onednn_loses_is_right_without_it() -> None:
    layer = paddle.nn.Sequential(paddle.nn.Linear(8, 8), paddle.nn.GELU()).to(dtype="float64")
    x = paddle.randn([4, 8], dtype="float64")
    with region_of(layer) as region:
        assert settled(region, x).refusal == "wrong"
    with region_of(layer, options={"onednn": False}) as region:
        assert settled(region, x).state is State.SERVING


def test_threads_reach_paddle_and_follow_eager_by_default(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cores_granted", lambda: 4)
    assert configured(exported, {"threads": 3}).cpu_math_library_num_threads() == 3
    assert configured(exported, {"threads": 8}).cpu_math_library_num_threads() == 4, "not more than there are cores"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert configured(exported, {}).cpu_math_library_num_threads() == 2


@pytest.mark.skipif(device.most_math_threads() < 2, reason="needs two cores")
def test_more_threads_use_more_processor_time_at_once(tmp_path: Path) -> None:
    # Not how long it takes, which depends on the neighbours, but whether a second thread of the process works at all.
    layer, x = paddle.nn.Linear(1024, 1024), paddle.randn([512, 1024])

    def threads_at_work(threads: int) -> int:
        with region_of(layer, options={"threads": threads}) as region:
            settled(region, x)
            before = _processor_ticks()
            for _ in range(30):
                region(x)
            after = _processor_ticks()
        return sum(after[thread] - before.get(thread, 0) > 2 for thread in after)

    assert threads_at_work(1) == 1
    assert threads_at_work(2) == 2


def _processor_ticks() -> dict[str, int]:
    """For each thread of this process, how long it has run, in hundredths of a second."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[task.name] = int(fields[11]) + int(fields[12])
    return found


def test_a_pass_that_does_not_exist_is_refused() -> None:
    for name in ("predictor", "incubate"):
        with pytest.raises(ConversionError, match="no IR pass 'inplce_pass'"):
            engines.by_name(name).check_options({"deleted_passes": ["inplce_pass"]})
    PredictorEngine().check_options({"deleted_passes": ["onednn_placement_pass", "conv_bn_fuse_pass"]})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"thread": 2}, "no option 'thread'"),
        ({"threads": 0}, "threads must be a positive int, not 0"),
        ({"threads": True}, "threads must be a positive int, not True"),
        ({"onednn": 1}, "onednn must be a bool"),
        ({"onednn_cache": -1}, "onednn_cache must be an int, at least 0"),
        ({"onednn": False, "onednn_cache": 3}, "no effect with onednn=False"),
        ({"deleted_passes": "inplace_pass"}, "deleted_passes must be a list of names"),
        ({"precision": "float8"}, "precision must be one of float32, float16, bfloat16"),
        ({"precision": "float16"}, "precision has no effect on cpu"),
        ({"memory_pool_mb": 10}, "memory_pool_mb has no effect on cpu"),
        ({"optimization_level": 4}, "optimization_level must be 0, 1, 2 or 3"),
        ({"max_predictors": []}, "max_predictors must be a positive int"),
    ],
)
def test_what_an_option_cannot_be_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        PredictorEngine().check_options(options)


def test_every_option_reaches_a_predictor_that_runs(exported: Path) -> None:
    options = {
        "threads": 1,
        "onednn_cache": 4,
        "deleted_passes": ["onednn_placement_pass"],
        "ir_optim": False,
        "max_predictors": 1,
        "precision": "float32",
    }
    PredictorEngine().check_options(options)
    executable = PredictorExecutable(exported, options, 1)
    assert executable.run([paddle.randn([2, 4])])[0].shape == [2, 4]
    assert not configured(exported, options).ir_optim()
    executable.close()


def test_a_program_is_small_where_all_its_values_are(exported: Path, tmp_path: Path) -> None:
    assert is_small(exported / "infer.json")
    wide = _exported(paddle.nn.Linear(4, ELEMENTS), (1, 4), tmp_path / "wide")
    assert not is_small(wide / "infer.json"), "its parameters aren't"
    tall = _exported(paddle.nn.Linear(4, 4), (ELEMENTS, 4), tmp_path / "tall")
    assert not is_small(tall / "infer.json"), "its inputs aren't"
    varying = _exported(paddle.nn.Linear(4, 4), (-1, 4), tmp_path / "varying")
    assert not is_small(varying / "infer.json"), "some day its inputs aren't"
    unknown = tmp_path / "unknown.json"
    unknown.write_text('{"program": {}}')
    assert not is_small(unknown)


def test_operators_of_small_programs_are_not_given_to_onednn_unless_it_is_asked_for(
    exported: Path, tmp_path: Path
) -> None:
    small, large = exported / "infer.json", _exported(paddle.nn.Linear(64, 128), (1, 64), tmp_path / "l") / "infer.json"
    assert "onednn_placement_pass" in deleted_passes(small, {})
    assert "onednn_placement_pass" in deleted_passes(small, {"threads": 2})
    assert "onednn_placement_pass" not in deleted_passes(small, {"onednn": True})
    assert "onednn_placement_pass" not in deleted_passes(large, {})
    executable = PredictorExecutable(exported, {}, 1)
    manifest = executable.copy_to(tmp_path)
    assert "onednn_placement_pass" in manifest.config["deleted_passes"], "as it was run, so it is handed out"
    executable.close()


class _FakeConfig:
    """Notes what it is told."""

    def __init__(self, *files: str) -> None:
        self.told: list[tuple[Any, ...]] = [("files", *files)]

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **settings: self.told.append((name, *args, *settings.items()))


def test_on_a_gpu_the_config_gets_pool_device_and_precision(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "Config", _FakeConfig)
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:1")
    options = {"precision": "float16", "memory_pool_mb": 256}
    PredictorEngine().check_options(options)
    told = configured(exported, options).told
    assert ("enable_use_gpu", 256, 1, inference.PrecisionType.Half) in told
    assert ("delete_pass", "inplace_pass") in told
    assert not any(
        "onednn" in call[0] or call[0] in ("disable_gpu", "set_cpu_math_library_num_threads") for call in told
    )
    with pytest.raises(ConversionError, match="onednn has no effect on gpu:1"):
        PredictorEngine().check_options({"onednn": False})
    assert engines.attempts(PredictorEngine(), engines.Machine(gpu=True)) == [{}]


def test_on_a_gpu_compilers_and_kernels_are_switched_on(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "Config", _FakeConfig)
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle, "is_compiled_with_cinn", lambda: True)
    options = {"cinn": True, "cutlass": True, "tensorrt": True}
    PredictorEngine().check_options(options)
    told = [call[0] for call in configured(exported, options).told]
    assert {"enable_cinn", "exp_enable_use_cutlass", "enable_tensorrt_engine"} <= set(told)


CPU = {"deleted_passes", "onednn", "optimization_level"}


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        (engines.Machine(), CPU),
        (engines.Machine(threads=2), CPU | {"threads"}),
        (engines.Machine(precisions=("bfloat16",)), CPU | {"precision"}),
        (engines.Machine(gpu=True, threads=8), {"cutlass"}),
        (engines.Machine(gpu=True, tensorrt=True, cinn=True), {"cutlass", "tensorrt", "cinn"}),
    ],
)
def test_only_what_a_machine_has_is_offered(machine: engines.Machine, names: set[str]) -> None:
    offered = [each.options for choice in PredictorEngine().dimensions for each in choice.alternatives(machine)]
    assert {name for options in offered for name in options} == names


def test_this_machine_allows_what_it_is_told_and_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cores_granted", lambda: 4)
    monkeypatch.setattr(device, "math_threads", lambda: 1)
    monkeypatch.setattr(device, "lower_precisions", lambda: ("bfloat16",))
    assert engines.this_machine().threads == 1
    assert engines.this_machine(threads=2).threads == 2
    assert engines.this_machine(threads=64).threads == 4, "not more than there are cores"
    assert engines.this_machine(precisions=("float16", "bfloat16")).precisions == ("bfloat16",)


def test_threads_of_a_region_are_not_left_to_eager(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(device, "set_math_threads", told.append)
    for made, after, expected in ((5, 2, [5]), (2, 5, [5]), (2, 1, [5, 5]), (5, 5, [])):
        told.clear()
        now = iter([5, made, 5, after])  # around making the predictor, around the run
        executable = PredictorExecutable(exported, {"threads": 2}, 1)
        with monkeypatch.context() as patched:
            patched.setattr(device, "_thread_counter", lambda now=now: lambda: next(now))
            executable.run([paddle.randn([2, 4])])
        assert told == expected
        executable.close()


@pytest.mark.skipif("bfloat16" not in device.lower_precisions(), reason="this processor doesn't compute with bfloat16")
def test_bfloat16_on_a_cpu_is_right_within_its_own_tolerance() -> None:
    paddle.seed(0)
    with region_of(Residual(), options={"precision": "bfloat16"}) as region:
        assert settled(region, paddle.randn([4, 16])).refusal == "wrong", "float32's tolerance is too narrow for it"
    tolerance = tolerance_for(Tolerance(), {"precision": "bfloat16"})
    with region_of(Residual(), options={"precision": "bfloat16"}, tolerance=tolerance) as region:
        assert settled(region, paddle.randn([4, 16])).state is State.SERVING


def test_a_lower_precision_never_narrows_a_tolerance() -> None:
    wide = Tolerance(rtol=0.5, atol=0.5)
    assert wide.at("bfloat16") == wide
    assert Tolerance().at("float32") == Tolerance()
    assert Tolerance().at("float16").rtol == 1e-2


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with region_of(Residual()) as region:
        settled(region, paddle.randn([4, 16]))
    out, err = capfd.readouterr()
    assert out == ""
    # Paddle's tracer says this once in a process, and can't be told not to.
    assert [line for line in err.splitlines() if "not support input out tensor" not in line] == []


class Failing(paddle.nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        if float(x.sum()) > 1e9:
            raise ValueError
        return paddle.to_tensor(x.numpy() * 2) + x


def test_a_failed_conversion_leaves_no_files_and_harms_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with region_of(Failing()) as region:
        assert settled(region, paddle.randn([4, 16])).refusal == "failed"
    with region_of(Residual()) as region:
        assert settled(region, paddle.randn([4, 16])).state is State.SERVING
    assert list(tmp_path.glob("autohybrid-*")) == []


def test_thirty_conversions_made_and_dropped_give_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    layer = paddle.nn.Sequential(paddle.nn.Linear(512, 512), paddle.nn.ReLU(), paddle.nn.Linear(512, 512))
    sizes = []
    for rows in range(1, 31):
        with region_of(layer) as region:
            settled(region, paddle.randn([rows, 512]))
            assert len(list(tmp_path.glob("autohybrid-*"))) == 1
        gc.collect()
        sizes.append(device.resident_memory())
    assert list(tmp_path.glob("autohybrid-*")) == []
    weights = 4 * 2 * 512 * 512
    # Ten predictors that stayed would add ten copies of the weights, or more.
    assert sizes[29] - sizes[19] < 3 * weights


def test_an_executable_that_is_just_dropped_takes_its_directory_along(tmp_path: Path) -> None:
    class Owner:
        pass

    owner, directory = Owner(), tmp_path / "files"
    directory.mkdir()
    removed_with(owner, directory)
    child = os.fork()
    if child == 0:
        # A forked child's copy must not take the parent's files.
        del owner
        os._exit(0 if directory.exists() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    del owner
    assert not directory.exists()


def test_a_directory_goes_with_the_child_of_multiprocessing_that_made_it(tmp_path: Path) -> None:
    directory, owner = tmp_path / "made", paddle.nn.Layer()

    def work() -> None:
        directory.mkdir()
        removed_with(owner, directory)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert not directory.exists()


def test_the_number_and_the_weights_of_the_predictors_can_be_seen(exported: Path) -> None:
    executable = PredictorExecutable(exported, {}, 1)
    assert (executable.predictors, executable.weight_bytes) == (0, 0)
    executable.run([paddle.randn([2, 4])])
    assert executable.predictors == 1
    assert executable.weight_bytes >= 4 * (4 * 4 + 4)
    executable.close()
    assert executable.predictors == 0


def _leaves_files() -> str:
    directory = tempfile.mkdtemp(prefix="autohybrid-")
    (Path(directory) / "infer.json").write_text("{}")
    return directory


def test_a_trials_child_leaves_no_files() -> None:
    result = Forked().run(_leaves_files, seconds=20, memory=1 << 30)
    assert isinstance(result, Finished)
    assert not Path(result.value).exists()


def _search_after(outcome: Any) -> tuple[Search, Any]:
    candidate: Any = object()
    search = Search.__new__(Search)
    attempt = Attempt(candidate=candidate, engine="predictor", options={}, outcome=outcome, measured_on="", inputs=None)
    search.findings = Findings()
    search.findings.note(attempt)
    return search, candidate


_EQUALITY = Equality(error=0.0, limit=0.0, noise=0.0, scale=1.0, inputs_compared=2)
_CONVERTED = Converted(
    inputs=None,
    outputs=None,
    training_mode="eager",
    equality=_EQUALITY,
    samples=Samples(eager=[1.0], hybrid=[1.0]),
    conversion_seconds=1.0,
    extra_memory=0,
    twins=[],
)


@pytest.mark.parametrize(
    ("outcome", "tried"),
    [
        (_CONVERTED, False),
        (Unfit(reason="state", detail=""), False),
        (Failed(detail="", evidence="", inputs=None, exported=False), False),
        (Failed(detail="", evidence="", inputs=None, exported=True), True),
        (Wrong(detail="", equality=_EQUALITY, inputs=None), True),
        (Crashed(detail="", evidence=""), True),
    ],
)
def test_the_reference_engine_is_tried_only_where_it_may_do_better(outcome: Any, tried: bool) -> None:
    search, candidate = _search_after(outcome)
    assert search._worth_trying(engines.by_name("incubate"), candidate) is tried
    # Other options of the same engine are another question.
    assert search._worth_trying(engines.by_name("predictor"), candidate) is not isinstance(outcome, Unfit)
    assert search._worth_trying(engines.by_name("incubate"), object())  # type: ignore[arg-type]


def test_predictor_comes_first_and_the_reference_second() -> None:
    assert engines.available()[:2] == ["predictor", "incubate"]


def test_a_predictor_wakes_no_thread_for_each_operator() -> None:
    """Paddle's own programs do; the flag that keeps ours from it is the process's, and is given back."""
    layer, x = Residual(), paddle.randn([2, 16])
    with region_of(layer, "predictor") as region:
        settled(region, x)
        before = _switches()
        for _ in range(200):
            region(x)
        assert _switches() - before < 200
        assert region.hybrid_calls >= 200
    assert paddle.get_flags("FLAGS_eager_delete_tensor_gb") == {"FLAGS_eager_delete_tensor_gb": 0.0}


def _switches() -> int:
    """How often the other threads of this process have gone to sleep."""
    found = 0
    for thread in Path("/proc/self/task").iterdir():
        if int(thread.name) != threading.get_native_id():
            (line,) = [each for each in (thread / "status").read_text().splitlines() if each.startswith("voluntary")]
            found += int(line.split()[1])
    return found
