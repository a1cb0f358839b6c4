"""Gradients through a region are eager's, or an error; never silence. With real Paddle."""

from __future__ import annotations

from typing import Any

import paddle
from answers import alike, of_eager
from conftest import Convert
from paddle import nn


class Two(nn.Layer):  # type: ignore[misc]
    """Two inputs, nested outputs, one of them without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.eval()

    def forward(self, x: Any, y: Any) -> Any:
        hidden = nn.functional.gelu(self.linear(x)) * y
        return {"hidden": hidden, "index": hidden.argmax(-1), "both": [hidden + x, y]}


def _inputs(trainable: bool = True) -> tuple[Any, Any]:
    paddle.seed(3)
    x, y = paddle.randn([3, 4]), paddle.randn([3, 4])
    x.stop_gradient = y.stop_gradient = not trainable
    return x, y


def _warm(model: Any) -> None:
    for _ in range(3):
        model(*_inputs())


def _gradients(model: Any, answer: Any, inputs: tuple[Any, ...]) -> list[Any]:
    model.clear_gradients()
    (answer["hidden"].sum() + (answer["both"][0] ** 2).sum()).backward()
    return [tensor.grad.clone() for tensor in (*inputs, *model.parameters())]


def test_gradients_are_eagers(convert: Convert) -> None:
    model = Two()
    region = convert(model)
    _warm(model)
    served = region.hybrid_calls
    inputs = _inputs()
    got = _gradients(model, model(*inputs), inputs)
    assert region.hybrid_calls == served + 1
    inputs = _inputs()
    expected = _gradients(model, of_eager(model, *inputs), inputs)
    assert alike(got, expected)


def test_results_say_of_gradients_what_eagers_say(convert: Convert) -> None:
    model = Two()
    convert(model)
    _warm(model)
    answer, expected = model(*_inputs()), of_eager(model, *_inputs())
    for key in ("hidden", "index"):
        assert answer[key].stop_gradient == expected[key].stop_gradient
    assert answer["both"][0].stop_gradient == expected["both"][0].stop_gradient
    with paddle.no_grad():
        assert model(*_inputs())["hidden"].stop_gradient


def test_two_calls_before_one_backward(convert: Convert) -> None:
    model = Two()
    convert(model)
    _warm(model)
    x, y = _inputs()
    loss = (model(x, y)["hidden"] - model(y, x)["hidden"] * 2).sum()
    loss.backward()
    got = [x.grad, y.grad]
    x, y = _inputs()
    (of_eager(model, x, y)["hidden"] - of_eager(model, y, x)["hidden"] * 2).sum().backward()
    assert alike(got, [x.grad, y.grad])


def test_a_conversion_made_without_gradients_gives_them_when_they_are_wanted(convert: Convert) -> None:
    model = Two()
    convert(model)
    with paddle.no_grad():
        _warm(model)
    inputs = _inputs()
    answer = model(*inputs)
    assert not answer["hidden"].stop_gradient
    got = _gradients(model, answer, inputs)
    inputs = _inputs()
    assert alike(got, _gradients(model, of_eager(model, *inputs), inputs))


def test_an_input_that_wants_gradients_only_later_gets_them(convert: Convert) -> None:
    model = Two()
    for parameter in model.parameters():
        parameter.stop_gradient = True
    convert(model)
    for _ in range(3):
        model(*_inputs(trainable=False))
    inputs = _inputs()
    model(*inputs)["hidden"].sum().backward()
    got = [tensor.grad for tensor in inputs]
    inputs = _inputs()
    of_eager(model, *inputs)["hidden"].sum().backward()
    assert alike(got, [tensor.grad for tensor in inputs])


def test_gradients_of_inputs_by_paddle_grad(convert: Convert) -> None:
    model = Two()
    convert(model)
    _warm(model)
    x, y = _inputs()
    (got,) = paddle.grad(model(x, y)["hidden"].sum(), [x])
    (expected,) = paddle.grad(of_eager(model, x, y)["hidden"].sum(), [x])
    assert alike(got, expected)


def test_gradients_of_weights_by_paddle_grad_are_right_or_an_error(convert: Convert) -> None:
    model = Two()
    convert(model)
    _warm(model)
    x, y = _inputs()
    (expected,) = paddle.grad(of_eager(model, x, y)["hidden"].sum(), [model.linear.weight])
    try:
        (got,) = paddle.grad(model(x, y)["hidden"].sum(), [model.linear.weight], allow_unused=False)
    except (RuntimeError, ValueError):
        return
    assert alike(got, expected)


def test_paddle_grad_leaves_the_weights_gradients_alone(convert: Convert) -> None:
    model = Two()
    convert(model)
    _warm(model)
    model.clear_gradients()
    x, y = _inputs()
    paddle.grad(model(x, y)["hidden"].sum(), [x])
    assert model.linear.weight.grad is None


def test_an_input_that_wants_no_gradient_is_no_obstacle(convert: Convert) -> None:
    model = Two()
    convert(model)
    for _ in range(3):
        model(*_inputs(trainable=False))
    model(*_inputs(trainable=False))["hidden"].sum().backward()
    got = model.linear.weight.grad.clone()
    model.clear_gradients()
    of_eager(model, *_inputs(trainable=False))["hidden"].sum().backward()
    assert alike(got, model.linear.weight.grad)


def test_training_through_a_region_goes_as_in_eager(convert: Convert) -> None:
    paddle.seed(0)
    model, twin = Two(), Two()
    twin.set_state_dict(model.state_dict())
    convert(model)
    optimizers = [paddle.optimizer.SGD(0.1, parameters=each.parameters()) for each in (model, twin)]
    for _ in range(6):
        for each, optimizer in zip((model, twin), optimizers, strict=True):
            each(*_inputs())["hidden"].square().mean().backward()
            optimizer.step()
            optimizer.clear_grad()
    assert alike(model.linear.weight.detach(), twin.linear.weight.detach())
