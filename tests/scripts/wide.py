"""Three wide convolutions: enough work in each operator for several threads."""

import paddle
from paddle import nn


class Wide(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, width, 3, padding=1)
        self.body = nn.Sequential(*[nn.Conv2D(width, width, 3, padding=1) for _ in range(2)])

    def forward(self, x):
        x = nn.functional.relu(self.stem(x))
        for layer in self.body:
            x = nn.functional.relu(layer(x))
        return x.mean([2, 3])


paddle.seed(0)
model = Wide(128)
model.eval()
x = paddle.rand([1, 3, 64, 64])
with paddle.no_grad():
    for _ in range(20):
        answer = model(x)
print("answer", answer.shape, f"{float(answer.mean()):.4f}")
