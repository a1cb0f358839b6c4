"""What stands at the beginning of exported code, from the first import to the end of this file, word for word."""

from __future__ import annotations

import atexit
import itertools
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any

import paddle

_directory = tempfile.TemporaryDirectory(prefix="static-graphs-")
atexit.register(_directory.cleanup)
_numbers = itertools.count()
_one_at_a_time = threading.RLock()  # neither Paddle's tracer nor a predictor is made for two threads

DELETED_PASSES = ["trt_prompt_tuning_embedding_eltwise_layernorm_fuse_pass", "add_support_int8_pass"]
"""What the wrapper deletes unless it is given a list, which replaces these two."""


class Program(paddle.nn.Layer):  # type: ignore[misc]
    """``compute(layer, *tensors)`` as the wrapper wants it: no keywords, no constants, Tensors in and Tensors out."""

    def __init__(self, layer: Any, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self.compute = compute

    def forward(self, static_graph_input):  # type: ignore[no-untyped-def]
        return self.compute(self.layer, *static_graph_input)


class StaticGraphs:
    """``compute(layer, *tensors)`` as static graphs, each made at the first call that fits it.

    Args:
        sizes: for each graph dtype and shape of every Tensor, None for a dimension of any size.
        options: parameters of ``paddle.incubate.jit.inference``.
    """

    def __init__(self, layer: Any, compute: Callable[..., Any], sizes: Sequence[Any], **options: Any) -> None:
        self._of = f"{type(layer).__name__}, {compute.__name__}"
        # A directory for each: by default all Layers share one. No pruning: it refuses inputs that aren't used.
        self._graphs = [
            (
                each,
                paddle.incubate.jit.inference(
                    Program(layer, compute).forward,
                    save_model_dir=f"{_directory.name}/{next(_numbers)}",
                    skip_prune_program=True,
                    **options,
                ),
            )
            for each in sizes
        ]

    def __call__(self, *tensors: Any) -> list[Any] | None:
        """The Tensors computed; None when no graph is for these dtypes and shapes, or it can't be made."""
        for place, (sizes, graph) in enumerate(self._graphs):
            if all(map(_fits, tensors, sizes)):
                try:
                    return _run(graph, tensors)
                except Exception as error:  # noqa: BLE001
                    # For good: after a conversion that failed the wrapper would answer from the one before.
                    del self._graphs[place]
                    warnings.warn(
                        f"{self._of}, stays eager, for it can't be converted: {error}", RuntimeWarning, stacklevel=3
                    )
                    return None
        return None


def _fits(tensor: Any, wanted: tuple[str, tuple[int | None, ...]]) -> bool:
    if not isinstance(tensor, paddle.Tensor):
        return False
    dtype, shape = wanted
    return (
        str(tensor.dtype) == f"paddle.{dtype}"
        and len(tensor.shape) == len(shape)
        and all(size and want in (None, size) for size, want in zip(tensor.shape, shape, strict=True))
    )


def _run(graph: Callable[..., Any], tensors: Sequence[Any]) -> list[Any]:
    # Paddle Inference reads Tensors as if they were contiguous, and may overwrite its results at the next call.
    given = [tensor if tensor.is_contiguous() else tensor.clone() for tensor in tensors]
    with _one_at_a_time:
        answer = graph(given)
        return [each.clone() for each in (answer if isinstance(answer, (list, tuple)) else [answer])]


def part_of(layer: Any, name: str, function: FunctionType) -> MethodType:
    """``function`` as a method of ``layer`` in which names mean what they mean in its method ``name``."""
    home = getattr(type(layer), name).__globals__
    return MethodType(FunctionType(function.__code__, home, function.__name__, function.__defaults__), layer)


def in_place_of(layer: Any, name: str, function: FunctionType) -> MethodType:
    """:func:`part_of` for what replaces the whole method: with the defaults of that, too."""
    original = getattr(type(layer), name)
    made = part_of(layer, name, function)
    made.__func__.__defaults__, made.__func__.__kwdefaults__ = original.__defaults__, original.__kwdefaults__
    return made
