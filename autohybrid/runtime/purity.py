"""Sees whether a forward does anything besides computing its answer: draws random numbers, feeds hooks, depends on
training mode. What it does to its own state and to its inputs is seen by :mod:`autohybrid.runtime.changes`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle

from autohybrid.runtime.content import is_filled
from autohybrid.runtime.equality import Tolerance, difference
from autohybrid.runtime.reach import reach
from autohybrid.structure import Structure, content, flatten, rebuild


class Witness:
    """Watches one eager call of a Layer's function.

    Attributes:
        drew: what random numbers the call drew, in words; empty when it drew none.
        effects: the hook inside that does something else than compute; empty when there is none.
    """

    def __init__(self, layer: Any) -> None:
        self.drew = ""
        self.effects = ""
        self._layers = reach(layer).layers[1:]
        self._returned_nothing: list[str] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around the call."""
        replaced = [(hooks, dict(hooks)) for hooks in self._hooks() if hooks]
        for hooks, originals in replaced:
            for key, hook in originals.items():
                hooks[key] = self._observed(hook)
        kept = {id(hook): _surroundings(hook) for _, originals in replaced for hook in originals.values()}
        before = _random_states()
        try:
            yield
        finally:
            for hooks, originals in replaced:
                hooks.update(originals)
            self.drew = _what_moved(before, _random_states())
        for _, originals in replaced:
            for hook in originals.values():
                if not _of_paddle(hook) and _surroundings(hook) != kept[id(hook)]:
                    self._returned_nothing.append(_name(hook))
        self.effects = ", ".join(sorted(set(self._returned_nothing)))

    def _hooks(self) -> Iterator[Any]:
        for layer in self._layers:
            yield layer._forward_pre_hooks
            yield layer._forward_post_hooks

    def _observed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        if _of_paddle(hook):
            return hook

        def observed(*args: Any, **kwargs: Any) -> Any:
            answer = hook(*args, **kwargs)
            if answer is None:
                # Nothing but an effect can be the purpose of a hook that changes nothing.
                self._returned_nothing.append(_name(hook))
            return answer

        return observed


def _of_paddle(hook: Any) -> bool:
    home = getattr(hook, "__module__", None) or type(hook).__module__
    return str(home).split(".")[0] == "paddle"


def _name(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__qualname__))


def _surroundings(hook: Any) -> Any:
    """What a hook could write to: its object, its closure, the globals it names."""
    function = getattr(hook, "__func__", hook)
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if is_filled(cell)]
    code = getattr(function, "__code__", None)
    known = getattr(function, "__globals__", {})
    names = [known[name] for name in getattr(code, "co_names", ()) if name in known]
    return content([getattr(hook, "__self__", None), cells, names])


def _random_states() -> tuple[Any, Any, Any]:
    # Among a state's words is the address of its engine, which changes when a state is put back.
    words = [[word for word in str(state).split() if not word.startswith("0x")] for state in paddle.get_rng_state()]
    return (words, np.random.get_state(), random.getstate())


def _what_moved(before: tuple[Any, Any, Any], after: tuple[Any, Any, Any]) -> str:
    if before[0] != after[0]:
        return "Paddle's"
    (_, one, place, *_), (_, other, place_after, *_) = before[1], after[1]
    if place != place_after or not np.array_equal(one, other):
        return "NumPy's"
    return "Python's" if before[2] != after[2] else ""


def other_values(tensors: Sequence[Any]) -> list[Any]:
    """Tensors of the same dtypes and shapes with clearly other values, made of those that are there.

    Numbers change their order, sign and size, and are no longer equal where they were; integers, which may be indices,
    are all the smallest of them.
    """
    generator = np.random.default_rng(0)
    made = []
    for tensor in tensors:
        other = tensor.detach().clone()
        if other.dtype == paddle.bool:
            other = paddle.logical_not(other)
        elif paddle.is_floating_point(other) or paddle.is_complex(other):
            uneven = generator.uniform(0.5, 1.5, tuple(other.shape)).astype("float32")
            factor = paddle.to_tensor(uneven, place=other.place).cast(other.dtype)
            flipped = paddle.flip(other.reshape([-1]), axis=[0]).reshape(other.shape)
            other = (0.1 - 1.5 * flipped) * factor
        elif other.size:
            other = paddle.full_like(other, other.min())
        other.stop_gradient = tensor.stop_gradient
        made.append(other)
    return made


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Puts the random states back to what they were, so that a call of ours draws nothing from the user's."""
    ours, numpys, pythons = paddle.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        paddle.set_rng_state(ours)
        np.random.set_state(numpys)
        random.setstate(pythons)


_DROPPING = (paddle.nn.Dropout, paddle.nn.Dropout2D, paddle.nn.Dropout3D, paddle.nn.AlphaDropout)


def training_matters(
    layer: Any, function: Callable[..., Any], arguments: Structure, inputs: Sequence[Any], trained: Any
) -> bool:
    """Whether ``trained``, the answer just given in training mode, is another than evaluation mode's.

    Args:
        layer: whose flags are looked at.
        function: what was called.
        arguments: the structure of its arguments.
        inputs: the Tensors in them, as they were before the call.
        trained: its answer.
    """
    family = reach(layer).layers
    if any(sub.training and _acts_in_training(sub) for sub in family):
        return True
    flags = [sub.training for sub in family]
    args, kwargs = rebuild(arguments, [tensor.clone() for tensor in inputs])
    try:
        for sub in family:
            sub.__dict__["training"] = False
        with randomness_kept(), paddle.no_grad():
            evaluated = function(*args, **kwargs)
    finally:
        for sub, flag in zip(family, flags, strict=True):
            sub.__dict__["training"] = flag
    return not difference(flatten(trained)[0], flatten(evaluated)[0], Tolerance(rtol=0.0, atol=0.0)).equal


def _acts_in_training(layer: Any) -> bool:
    if isinstance(layer, _DROPPING):
        return bool(layer.p)
    return isinstance(layer, (paddle.nn.layer.norm._BatchNormBase, paddle.nn.RReLU))
