"""The example Layer of Paddle's document on hybrid inference: trained for a few steps, then used for inference.

The script calls neither ``eval()`` nor ``paddle.no_grad()``, as many training scripts with an inference part at their
end don't.
"""

import argparse

import paddle
import paddle.nn.functional as F
from paddle import nn


class ExampleLayer(nn.Layer):
    def __init__(self, hidd: int) -> None:
        super().__init__()
        self.fn = nn.Linear(hidd, hidd, bias_attr=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for _ in range(10):
            x = F.softmax(x, -1)
        x = x.cast("float32")
        x = self.func(x)
        return x

    def func(self, x: paddle.Tensor) -> paddle.Tensor:
        x = x + x
        return self.fn(x)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--batch", type=int, default=4096)
parser.add_argument("--hidd", type=int, default=1024)
parser.add_argument("--dtype", default="float32", help="bfloat16 needs a GPU: its softmax has no CPU kernel")
parser.add_argument("--steps", type=int, default=3, help="training steps")
parser.add_argument("--calls", type=int, default=5, help="inference calls")
args = parser.parse_args()

paddle.seed(0)
layer = ExampleLayer(args.hidd)

optimizer = paddle.optimizer.Adam(learning_rate=0.1, parameters=layer.parameters())
for step in range(args.steps):
    x = paddle.rand([args.batch, args.hidd]).cast(args.dtype)
    loss = ((layer(x) - 1.0) ** 2).mean()
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()
    print(f"step {step}: loss {float(loss):.2f}")

x = paddle.rand([args.batch, args.hidd]).cast(args.dtype)
for _ in range(args.calls):
    result = layer(x)
print(f"result {list(result.shape)}, mean {float(result.mean()):.2f}")
