"""Gradients behind a hybrid answer: the region runs once more in eager mode when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        parameters: the Tensors of the model that take part in training.
        allowed: whether gradients are computed, or refused with an error.
        run: gives the program's outputs.
    """

    name: str
    function: Callable[..., Any]
    arguments: Structure
    inputs: Sequence[Tensor]
    parameters: Sequence[Tensor]
    allowed: bool
    run: Callable[[Sequence[Tensor]], list[Tensor]]

    def outputs(self, differentiable: Sequence[bool]) -> list[Tensor]:
        """The program's outputs, connected to inputs and parameters as eager's are."""
        # A Layer without trainable inputs and parameters has no differentiable outputs and never comes here.
        followed = [tensor for tensor in (*self.inputs, *self.parameters) if _followed(tensor)]
        results = _Recomputed.apply(_Asked(call=self, followed=followed), *followed)
        outputs = list(results) if isinstance(results, (list, tuple)) else [results]
        for output, wanted in zip(outputs, differentiable, strict=True):
            output.stop_gradient = not wanted
        return outputs

    def gradients(self, followed: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
        """Eager's gradients of ``followed`` for the gradients ``given`` of the outputs."""
        if not self.allowed:
            raise UsageError(
                f"backward() runs through the region {self.name!r}, which answers from a static graph.",
                'Use on_grad="hybrid" or on_grad="eager", or take the region out with autohybrid.restore.',
            )
        fresh = []
        for tensor in self.inputs:
            copy = tensor.detach()
            copy.stop_gradient = tensor.stop_gradient
            fresh.append(copy)
        standing = {id(tensor): copy for tensor, copy in zip(self.inputs, fresh, strict=True)}
        args, kwargs = rebuild(self.arguments, fresh)
        with paddle.enable_grad():
            _, outputs = Answer.of(self.function(*args, **kwargs), fresh)
        pairs = [(out, grad) for out, grad in zip(outputs, given, strict=True) if not out.stop_gradient]
        targets = [standing.get(id(tensor), tensor) for tensor in followed]
        found = paddle.grad([out for out, _ in pairs], targets, [grad for _, grad in pairs], allow_unused=True)
        return [
            gradient if gradient is not None else paddle.zeros_like(tensor)
            for gradient, tensor in zip(found, followed, strict=True)
        ]


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
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(ctx.asked.call.gradients(ctx.asked.followed, gradients))
