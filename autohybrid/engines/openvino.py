"""OpenVINO as an engine: Paddle's export through paddle2onnx, compiled by OpenVINO.

Small Tensors of known shapes are copied into and out of a request's own memory, which costs less than telling OpenVINO
where they lie; others are read and written in place. What is kept is the compiled model as OpenVINO writes it; for
layers of one structure that is filled with the weights of each, from the second on.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import paddle

from autohybrid import device
from autohybrid.engines import onnx_export, rules
from autohybrid.engines.dimensions import PRECISION, THREADS
from autohybrid.engines.forks import never_destroyed_in_children
from autohybrid.engines.graphs import Blank, bytes_of, places_in, random_like, state_of
from autohybrid.engines.interface import Busy, Request
from autohybrid.engines.paddle_export import STEM, conversion_lock, known_graph, place_of, removed_with
from autohybrid.engines.pool import Pool
from autohybrid.engines.results import maker
from autohybrid.errors import ConversionError
from autohybrid.structure import Tensor

MOST_THREADS = 16
"""How many threads may be in a conversion at once; the weights are shared, each has buffers of its own."""

LARGEST_COPIED = 1 << 16
"""Bytes up to which a Tensor is copied: 64 KiB take about as long as to hand over where a Tensor lies (7 us)."""

_RULES = {
    "threads": rules.count(),
    "pinning": rules.flag(),
    "precision": rules.Rule(
        accepts=lambda value: value == "float32" or value in device.lower_precisions(),
        wanted="float32, or bfloat16 where the processor computes with it",
    ),
    "device": rules.Rule(accepts=lambda value: type(value) is str and value in _devices(), wanted="installed"),
}

_DTYPES: dict[str, Any] = {
    "f32": paddle.float32,
    "f16": paddle.float16,
    "boolean": paddle.bool,
    "i8": paddle.int8,
    "u8": paddle.uint8,
    "i16": paddle.int16,
    "i32": paddle.int32,
    "i64": paddle.int64,
}
"""Paddle's dtypes by OpenVINO's names. It computes float64 as float32, and has no bfloat16 that all processors know."""


_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVinoEngine:
    """OpenVINO around a flat Layer.

    Options:
        threads: as many as eager uses (``OMP_NUM_THREADS``) unless told otherwise. Threads of its own, beside Paddle's.
        pinning: whether its threads are bound to cores. Unless told otherwise where there is one for each core of the
            machine: after a pause the kernel may wake two on one core. Fewer could meet those of another process there.
        precision: float32 unless told otherwise, or bfloat16 where the processor computes with it.
        device: what computes, by OpenVINO's name for it (``CPU``).
    """

    name = "openvino"
    dimensions = (THREADS, PRECISION)

    def unavailable(self) -> str | None:
        missing = onnx_export.lacking("openvino", "paddle2onnx")
        if missing:
            return f'{missing}; pip install "autohybrid[openvino]"'
        return "it takes Tensors on a CPU only" if device.on_gpu() else None

    def made_with(self) -> dict[str, str]:
        return {**onnx_export.versions("openvino", "paddle2onnx"), "processor": device.processor()}

    def check_options(self, options: dict[str, Any]) -> None:
        rules.check(self.name, _RULES, options)

    def convert(self, request: Request) -> OpenVinoExecutable:
        self.check_options(request.options)
        with conversion_lock:
            self._write(request, request.directory / f"{STEM}.blob")
        # Opened anew: what was compiled holds the weights twice.
        return self._opened(request.directory, request, owned=True)

    def _write(self, request: Request, blob: Path) -> None:
        """Writes the compiled model: one of the same graph with these weights in it, where there is one.

        Where this process has made a model of the graph before, two are compiled with random weights to see where
        they stand. In one with its own they may be missing: OpenVINO leaves out what adds zeros.
        """
        graph, kind = known_graph(request), repr((self.name, _device(request.options), _settings(request.options)))
        blanks = {} if graph is None else graph.blanks
        named = {} if graph is None else graph.named(state_of(request.program))
        again = graph is not None and graph.made
        if blanks.get(kind) is None:
            model = onnx_export.export_onnx(request)
            onnx = blanks.get(onnx_export.ONNX)
            if again and onnx is not None and kind not in blanks:
                blanks[kind] = _blank_of(onnx, named, model.with_suffix(".random"), request.options)
            if blanks.get(kind) is None:
                blob.write_bytes(_written(model, request.options))
            model.unlink()
        blank = blanks.get(kind)
        if blank is not None:
            blank.write(named, blob)

    def open(self, directory: Path, request: Request) -> OpenVinoExecutable:
        self.check_options(request.options)
        return self._opened(directory, request, owned=False)

    @staticmethod
    def _opened(directory: Path, request: Request, *, owned: bool) -> OpenVinoExecutable:
        # Mapped: what OpenVINO uses as it lies there needs no memory.
        content = np.memmap(directory / f"{STEM}.blob", np.uint8, mode="c")
        with conversion_lock:
            compiled = _said_as_conversion_error(lambda: _imported(content, request.options))
        executable = OpenVinoExecutable(compiled, content, directory, owned=owned)
        if request.proven:
            return executable
        try:
            # Many faults show only when it runs.
            _said_as_conversion_error(lambda: executable.run(request.inputs))
        except ConversionError:
            executable.close()
            raise
        return executable


def _said_as_conversion_error(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(f"OpenVINO can't take it: {error}", exported=True) from error


def _openvino() -> ModuleType:
    """The package, imported without the part that reports each import to its makers."""
    silenced = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if silenced:
        # OpenVINO does without it where it can't be imported.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if silenced:
            del sys.modules["openvino_telemetry"]
    module: ModuleType = openvino
    return module


@functools.cache
def _core() -> Any:
    return _openvino().Core()


def _devices() -> list[str]:
    return list(_core().available_devices)


def _device(options: dict[str, Any]) -> str:
    return str(options.get("device", "CPU"))


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    # Left to itself, it computes in bfloat16 where the processor can.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _PRECISIONS[options.get("precision", "float32")]}
    if _device(options) == "CPU":
        threads = device.granted_threads(options.get("threads"))
        settings["INFERENCE_NUM_THREADS"] = threads
        settings["NUM_STREAMS"] = 1
        settings["ENABLE_CPU_PINNING"] = options.get("pinning", threads > 1 and threads == os.cpu_count())
    return settings


class _Executors:
    """Sees to it that no thread pool of OpenVINO's is idle while this process is forked.

    OpenVINO keeps the pools of models that are gone, and gives them to the next model with the same settings. In a
    forked child they have no threads, and a model that gets one of them waits for ever.
    """

    def __init__(self) -> None:
        self._alive: dict[str, weakref.WeakSet[Any]] = {}
        self._most: dict[str, int] = {}
        self._settings: dict[str, dict[str, Any]] = {}
        self._occupied: list[Any] = []
        os.register_at_fork(
            before=self._occupy_all, after_in_parent=self._occupied.clear, after_in_child=self._forget_all
        )

    def noted(self, compiled: Any, options: dict[str, Any]) -> Any:
        """Remembers that a compiled model has a pool."""
        never_destroyed_in_children(compiled)
        settings = _settings(options)
        key = repr((_device(options), settings))
        self._settings[key] = settings
        alive = self._alive.setdefault(key, weakref.WeakSet())
        alive.add(compiled)
        self._most[key] = max(self._most.get(key, 0), len(alive))
        return compiled

    def _occupy_all(self) -> None:
        """Gives each pool that may be idle to a model of its own."""
        for key, settings in self._settings.items():
            for _ in range(self._most[key] - len(self._alive[key])):
                self._occupied.append(_core().compile_model(_smallest_model(), "CPU", settings))
        never_destroyed_in_children(*self._occupied)

    def _forget_all(self) -> None:
        """In the child: all pools that there are have no threads; their models stay, so that they are never idle."""
        self._occupied.clear()
        self._alive.clear()
        self._most.clear()
        self._settings.clear()


def _smallest_model() -> Any:
    openvino = _openvino()
    given = openvino.op.Parameter(openvino.Type.f32, openvino.Shape([1]))
    return openvino.Model([openvino.opset13.relu(given)], [given])


_executors = _Executors()


def _compiled(file: Path, options: dict[str, Any]) -> Any:
    model = _core().read_model(str(file))
    unsafe = _needs_64_bits(model)
    if unsafe:
        raise ConversionError(f"OpenVINO computes with 32 bits what needs 64: {unsafe}", exported=True)
    return _executors.noted(_core().compile_model(model, _device(options), {**_settings(options), **_PLAIN}), options)


def _written(model: Path, options: dict[str, Any]) -> bytes:
    """The model as OpenVINO writes it when it is compiled."""
    exported: bytes = _said_as_conversion_error(lambda: _compiled(model, options).export_model().getvalue())
    return exported


def _blank_of(onnx: Blank, named: Mapping[str, Tensor], file: Path, options: dict[str, Any]) -> Blank | None:
    """A compiled model without its weights, where two with random ones differ in nothing else.

    Args:
        onnx: what it is compiled from.
        named: weights, of which dtypes and shapes matter.
        file: written and removed.
    """
    size = sum(int(tensor.size) * int(tensor.element_size()) for tensor in named.values())
    if _device(options) != "CPU" or size > onnx_export.LARGEST_COMPARED:
        return None

    def made(weights: Mapping[str, Tensor]) -> tuple[bytes, dict[str, bytes]]:
        onnx.write(weights, file)
        return _written(file, options), {name: bytes_of(tensor) for name, tensor in weights.items()}

    one = random_like(named)
    try:
        content, values = made(one)
        places = places_in(content, values, *made(random_like(one)), _lasting)
    except ConversionError:
        return None
    finally:
        file.unlink(missing_ok=True)
    return Blank.cut(content, places) if places is not None else None


_NUMBER = re.compile(rb"(?<=_)\d+(?=[\",])")
"""Ends a name that OpenVINO has given: it counts the nodes of a process, ``MVN_15244``."""


def _lasting(pieces: Sequence[bytes]) -> list[bytes]:
    """The pieces of a written model but for what differs from time to time: nodes' numbers, and the text's size for it.

    Numbers are told from each other, in the order in which they come.
    """
    numbers: dict[bytes, bytes] = {}
    start = max(pieces[-1].rfind(b"<?xml"), 0)
    text = pieces[-1][start:]
    *before, last = [*pieces[:-1], pieces[-1][:start]]
    lasting = _NUMBER.sub(lambda found: numbers.setdefault(found[0], b"%d" % len(numbers)), text)
    size = len(text).to_bytes(8, sys.byteorder)
    return [*(piece.replace(size, b"size") for piece in before), last, lasting]


def _as_it_is(content: bytes) -> bytes:
    return content


_PLAIN = {"CACHE_ENCRYPTION_CALLBACKS": [_as_it_is, _as_it_is]}
"""Has models written, and read, as text: otherwise it is made unreadable, and two of them can't be held together."""


def _imported(content: Any, options: dict[str, Any]) -> Any:
    place = (_device(options), {**_settings(options), **_PLAIN})
    try:
        compiled = _core().import_model(_openvino().Tensor(content, shared_memory=True), *place)
    except TypeError:
        # Before 2025 only from a copy.
        compiled = _core().import_model(content.tobytes(), *place)
    return _executors.noted(compiled, options)


_ARITHMETIC = frozenset({"Add", "CumSum", "MatMul", "Multiply", "Power", "ReduceProd", "ReduceSum", "Subtract"})
"""Operations whose results may need more bits than their operands."""

_WIDE = frozenset({"i64", "u64", "u32"})


def _needs_64_bits(model: Any) -> str:
    """The first operation that computes float64, or integers that may grow beyond 32 bits; empty when none does.

    Sizes may be computed: they are small. So may what is picked from the inputs, which are looked at in each call.
    """
    from_data: set[str] = set()
    for node in model.get_ordered_ops():
        operation, sources = node.get_type_name(), [port.get_source_output() for port in node.inputs()]
        kinds = {port.get_element_type().get_type_name() for port in node.outputs()}
        if "f64" in kinds:
            return f"{operation} in float64"
        if operation == "Parameter":
            from_data.add(node.get_friendly_name())
        if operation == "ShapeOf" or not any(each.get_node().get_friendly_name() in from_data for each in sources):
            continue
        from_data.add(node.get_friendly_name())
        rounded = operation == "Convert" and sources[0].get_element_type().is_real()
        if kinds & _WIDE and (operation in _ARITHMETIC or rounded):
            return f"{operation} in {kinds.pop()}"
    return ""


class OpenVinoExecutable:
    """A compiled model, and for each thread a request of it.

    Args:
        compiled: an ``openvino.CompiledModel``.
        content: the file that it was made from, as an array; used as long as anything of the model is.
        directory: where its file is.
        owned: remove the directory with the executable, unless :meth:`moved` is called.
    """

    concurrent = True

    def __init__(self, compiled: Any, content: Any, directory: Path, *, owned: bool = False) -> None:
        self._compiled = compiled
        self._content = content
        self._remove = removed_with(self, directory) if owned else None
        self._weights = (directory / f"{STEM}.blob").stat().st_size
        self._pool: Pool[_Caller] = Pool(self._made, limit=MOST_THREADS, making=threading.RLock())

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that the compiled model holds at least."""
        return self._weights if self._compiled is not None else 0

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return self._pool.use(_Caller.run, tensors)

    def close(self) -> None:
        self._pool.close()
        self._compiled = None
        if self._remove is not None:
            self._remove()

    def moved(self, directory: Path) -> None:
        if self._remove is not None:
            self._remove.detach()
        self._remove = None

    def _made(self) -> _Caller:
        return _Caller(self._compiled, self._content)


class _Port:
    """An input or output of a compiled model.

    Attributes:
        shape: None where it varies.
        narrowed: whether OpenVINO has fewer bits for its values.
        copied: its bytes, where it has memory of its own in the request; else 0.
        address: where that memory lies.
    """

    __slots__ = ("address", "copied", "dtype", "index", "make", "narrowed", "place", "shape")

    def __init__(self, port: Any, index: int, place: int = 0) -> None:
        kind = port.element_type.get_type_name()
        if kind not in _DTYPES:
            raise ConversionError(f"OpenVINO doesn't compute in {kind} on every processor", exported=True)
        self.index = index
        self.place = place
        self.dtype = _DTYPES[kind]
        self.shape = None if port.partial_shape.is_dynamic else list(port.shape)
        self.make = None if self.shape is None else maker(self.shape, self.dtype)
        size = 0 if self.shape is None else math.prod(self.shape) * port.element_type.size
        self.copied = size if size <= LARGEST_COPIED else 0
        self.address = 0
        self.narrowed = kind in _WIDE


class _Caller:
    """A request: calls a compiled model for one thread at a time."""

    def __init__(self, compiled: Any, content: Any) -> None:
        openvino = _openvino()
        self._content = content
        self._tensor = openvino.Tensor
        self._request = compiled.create_infer_request()
        # What its infer is made of; that makes an array of each output besides.
        self._infer = super(openvino.InferRequest, self._request).infer  # type: ignore[misc]
        self._inputs = [_Port(each, index, place_of(*each.get_names())) for index, each in enumerate(compiled.inputs)]
        self._outputs = [_Port(each, index) for index, each in enumerate(compiled.outputs)]
        for port in self._inputs:
            port.address = _address(self._request.get_input_tensor(port.index)) if port.copied else 0
        for port in self._outputs:
            port.address = _address(self._request.get_output_tensor(port.index)) if port.copied else 0

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        for port in self._inputs:
            tensor = tensors[port.place]
            if port.narrowed and not _fits(tensor):
                raise Busy("an input needs more than 32 bits")
            if port.copied:
                ctypes.memmove(port.address, tensor.data_ptr(), port.copied)
            else:
                self._request.set_input_tensor(port.index, self._shared(tensor))
        results: list[Any] = []
        for port in self._outputs:
            made = None if port.make is None else port.make()
            if made is not None and not port.copied:
                self._request.set_output_tensor(port.index, self._shared(made))
            results.append(made)
        self._infer({}, True, False)
        for port, made in zip(self._outputs, results, strict=True):
            if made is None:
                results[port.index] = self._received(port)
            elif port.copied:
                ctypes.memmove(made.data_ptr(), port.address, port.copied)
        return results

    def _shared(self, tensor: Tensor) -> Any:
        """The Tensor's own memory, as OpenVINO takes it."""
        plain = tensor if tensor.stop_gradient else tensor.detach()
        return self._tensor(np.from_dlpack(plain), shared_memory=True)

    def _received(self, port: _Port) -> Tensor:
        """An output whose size is only known now."""
        found = self._request.get_output_tensor(port.index)
        result = paddle.empty(list(found.shape), port.dtype)
        ctypes.memmove(result.data_ptr(), _address(found), found.byte_size)
        return result


def _fits(tensor: Tensor) -> bool:
    values = np.from_dlpack(tensor)
    return values.size == 0 or bool(values.min() >= -_LARGEST_INT32 and values.max() <= _LARGEST_INT32)


_LARGEST_INT32 = (1 << 31) - 1


def _address(tensor: Any) -> int:
    return int(tensor.data.ctypes.data)
