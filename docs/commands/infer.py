"""The script of the examples: watches a stream of images, and says which class it sees most."""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import paddle
from paddle import nn

CLASSES = 10


class Block(nn.Layer):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2D(channels, channels, 3, padding=1, groups=channels, bias_attr=False)
        self.norm = nn.BatchNorm2D(channels)
        self.pointwise = nn.Conv2D(channels, channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + self.pointwise(nn.functional.hardswish(self.norm(self.depthwise(x))))


class Smoother(nn.Layer):
    """Averages over time, and so remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.average = None

    def forward(self, scores: paddle.Tensor) -> paddle.Tensor:
        self.average = scores if self.average is None else 0.8 * self.average + 0.2 * scores
        return self.average


class Watcher(nn.Layer):
    def __init__(self, width: int = 64, depth: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(width, CLASSES))
        self.smoother = Smoother()

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        scores = self.head(self.blocks(self.stem(images)))
        return self.smoother(scores)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    paddle.seed(0)
    model = Watcher()
    model.eval()
    stream = np.random.default_rng(0)
    seen: Counter[int] = Counter()
    with paddle.no_grad():
        for _ in range(arguments.frames):
            shape = (1, 3, arguments.size, arguments.size)
            scores = model(paddle.to_tensor(stream.standard_normal(shape, dtype="float32")))
            seen[int(scores.argmax())] += 1
    print(f"{arguments.frames} frames, mostly class {seen.most_common(1)[0][0]}")


if __name__ == "__main__":
    main()
