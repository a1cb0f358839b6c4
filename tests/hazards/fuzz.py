"""Layers and calls that a fuzzer puts together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

import autohybrid
from autohybrid.structure import flatten
from hazards import numbers


class Program:
    """What a random Layer computes: operations one after the other, and the shape of its answer."""

    OPERATIONS: ClassVar = (
        "linear",
        "silu",
        "residual",
        "norm",
        "inplace",
        "branch",
        "mean",
        "setitem",
        "loop",
        "attribute",
    )
    ANSWERS: ClassVar = ("plain", "tuple", "dict", "twice", "input", "nested")

    def __init__(self, operations: Sequence[str], answer: str) -> None:
        self.operations = tuple(operations)
        self.answer = answer

    def __repr__(self) -> str:
        return f"Program({list(self.operations)!r}, {self.answer!r})"


class Layer(nn.Layer):
    def __init__(self, program):
        super().__init__()
        self.operations = program.operations
        self.answer = program.answer
        self.fc = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.scale = 1.5
        self.factors = [1.0, 2.0]

    def forward(self, x, *extras, flag=False, scale=None, nested=None):
        y = x
        for name in self.operations:
            y = self.step(name, y)
        for extra in extras:
            y = y + extra
        if flag:
            y = y * 2
        if scale == "twice":
            y = y + y
        elif scale is not None:
            y = y * scale
        if nested is not None:
            y = y - nested["more"][0]
        return self.answered(x, y)

    def step(self, name, y):
        if name == "linear":
            return self.fc(y.astype("float32")).astype(y.dtype)
        if name == "silu":
            return F.silu(y)
        if name == "residual":
            return y + F.silu(y)
        if name == "norm":
            return self.norm(y.astype("float32")).astype(y.dtype)
        if name == "inplace":
            z = y * 2
            z.add_(paddle.ones_like(z))
            return z
        if name == "branch":
            # Not on the sum: behind "mean" that is nothing but rounding.
            if y[0, 0] > 0.123:
                return y + 1
            return y - 1
        if name == "mean":
            return y - y.mean(-1, keepdim=True)
        if name == "setitem":
            z = y * 1.0
            z[:, 0] = 0.5
            return z
        if name == "loop":
            for factor in self.factors:
                y = y * factor
            return y
        return y * self.scale

    def answered(self, x, y):
        if self.answer == "tuple":
            return y, None, 3
        if self.answer == "dict":
            return {"y": y, "name": "logits", "sum": y.sum()}
        if self.answer == "twice":
            return [y, y]
        if self.answer == "input":
            return y, x
        return (y, [{"deep": y.mean(0)}]) if self.answer == "nested" else y


class Call:
    """One call's arguments."""

    def __init__(self, how: dict[str, Any]) -> None:
        self.how = how

    def __repr__(self) -> str:
        return f"Call({self.how!r})"

    def make(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        how = self.how
        shape = (8, how["batch"]) if how["strided"] else (how["batch"], 8)
        x = numbers(*shape, seed=how["seed"], dtype=how["dtype"])
        x = x.t() if how["strided"] else x
        extras = [numbers(8, seed=index, dtype=how["dtype"]) for index in range(how["extras"])]
        nested = {"more": [numbers(8, seed=5, dtype=how["dtype"])]} if how["nested"] else None
        return (x, *extras), {"flag": how["flag"], "scale": how["scale"], "nested": nested}


class Change:
    """Something that happens to the model between calls."""

    KINDS: ClassVar = ("weight", "attribute", "list", "train", "copy")

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self.seed = seed

    def __repr__(self) -> str:
        return f"Change({self.kind!r}, {self.seed})"

    def make(self, model: Any) -> Any:
        if self.kind == "weight":
            model.fc.weight.set_value(numbers(8, 8, seed=self.seed))
        elif self.kind == "attribute":
            model.scale = float(self.seed)
        elif self.kind == "list":
            model.factors[0] = float(self.seed)
        elif self.kind == "train":
            model.train() if self.seed % 2 else model.eval()
        else:
            return copy.deepcopy(model)
        return model


REPEATS = 4
"""Calls of a step: enough to convert, to prove, and to answer from the conversion."""


def first_difference(program: Program, steps: Sequence[tuple[Call, Change | None]], engine: str | None = None) -> str:
    """Where a region's answers differ from eager's; empty when nowhere."""
    model = Layer(program)
    model.eval()
    plain = copy.deepcopy(model)
    autohybrid.inference(model, engine=engine)
    made = [model]
    try:
        for call, change in steps:
            for _ in range(REPEATS):
                problem = _difference(_outcome(plain, call), _outcome(made[-1], call))
                if problem:
                    return f"{program} {call}: {problem}; {autohybrid.status(made[-1])}"
            if change is not None:
                plain = change.make(plain)
                made.append(change.make(made[-1]))
        return ""
    finally:
        for each in made:
            autohybrid.restore(each)


def _outcome(model: Callable[..., Any], call: Call) -> Any:
    args, kwargs = call.make()
    try:
        with paddle.no_grad():
            value = model(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - eager's exceptions are answers too
        return type(error)
    return flatten([value, args, kwargs])


def _difference(expected: Any, got: Any) -> str:
    if isinstance(expected, type) or isinstance(got, type):
        return "" if expected is got else f"{got} instead of {expected}"
    if expected[1] != got[1]:
        return f"structure {got[1]} instead of {expected[1]}"
    for one, other in zip(expected[0], got[0], strict=True):
        if one.dtype != other.dtype or one.shape != other.shape:
            return f"{other.dtype} {other.shape} instead of {one.dtype} {one.shape}"
        a, b = one.numpy(), other.numpy()
        if not np.allclose(a, b, rtol=1e-3, atol=1e-5 * max(1.0, float(np.abs(a).max(initial=0.0)))):
            return f"differs by {np.abs(a - b).max()}"
    return ""
