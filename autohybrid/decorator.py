"""``autohybrid.inference``: a region put by hand, in the place of ``paddle.incubate.jit.inference``.

The same parameters, by the same names and defaults, and the same ways of use; the answers keep eager's structure, and
what can't be converted rightly is answered by eager.
"""

from __future__ import annotations

import functools
import inspect
import os
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from autohybrid import engines, store
from autohybrid.engines import Engine
from autohybrid.errors import ConversionError, UsageError
from autohybrid.runtime import released
from autohybrid.runtime.equality import DEFAULT_ATOL, DEFAULT_RTOL, Tolerance
from autohybrid.runtime.parameters import Parameters
from autohybrid.runtime.policies import MAX_VARIANTS, Policies
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import Recipe
from autohybrid.store import Store

DEFAULT_PROOFS = 2


def inference(
    function: Any = None,
    cache_static_model: bool = False,
    save_model_dir: str | None = None,
    memory_pool_init_size_mb: int = 1000,
    precision_mode: str = "float32",
    switch_ir_optim: bool = True,
    switch_ir_debug: bool = False,
    enable_cinn: bool = False,
    with_trt: bool = False,
    trt_precision_mode: str = "float32",
    trt_use_static: bool = False,
    collect_shape: bool = False,
    enable_new_ir: bool = False,
    exp_enable_use_cutlass: bool = False,
    delete_pass_lists: list[str] | None = None,
    skip_prune_program: bool = False,
    *,
    engine: str | None = None,
    verify: int = DEFAULT_PROOFS,
    rtol: float | None = None,
    atol: float | None = None,
    on_miss: str = "convert",
    on_weights: str = "refresh",
    on_grad: str = "hybrid",
    on_fallback: Callable[[str, str], object] | None = None,
    isolation: str = "fork",
    max_variants: int = MAX_VARIANTS,
    release_weights: bool = False,
) -> Any:
    """Has a Layer, or a method of one, answer from a static graph once that is proven to answer as eager does.

    Use it around a Layer (returns the Layer), around a bound method (returns what to call instead), or as a decorator
    of a method in a class, with or without parentheses; then each instance has conversions of its own. What is
    wrapped already comes back as it is.

    Args:
        function: a Layer, a method, or None when used as a decorator with parentheses.
        cache_static_model: whether converted programs are kept in a store, where a later process finds them: by code,
            weights, arguments, options, device and versions, so never old ones.
        save_model_dir: the directory of that store, and then programs are kept whether or not they are looked for;
            None for the user's cache.
        memory_pool_init_size_mb: the predictor's memory pool on a GPU, in MiB.
        precision_mode: ``"float32"``; on a GPU also ``"float16"`` and ``"bfloat16"``.
        switch_ir_optim: whether the graph is optimised.
        switch_ir_debug: whether Paddle shows the graph after each pass.
        enable_cinn: whether CINN compiles it; needs a build with CINN.
        with_trt: whether TensorRT runs it; needs a build with TensorRT.
        trt_precision_mode: TensorRT's precision.
        trt_use_static: whether TensorRT keeps its engines on disk.
        collect_shape: whether shapes are collected for TensorRT.
        enable_new_ir: whether the new IR is used; Paddle 3 exports to nothing else.
        exp_enable_use_cutlass: whether CUTLASS kernels are used; needs a GPU.
        delete_pass_lists: passes not to run; None for Paddle's two defaults.
        skip_prune_program: whether the whole program is kept. Ours always is: pruning refuses unused inputs.
        engine: what converts, by name; None for ``predictor``, or for ``incubate`` where a parameter is asked for that
            only Paddle's wrapper has.
        verify: calls whose answers are compared with eager's before a conversion takes over (at least 0).
        rtol: by how much of itself a value may differ, 1e-3 by default (1e-2 in lower precision).
        atol: by how much of its Tensor's largest value it may differ besides, 1e-5 by default (1e-3).
        on_miss: ``"convert"``, ``"eager"`` or ``"error"``, for calls of another structure than the first.
        on_weights: ``"refresh"``, ``"eager"`` or ``"error"``, when the model has changed.
        on_grad: ``"hybrid"``, ``"eager"`` or ``"error"``, for results with gradients.
        on_fallback: is called with the region's name and the reason at each call that eager answers.
        isolation: ``"fork"`` to try each conversion in a forked child first, ``"none"`` not to.
        max_variants: structures and shapes for which conversions are held at once.
        release_weights: move the Layer's weights to a file in the user's cache once its conversion answers, see
            :func:`autohybrid.apply`.

    Raises:
        UsageError: something that isn't a Layer or a method of one; a parameter that can't be had here.
    """
    parameters = Parameters(
        memory_pool_init_size_mb=memory_pool_init_size_mb,
        precision_mode=precision_mode,
        switch_ir_optim=switch_ir_optim,
        switch_ir_debug=switch_ir_debug,
        enable_cinn=enable_cinn,
        with_trt=with_trt,
        trt_precision_mode=trt_precision_mode,
        trt_use_static=trt_use_static,
        collect_shape=collect_shape,
        enable_new_ir=enable_new_ir,
        exp_enable_use_cutlass=exp_enable_use_cutlass,
        delete_pass_lists=delete_pass_lists,
        skip_prune_program=skip_prune_program,
    )
    parameters.check()
    if release_weights:
        released.folder()
    name = engine or parameters.engine()
    options = parameters.options_for(name)
    lower = precision_mode != "float32" or (with_trt and trt_precision_mode != "float32")
    settings = _Settings(
        engine=_usable(name, options),
        options=options,
        tolerance=Tolerance(
            rtol=rtol if rtol is not None else (1e-2 if lower else DEFAULT_RTOL),
            atol=atol if atol is not None else (1e-3 if lower else DEFAULT_ATOL),
        ),
        verify=verify,
        store=_store(save_model_dir, cache_static_model),
        policies=Policies(
            on_miss=on_miss,
            on_weights=on_weights,
            on_grad=on_grad,
            on_fallback=on_fallback,
            isolation=isolation,
            max_variants=max_variants,
            release_weights=release_weights,
        ),
    )
    return settings.wrap if function is None else settings.wrap(function)


def _store(directory: str | os.PathLike[str] | None, cached: bool) -> Store | None:
    if directory is not None:
        return Store(Path(directory), reads=cached)
    return store.default() if cached else None


def _usable(name: str, options: dict[str, Any]) -> Engine:
    engine = engines.by_name(name)
    missing = engine.unavailable()
    if missing:
        raise UsageError(f"The engine {name!r} can't be used here: {missing}.")
    try:
        engine.check_options(options)
    except ConversionError as error:
        raise UsageError(f"The engine {name!r} can't do this: {error.problem}.", error.remedy) from error
    return engine


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What one use of ``inference`` asked for."""

    engine: Engine
    options: dict[str, Any]
    tolerance: Tolerance
    verify: int
    store: Store | None
    policies: Policies

    def wrap(self, function: Any) -> Any:
        """Wraps whatever ``inference`` was given."""
        if isinstance(function, (Region, DecoratedMethod)):
            return function
        if isinstance(function, paddle.nn.Layer):
            return self._wrap_layer(function)
        if inspect.isclass(function) or not callable(function):
            what = f"the class {function.__name__}" if inspect.isclass(function) else type(function).__name__
            raise UsageError(
                f"autohybrid.inference wraps a Layer or a method of one, not {what}.",
                "Decorate the method, or wrap an instance.",
            )
        function = _without_paddles_wrapper(function)
        layer = _owner(function)
        if layer is not None:
            return self.region(layer, function, getattr(function, "__name__", type(function).__name__))
        return DecoratedMethod(function, self)

    def _wrap_layer(self, layer: Any) -> Any:
        present = layer.__dict__.get("forward")
        if isinstance(layer.forward, Region):
            return layer
        function = _without_paddles_wrapper(layer.forward)
        # Not by setattr: some models replace what is assigned to forward.
        layer.__dict__["forward"] = self.region(layer, function, "forward", previous=present)
        return layer

    def region(self, layer: Any, function: Callable[..., Any], name: str, previous: Any = None) -> Region:
        """A new region for ``function`` of ``layer``."""
        kind = type(layer).__qualname__
        return Region(
            path=kind if name == "forward" else f"{kind}.{name}",
            recipe=Recipe(
                layer=layer,
                function=function,
                engine=self.engine,
                options=self.options,
                tolerance=self.tolerance,
                proofs=self.verify,
                store=self.store,
            ),
            admitted=None,
            training_mode="ask",
            previous=previous,
            policies=self.policies,
            repairs=engines.attempts(self.engine, engines.this_machine()),
        )


class DecoratedMethod:
    """A method in a class: each instance that it is called on gets a region of its own."""

    def __init__(self, function: Callable[..., Any], settings: _Settings) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._settings = settings
        self._name = getattr(function, "__name__", "forward")

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if not isinstance(instance, paddle.nn.Layer):
            raise UsageError(
                f"autohybrid.inference decorates methods of Layers; {type(instance).__qualname__} isn't one.",
                "Wrap the Layer that it uses.",
            )
        method = types.MethodType(self._function, instance)
        # Called through super(), the instance's own method of that name is another one.
        own = inspect.getattr_static(type(instance), self._name, None) is self
        place = self._name if own else self._function.__qualname__
        if place not in instance.__dict__:
            # Restoring leaves the eager method in the instance, or else the next call would wrap it again.
            instance.__dict__[place] = self._settings.region(instance, method, self._name, previous=method)
        return instance.__dict__[place]

    def __call__(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        return self.__get__(instance)(*args, **kwargs)


def _without_paddles_wrapper(function: Any) -> Any:
    """What ``paddle.incubate.jit.inference`` was put around, where it was."""
    if getattr(function, "__name__", "") != "innermost_decorator":
        return function
    return inspect.getclosurevars(function).nonlocals["func"]


def _owner(function: Any) -> Any:
    """The Layer that a callable computes with; None for the plain function in a class body."""
    if isinstance(function, functools.partial):
        return _owner(function.func)
    bound = getattr(function, "__self__", None)
    if isinstance(bound, paddle.nn.Layer):
        return bound
    used = list(_layers_used(function))
    if not used:
        return None
    if len(used) == 1:
        return used[0]
    together = paddle.nn.Layer()
    together.eval()
    for index, layer in enumerate(used):
        together.add_sublayer(str(index), layer)
    return together


def _layers_used(function: Any) -> Iterator[Any]:
    """The Layers in a function's closure and among the globals that it names."""
    code = getattr(function, "__code__", None)
    if code is None:
        return
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    closed = [cell.cell_contents for name, cell in cells if name != "__class__"]
    named = [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    for value in (*closed, *named):
        if isinstance(value, paddle.nn.Layer):
            yield value
