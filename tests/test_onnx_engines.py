"""The engines that read ONNX models: a conversion that harms nobody, says what it can't do, and calls nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import paddle
import pytest
from engine_regions import ENGINES, Upsampling, apart, region_of, settled

import autohybrid
from autohybrid import engines
from autohybrid.engines import Busy, Request, onnx_export, openvino
from autohybrid.engines.onnx_export import export_onnx
from autohybrid.errors import ConversionError
from autohybrid.runtime.variant import State

needs_paddle2onnx = pytest.mark.skipif(
    onnx_export.lacking("paddle2onnx") is not None, reason="paddle2onnx is not installed"
)
READING_ONNX = [each for each in ENGINES if each.values[0] in ("onnxruntime", "openvino")]
on_each = pytest.mark.parametrize("engine", READING_ONNX)


class Flat(paddle.nn.Layer):  # type: ignore[misc]
    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, tensors: Any) -> Any:
        return [self.function(tensors[0])]


def request_for(function: Callable[[Any], Any], directory: Path) -> Request:
    x = paddle.randn([1, 3, 4, 4])
    return Request(program=Flat(function), inputs=[x], shapes=[tuple(x.shape)], directory=directory)


@needs_paddle2onnx
@pytest.mark.parametrize("forked", [True, False])
def test_an_operator_that_paddle2onnx_does_not_know_is_an_error_here_and_no_end(
    forked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "obstacle", lambda: "" if forked else "threads")
    with pytest.raises(ConversionError, match="unsupported operators") as caught:
        export_onnx(request_for(lambda x: paddle.linalg.svd(x)[0], tmp_path))
    assert not caught.value.exported, "an engine's options can't mend it"


class Decomposed(paddle.nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return paddle.linalg.svd(x)[0]


@needs_paddle2onnx
def test_what_paddle2onnx_does_not_know_is_not_tried_with_other_options() -> None:
    pytest.importorskip("onnxruntime")
    aside = mock.Mock(side_effect=onnx_export._converted_aside)
    with mock.patch.object(onnx_export, "_converted_aside", aside), paddle.no_grad():
        layer = autohybrid.inference(Decomposed(), engine="onnxruntime", isolation="none")
        for _ in range(2):
            layer(paddle.randn([4, 4]))
        said = str(autohybrid.status(layer))
        autohybrid.restore(layer)
    assert "unsupported operators" in said
    ways_of_tracing = 2
    assert 1 <= aside.call_count <= ways_of_tracing


@needs_paddle2onnx
def test_a_conversion_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "SECONDS", 0.5)
    monkeypatch.setattr(
        onnx_export, "_convert", lambda directory, seeking: subprocess.run(["sleep", "30"], check=False)
    )
    with pytest.raises(ConversionError, match="stopped after"):
        export_onnx(request_for(paddle.tanh, tmp_path))


@needs_paddle2onnx
@pytest.mark.parametrize("forked", [True, False])
def test_only_the_model_is_left(forked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "obstacle", lambda: "" if forked else "threads")
    model = export_onnx(request_for(paddle.tanh, tmp_path))
    assert list(tmp_path.iterdir()) == [model]


_STRICT = """
import sys

def refuse(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo"):
        raise AssertionError((event, arguments))

import paddle
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_onnx_engines import request_for
from autohybrid import engines

sys.addaudithook(refuse)
engine = engines.by_name(sys.argv[2])
executable = engine.convert(request_for(paddle.tanh, Path(sys.argv[3])))
executable.run([paddle.ones([1, 3, 4, 4])])
found = sys.modules.get("openvino.tools.ovc.telemetry_utils")
assert found is None or "stub" in found.tm.__name__, found.tm
"""


@on_each
def test_no_process_and_no_connection_is_made(engine: str, tmp_path: Path) -> None:
    """Neither pip, which paddle2onnx's own function would run, nor a report to the makers of a library."""
    ended = subprocess.run(
        [sys.executable, "-c", _STRICT, str(Path(__file__).parent), engine, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@on_each
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_is_right(engine: str, mode: str) -> None:
    layer, x = Upsampling(mode), paddle.randn([1, 3, 8, 8])
    with region_of(layer, engine) as region:
        variant = settled(region, x)
        assert variant.state is State.SERVING, variant.reason
        assert apart(region(x), layer(x)) < 1e-4


class Picks(paddle.nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return paddle.gather(x, paddle.to_tensor([1, 0]))


def test_openvino_leaves_integers_of_more_than_32_bits_to_eager() -> None:
    if engines.by_name("openvino").unavailable():
        pytest.skip("openvino is not installed")
    layer = Picks()
    with region_of(layer, "openvino") as region:
        variant = settled(region, paddle.to_tensor([1, 2]))
        assert variant.state is State.SERVING, variant.reason
        large = paddle.to_tensor([1 << 40, -5])
        assert region(large).tolist() == [-5, 1 << 40]
        assert variant.executable is not None
        with pytest.raises(Busy):
            variant.executable.run([large])
        assert region(paddle.to_tensor([3, 4])).tolist() == [4, 3]
        assert region.hybrid_calls == 1


@on_each
def test_it_computes_in_float32_unless_asked(engine: str) -> None:
    layer = paddle.nn.Sequential(*[paddle.nn.Linear(256, 256) for _ in range(4)])
    with region_of(layer, engine) as region:
        x = paddle.randn([64, 256])
        settled(region, x)
        expected = layer(x)
        assert apart(region(x), expected) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("threads", "cores", "options", "pinned"),
    [(3, 3, {}, True), (3, 4, {}, False), (1, 1, {}, False), (3, 3, {"pinning": False}, False)],
)
def test_openvino_is_told_to_compute_in_float32_and_pins_only_where_it_has_all_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int, cores: int, options: dict[str, Any], pinned: bool
) -> None:
    # Whether it would do otherwise depends on the processor.
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    settings = openvino._settings(options)
    assert settings["INFERENCE_PRECISION_HINT"] == "f32"
    assert settings["INFERENCE_NUM_THREADS"] == threads
    assert settings["ENABLE_CPU_PINNING"] is pinned


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_engine_whose_packages_are_missing_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda package: None)
    why = engines.by_name(name).unavailable()
    assert why is not None
    assert f"{name} and paddle2onnx not installed" in why
    assert f'pip install "autohybrid[{name}]"' in why


@needs_paddle2onnx
def test_more_weights_than_a_model_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "LARGEST", 10)
    x, layer = paddle.randn([2, 4]), paddle.nn.Linear(4, 4)
    program = Flat(layer)
    with pytest.raises(ConversionError, match="2 GB"):
        export_onnx(Request(program=program, inputs=[x], shapes=[(2, 4)], directory=tmp_path))


@pytest.mark.parametrize("engine", READING_ONNX)
def test_what_paddle2onnx_names_is_told_not_that_it_named_something(engine: str) -> None:
    layer = paddle.nn.Conv1D(4, 4, 3, padding="SAME", dilation=2)
    with region_of(layer, engine=engine) as region:
        settled(region, paddle.rand([1, 4, 16]))
        assert "padding = 'SAME'" in region.variants[0].reason
