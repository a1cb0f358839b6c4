"""What is done differently on a GPU: its logic against fakes, and real runs where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle import inference
from test_predictor import _FakeConfig

import autohybrid
from autohybrid import device
from autohybrid.engines import Request
from autohybrid.engines.predictor import PredictorEngine, PredictorExecutable, _Predictor, configured
from autohybrid.errors import ConversionError
from autohybrid.observe import timing
from autohybrid.search.sampling import duration

on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not paddle.is_compiled_with_cuda() or paddle.device.cuda.device_count() == 0,
        reason="no GPU: this Paddle is built for CPUs, or sees none",
    ),
]


class Device:
    """A GPU that notes what it is asked, with ``current`` for its stream."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.current: int | None = 7
        monkeypatch.setattr(device, "on_gpu", lambda: True)
        monkeypatch.setattr(device, "stream", lambda: self.current)
        monkeypatch.setattr(paddle.device, "synchronize", lambda *_: self.asked.append("wait"))
        monkeypatch.setattr(paddle.device.cuda, "empty_cache", lambda: self.asked.append("shrink"))
        monkeypatch.setattr(paddle.device.cuda, "memory_allocated", lambda *_: 1 << 20)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


class FakePredictor:
    def __init__(self, gpu: Device) -> None:
        self._gpu = gpu

    def get_input_names(self) -> list[str]:
        return ["feed_0"]

    def run(self, given: list[Any]) -> list[Any]:
        self._gpu.asked.append("run")
        return list(given)


def _predictor(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> _Predictor:
    from autohybrid.engines import predictor

    monkeypatch.setattr(predictor, "place_of", lambda name: int(name.rpartition("_")[2]))
    return _Predictor(FakePredictor(gpu), 1)


def test_on_its_own_stream_a_predictor_waits_for_nobody(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    _predictor(gpu, monkeypatch).run([paddle.ones([1])])
    assert gpu.asked == ["run"]


def test_under_another_stream_the_two_wait_for_each_other(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _predictor(gpu, monkeypatch)
    gpu.current = 8
    made.run([paddle.ones([1])])
    assert gpu.asked == ["wait", "run", "wait"]


def test_a_cpu_has_no_stream_and_never_asks_for_one(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.current = None
    made = _predictor(gpu, monkeypatch)
    monkeypatch.setattr(device, "stream", lambda: pytest.fail("asked in a call"))
    made.run([paddle.ones([1])])
    assert gpu.asked == ["run"]
    monkeypatch.undo()
    assert device.stream() is None


def test_the_stream_is_paddles_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Base:
        cuda_stream = 4096

    class Stream:
        stream_base = Base()

    monkeypatch.setattr(device, "on_gpu", lambda: True)
    monkeypatch.setattr(paddle.device, "current_stream", Stream)
    assert device.stream() == 4096


def test_samples_begin_and_end_with_an_idle_device(gpu: Device) -> None:
    duration(lambda: gpu.asked.append("work"), 2)
    assert gpu.asked == ["wait", "work", "work", "wait"]


def test_hooks_wait_for_the_device_and_what_that_costs_is_taken_out(gpu: Device) -> None:
    timing.measured_hook_cost(repeats=10, wait=device.synchronize)
    assert gpu.asked.count("wait") >= 20


def test_converting_ends_with_a_shrunk_pool_and_so_does_closing(gpu: Device, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as here:
        here.setattr(PredictorExecutable, "run", lambda self, tensors: gpu.asked.append("run"))
        request = Request(program=None, inputs=[paddle.ones([1])], shapes=[[1]], directory=tmp_path)
        made = PredictorEngine._opened(tmp_path, request, owned=False)
    assert gpu.asked == ["run", "wait", "shrink"]
    made.close()
    assert gpu.asked[3:] == ["shrink"]


def test_what_a_region_holds_on_the_device_counts(gpu: Device) -> None:
    with pytest.MonkeyPatch.context() as here:
        here.setattr(device, "private_memory", lambda: 5)
        assert device.held_memory() == 5 + (1 << 20)
    assert gpu.asked == ["shrink"]


def _told(monkeypatch: pytest.MonkeyPatch, directory: Path, shapes: list[list[int]]) -> list[tuple[Any, ...]]:
    (directory / "infer.json").write_text("{}")
    monkeypatch.setattr(inference, "Config", _FakeConfig)
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    told: list[tuple[Any, ...]] = configured(directory, {"tensorrt": True, "precision": "float16"}, shapes).told
    return told


def test_tensorrt_is_told_precision_and_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = {call[0]: call[1:] for call in _told(monkeypatch, tmp_path, [[2, 3], [4]])}
    assert ("precision_mode", inference.PrecisionType.Half) in told["enable_tensorrt_engine"]
    assert ("use_calib_mode", False) in told["enable_tensorrt_engine"]
    least, largest, usual = told["set_trt_dynamic_shape_info"]
    assert list(least.values()) == [[2, 3], [4]]
    assert least == largest == usual


def test_tensorrt_is_refused_where_a_size_varies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="one of them varies"):
        _told(monkeypatch, tmp_path, [[-1, 3]])


def test_the_options_of_paddles_config_are_there() -> None:
    for name in ("enable_tensorrt_engine", "set_trt_dynamic_shape_info", "enable_use_gpu", "exp_enable_use_cutlass"):
        assert hasattr(inference.Config, name)


class TestOnAGpu:
    pytestmark = on_a_gpu

    def test_a_region_answers_as_eager_does_under_any_stream(self) -> None:
        paddle.set_device("gpu:0")
        model = paddle.nn.Sequential(paddle.nn.Linear(64, 64), paddle.nn.ReLU(), paddle.nn.Linear(64, 8))
        model.eval()
        x = paddle.randn([4, 64])
        with paddle.no_grad():
            expected = model(x).numpy()
            autohybrid.inference(model, isolation="none")
            for _ in range(4):
                assert abs(model(x).numpy() - expected).max() < 1e-3
            with paddle.device.stream_guard(paddle.device.Stream()):
                assert abs(model(x).numpy() - expected).max() < 1e-3
        assert autohybrid.status(model).regions[0].hybrid_calls >= 1

    def test_memory_goes_back_to_the_device(self) -> None:
        paddle.set_device("gpu:0")
        layer = paddle.nn.Linear(2048, 2048)
        layer.eval()
        autohybrid.inference(layer, isolation="none")
        with paddle.no_grad():
            for _ in range(4):
                layer(paddle.ones([1, 2048]))
        held = paddle.device.cuda.memory_reserved()
        autohybrid.restore(layer)
        assert paddle.device.cuda.memory_reserved() <= held
