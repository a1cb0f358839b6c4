"""Calls a model until it is interrupted."""

import time

import paddle

model = paddle.nn.Linear(4, 4)
while True:
    model(paddle.ones([2, 4]))
    print("called", flush=True)
    time.sleep(0.05)
