"""Paddle Inference through Paddle's public API, with what the hybrid wrapper doesn't expose.

``paddle.jit.to_static`` -> ``paddle.jit.save`` -> ``paddle.inference.Config`` -> ``create_predictor``; a predictor for
each thread, results that belong to the caller, and exported files that a later process can open again.

A predictor's ``run`` holds Python's interpreter lock from beginning to end (3.0 to 3.3): threads keep their predictors
apart, which Paddle asks for, but don't compute at the same time. More cores are had by ``threads``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import paddle
from paddle import inference

from autohybrid import device
from autohybrid.engines import garbage
from autohybrid.engines.dimensions import PRECISION, THREADS, Alternative, Dimension, on_cpu, on_gpu
from autohybrid.engines.interface import Request
from autohybrid.engines.older_program import export_older, keep_optimized
from autohybrid.engines.paddle_export import (
    STEM,
    WRAPPER_DELETED_PASSES,
    check_pass_names,
    conversion_lock,
    export,
    input_name,
    place_of,
    removed_with,
)
from autohybrid.engines.pool import Pool
from autohybrid.engines.silence import stdout_kept, warnings_held_back
from autohybrid.engines.small_program import ELEMENTS, is_small
from autohybrid.engines.static_model import StaticModel, copied
from autohybrid.errors import ConversionError
from autohybrid.logs import noise_is_wanted
from autohybrid.structure import Tensor

_clone = paddle.Tensor.clone

DELETED_PASSES = ("inplace_pass", *WRAPPER_DELETED_PASSES)
"""Always deleted. ``inplace_pass`` overwrites operands that are needed again, on a CPU in Paddle 3.0 to 3.3."""

_PLACEMENT = "onednn_placement_pass"
"""What gives operators to oneDNN; the fusions that oneDNN has kernels for are other passes."""

_OF_ONEDNN = ("onednn", "onednn_cache", "precision")
"""Options that ask for oneDNN, or for doing without it, in so many words."""

MOST_PREDICTORS = 4
"""``max_predictors`` unless told otherwise; a predictor holds one to two copies of the weights."""

_PRECISIONS = {"float32": "Float32", "float16": "Half", "bfloat16": "Bfloat16"}

_PROGRAMS = ("json", "pdmodel")

_NOT_IN_PDMODEL = ("ir_optim", "optimization_level", "precision", "cinn")
"""Options that say how a program is optimised when it is opened; one that was kept optimised isn't any more."""


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_bool(value: Any) -> bool:
    return type(value) is bool


_OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "threads": (_is_count, "a positive int"),
    "onednn": (_is_bool, "a bool"),
    "onednn_cache": (lambda value: type(value) is int and value >= 0, "an int, at least 0"),
    "ir_optim": (_is_bool, "a bool"),
    "optimization_level": (lambda value: type(value) is int and 0 <= value <= 3, "0, 1, 2 or 3"),
    "max_predictors": (_is_count, "a positive int"),
    "memory_pool_mb": (_is_count, "a positive int"),
    "precision": (_PRECISIONS.__contains__, f"one of {', '.join(_PRECISIONS)}"),
    "cinn": (_is_bool, "a bool"),
    "tensorrt": (_is_bool, "a bool"),
    "cutlass": (_is_bool, "a bool"),
    "program": (_PROGRAMS.__contains__, f"one of {', '.join(_PROGRAMS)}"),
}


DIMENSIONS = (
    # These cure upsampling, some attention layers, and activations that oneDNN loses; at last, without any pass, what
    # another one breaks (answers are eager's to the bit then, and so is the speed of most large models).
    Dimension(
        name="oneDNN",
        alternatives=on_cpu(
            Alternative(options={"deleted_passes": [_PLACEMENT]}, cures=True, hope=1.2),
            Alternative(options={"onednn": False}, cures=True, hope=1.2, lean=True),
            Alternative(options={"optimization_level": 0}, cures=True),
        ),
    ),
    THREADS,
    PRECISION,
    Dimension(
        name="compiler",
        alternatives=lambda machine: [
            *([Alternative(options={"cinn": True}, hope=1.5)] if machine.cinn else []),
            *([Alternative(options={"tensorrt": True}, hope=2.0)] if machine.tensorrt else []),
        ],
    ),
    # Measured: up to 1.3 times as fast, mostly the same; converted in a third of the time, opened in a twentieth.
    Dimension(
        name="program",
        alternatives=lambda machine: [
            *([Alternative(options={"program": "pdmodel"}, hope=1.3)] if machine.starts and not machine.gpu else [])
        ],
    ),
    Dimension(name="kernels", alternatives=on_gpu(Alternative(options={"cutlass": True}, hope=1.3))),
)


class PredictorEngine:
    """``paddle.inference`` around a flat Layer.

    Options:
        threads: math threads on a CPU; as many as eager uses (``OMP_NUM_THREADS``) unless told otherwise. Paddle sets
            this for the whole calling thread; it is set back after each run.
        onednn: use oneDNN on a CPU. True unless told otherwise, but not for the operators of a program that has small
            values only (:mod:`small_program`).
        onednn_cache: how many shapes oneDNN's cache may hold primitives for.
        deleted_passes: names of IR passes to delete besides :data:`DELETED_PASSES`.
        ir_optim: optimise the program (True).
        optimization_level: how many of Paddle's passes run, 0 (none, oneDNN's neither) to 3; Paddle's own default is 2.
        max_predictors: how many threads may have a predictor of their own; others borrow one that is idle, and where
            none is, eager answers: no call waits for another.
        memory_pool_mb: first size of the memory pool on a GPU (1000, as in the wrapper).
        precision: float32, or float16 or bfloat16 on a GPU, or bfloat16 on a CPU that computes with it.
        cinn: optimise the program by CINN, where Paddle was built with it.
        tensorrt: hand what TensorRT can do to it (on a GPU, where Paddle was built with it).
        cutlass: use CUTLASS kernels on a GPU.
        program: ``"json"``, Paddle 3's format, or on a CPU ``"pdmodel"``, the older one: it is kept as it was
            optimised, and a later process opens it in a fraction of the time; not everything can be exported to it.
    """

    name = "predictor"
    runtime = "paddle.inference"
    dimensions = DIMENSIONS

    def unavailable(self) -> str | None:
        lacking = [name for name in ("Config", "create_predictor") if not hasattr(inference, name)]
        return f"Paddle {paddle.__version__} has no paddle.inference.{lacking[0]}" if lacking else None

    def check_options(self, options: dict[str, Any]) -> None:
        for name, value in options.items():
            if name == "deleted_passes":
                check_pass_names(self.name, value)
                continue
            if name not in _OPTIONS:
                known = ", ".join(sorted([*_OPTIONS, "deleted_passes"]))
                raise ConversionError(f"the engine {self.name} has no option {name!r}", f"It has: {known}.")
            accepts, wanted = _OPTIONS[name]
            if not isinstance(value, (bool, int, str)) or not accepts(value):
                raise ConversionError(f"{self.name}: {name} must be {wanted}, not {value!r}")
        if device.on_gpu():
            only_on_cpu = ("threads", "onednn", "onednn_cache", "program")
            misplaced: list[str] = [name for name in only_on_cpu if name in options]
        else:
            misplaced = [name for name in ("memory_pool_mb", "tensorrt", "cutlass") if name in options]
            misplaced += ["precision"] if options.get("precision", "float32") not in _cpu_precisions() else []
        if misplaced:
            raise ConversionError(f"{self.name}: {misplaced[0]} has no effect on {paddle.device.get_device()}")
        idle = [name for name in ("onednn_cache", "precision") if name in options]
        if options.get("onednn") is False and idle:
            raise ConversionError(f"{self.name}: {idle[0]} has no effect with onednn=False")
        unasked = [name for name in _NOT_IN_PDMODEL if name in options]
        if options.get("program") == "pdmodel" and unasked:
            raise ConversionError(f'{self.name}: {unasked[0]} has no effect with program="pdmodel"')
        if options.get("cinn") and not paddle.is_compiled_with_cinn():
            raise ConversionError(f"{self.name}: this Paddle was built without CINN")

    def made_with(self) -> dict[str, str]:
        # Which of its passes the same files are opened with.
        return {"small": str(ELEMENTS)}

    def convert(self, request: Request) -> PredictorExecutable:
        self.check_options(request.options)
        with conversion_lock:
            if request.options.get("program") == "pdmodel":
                export_older(request)
                keep_optimized(request.directory, configured(request.directory, request.options, optimized=False))
            else:
                export(request)
            return self._opened(request.directory, request, owned=True)

    def open(self, directory: Path, request: Request) -> PredictorExecutable:
        self.check_options(request.options)
        return self._opened(directory, request, owned=False)

    @staticmethod
    def _opened(directory: Path, request: Request, owned: bool) -> PredictorExecutable:
        executable = PredictorExecutable(
            directory, request.options, len(request.inputs), shapes=request.shapes, owned=owned
        )
        try:
            # Many faults show only when it runs.
            with conversion_lock, stdout_kept():
                executable.ready() if request.proven else executable.run(request.inputs)
                # On a GPU they show when it has come to an end; the pool is shrunk by what converting took.
                device.synchronize()
        except Exception as error:
            executable.close()
            raise ConversionError(str(error).strip() or type(error).__name__, exported=True) from error
        if device.on_gpu():
            device.trim_memory()
        return executable


class PredictorExecutable:
    """Exported files and the predictors that were made from them.

    Args:
        directory: where ``infer.*`` are.
        options: of :class:`PredictorEngine`.
        inputs: how many Tensors the program takes.
        shapes: their shapes as far as they are known, which TensorRT is told.
        owned: remove the directory with the executable, unless :meth:`moved` is called.
    """

    concurrent = True

    def __init__(
        self,
        directory: Path,
        options: dict[str, Any],
        inputs: int,
        *,
        shapes: Sequence[Sequence[int]] = (),
        owned: bool = False,
    ) -> None:
        self._directory = directory
        self._options = options
        self._inputs = inputs
        self._shapes = shapes
        limit = options.get("max_predictors", MOST_PREDICTORS)
        self._pool: Pool[_Predictor] = Pool(self._made, limit=limit, making=conversion_lock)
        self._remove = removed_with(self, directory) if owned else None

    @property
    def predictors(self) -> int:
        """How many predictors there are now."""
        return len(self._pool)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that the predictors hold at least: a copy each, oneDNN's reordered ones not counted."""
        files = self._directory.glob(f"{STEM}.pdiparams*")
        return self.predictors * sum(file.stat().st_size for file in files)

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return self._pool.use(_Predictor.run, tensors)

    def ready(self) -> None:
        """Makes this thread's predictor now, which the first run would."""
        self._pool.use(lambda predictor: None)

    def close(self) -> None:
        self._pool.close()
        if device.on_gpu():
            device.trim_memory()
        if self._remove is not None:
            self._remove()

    def copy_to(self, directory: Path) -> StaticModel:
        config = {"ir_optim": True, "onednn": True, "threads": device.math_threads(), **self._options}
        config["deleted_passes"] = deleted_passes(_program_in(self._directory), self._options)
        config.pop("max_predictors", None)
        if config.pop("program", "") == "pdmodel":
            config["ir_optim"] = False
        return copied(self._directory / STEM, directory, config)

    def moved(self, directory: Path) -> None:
        if self._remove is not None:
            self._remove.detach()
        self._remove = None
        self._directory = directory

    def _made(self) -> _Predictor:
        config = configured(self._directory, self._options, self._shapes)
        with warnings_held_back(), warnings.catch_warnings():
            if not noise_is_wanted():
                warnings.simplefilter("ignore")
            # Making one, too, gives the calling thread the threads that it is to have.
            predictor = device.keeping_math_threads(inference.create_predictor, config)
        return _Predictor(predictor, self._inputs)


class _Predictor:
    """One of Paddle's predictors, taking the program's inputs in order.

    On a GPU it was told of no stream of its own, and so uses Paddle's device context, and the stream that was current
    when it was made. In a call under another stream the two wait for each other.
    """

    def __init__(self, predictor: Any, inputs: int) -> None:
        self._predictor = predictor
        self._stream = device.stream()
        # Paddle may have dropped inputs that the program doesn't use, and nothing promises their order.
        order = [place_of(name) for name in predictor.get_input_names()]
        self._order = order if order != list(range(inputs)) else None
        self._run: Callable[[list[Tensor]], list[Tensor]] = self._first_run

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        elsewhere = self._stream is not None and device.stream() != self._stream
        if elsewhere:
            device.synchronize()
        given = list(tensors) if self._order is None else [tensors[index] for index in self._order]
        # Clones, for what comes back may be a buffer that the next run overwrites, or an input; whether it is depends
        # on layouts that oneDNN chooses by shape. The copy costs a microsecond and the time to move the bytes.
        outputs = [*map(_clone, device.keeping_math_threads(self._run, given))]
        if elsewhere:
            device.synchronize()
        return outputs

    def _first_run(self, tensors: list[Tensor]) -> list[Tensor]:
        # Kernels are chosen by the first run, and some print while they are.
        with garbage.collected(), stdout_kept():
            outputs: list[Tensor] = self._predictor.run(tensors)
        self._run = self._predictor.run
        return outputs


def configured(
    directory: Path, options: dict[str, Any], shapes: Sequence[Sequence[int]] = (), *, optimized: bool = True
) -> Any:
    """The ``paddle.inference.Config`` for exported files and checked options, for Paddle's current device.

    Args:
        directory: where the files are.
        options: of :class:`PredictorEngine`.
        shapes: of the inputs, for TensorRT.
        optimized: whether a program in the older format was optimised before it was written.

    Raises:
        ConversionError: no files; TensorRT is asked for, and a size varies (-1 in ``shapes``).
    """
    model = _program_in(directory)
    config = inference.Config(str(model), str(directory / f"{STEM}.pdiparams"))
    if not noise_is_wanted():
        config.disable_glog_info()
    # Not on: with programs in Paddle's default format a predictor can't be made then.
    config.enable_memory_optim(False)
    is_done = optimized and options.get("program") == "pdmodel"
    config.switch_ir_optim(options.get("ir_optim", True) and not is_done)
    if "optimization_level" in options:
        config.set_optimization_level(options["optimization_level"])
    place = str(paddle.device.get_device())
    if place.startswith("gpu"):
        precision = getattr(inference.PrecisionType, _PRECISIONS[options.get("precision", "float32")])
        config.enable_use_gpu(options.get("memory_pool_mb", 1000), int(place.partition(":")[2] or 0), precision)
        if options.get("cutlass"):
            config.exp_enable_use_cutlass()
        if options.get("tensorrt"):
            _configure_tensorrt(config, precision, shapes)
    else:
        _configure_cpu(config, options)
    if options.get("cinn"):
        config.enable_cinn()
    for name in deleted_passes(model, options):
        config.delete_pass(name)
    return config


def _program_in(directory: Path) -> Path:
    for program in [directory / f"{STEM}.{suffix}" for suffix in _PROGRAMS]:
        if program.exists():
            return program
    raise ConversionError(f"no exported program in {directory}")


def deleted_passes(program: Path, options: dict[str, Any]) -> list[str]:
    """The IR passes that an exported program isn't optimised by."""
    told = any(name in options for name in _OF_ONEDNN) or device.on_gpu()
    unasked = [] if told or not is_small(program) else [_PLACEMENT]
    return [*dict.fromkeys([*DELETED_PASSES, *unasked, *options.get("deleted_passes", ())])]


def _configure_tensorrt(config: Any, precision: Any, shapes: Sequence[Sequence[int]]) -> None:
    if any(size < 0 for shape in shapes for size in shape):
        raise ConversionError("TensorRT is given fixed sizes only, and one of them varies")
    config.enable_tensorrt_engine(
        workspace_size=1 << 30, max_batch_size=1, min_subgraph_size=3, precision_mode=precision, use_calib_mode=False
    )
    ranges = {input_name(index): list(shape) for index, shape in enumerate(shapes)}
    if ranges:
        # The least, the largest, and the usual ones.
        config.set_trt_dynamic_shape_info(ranges, ranges, ranges)


def _cpu_precisions() -> tuple[str, ...]:
    return ("float32", *device.lower_precisions())


def _configure_cpu(config: Any, options: dict[str, Any]) -> None:
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(device.granted_threads(options.get("threads")))
    # Named mkldnn up to 3.2.
    kind = "onednn" if hasattr(config, "enable_onednn") else "mkldnn"
    if options.get("onednn", True):
        getattr(config, f"enable_{kind}")()
        if "onednn_cache" in options:
            getattr(config, f"set_{kind}_cache_capacity")(options["onednn_cache"])
        if options.get("precision") == "bfloat16":
            getattr(config, f"enable_{kind}_bfloat16")()
    else:
        getattr(config, f"disable_{kind}")()
