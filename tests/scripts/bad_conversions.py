"""A model of which three parts convert badly, each in its own way, and one well."""

import paddle
import paddle.nn.functional as F
from paddle import nn

WIDTH = 192


class Unbinds(nn.Layer):
    """Aborts the process when the first dimension becomes dynamic."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        for _ in range(12):
            x = F.relu(self.linear(x))
        return paddle.unbind(x, 0)[0]


class Comprehends(nn.Layer):
    """Never comes to an end when the first dimension becomes dynamic."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        for _ in range(12):
            x = F.relu(self.linear(x))
        return paddle.stack([x[i] for i in range(x.shape[0])]).sum(0)


class Repeats(nn.Layer):
    """Is silently wrong: Paddle's inplace_pass overwrites ``y`` while it is needed."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, y):
        for _ in range(2):
            y = y + self.linear(F.silu(y))
        return y


class Healthy(nn.Layer):
    def __init__(self):
        super().__init__()
        stages = [nn.Sequential(nn.Conv2D(16, 16, 3, padding=1), nn.BatchNorm2D(16), nn.ReLU()) for _ in range(3)]
        self.body = nn.Sequential(nn.Conv2D(3, 16, 3, padding=1), *stages)

    def forward(self, image):
        return self.body(image).mean()


class Mixed(nn.Layer):
    def __init__(self):
        super().__init__()
        self.unbinds = Unbinds()
        self.comprehends = Comprehends()
        self.repeats = Repeats()
        self.healthy = Healthy()

    def forward(self, x, fixed, image):
        fixed = paddle.to_tensor(fixed.numpy())  # what keeps the whole from being converted
        total = self.unbinds(x).sum() + self.comprehends(x).sum() + self.healthy(image)
        for _ in range(3):
            total = total + self.repeats(fixed).mean()
        return total


def call(model: Mixed) -> list[float]:
    """One round of inference, with two sizes of the first input."""
    sums = []
    with paddle.no_grad():
        for size in (48, 64):
            paddle.seed(size)
            inputs = paddle.randn([size, WIDTH]), paddle.randn([64, WIDTH]), paddle.randn([1, 3, 40, 40])
            sums.append(float(model(*inputs)))
    return sums


def made() -> Mixed:
    paddle.seed(0)
    model = Mixed()
    model.eval()
    return model


if __name__ == "__main__":
    model = made()
    for _ in range(4):
        print([round(value, 2) for value in call(model)])
