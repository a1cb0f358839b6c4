"""``paddle.incubate.jit.inference`` as an engine: Paddle's own hybrid wrapper, the reference.

Its options are the wrapper's parameters. What the wrapper prints, writes and remembers stays inside: a directory of
its own for each conversion, nothing on stdout, Paddle's parameter records cleared when an export fails.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import paddle

from autohybrid import device
from autohybrid.engines import garbage
from autohybrid.engines.dimensions import Alternative, Dimension
from autohybrid.engines.interface import Request
from autohybrid.engines.paddle_export import WRAPPER_DELETED_PASSES, check_pass_names, contained, removed_with
from autohybrid.engines.silence import stdout_kept
from autohybrid.engines.static_model import StaticModel, copied
from autohybrid.errors import ConversionError
from autohybrid.logs import noise_is_wanted
from autohybrid.structure import Tensor

_CURES = (
    Alternative(options={"deleted_passes": ["inplace_pass"]}, cures=True),
    Alternative(options={"deleted_passes": ["onednn_placement_pass", "inplace_pass"]}, cures=True),
    Alternative(options={"deleted_passes": ["inplace_pass"], "onednn": False}, cures=True, hope=1.2),
)
"""Cures of known faults on CPU in Paddle 3.0 to 3.3: ``inplace_pass`` overwrites an operand that is needed again,
``onednn_placement_pass`` leads to failing upsampling and to crashes in some attention layers."""


class IncubateEngine:
    """The wrapper around a flat Layer.

    Options: ``deleted_passes`` (names of IR passes to delete besides the wrapper's own two), ``onednn`` (False to do
    without it on a CPU), and by name every
    parameter of ``paddle.incubate.jit.inference`` but the directory and the cache.
    """

    name = "incubate"
    runtime = "paddle.inference"
    dimensions = (Dimension(name="passes", alternatives=lambda machine: _CURES),)

    def unavailable(self) -> str | None:
        if hasattr(paddle.incubate.jit, "inference"):
            return None
        return f"Paddle {paddle.__version__} has no paddle.incubate.jit.inference"

    def check_options(self, options: dict[str, Any]) -> None:
        known = set(inspect.signature(paddle.incubate.jit.inference).parameters)
        known -= {"function", "save_model_dir", "cache_static_model", "delete_pass_lists"}
        for name in options:
            if name not in known and name not in ("deleted_passes", "onednn"):
                raise ConversionError(
                    f"the engine incubate has no option {name!r}", f"It has: {', '.join(sorted(known))}."
                )
        check_pass_names(self.name, options.get("deleted_passes", []))

    def convert(self, request: Request) -> _Wrapped:
        self.check_options(request.options)
        options = dict(request.options)
        deleted = [*WRAPPER_DELETED_PASSES, *options.pop("deleted_passes", ())]
        # Pruning refuses inputs that the answer doesn't depend on; a cache's keys and values are often such.
        options.setdefault("skip_prune_program", True)
        with contained(), _quiet(onednn=options.pop("onednn", True)):
            wrapped = paddle.incubate.jit.inference(
                request.program.forward, save_model_dir=str(request.directory), delete_pass_lists=deleted, **options
            )
            _declare_shapes(wrapped, request.shapes)
            config = {"ir_optim": True, "onednn": request.options.get("onednn", True), "threads": 1, **options}
            executable = _Wrapped(wrapped, request.directory, {**config, "deleted_passes": deleted})
            try:
                with garbage.collected():
                    executable.run(request.inputs)
            except Exception as error:
                exported = any(request.directory.rglob("infer.*"))
                raise ConversionError(str(error).strip() or type(error).__name__, exported=exported) from error
        return executable


class _Wrapped:
    concurrent = False

    def __init__(self, wrapped: Any, directory: Path, config: dict[str, Any]) -> None:
        self._wrapped = wrapped
        self._directory = directory
        self._config = config
        self._remove = removed_with(self, directory)
        self._run: Callable[[list[Tensor]], list[Tensor]] | None = None

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        if self._run is not None:
            return device.keeping_math_threads(self._run, list(tensors))
        answer = device.keeping_math_threads(self._wrapped, list(tensors))
        # The wrapper compares shapes again at each call and would export anew in the middle of one; the region that
        # calls this has its own variants, so that from here on the predictor alone is needed.
        self._run = _inference_engine(self._wrapped).predictor.run
        return list(answer) if isinstance(answer, (list, tuple)) else [answer]

    def copy_to(self, directory: Path) -> StaticModel:
        (stem,) = {file.with_suffix("") for file in self._directory.rglob("infer.pdiparams")}
        return copied(stem, directory, self._config)

    def close(self) -> None:
        self._run = self._wrapped = None
        self._remove()


def _inference_engine(wrapped: Any) -> Any:
    return inspect.getclosurevars(wrapped).nonlocals["infer_engine"]


def _declare_shapes(wrapped: Any, shapes: Sequence[Sequence[int]]) -> None:
    # The wrapper learns what varies by failing: it exports again when a shape differs. Telling it beforehand saves
    # the second export.
    _inference_engine(wrapped).d2s_input_shapes = [list(shape) for shape in shapes]


@contextlib.contextmanager
def _quiet(onednn: bool) -> Iterator[None]:
    home: Any = import_module("paddle.incubate.jit.inference_decorator")
    original = home.create_predictor

    def quiet(config: Any) -> Any:
        # The wrapper has no parameter for it, but looks this function up at each export.
        if not noise_is_wanted():
            config.disable_glog_info()
        if not onednn:
            config.disable_mkldnn()
        return original(config)

    home.create_predictor = quiet
    # A name of the module's own, in front of the builtin: other threads' prints go on.
    home.print = functools.partial(print, file=sys.stderr) if noise_is_wanted() else lambda *_, **__: None
    try:
        with stdout_kept():
            yield
    finally:
        home.create_predictor = original
        del home.print
