"""Rows about what a forward does besides computing: state, randomness, hooks, inputs and Tensors written in place."""

from __future__ import annotations

import functools
import logging
import random
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from hazards import calls, doing, each, numbers, row
from hazards.arguments import Linear


class Counter(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x):
        self.count += 1
        return self.fc(x) * self.count


row("a counter on self", Counter, calls(4, 8, times=8), "eager", why="changes its own state")


class Cache(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.cache: list[Any] = []

    def forward(self, x):
        self.cache.append(self.fc(x))
        return paddle.concat(self.cache).sum(0)


row("a KV cache on self", Cache, calls(1, 8, times=8), "eager", why="changes its own state")


class BufferCount(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", paddle.zeros([1]))

    def forward(self, x):
        self.seen.add_(paddle.ones([1]))
        return self.fc(x) + self.seen


row("a buffer that counts", BufferCount, calls(4, 8, times=8), "eager", why="changes its own state")


class Remembers(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.last = None

    def forward(self, x):
        y = self.fc(x)
        self.last = y
        return y


def _with_last(seed):
    def step(model):
        return model(numbers(4, 8, seed=seed)), model.last

    return step


row("the last answer kept on self", Remembers, [_with_last(seed) for seed in range(8)], "eager",
    why="changes its own state")  # fmt: skip


class Measures(Linear):
    """Keeps a number that is the same for as long as the inputs are: twice the same input doesn't show it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = 0.0

    def forward(self, x):
        self.last = float(x.sum())
        return self.fc(x)


class Collects(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.statistics: dict[str, int] = {}

    def forward(self, x):
        self.statistics["largest at"] = int(x.argmax())
        return self.fc(x)


class NotesSizes(Linear):
    def forward(self, x):
        self.rows, self.columns = x.shape
        return self.fc(x)


_ALIKE_THEN_ANOTHER = [paddle.ones([4, 8])] * 6 + [paddle.arange(32, dtype="float32").reshape([4, 8])] * 2


def _with(name):
    return [lambda model, x=x: (model(x), str(getattr(model, name))) for x in _ALIKE_THEN_ANOTHER]


row("a number computed and kept on self", Measures, _with("last"), "eager", why="keeps on its Layer")
row("a number computed and kept in a dict", Collects, _with("statistics"), "eager", why="keeps on its Layer")
row("sizes kept on self", NotesSizes, _with("rows"))


_LOG: list[float] = []
_SEEN = {"calls": 0}
_count = 0


def _noted(x):
    _LOG.append(float(x.sum()))
    return x


class Meter:
    def __init__(self) -> None:
        self.total = 0.0

    def update(self, value) -> None:
        self.total += value


_METER = Meter()


class Logs(Linear):
    def forward(self, x):
        _LOG.append(float(x.sum()))
        return self.fc(x)


class LogsElsewhere(Linear):
    def forward(self, x):
        return self.fc(_noted(x))


class CountsOutside(Linear):
    def forward(self, x):
        _SEEN["calls"] += 1
        return self.fc(x)


class Rebinds(Linear):
    def forward(self, x):
        global _count
        _count += 1
        return self.fc(x)


class Measured(Linear):
    def forward(self, x):
        _METER.update(float(x.max()))
        return self.fc(x)


class CountsInItsClass(Linear):
    count = 0

    def forward(self, x):
        type(self).count += 1
        return self.fc(x)


class Prints(Linear):
    def forward(self, x):
        y = self.fc(x)
        print("mean", float(y.mean()))
        return y


class LogsByLogging(Linear):
    def forward(self, x):
        logging.getLogger("model").warning("called with %s", x.shape)
        return self.fc(x)


def _changing(kind, read):
    def step(seed, model):
        before = read()
        answer = model(numbers(4, 8, seed=seed))
        return answer, read() - before

    row(f"effects outside: {kind.__name__}", kind, [functools.partial(step, seed) for seed in range(8)], "eager",
        why="more than compute")  # fmt: skip


_changing(Logs, lambda: len(_LOG))
_changing(LogsElsewhere, lambda: len(_LOG))
_changing(CountsOutside, lambda: _SEEN["calls"])
_changing(Rebinds, lambda: _count)
_changing(Measured, lambda: _METER.total)
_changing(CountsInItsClass, lambda: CountsInItsClass.count)
row("effects outside: prints", Prints, calls(4, 8, times=6), "eager", why="it prints")
row("effects outside: logs", LogsByLogging, calls(4, 8, times=6), "eager", why="it logs")


class PrintsOnce(Linear):
    said = False

    def forward(self, x):
        if not self.said:
            print("first call")
            self.said = True
        return self.fc(x)


row("prints at its first call only", PrintsOnce, calls(4, 8, times=6))


class Lazy(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[int, Any] = {}

    def forward(self, x):
        n = x.shape[-1]
        if n not in self.tables:
            self.tables[n] = paddle.arange(n, dtype="float32")
        return self.fc(x) + self.tables[n]


def _with_table(model):
    answer = model(numbers(4, 8))
    return answer, model.tables[8] + 1


row("a table made at the first call", Lazy, [_with_table] * 6)

for _name, _draw in {
    "bernoulli": lambda y: paddle.bernoulli(F.sigmoid(y)),
    "multinomial": lambda y: paddle.multinomial(F.softmax(y), 2),
    "poisson": lambda y: paddle.poisson(F.relu(y)),
    "gumbel_softmax": F.gumbel_softmax,
    "randn": lambda y: y + paddle.randn(y.shape),
    "NumPy": lambda y: y + float(np.random.rand()),
    "Python": lambda y: y + random.random(),
    "dropout always": lambda y: F.dropout(y, 0.5, training=True),
}.items():

    class Draws(Linear):
        def __init__(self, draw) -> None:
            super().__init__()
            self.draw = draw

        def forward(self, x):
            return self.draw(self.fc(x))

    row(f"random: {_name}", functools.partial(Draws, _draw), calls(4, 8), "eager", why="random")


class MutatesInput(Linear):
    def forward(self, x):
        x.add_(paddle.ones([8]))
        return self.fc(x)


def _with_input(model):
    x = numbers(4, 8)
    return model(x), x


row("an input mutated", MutatesInput, [_with_input] * 4, "eager", why="changes its inputs")


class MutatesList(Linear):
    def forward(self, x, seen):
        seen.append(x * 2)
        return self.fc(x)


def _with_list(model):
    seen: list[Any] = []
    return model(numbers(4, 8), seen), seen


row("a list argument appended to", MutatesList, [_with_list] * 4, "eager", why="changes its inputs")


class InPlaceAdd(Linear):
    def forward(self, x):
        y = self.fc(x)
        y.add_(paddle.ones([8]))
        return y * 2


row("y.add_()", InPlaceAdd, calls(4, 8), "adapted")


class InPlaceRelu(Linear):
    def forward(self, x):
        y = self.fc(x)
        F.relu_(y)
        return y + 1


row("F.relu_(y)", InPlaceRelu, calls(4, 8), "adapted")


class AssignsOutput(Linear):
    def forward(self, x):
        y = self.fc(x)
        paddle.assign(x * 3, output=y)
        return y + 1


row("assign(a, output=y)", AssignsOutput, calls(4, 8), "adapted")


class SetItem(Linear):
    def forward(self, x):
        y = self.fc(x)
        y[:, 0] = 0.0
        y[1] += x[0]
        return y


row("y[:, 0] = 0", SetItem, calls(4, 8))


class Dropout(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.fc(x))


_TRAIN = lambda m: m.train()  # noqa: E731
_EVAL = lambda m: m.eval()  # noqa: E731
row("dropout in training mode", Dropout, calls(4, 8), "eager", why="training mode", training=True)
row("train() and eval() afterwards", Dropout,
    [*calls(4, 8), *doing(_TRAIN, calls(4, 8)), *doing(_EVAL, calls(4, 8, times=5))], last_is_hybrid=True)  # fmt: skip


def _normed():
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1D(8), nn.ReLU())


row("BatchNorm in training mode", _normed, calls(4, 8), "eager", why="training mode", training=True)
row("running statistics moved in between", _normed,
    [*calls(4, 8), *doing(_TRAIN, calls(4, 8)), *doing(_EVAL, calls(4, 8, times=6))], last_is_hybrid=True)  # fmt: skip
row("training mode without consequence", lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU()), calls(4, 8), training=True)


class OnFlag(Linear):
    def forward(self, x):
        return self.fc(x) * 2 if self.training else self.fc(x)


row("a branch on self.training", OnFlag, calls(4, 8), "eager", why="training mode", training=True)


class Checks(Linear):
    def forward(self, x):
        y = self.fc(x)
        return y if isinstance(x, paddle.Tensor) else y * 100


row("isinstance(x, paddle.Tensor)", Checks, calls(4, 8), "adapted")


class Modes(Linear):
    def forward(self, x):
        y = self.fc(x)
        return y if paddle.in_dynamic_mode() else y * 100


row("in_dynamic_mode()", Modes, calls(4, 8), "adapted")


def _recording_hook():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    model.seen = []
    model[0].register_forward_post_hook(lambda layer, inputs, output: model.seen.append(output.sum()))
    return model


def _with_seen(model):
    return model(numbers(4, 8)), len(model.seen)


row("a recording hook on a sub-Layer", _recording_hook, [_with_seen] * 8, "eager")


def _printing_hook():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def hook(layer, inputs, output):
        print(end="")

    model[0].register_forward_post_hook(hook)
    return model


row("a hook that returns nothing", _printing_hook, calls(4, 8), "eager", why="hook")


def _changing_hook():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    model[0].register_forward_post_hook(lambda layer, inputs, output: output * 2)
    return model


row("a hook that computes", _changing_hook, calls(4, 8))


def _own_hook():
    model = Linear()
    model.register_forward_post_hook(lambda layer, inputs, output: output * 2)
    return model


row("a hook on the wrapped Layer itself", _own_hook, calls(4, 8))


def _add_hook(model):
    model.handle = model[0].register_forward_post_hook(lambda layer, inputs, output: output * 3)


row("a hook added and removed", lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU()),
    [*calls(4, 8), *doing(_add_hook, calls(4, 8)), *doing(lambda m: m.handle.remove(), calls(4, 8))],
    last_is_hybrid=True)  # fmt: skip


class Fails(Linear):
    def forward(self, x):
        raise ValueError("not today")


row("eager fails", Fails, calls(4, 8), "eager", why="")


class SometimesFails(Linear):
    def forward(self, x):
        if x.shape[0] > 4:
            raise ValueError(f"too many: {x.shape[0]}")
        return self.fc(x)


row("eager fails for some shapes", SometimesFails, each(lambda m: m(numbers(4, 8)), lambda m: m(numbers(5, 8))))
row("a wrong shape", Linear, each(lambda m: m(numbers(4, 8)), lambda m: m(numbers(4, 7))))
