"""Rows about what a forward is called with."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from hazards import calls, each, numbers, row


class Linear(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(x)


class Flag(Linear):
    def forward(self, x, flag=False):
        return self.fc(x) if flag else self.fc(x) * 2


row("a bool that changes", Flag, each(*[lambda m, f=f: m(numbers(4, 8), f) for f in (True, False)]))
row("a bool by keyword", Flag, each(lambda m: m(numbers(4, 8), flag=True), lambda m: m(x=numbers(4, 8))))


class Scale(Linear):
    def forward(self, x, scale=1):
        return self.fc(x) * scale


_VALUES = (1, 1.0, True, 2.5, -0.0, 0.0)
row("1, 1.0 and True", Scale, each(*[lambda m, v=v: m(numbers(4, 8), v) for v in _VALUES], times=12))


class Named(Linear):
    def forward(self, x, mode="relu", size=None, axis=-1):
        y = getattr(F, mode)(self.fc(x))
        return y if size is None else y.sum(axis=axis, keepdim=True)


row("strings, None and ints", Named, each(
    lambda m: m(numbers(4, 8)), lambda m: m(numbers(4, 8), "gelu"), lambda m: m(numbers(4, 8), size=1, axis=0)
))  # fmt: skip


class Kind(enum.Enum):
    SUM = 1
    MEAN = 2


class Enumerated(Linear):
    def forward(self, x, kind=Kind.SUM):
        return self.fc(x).sum(-1) if kind is Kind.SUM else self.fc(x).mean(-1)


row("an enum", Enumerated, each(lambda m: m(numbers(4, 8)), lambda m: m(numbers(4, 8), Kind.MEAN)))


class Array(Linear):
    def forward(self, x, weights):
        return self.fc(x) * paddle.to_tensor(weights)


_ARRAYS = [np.full(8, value, "float32") for value in (1, 2)]
row("a NumPy array", Array, each(*[lambda m, a=a: m(numbers(4, 8), a) for a in _ARRAYS]))


def _array_in_place(model):
    array = np.ones(8, "float32")
    answers = []
    for _ in range(4):
        answers.append(model(numbers(4, 8), array))
    array *= 3
    return [*answers, model(numbers(4, 8), array)]


row("a NumPy array changed in place", Array, [_array_in_place] * 3)


class Typed(Linear):
    def forward(self, x, dtype="float32"):
        return self.fc(x).astype(dtype)


row("a dtype", Typed, each(lambda m: m(numbers(4, 8), paddle.float64), lambda m: m(numbers(4, 8), paddle.int32)))


class Stars(Linear):
    def forward(self, *args, **kwargs):
        y = self.fc(args[0])
        for other in args[1:]:
            y = y + other
        return y * kwargs.get("scale", 1.0) + kwargs.get("shift", 0.0)


row("*args and **kwargs", Stars, each(
    lambda m: m(numbers(4, 8), numbers(4, 8, seed=1)),
    lambda m: m(numbers(4, 8), scale=2.0, shift=numbers(8, seed=2)),
))  # fmt: skip


class KeywordOnly(Linear):
    def forward(self, x, *, bias, scale=2.0):
        return self.fc(x) * scale + bias


row("keyword-only arguments", KeywordOnly, each(lambda m: m(numbers(4, 8), bias=numbers(8, seed=1))))


class Starred(Linear):
    def forward(self, x, pattern="a*b"):
        return self.fc(x) if pattern == "a*b" else x


row("a star in a default", Starred, calls(4, 8))


class NotSelf(nn.Layer):
    def __init__(this) -> None:
        super().__init__()
        this.fc = nn.Linear(8, 8)

    def forward(this, x):
        return this.fc(x)


row("a first parameter not named self", NotSelf, calls(4, 8))


class InDict(Linear):
    def forward(self, batch):
        return {"logits": self.fc(batch["x"]), "mask": batch.get("mask")}


row("a dict", InDict, each(
    lambda m: m({"x": numbers(4, 8), "mask": numbers(4)}), lambda m: m({"x": numbers(4, 8)})
))  # fmt: skip


@dataclass
class Batch:
    x: Any
    scale: float = 1.0
    extra: Any = None


class InDataclass(Linear):
    def forward(self, batch):
        y = self.fc(batch.x) * batch.scale
        return y if batch.extra is None else y + batch.extra


row("a dataclass", InDataclass, each(
    lambda m: m(Batch(numbers(4, 8))), lambda m: m(Batch(numbers(4, 8), 2.0, numbers(8, seed=1)))
))  # fmt: skip


class Pair(NamedTuple):
    left: Any
    right: Any


class InNamedTuple(Linear):
    def forward(self, pair):
        return Pair(self.fc(pair.left), pair.right - 1)


row("a named tuple", InNamedTuple, each(lambda m: m(Pair(numbers(4, 8), numbers(4, seed=1)))))


class Config(Linear):
    def forward(self, x, config):
        return self.fc(x) * config.scale


def _config_changed(model):
    config = SimpleNamespace(scale=2.0)
    before = [model(numbers(4, 8), config) for _ in range(4)]
    config.scale = 3.0
    return before + [model(numbers(4, 8), config) for _ in range(4)]


row("an object whose attribute changes", Config, [_config_changed])


class Holder:
    def __init__(self, x):
        self.x = x


class InObject(Linear):
    def forward(self, x, holder):
        return self.fc(x) + holder.x


row("an object with a Tensor inside", InObject, each(
    *[lambda m, s=s: m(numbers(4, 8), Holder(numbers(8, seed=s))) for s in (1, 2)]
), "eager", why="object with Tensors")  # fmt: skip


class Lists(Linear):
    def forward(self, left, right, x_0=None):
        y = sum(self.fc(t) for t in left)
        for t in right:
            y = y * t
        return y if x_0 is None else y + x_0


row("two lists of changing lengths", Lists, each(
    lambda m: m([numbers(4, 8)], [numbers(4, 8, seed=1), numbers(4, 8, seed=2)]),
    lambda m: m([numbers(4, 8), numbers(4, 8, seed=1)], [numbers(4, 8, seed=2)]),
    lambda m: m([numbers(4, 8)], [], numbers(4, 8, seed=3)),
))  # fmt: skip


class ListAndName(Linear):
    def forward(self, x, x_0):
        return self.fc(x[0]) - x[1] * x_0


row("a list x beside an argument x_0", ListAndName, each(
    lambda m: m([numbers(4, 8), numbers(4, 8, seed=1)], numbers(4, 8, seed=2))
))  # fmt: skip


class Mixed(Linear):
    def forward(self, parts):
        x, (scale, shift), name = parts
        return self.fc(x) * scale + shift if name == "affine" else x


row("a list of mixed things", Mixed, each(lambda m: m([numbers(4, 8), (2, numbers(8, seed=1)), "affine"])))


class Unused(Linear):
    def forward(self, x, unused, only_shape=None):
        return self.fc(x) * (1 if only_shape is None else only_shape.shape[0])


row("an unused input", Unused, each(lambda m: m(numbers(4, 8), numbers(3))))
row("an input used for its shape only", Unused, each(
    *[lambda m, n=n: m(numbers(4, 8), numbers(3), numbers(n, 2)) for n in (2, 3)]
))  # fmt: skip

_TWICE = numbers(4, 8)


class Two(Linear):
    def forward(self, x, y):
        return self.fc(x) - y


row("the same Tensor twice", Two, each(lambda m: m(_TWICE, _TWICE), lambda m: m(_TWICE, numbers(4, 8, seed=1))))
row("an unknown keyword", Two, each(
    lambda m: m(numbers(4, 8), numbers(4, 8)), lambda m: m(numbers(4, 8), numbers(4, 8), z=1)
))  # fmt: skip
row("a doubled keyword", Two, each(
    lambda m: m(numbers(4, 8), numbers(4, 8)), lambda m: m(numbers(4, 8), numbers(4, 8), x=numbers(4, 8))
))  # fmt: skip
row("a missing argument", Two, each(lambda m: m(numbers(4, 8)), lambda m: m(numbers(4, 8), numbers(4, 8))))

for _name, _view in {
    "t()": lambda x: x.t(),
    "a transpose": lambda x: x.transpose([1, 0]),
    "x[:, 0:8]": lambda x: paddle.concat([x.t(), x.t()], axis=1)[:, 0:8],
    "x[::2]": lambda x: paddle.concat([x.t(), x.t()])[::2],
}.items():
    row(f"strides: {_name}", Linear, each(lambda m, v=_view: m(v(numbers(8, 4)))))
row("strides inside a list", Lists, each(lambda m: m([numbers(8, 4).t()], [numbers(8, 4, seed=1).t()])))


def _strided_stays(model):
    base = numbers(8, 4)
    view = base.t()
    answer = model(view)
    base.add_(paddle.ones([8, 4]))
    return [answer, view, view.is_contiguous()]


row("a strided argument stays a view", Linear, [_strided_stays] * 4)

_DTYPES = ("float32", "float64", "int64")


class AnyDtype(nn.Layer):
    def forward(self, x):
        return x * 2 + 1


row("dtypes", AnyDtype, each(*[lambda m, d=d: m(numbers(4, 8, dtype=d)) for d in _DTYPES]))
row("ranks", AnyDtype, each(*[lambda m, s=s: m(numbers(*s)) for s in ((4, 8), (2, 4, 8), (8,))]))
row("a Tensor of no dimension", AnyDtype, each(lambda m: m(paddle.to_tensor(2.0))))
row("a zero-size input", Linear, each(lambda m: m(numbers(4, 8)), lambda m: m(paddle.zeros([0, 8]))))


def _decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Decorated(Linear):
    @_decorate
    def forward(self, x, scale=1.0):
        return self.fc(x) * scale


row("a decorated forward", Decorated, each(lambda m: m(numbers(4, 8)), lambda m: m(numbers(4, 8), scale=2.0)))


def _undocumented(function):
    def wrapper(*a, **k):
        return function(*a, **k) + 1

    return wrapper


class Changed(Linear):
    @_undocumented
    def forward(self, x):
        return self.fc(x)


row("a decorator without wraps", Changed, calls(4, 8))


def _with_lambda():
    model = Linear()
    model.__dict__["forward"] = lambda x: F.relu(model.fc(x))
    return model


row("a lambda", _with_lambda, calls(4, 8))


def _with_partial():
    model = Scale()
    model.__dict__["forward"] = functools.partial(type(model).forward, model, scale=3.0)
    return model


def _with_bound_partial():
    model = Scale()
    model.__dict__["forward"] = functools.partial(model.forward, scale=3.0)
    return model


row("functools.partial", _with_bound_partial, calls(4, 8))
row("functools.partial of a function", _with_partial, calls(4, 8))

_SOURCE = """
class Executed(nn.Layer):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return F.gelu(self.fc(x)) if x.shape[0] > 2 else x
"""


def _executed():
    names: dict[str, Any] = {"nn": nn, "F": F}
    exec(_SOURCE, names)
    return names["Executed"]()


row("source given to exec", _executed, calls(4, 8))


class Already(Linear):
    @paddle.jit.to_static
    def forward(self, x):
        return F.relu(self.fc(x))


row("an already to_static forward", Already, calls(4, 8))


def _positional_and_keyword(model):
    return [model(numbers(4, 8), numbers(4, 8, seed=1)), model(x=numbers(4, 8), y=numbers(4, 8, seed=1))]


row("positional and by keyword", Two, [_positional_and_keyword] * 4)
