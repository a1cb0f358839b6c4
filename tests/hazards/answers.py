"""Rows about what a forward returns, and what becomes of it."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from hazards import calls, each, numbers, row
from hazards.arguments import Linear


class Listed(Linear):
    def forward(self, x):
        return [self.fc(x)]


row("a list of one", Listed, calls(4, 8))


class Tupled(Linear):
    def forward(self, x):
        return (self.fc(x),)


row("a tuple of one", Tupled, calls(4, 8))


class Dict(Linear):
    def forward(self, x):
        return {"z": self.fc(x), "a": x * 2, "none": None, "name": "logits", "n": 3}


row("a dict with constants", Dict, calls(4, 8))


class Ordered(Linear):
    def forward(self, x):
        return OrderedDict(b=self.fc(x), a=x.sum())


row("an OrderedDict", Ordered, calls(4, 8))


class Nested(Linear):
    def forward(self, x):
        y = self.fc(x)
        return y, [y * 2, (None, {"deep": y.mean(-1)})], True


row("nesting", Nested, calls(4, 8))
Point = namedtuple("Point", "x y")


class Named(Linear):
    def forward(self, x):
        return Point(self.fc(x), 2.5)


row("a named tuple output", Named, calls(4, 8))


@dataclass
class Output:
    logits: Any
    hidden: Any = None
    steps: int = 3


class AsDataclass(Linear):
    def forward(self, x):
        return Output(logits=self.fc(x))


row("a dataclass output", AsDataclass, calls(4, 8))


class ModelOutput(OrderedDict):
    def __init__(self, **fields):
        super().__init__()
        for name, value in fields.items():
            if value is not None:
                self[name] = value

    def __getattr__(self, name):
        return self[name]


class AsModelOutput(Linear):
    def forward(self, x):
        return ModelOutput(last=self.fc(x), pooled=None)


row("a dict subclass", AsModelOutput, calls(4, 8))


class Repeated(Linear):
    def forward(self, x):
        y = self.fc(x)
        return y, y, [y]


row("the same Tensor thrice", Repeated, calls(4, 8))


class Passed(Linear):
    def forward(self, x, other):
        return self.fc(x), x, {"other": other}


_KEPT = numbers(3)
row("passed-through inputs", Passed, each(lambda m: m(numbers(4, 8), _KEPT)))


def _identity_kept(model):
    x = numbers(4, 8)
    return model(x, _KEPT)[1] is x


row("a passed-through input is the caller's own", Passed, [_identity_kept] * 4)
row("LSTMCell", lambda: nn.LSTMCell(8, 8), each(
    lambda m: m(numbers(4, 8)), lambda m: m(numbers(4, 8), (numbers(4, 8, seed=1), numbers(4, 8, seed=2)))
))  # fmt: skip


class NoneOut(Linear):
    def forward(self, x):
        self.fc(x)


row("a None output", NoneOut, calls(4, 8), "eager", why="nothing that it computed")


class Same(nn.Layer):
    def forward(self, x, y=None):
        return x


row("only identity", Same, calls(4, 8), "eager", why="nothing that it computed")


class IntOut(Linear):
    def forward(self, x):
        return self.fc(x), x.shape[0], len(x.shape)


row("an int output", IntOut, each(lambda m: m(numbers(4, 8)), lambda m: m(numbers(6, 8))))


class Many(Linear):
    def forward(self, x):
        return [self.fc(x) * i for i in range(32)]


row("32 outputs", Many, calls(4, 8))


class Parameter(Linear):
    def forward(self, x):
        return self.fc(x), self.fc.weight


row("a parameter among the outputs", Parameter, calls(4, 8))


def _kept_results(model):
    answers = [model(numbers(2, 3, 8, 8, seed=seed)) for seed in range(5)]
    return [answer.clone() for answer in answers]


row("results kept: convolution", lambda: nn.Conv2D(3, 4, 3), [_kept_results] * 3)
row("results kept: batch of layers", lambda: nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Flatten()),
    [_kept_results] * 3)  # fmt: skip


class Reshaped(nn.Layer):
    def forward(self, x):
        return x.reshape([x.shape[0], -1]), x.transpose([0, 1, 3, 2])


def _kept_pairs(model):
    answers = [model(numbers(2, 3, 8, 8, seed=seed)) for seed in range(5)]
    return [[part.clone() for part in answer] for answer in answers]


row("results kept: only reshaped", Reshaped, [_kept_pairs] * 3)


def _written_into(model):
    x = numbers(4, 8)
    answer = model(x)
    answer.add_(paddle.ones([4, 8]))
    return [answer, x, model(x)]


row("a result written into", Linear, [_written_into] * 4)


class ResidualSilu(Linear):
    def forward(self, x):
        y = x
        for _ in range(2):
            y = y + self.fc(F.silu(y))
        return y


row("an operand needed again: silu", ResidualSilu, calls(4, 8), "adapted")


class RMSNorm(Linear):
    def forward(self, x):
        h = self.fc(x)
        return h * paddle.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)


row("an operand needed again: RMSNorm", RMSNorm, calls(4, 8), "adapted")


class AddNorm(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        h = self.fc(x)
        a = F.gelu(h)
        return self.norm(h + a) - F.relu(h), h


row("an operand needed again: gelu and output", AddNorm, calls(2, 4, 8), "adapted")


class Doubles(nn.Layer):
    def __init__(self, act=F.gelu) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.act = act
        self.to(dtype="float64")

    def forward(self, x):
        return self.act(self.fc(x))


row("float64 Linear and gelu", Doubles, [lambda m: m(numbers(4, 8, dtype="float64") * 3)] * 4, "adapted")
row("float64 Linear and tanh", lambda: Doubles(paddle.tanh), [lambda m: m(numbers(4, 8, dtype="float64") * 3)] * 4,
    "adapted")  # fmt: skip
