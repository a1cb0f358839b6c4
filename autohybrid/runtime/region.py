"""A region at run time: stands in a Layer's function's place, answers from a proven conversion or from eager."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import paddle
from paddle.base import framework
from paddle.base.dygraph.base import in_to_static_mode

from autohybrid.engines import Busy
from autohybrid.errors import AutohybridError
from autohybrid.runtime import changes
from autohybrid.runtime.equality import Tolerance, difference
from autohybrid.runtime.program import Answer
from autohybrid.runtime.signature import Shapes, admitted_shapes, fits
from autohybrid.runtime.variant import Overtaken, Recipe, State, Variant
from autohybrid.structure import Structure, Tensor, flatten, rebuild, signature

MAX_VARIANTS = 8
"""Argument structures for which a region holds a conversion; what comes after them stays eager."""

MAX_KEYS = 256
"""Argument structures that a region remembers at all."""

_switch = threading.local()


@contextmanager
def eager() -> Iterator[None]:
    """Within it, every region of this thread answers from eager."""
    before = getattr(_switch, "off", False)
    _switch.off = True
    try:
        yield
    finally:
        _switch.off = before


def _switched_off() -> bool:
    return getattr(_switch, "off", False) or os.environ.get("AUTOHYBRID", "").lower() == "off"


class Region:
    """Calls of one function of one Layer.

    Args:
        path: the Layer's path in its root, for messages.
        recipe: what converts it.
        admitted: the argument structures to convert, as in a plan; None admits all.
        training_mode: ``"same"`` when nothing inside behaves differently in training mode, else ``"eager"``.
        planned: the plan's region that this one was made from.
        previous: what stood in the Layer's ``__dict__`` in its place.

    Attributes:
        hybrid_calls: how many calls the conversion answered.
        eager_calls: how many calls eager answered, by reason.
    """

    def __init__(
        self,
        *,
        path: str,
        recipe: Recipe,
        admitted: Sequence[Any] | None,
        training_mode: str = "eager",
        planned: Any = None,
        previous: Any = None,
    ) -> None:
        self.path = path
        self.recipe = recipe
        self.hybrid_calls = 0
        self.eager_calls: Counter[str] = Counter()
        self.planned = planned
        self.previous = previous
        self._admitted = admitted
        self._training_mode = training_mode
        self._variants: dict[Any, list[Variant]] = {}
        changes.watch()
        self._unwatch = weakref.finalize(self, changes.unwatch)
        self._snapshot = changes.Snapshot.of(recipe.layer)
        self._quiet = True
        self._local = threading.local()
        self._made = threading.Lock()
        self._counting = threading.Lock()

    @property
    def variants(self) -> list[Variant]:
        return [variant for variants in list(self._variants.values()) for variant in variants]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        reason = self._bypassed()
        if reason:
            return self._eager(reason, args, kwargs)
        tensors, structure = flatten((args, kwargs))
        variant = self._variant_for(structure, tensors)
        if isinstance(variant, str):
            return self._eager(variant, args, kwargs)
        if variant.serves_threads:
            return self._hybrid(variant, structure, tensors, args, kwargs)
        if not variant.busy.acquire(blocking=False):
            return self._eager("busy in another thread", args, kwargs)
        try:
            if variant.state is State.SERVING:
                return self._hybrid(variant, structure, tensors, args, kwargs)
            if variant.state is State.REFUSED:
                return self._eager(variant.reason, args, kwargs)
            return self._proving(variant, tensors, args, kwargs)
        finally:
            variant.busy.release()

    def close(self) -> None:
        """Gives back all conversions."""
        for variant in self.variants:
            variant.release()
        self._variants.clear()
        self._unwatch()

    def _bypassed(self) -> str:
        """Why this call can't be hybrid whatever its arguments are; empty when it can."""
        if _switched_off():
            return "switched off"
        if in_to_static_mode() or getattr(self._local, "inside", False):
            return "called while being traced"
        if str(framework._dygraph_tracer()._amp_level) != "AmpLevel.O0":
            return "automatic mixed precision"
        if not self._snapshot.looks_unchanged():
            self._look_closely()
        if self._snapshot.training and self._training_mode != "same":
            return "training mode"
        return ""

    def _look_closely(self) -> None:
        if not self._snapshot.concerns_us():
            self._snapshot = replace(self._snapshot, count=changes.counter.value)
            return
        now = changes.Snapshot.of(self.recipe.layer)
        if self._snapshot.what_changed(now):
            for variant in self.variants:
                variant.forget()
            self._quiet = False
        self._snapshot = now

    def _variant_for(self, structure: Structure, tensors: Sequence[Tensor]) -> Variant | str:
        key = (structure, signature(tensors))
        known = self._variants.get(key)
        if known is None:
            if len(self._variants) >= MAX_KEYS:
                return "too many argument structures"
            with self._made:
                known = self._variants.setdefault(key, [])
        for variant in known:
            if fits(variant.shapes, tensors):
                return variant
        if not all(tensor.size for tensor in tensors):
            return "empty Tensor"
        shapes = self._shapes_for(structure, tensors)
        if shapes is None:
            return "not in the plan"
        with self._made:
            # Another thread may have come first with the same shape.
            for variant in known:
                if fits(variant.shapes, tensors):
                    return variant
            if sum(len(variants) for variants in self._variants.values()) >= MAX_VARIANTS:
                return "too many variants"
            made = Variant(self.recipe, structure, shapes)
            known.append(made)
        return made

    def _shapes_for(self, structure: Structure, tensors: Sequence[Tensor]) -> Shapes | None:
        if self._admitted is None:
            return tuple([tuple(tensor.shape) for tensor in tensors])
        for specification in self._admitted:
            shapes = admitted_shapes(specification, structure, tensors)
            if shapes is not None:
                return shapes
        return None

    def _eager(self, reason: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._counting:
            self.eager_calls[reason] += 1
        return self.recipe.function(*args, **kwargs)

    def _hybrid(
        self,
        variant: Variant,
        structure: Structure,
        tensors: Sequence[Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        answer = variant.answer
        if answer is None:
            return self._eager("overtaken by a change of weights", args, kwargs)
        try:
            if paddle.is_grad_enabled() and any(answer.differentiable):
                outputs = _with_gradients(self.recipe, structure, variant, answer, tensors)
            else:
                outputs = variant.run(tensors)
        except AutohybridError:
            raise
        except Busy:
            return self._eager("busy in other threads", args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises ends this variant, eager answers
            variant.refuse("failed", f"the engine failed: {_one_line(error)}")
            return self._eager(variant.reason, args, kwargs)
        with self._counting:
            self.hybrid_calls += 1
        return answer.rebuild(outputs, tensors)

    def _proving(
        self, variant: Variant, tensors: Sequence[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Answers from eager; beside it, converts or compares."""
        kept = [tensor.detach().clone() for tensor in tensors]
        before = changes.Snapshot.of(self.recipe.layer)
        self._local.inside = True
        try:
            value = self._eager(variant.state.value, args, kwargs)
            if not self._quiet:
                # Weights changed just before this call. In a training loop they will again: wait for calm.
                self._quiet = True
                return value
            if not difference(kept, tensors, Tolerance(rtol=0.0, atol=0.0)).equal:
                variant.refuse("inputs", "forward changes its inputs")
                return value
            after = changes.Snapshot.of(self.recipe.layer)
            if before.what_changed(after):
                if variant.state_changed_by_itself():
                    variant.refuse("state", f"forward changes its own state ({before.what_changed(after)})")
                return value
            self._snapshot = after
            self._convert_or_prove(variant, kept, value, tensors)
        finally:
            self._local.inside = False
        return value

    def _convert_or_prove(
        self, variant: Variant, kept: Sequence[Tensor], value: Any, tensors: Sequence[Tensor]
    ) -> None:
        answer, expected = Answer.of(value, tensors)
        try:
            if variant.state is State.NEW:
                if not expected:
                    variant.refuse("structure", "the answer holds nothing that is computed")
                    return
                variant.convert(answer, kept)
            elif variant.answer is None or variant.answer.structure != answer.structure:
                variant.refuse("structure", "the structure of the answer changes from call to call")
                return
            with paddle.no_grad():
                variant.prove(kept, expected)
        except (Overtaken, Busy):
            return
        except Exception as error:  # noqa: BLE001 - a failed conversion is data: the reason is kept, eager goes on
            code = "failed_running" if getattr(error, "exported", False) else "failed"
            variant.refuse(code, f"can't be converted: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if "Error:" in line or "Error]" in line] or lines[-1:]
    return f"{type(error).__name__}: {useful[-1] if useful else ''}"[:300]


class _Recomputed(paddle.autograd.PyLayer):  # type: ignore[misc]
    """Hybrid forward; backward runs the region once more in eager mode and takes its gradients."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, run: _GradientRun, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.run = run
        return tuple(run.outputs(tensors))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        run: _GradientRun = ctx.run
        return (paddle.zeros([1]), *run.input_gradients(gradients))


class _GradientRun:
    def __init__(self, recipe: Recipe, structure: Structure, variant: Variant, tensors: Sequence[Tensor]) -> None:
        self._recipe = recipe
        self._structure = structure
        self._variant = variant
        self._tensors = tensors

    def outputs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return self._variant.run(tensors)

    def input_gradients(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        fresh = []
        for tensor in self._tensors:
            copy = tensor.detach()
            copy.stop_gradient = tensor.stop_gradient
            fresh.append(copy)
        args, kwargs = rebuild(self._structure, fresh)
        with paddle.enable_grad():
            value = self._recipe.function(*args, **kwargs)
        _, outputs = Answer.of(value, fresh)
        pairs = [(out, grad) for out, grad in zip(outputs, gradients, strict=True) if not out.stop_gradient]
        paddle.autograd.backward([out for out, _ in pairs], [grad for _, grad in pairs])
        return [
            copy.grad if copy.grad is not None else paddle.zeros_like(copy)
            for copy, tensor in zip(fresh, self._tensors, strict=True)
        ]


def _with_gradients(
    recipe: Recipe, structure: Structure, variant: Variant, answer: Answer, tensors: Sequence[Tensor]
) -> list[Tensor]:
    """The outputs with eager's ``stop_gradient`` and with eager's gradients behind them."""
    anchor = paddle.zeros([1])
    anchor.stop_gradient = False
    results = _Recomputed.apply(anchor, _GradientRun(recipe, structure, variant, tensors), *tensors)
    outputs = list(results) if isinstance(results, (list, tuple)) else [results]
    for output, differentiable in zip(outputs, answer.computed(answer.differentiable), strict=True):
        output.stop_gradient = not differentiable
    return outputs
