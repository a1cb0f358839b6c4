"""Rows about a model that changes between calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import nn

from hazards import Step, calls, numbers, row
from hazards.arguments import Linear


class Model(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1D(8)
        self.register_buffer("shift", paddle.ones([8]))
        self.scale = 2.0
        self.factors = [1.0, 2.0]
        self.table = np.ones(8, "float32")

    def forward(self, x):
        y = self.norm(self.fc(x)) * self.scale + self.shift
        return y * self.factors[-1] * paddle.to_tensor(self.table)


def _step(model: Any) -> None:
    optimizer = paddle.optimizer.SGD(0.1, parameters=model.parameters())
    loss = nn.functional.linear(numbers(4, 8), model.fc.weight, model.fc.bias).pow(2).sum()
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()


def _state(model: Any) -> None:
    state = {name: value * 2 for name, value in model.state_dict().items()}
    model.set_state_dict(state)


def _statistics(model: Any) -> None:
    model.train()
    model(numbers(4, 8, seed=7))
    model.eval()


def _grow(model: Any) -> None:
    model.extra = model.create_parameter([8])


def _no_grad(change: Step) -> Step:
    def changed(model: Any) -> None:
        with paddle.no_grad():
            change(model)

    return changed


_CHANGES: dict[str, Step] = {
    "a weight assigned": lambda m: (
        setattr(m.fc, "weight", m.fc.create_parameter([8, 8])) or m.fc.weight.set_value(numbers(8, 8))
    ),
    "set_value": lambda m: m.fc.weight.set_value(np.ones([8, 8], "float32")),
    "set_value of a bias": lambda m: m.fc.bias.set_value(numbers(8)),
    "copy_": lambda m: m.fc.weight.copy_(numbers(8, 8, seed=3), True),
    "set_state_dict": _state,
    "an optimizer's step": _step,
    "an in-place operation": _no_grad(lambda m: m.fc.weight.add_(paddle.ones([8, 8]))),
    "setitem": _no_grad(lambda m: m.fc.weight.__setitem__(0, 3.0)),
    "assign": _no_grad(lambda m: paddle.assign(numbers(8, 8, seed=4), output=m.fc.weight)),
    "an initializer": lambda m: nn.initializer.Constant(0.5)(m.fc.weight),
    "a buffer assigned": lambda m: setattr(m, "shift", paddle.full([8], 3.0)),
    "a buffer's set_value": lambda m: m.shift.set_value(np.full(8, 4.0, "float32")),
    "a buffer in place": lambda m: m.shift.zero_(),
    "an attribute": lambda m: setattr(m, "scale", 3.0),
    "an attribute's type": lambda m: setattr(m, "scale", 2),
    "a list attribute's item": lambda m: m.factors.__setitem__(-1, 7.0),
    "a list attribute appended to": lambda m: m.factors.append(9.0),
    "an array attribute's item": lambda m: m.table.__setitem__(0, 5.0),
    "a sub-Layer replaced": lambda m: setattr(m, "fc", _filled(nn.Linear(8, 8))),
    "a sub-Layer replaced by add_sublayer": lambda m: m.add_sublayer("fc", _filled(nn.Linear(8, 8))),
    "running statistics": _statistics,
    "a new parameter": _grow,
    "requires_grad": lambda m: setattr(m.fc.weight, "stop_gradient", True),
    "a parameter's data": lambda m: setattr(m.fc.weight, "data", numbers(8, 8, seed=6)),
}


def _filled(layer: Any) -> Any:
    layer.weight.set_value(numbers(8, 8, seed=8))
    return layer.eval()


def _quietly(change: Step) -> Step:
    def changed(model: Any) -> None:
        change(model)

    return changed


for _name, _change in _CHANGES.items():
    row(f"changed: {_name}", Model, [*calls(4, 8), _quietly(_change), *calls(4, 8)], last_is_hybrid=True)

row("changed: every kind, one after the other", Model,
    [step for change in _CHANGES.values() for step in (_quietly(change), *calls(4, 8, times=2))]
    + calls(4, 8, times=15),
    last_is_hybrid=True)  # fmt: skip


def _to_double(model: Any) -> Any:
    model.to(dtype="float64")
    return [model(numbers(4, 8, dtype="float64", seed=seed)) for seed in range(4)]


row("changed: to(dtype)", Linear, [*calls(4, 8), _to_double])


def _sequential() -> Any:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.LayerList([nn.Linear(8, 8)])[0])


row("changed: Sequential's item", _sequential,
    [*calls(4, 8), _quietly(lambda m: m.__setitem__(1, nn.Sigmoid())), *calls(4, 8)], last_is_hybrid=True)  # fmt: skip


def _trained(model: Any) -> Any:
    """A training loop through the region: gradients, steps, and answers between them."""
    answers = []
    optimizer = paddle.optimizer.Adam(0.01, parameters=model.parameters())
    for seed in range(4):
        loss = model(numbers(4, 8, seed=seed)).pow(2).mean()
        loss.backward()
        answers += [loss.detach(), model.fc.weight.grad.clone()]
        optimizer.step()
        optimizer.clear_grad()
    return answers


row("a training loop", Linear, [*calls(4, 8), _trained, *calls(4, 8, times=12)], last_is_hybrid=True)


def _gradients(model: Any) -> Any:
    x = numbers(4, 8)
    x.stop_gradient = False
    y = model(x)
    y.pow(2).sum().backward()
    found = [x.grad, model.fc.weight.grad.clone(), model.fc.bias.grad.clone()]
    model.clear_gradients()
    return [y.detach(), y.stop_gradient, *found]


def _partial_gradients(model: Any) -> Any:
    x = numbers(4, 8)
    x.stop_gradient = False
    found = paddle.grad(model(x).sum(), x)
    return [*found, model.fc.weight.grad is None]


def _without_gradients(model: Any) -> Any:
    with paddle.no_grad():
        y = model(numbers(4, 8))
    return [y, y.stop_gradient]


def _frozen(model: Any) -> Any:
    for parameter in model.parameters():
        parameter.stop_gradient = True
    y = model(numbers(4, 8))
    return [y, y.stop_gradient]


row("gradients", Linear, [_gradients] * 5, last_is_hybrid=True)
row("gradients of the input only", Linear, [_partial_gradients] * 5, last_is_hybrid=True)
row("with and without gradients", Linear, [_without_gradients, _gradients] * 5, last_is_hybrid=True)
row("gradients, then frozen", Linear, [_gradients] * 4 + [_frozen] * 4, last_is_hybrid=True)
