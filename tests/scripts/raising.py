"""Calls a model, then fails."""

import paddle


def broken(layer: paddle.nn.Layer) -> None:
    layer(paddle.ones([2, 4]))
    raise LookupError("the script's own fault")


model = paddle.nn.Linear(4, 4)
for _ in range(4):
    model(paddle.ones([2, 4]))
broken(model)
