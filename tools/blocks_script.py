"""So many identical blocks: python blocks_script.py DEPTH [--whole]; without --whole the root can't be converted."""

import sys

import numpy as np
import paddle
from paddle import nn


class Model(nn.Layer):  # type: ignore[misc]
    def __init__(self, depth: int, whole: bool) -> None:
        super().__init__()
        self.blocks = nn.LayerList([nn.TransformerEncoderLayer(96, 4, 384, dropout=0.0) for _ in range(depth)])
        self.whole = whole

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self.whole:
            x = x / float(np.linalg.norm(x.numpy()))
        for block in self.blocks:
            x = block(x)
        return x


paddle.seed(0)
model = Model(int(sys.argv[1]), "--whole" in sys.argv)
model.eval()
x = paddle.randn([1, 64, 96])
with paddle.no_grad():
    for _ in range(20):
        answer = model(x)
print(f"mean of squares {float((answer**2).mean()):.4f}")
