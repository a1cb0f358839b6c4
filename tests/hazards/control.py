"""Rows about shapes, control flow, and how models are put together."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import paddle
import paddle.nn.functional as F
from paddle import nn

import autohybrid
from hazards import calls, each, numbers, row
from hazards.arguments import Linear

_SIZES = (4, 6, 3, 7, 5)


def _sized(*sizes):
    return [lambda m, n=n: m(numbers(n, 8, seed=n)) for n in sizes for _ in range(3)]


row("a batch that varies", Linear, _sized(*_SIZES), last_is_hybrid=True)


class TwoDims(Linear):
    def forward(self, x, mask):
        return F.softmax(x @ x.transpose([0, 2, 1]) + mask.unsqueeze(0), axis=-1) @ self.fc(x)


_PAIRS = [(2, 3), (4, 3), (4, 6), (3, 7), (5, 9)]
row("batch and length that vary", TwoDims, [
    lambda m, b=b, n=n: m(numbers(b, n, 8), numbers(n, n)) for b, n in _PAIRS for _ in range(3)
], last_is_hybrid=True)  # fmt: skip


class Unbinds(Linear):
    def forward(self, x):
        return sum(paddle.unbind(self.fc(x), axis=0))


row("unbind on a dimension that varies", Unbinds, _sized(4, 6, 3), child=True, last_is_hybrid=True)


class Comprehends(Linear):
    def forward(self, x):
        return paddle.stack([self.fc(x[i]) for i in range(x.shape[0])]).sum(0)


row("a comprehension over a dimension that varies", Comprehends, _sized(4, 6, 3), child=True, last_is_hybrid=True)


class Loops(Linear):
    def forward(self, x):
        y = x[0]
        for i in range(x.shape[0]):
            y = y + self.fc(x[i])
        return y


row("a loop over a dimension that varies", Loops, _sized(4, 6, 3), child=True, last_is_hybrid=True)


class Counts(Linear):
    def forward(self, x):
        return self.fc(x) * (x.shape[0] / 2) if x.shape[0] > 4 else self.fc(x)


row("arithmetic with a dimension that varies", Counts, _sized(2, 3, 4, 5, 6, 7), last_is_hybrid=True)


class Table(Linear):
    names = ("none", "one", "two", "three", "four", "five", "six", "seven")

    def forward(self, x):
        return self.fc(x) * len(self.names[x.shape[0]])


row("a table indexed by a dimension", Table, _sized(4, 6, 3), last_is_hybrid=True)
row("nn.RNN around a cell", lambda: nn.RNN(nn.GRUCell(8, 8)), calls(2, 5, 8), child=True)
row("nn.LSTM", lambda: nn.LSTM(8, 8), calls(2, 5, 8))


class Steps(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 8)

    def forward(self, x):
        state, answers = None, []
        for step in range(x.shape[1]):
            y, state = self.cell(x[:, step], state)
            answers.append(y)
        return paddle.stack(answers, axis=1)


row("a Python loop over time steps", Steps, calls(2, 6, 8), child=True)


class Branch(Linear):
    def forward(self, x):
        if x.sum() > 0:
            return self.fc(x)
        return self.fc(x) * -2


_SIGNS = [lambda m, s=s: m(numbers(4, 8).abs() * s) for s in (1.0, -1.0)]
row("a branch on a Tensor", Branch, each(*_SIGNS, times=6), last_is_hybrid=True)


class Ranks(Linear):
    def forward(self, x):
        y = self.fc(x)
        return y.sum() if x.sum() > 0 else y


row("branches of different rank", Ranks, each(*_SIGNS, times=6), "adapted")


class Breaks(Linear):
    def forward(self, x):
        y = x
        for _ in range(6):
            y = self.fc(y) + y * 2
            if y.abs().max() > 20:
                break
        return y


row("a break on a Tensor", Breaks, [lambda m, s=s: m(numbers(4, 8) * s) for s in (1.0, 9.0) for _ in range(5)],
    "adapted", child=True)  # fmt: skip


class While(Linear):
    def forward(self, x):
        while x.abs().sum() < 50:
            x = x * 2 + self.fc(x) * 0.1
        return x


row("while on a Tensor", While, calls(4, 8, times=8), child=True)


class Items(Linear):
    def forward(self, x):
        n = int((x > 0).any())
        return self.fc(x) * n + x.shape[0]


row("int() of a Tensor", Items, calls(4, 8))


class InPythonList(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = [nn.Linear(8, 8), nn.Linear(8, 8)]
        self.table = [paddle.ones([8]), paddle.arange(8).astype("float32")]

    def forward(self, x):
        for block, shift in zip(self.blocks, self.table, strict=True):
            x = F.relu(block(x)) + shift
        return x


def _hidden_changed(model):
    model.blocks[1].weight.set_value(numbers(8, 8, seed=9))
    return model(numbers(4, 8))


def _table_changed(model):
    model.table[0] = paddle.full([8], 5.0)
    return model(numbers(4, 8))


row("sub-Layers in a Python list", InPythonList,
    [*calls(4, 8), _hidden_changed, *calls(4, 8), _table_changed, *calls(4, 8)], last_is_hybrid=True)  # fmt: skip


class Listed(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.LayerList([nn.Linear(8, 8) for _ in range(3)])
        self.named = nn.LayerDict({"a": nn.Linear(8, 8)})

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.named["a"](x)


row("LayerList and LayerDict", Listed, calls(4, 8))


class Guarded(Linear):
    def __setattr__(self, name, value):
        if name == "forward":
            raise AttributeError("forward is mine")
        super().__setattr__(name, value)


row("a guarded __setattr__", Guarded, calls(4, 8))


class Rewraps(Linear):
    def __setattr__(self, name, value):
        if name == "forward":
            inner = value

            def value(*args, **kwargs):
                return inner(self, *args, **kwargs)

        super().__setattr__(name, value)


row("a __setattr__ that re-wraps forward", Rewraps, calls(4, 8))


class FromConfig(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(scale=2.0, names={"act": "relu"})
        self.options = {"scale": 2.0}

    def forward(self, x):
        return getattr(F, self.config.names.get("act"))(self.fc(x)) * self.config.scale * self.options.get("scale", 1)


def _setting(change):
    def step(model):
        change(model)
        return model(numbers(4, 8))

    return step


row("config.get and a config that changes", FromConfig, [
    *calls(4, 8), _setting(lambda m: setattr(m.config, "scale", 5.0)), *calls(4, 8),
    _setting(lambda m: m.options.update(scale=0.5)), *calls(4, 8),
    _setting(lambda m: m.config.names.update(act="tanh")), *calls(4, 8),
], last_is_hybrid=True)  # fmt: skip


class Config(dict):
    def __getattr__(self, name):
        return self[name]

    def get(self, name, default=None):
        return getattr(self, name, default) if name in self else default


class GetsConfig(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.config = Config(scale=2.0)

    def forward(self, x):
        return self.fc(x) * self.config.get("scale") + self.config.get("shift", 1)


row("a config class with its own get", GetsConfig, calls(4, 8), child=True)


def _upsampling(**how):
    return lambda: nn.Sequential(nn.Conv2D(3, 4, 3, padding=1), nn.Upsample(scale_factor=2, **how), nn.Conv2D(4, 2, 1))


row("upsample nearest", _upsampling(mode="nearest"), calls(1, 3, 8, 8), "adapted", child=True)
row("upsample bilinear", _upsampling(mode="bilinear"), calls(1, 3, 8, 8), "adapted", child=True)
row("upsample bilinear, corners aligned", _upsampling(mode="bilinear", align_corners=True), calls(1, 3, 8, 8),
    "adapted", child=True)  # fmt: skip


class Sized(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3, padding=1)

    def forward(self, x, other):
        return F.interpolate(self.conv(x), size=other.shape[2:], mode="bilinear") + other


row("interpolate to another's size", Sized, [
    lambda m, n=n: m(numbers(1, 3, 8, 8), numbers(1, 4, n, n)) for n in (16, 12, 20) for _ in range(3)
], "adapted", child=True)  # fmt: skip


class Bottleneck(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2D(4, 4, 3, padding=1), nn.BatchNorm2D(4)

    def forward(self, x):
        return F.relu(x + self.b(self.a(x)))


row("two instances, one class", lambda: nn.Sequential(Bottleneck(), Bottleneck()), calls(1, 4, 8, 8),
    wrap=lambda m: [autohybrid.inference(part) for part in m] and m)  # fmt: skip
row("a wrapped child in a wrapped parent", lambda: nn.Sequential(Bottleneck(), Bottleneck()), calls(1, 4, 8, 8),
    wrap=lambda m: autohybrid.inference(m) if autohybrid.inference(m[0]) else m)  # fmt: skip


def _wrapped_method_inside(model):
    model[1].__dict__["forward"] = autohybrid.inference(model[1].forward)
    return autohybrid.inference(model)


row("a wrapped bound method in a wrapped parent", lambda: nn.Sequential(Linear(), Linear()), calls(4, 8),
    wrap=_wrapped_method_inside)  # fmt: skip


class Decorated(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    @autohybrid.inference()
    def forward(self, x):
        return self.fc(x)


def _two_decorated():
    return nn.Sequential(Decorated(), Decorated())


row("a decorated class with two instances", _two_decorated, calls(4, 8), wrap=lambda m: m)


def _copied(model):
    twin = copy.deepcopy(model)
    first = [model(numbers(4, 8)), twin(numbers(4, 8))]
    twin.fc.weight.set_value(numbers(8, 8, seed=5))
    second = [[model(numbers(4, 8)), twin(numbers(4, 8))] for _ in range(4)]
    autohybrid.restore(twin)
    return [first, second]


row("deepcopy", Linear, [*calls(4, 8), _copied, *calls(4, 8)], last_is_hybrid=True)


class Half(Linear):
    def forward(self, x):
        return self.fc(x.astype("bfloat16").astype("float32")).astype("bfloat16")


row("bfloat16", Half, calls(4, 8), child=True)
row("SyncBatchNorm", lambda: nn.Sequential(nn.Conv2D(3, 4, 3), nn.SyncBatchNorm(4)), calls(2, 3, 8, 8), "eager",
    child=True)  # fmt: skip
