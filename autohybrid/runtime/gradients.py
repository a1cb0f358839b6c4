"""Gradients behind a hybrid answer: the region runs once more in eager mode when somebody asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paddle

from autohybrid.errors import UsageError
from autohybrid.runtime.program import Answer
from autohybrid.structure import Structure, Tensor, rebuild


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientRun:
    """One hybrid call whose gradients may be asked for.

    Attributes:
        name: the region's, for messages.
        function: the eager function.
        arguments: the structure of the call's arguments.
        inputs: their Tensors.
        state: the Tensors of the model.
        allowed: whether gradients are computed, or refused with an error.
        run: gives the program's outputs.
    """

    name: str
    function: Callable[..., Any]
    arguments: Structure
    inputs: Sequence[Tensor]
    state: Sequence[Tensor]
    allowed: bool
    run: Callable[[Sequence[Tensor]], list[Tensor]]

    def outputs(self, differentiable: Sequence[bool]) -> list[Tensor]:
        """The program's outputs, connected to inputs and parameters as eager's are."""
        # A Layer without trainable inputs and parameters has no differentiable outputs and never comes here.
        followed = [tensor for tensor in (*self.inputs, *self.state) if _followed(tensor)]
        results = _Recomputed.apply(_Asked(call=self, followed=followed), *followed)
        outputs = list(results) if isinstance(results, (list, tuple)) else [results]
        for output, wanted in zip(outputs, differentiable, strict=True):
            output.stop_gradient = not wanted
        return outputs

    def gradients(self, followed: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor | None]:
        """Eager's gradients of ``followed`` for the gradients ``given`` of the outputs."""
        if not self.allowed:
            raise UsageError(
                f"backward() runs through the region {self.name!r}, which answers from a static graph.",
                'Use on_grad="hybrid" or on_grad="eager", or take the region out with autohybrid.restore.',
            )
        fresh: list[Tensor] = []
        for tensor in self.inputs:
            copy = tensor.detach()
            copy.stop_gradient = tensor.stop_gradient
            fresh.append(copy)
        standing = {id(tensor): copy for tensor, copy in zip(self.inputs, fresh, strict=True)}
        args, kwargs = rebuild(self.arguments, fresh)
        with paddle.enable_grad():
            _, outputs = Answer.of(self.function(*args, **kwargs), [*fresh, *self.state])
        pairs = [(out, grad) for out, grad in zip(outputs, given, strict=True) if not out.stop_gradient]
        targets: list[Tensor] = [standing.get(id(tensor), tensor) for tensor in followed]
        with _own_gradients(targets):
            # Not by paddle.grad: it can't be called inside itself.
            paddle.autograd.backward([out for out, _ in pairs], [grad for _, grad in pairs])
            found = [None if tensor.grad is None else tensor.grad.clone() for tensor in targets]
        for collected in found:
            if collected is not None:
                collected.stop_gradient = False
        return [
            None if _not_asked_for(tensor) else gradient if gradient is not None else paddle.zeros_like(tensor)
            for gradient, tensor in zip(found, followed, strict=True)
        ]


@contextmanager
def _own_gradients(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Lets Tensors collect gradients from zero, and gives them back those that they had."""
    kept = [None if tensor.grad is None else tensor.grad.clone() for tensor in tensors]
    for tensor in tensors:
        tensor.clear_gradient(False)
    try:
        yield
    finally:
        for tensor, gradient in zip(tensors, kept, strict=True):
            tensor.clear_gradient(False)
            if gradient is not None:
                gradient.stop_gradient = False
                tensor.grad = gradient


_asked = threading.local()


def asking(_: Any = None, inputs: Any = None, *__: Any, **___: Any) -> None:
    """Notes what ``paddle.grad`` is called for: it refuses a gradient that nobody asked for."""
    _asked.leaves = {id(tensor) for tensor in (inputs if isinstance(inputs, (list, tuple)) else [inputs])}


def asked(*_: Any) -> None:
    """Notes that ``paddle.grad`` has ended."""
    _asked.leaves = None


def _not_asked_for(tensor: Tensor) -> bool:
    leaves = getattr(_asked, "leaves", None)
    return leaves is not None and tensor.is_leaf and id(tensor) not in leaves


def _followed(tensor: Tensor) -> bool:
    return not tensor.stop_gradient and bool(paddle.is_floating_point(tensor) or paddle.is_complex(tensor))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    # A plain list would be taken for more inputs.
    call: GradientRun
    followed: list[Tensor]


class _Recomputed(paddle.autograd.PyLayer):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, asked: _Asked, *_: Tensor) -> tuple[Tensor, ...]:
        ctx.asked = asked
        return tuple(asked.call.run(asked.call.inputs))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(ctx.asked.call.gradients(ctx.asked.followed, gradients))
