"""The ways to run a model that are compared: each makes a function of the model's arguments.

Nothing here imports autohybrid but the rows that are about it, and they only when they are made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Call = Callable[..., Any]


def eager(model: Any, arguments: Sequence[Any], by_hand: Sequence[str], threads: int) -> Call:
    return model  # type: ignore[no-any-return]


def three_steps(model: Any, arguments: Sequence[Any], by_hand: Sequence[str], threads: int) -> Call:
    """``to_static``, ``jit.save``, a predictor, as in Paddle's document on deployment."""
    from paddle import inference

    file = _saved(model, arguments)
    config = inference.Config(f"{file}.json", f"{file}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(threads)
    predictor = inference.create_predictor(config)

    def call(*given: Any) -> Any:
        return [each.clone() for each in predictor.run(list(given))]

    return call


def wrapper(model: Any, arguments: Sequence[Any], by_hand: Sequence[str], threads: int) -> Call:
    """``paddle.incubate.jit.inference`` around the whole model."""
    import paddle

    return paddle.incubate.jit.inference(model, save_model_dir=tempfile.mkdtemp())  # type: ignore[no-any-return]


def wrapper_by_hand(model: Any, arguments: Sequence[Any], by_hand: Sequence[str], threads: int) -> Call:
    """The same around the parts that a user would choose."""
    import paddle

    for path in by_hand:
        for layer in _layers(model, path):
            paddle.incubate.jit.inference(layer, save_model_dir=tempfile.mkdtemp())
    return model  # type: ignore[no-any-return]


def onnxruntime(model: Any, arguments: Sequence[Any], by_hand: Sequence[str], threads: int) -> Call:
    """The whole model exported to ONNX, in ONNX Runtime."""
    import onnxruntime as library
    import paddle

    settings = library.SessionOptions()
    settings.intra_op_num_threads = threads
    session = library.InferenceSession(_onnx(model, arguments), settings, providers=["CPUExecutionProvider"])
    places = [int(each.name.removeprefix("feed_")) for each in session.get_inputs()]
    names = [each.name for each in session.get_inputs()]

    def call(*given: Any) -> Any:
        feeds = {name: given[place].numpy() for name, place in zip(names, places, strict=True)}
        return [paddle.to_tensor(each) for each in session.run(None, feeds)]

    return call


def openvino(model: Any, arguments: Sequence[Any], by_hand: Sequence[str], threads: int) -> Call:
    """The whole model exported to ONNX, in OpenVINO, in float32 as eager computes."""
    import sys

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino as library
    import paddle

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = library.Core().compile_model(_onnx(model, arguments), "CPU", settings)
    request = compiled.create_infer_request()
    names = [next(name for name in each.get_names() if name.startswith("feed_")) for each in compiled.inputs]
    places = [int(name.removeprefix("feed_")) for name in names]

    def call(*given: Any) -> Any:
        results = request.infer([given[place].numpy() for place in places], share_inputs=True)
        return [paddle.to_tensor(each) for each in results.values()]

    return call


def autohybrid_alone(model: Any, arguments: Sequence[Any], by_hand: Sequence[str], threads: int) -> Call:
    """autohybrid with the engines that need no more than Paddle."""
    return _autohybrid(model, arguments, ("predictor", "incubate"))


def autohybrid_with_extras(model: Any, arguments: Sequence[Any], by_hand: Sequence[str], threads: int) -> Call:
    """autohybrid with every engine that is installed."""
    return _autohybrid(model, arguments, ())


ROWS: dict[str, Callable[[Any, Sequence[Any], Sequence[str], int], Call]] = {
    "eager": eager,
    "three steps, whole": three_steps,
    "wrapper, whole": wrapper,
    "wrapper, by hand": wrapper_by_hand,
    "ONNX Runtime, whole": onnxruntime,
    "OpenVINO, whole": openvino,
    "autohybrid": autohybrid_alone,
    "autohybrid + extras": autohybrid_with_extras,
}


def _autohybrid(model: Any, arguments: Sequence[Any], engines: tuple[str, ...]) -> Call:
    import autohybrid

    plan = autohybrid.profile(model, *arguments, options=autohybrid.Options(engines=engines, budget=120.0))
    autohybrid.apply(model, plan=plan)
    autohybrid.warmup(model)
    return model  # type: ignore[no-any-return]


def _layers(model: Any, path: str) -> list[Any]:
    found = model
    for name in [name for name in path.removesuffix(".*").split(".") if name]:
        found = getattr(found, name)
    return list(found) if path.endswith(".*") else [found]


def _saved(model: Any, arguments: Sequence[Any]) -> Path:
    import paddle

    specs = [
        paddle.static.InputSpec(each.shape, each.dtype, name=f"feed_{index}") for index, each in enumerate(arguments)
    ]
    program = paddle.jit.to_static(model, input_spec=specs, full_graph=True)
    file = Path(tempfile.mkdtemp()) / "model"
    paddle.jit.save(program, str(file))
    return file


def _onnx(model: Any, arguments: Sequence[Any]) -> str:
    import paddle2onnx

    file = _saved(model, arguments)
    paddle2onnx.export(
        f"{file}.json", f"{file}.pdiparams", f"{file}.onnx", opset_version=17, verbose=False, optimize_tool="None"
    )
    return f"{file}.onnx"
