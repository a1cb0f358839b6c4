"""ONNX Runtime as an engine: Paddle's export through paddle2onnx, run on the Tensors' own memory.

Inputs are bound where they lie; outputs are written into new Tensors, or copied once where their shapes aren't known
beforehand. What is kept is the model as ONNX Runtime has optimised it, for this version and this processor.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paddle

from autohybrid import device
from autohybrid.engines import onnx_export, rules
from autohybrid.engines.dimensions import THREADS, Alternative, Dimension, on_cpu, with_threads
from autohybrid.engines.forks import never_destroyed_in_children
from autohybrid.engines.interface import Request
from autohybrid.engines.paddle_export import STEM, conversion_lock, place_of, removed_with
from autohybrid.engines.pool import Pool
from autohybrid.engines.results import maker
from autohybrid.errors import ConversionError
from autohybrid.structure import Tensor

MOST_THREADS = 16
"""How many threads may be in a conversion at once; the weights are shared, each has buffers of its own."""

CPU = "CPUExecutionProvider"

_OPTIMIZATION = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}

_RULES = {
    "threads": rules.count(),
    "spinning": rules.flag(),
    "arena": rules.flag(),
    "optimization": rules.one_of(_OPTIMIZATION),
    "provider": rules.Rule(accepts=lambda value: type(value) is str and value in _providers(), wanted="installed"),
}

_ELEMENTS: dict[str, tuple[int, Any]] = {
    "tensor(float)": (1, paddle.float32),
    "tensor(uint8)": (2, paddle.uint8),
    "tensor(int8)": (3, paddle.int8),
    "tensor(int16)": (5, paddle.int16),
    "tensor(int32)": (6, paddle.int32),
    "tensor(int64)": (7, paddle.int64),
    "tensor(bool)": (9, paddle.bool),
    "tensor(float16)": (10, paddle.float16),
    "tensor(double)": (11, paddle.float64),
}
"""For each of ONNX Runtime's types its number in ONNX (``TensorProto.DataType``), and Paddle's dtype."""

_ONLY_ERRORS = 3
_NOTHING = ctypes.create_string_buffer(16)
"""Where Tensors without elements are said to lie: an address of zero is refused."""

_NOWHERE = ctypes.addressof(_NOTHING)


DIMENSIONS = (
    # Without the rewritings that round differently.
    Dimension(
        name="optimization", alternatives=on_cpu(Alternative(options={"optimization": "basic"}, cures=True, hope=1.0))
    ),
    THREADS,
    Dimension(
        name="idle threads", alternatives=with_threads(Alternative(options={"spinning": True}, hope=1.1, alone=True))
    ),
    Dimension(name="memory", alternatives=on_cpu(Alternative(options={"arena": False}, lean=True))),
)


class OnnxRuntimeEngine:
    """ONNX Runtime around a flat Layer.

    Options:
        threads: as many as eager uses (``OMP_NUM_THREADS``) unless told otherwise. Threads of its own, beside Paddle's.
        spinning: whether its idle threads wait busily (False: they would take the cores from Paddle's).
        arena: whether memory for what lies between operators is kept from call to call (True).
        optimization: all (default), extended, basic, or none.
        provider: what computes, by ONNX Runtime's name for it (``CPUExecutionProvider``).
    """

    name = "onnxruntime"
    dimensions = DIMENSIONS

    def unavailable(self) -> str | None:
        missing = onnx_export.lacking("onnxruntime", "paddle2onnx")
        if missing:
            return f'{missing}; pip install "autohybrid[onnxruntime]"'
        return "it takes Tensors on a CPU only" if device.on_gpu() else None

    def made_with(self) -> dict[str, str]:
        return {**onnx_export.versions("onnxruntime", "paddle2onnx"), "processor": device.processor()}

    def check_options(self, options: dict[str, Any]) -> None:
        rules.check(self.name, _RULES, options)

    def convert(self, request: Request) -> OnnxRuntimeExecutable:
        self.check_options(request.options)
        model = onnx_export.export_onnx(request)
        optimized = request.directory / f"{STEM}.ort"
        _session(model, request.options, save=optimized)
        model.unlink()
        return _opened(OnnxRuntimeExecutable(request.directory, request.options, owned=True), request)

    def open(self, directory: Path, request: Request) -> OnnxRuntimeExecutable:
        self.check_options(request.options)
        return _opened(OnnxRuntimeExecutable(directory, request.options), request)


def _opened(executable: OnnxRuntimeExecutable, request: Request) -> OnnxRuntimeExecutable:
    if request.proven:
        return executable
    try:
        # Many faults show only when it runs.
        executable.run(request.inputs)
    except Exception as error:
        executable.close()
        raise ConversionError(str(error).strip() or type(error).__name__, exported=True) from error
    return executable


def _providers() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def _session(model: Path, options: dict[str, Any], save: Path | None = None) -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _ONLY_ERRORS
    settings.intra_op_num_threads = device.granted_threads(options.get("threads"))
    settings.inter_op_num_threads = 1
    settings.enable_cpu_mem_arena = options.get("arena", True)
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.get("spinning", False))))
    level = options.get("optimization", "all") if save is not None else "none"
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _OPTIMIZATION[level])
    if save is not None:
        settings.optimized_model_filepath = str(save)
    provider = options.get("provider", CPU)
    try:
        session = onnxruntime.InferenceSession(
            str(model), settings, providers=[provider, *([CPU] if provider != CPU else [])]
        )
    except Exception as error:
        raise ConversionError(f"ONNX Runtime can't take it: {error}", exported=True) from error
    never_destroyed_in_children(session)
    return session


class OnnxRuntimeExecutable:
    """A session, and for each thread what binds its calls.

    Args:
        directory: where the optimised model is.
        options: of :class:`OnnxRuntimeEngine`.
        owned: remove the directory with the executable, unless :meth:`moved` is called.
    """

    concurrent = True

    def __init__(self, directory: Path, options: dict[str, Any], *, owned: bool = False) -> None:
        self._remove = removed_with(self, directory) if owned else None
        model = directory / f"{STEM}.ort"
        self._weights = model.stat().st_size if model.exists() else 0
        with conversion_lock:
            self._session: Any = _session(model, options)
        self._pool: Pool[_Caller] = Pool(self._made, limit=MOST_THREADS, making=threading.RLock())

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that the session holds at least."""
        return self._weights if self._session is not None else 0

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return self._pool.use(_Caller.run, tensors)

    def close(self) -> None:
        self._pool.close()
        self._session = None
        if self._remove is not None:
            self._remove()

    def moved(self, directory: Path) -> None:
        if self._remove is not None:
            self._remove.detach()
        self._remove = None

    def _made(self) -> _Caller:
        return _Caller(self._session)


class _Input:
    __slots__ = ("element", "name", "place")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.place = place_of(name)
        self.element, _ = _ELEMENTS[kind]


class _Output:
    __slots__ = ("dtype", "element", "make", "name", "shape")

    def __init__(self, name: str, kind: str, shape: Sequence[Any]) -> None:
        self.name = name
        self.element, self.dtype = _ELEMENTS[kind]
        self.shape = list(shape) if all(type(size) is int for size in shape) else None
        self.make = None if self.shape is None else maker(self.shape, self.dtype)


class _Caller:
    """Calls a session for one thread at a time."""

    def __init__(self, session: Any) -> None:
        from onnxruntime.capi import onnxruntime_pybind11_state as bindings

        # What onnxruntime.IOBinding is made of: that takes twice the time for each Tensor.
        self._session = session._sess
        self._binding = bindings.SessionIOBinding(self._session)
        self._memory = bindings.OrtDevice(bindings.OrtDevice.cpu(), bindings.OrtDevice.default_memory(), 0)
        self._inputs = [_Input(each.name, each.type) for each in session.get_inputs()]
        self._outputs = [_Output(each.name, each.type, each.shape) for each in session.get_outputs()]
        self._some_unknown = any(output.shape is None for output in self._outputs)

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        binding, memory = self._binding, self._memory
        for each in self._inputs:
            tensor = tensors[each.place]
            binding.bind_input(each.name, memory, each.element, tensor.shape, tensor.data_ptr() or _NOWHERE)
        results: list[Any] = []
        for output in self._outputs:
            if output.make is None:
                results.append(None)
                binding.bind_output(output.name, memory)
            else:
                made = output.make()
                results.append(made)
                binding.bind_output(output.name, memory, output.element, output.shape, made.data_ptr() or _NOWHERE)
        self._session.run_with_iobinding(binding, None)
        return self._copied(results) if self._some_unknown else results

    def _copied(self, results: list[Any]) -> list[Tensor]:
        found = self._binding.get_outputs()
        copied = []
        for index, output in enumerate(self._outputs):
            result = results[index]
            if result is None:
                value = found[index]
                result = paddle.empty(value.shape(), output.dtype)
                ctypes.memmove(result.data_ptr(), value.data_ptr(), value.tensor_size_in_bytes())
            copied.append(result)
        # Else they would be kept until the next call.
        self._binding.clear_binding_outputs()
        return copied
