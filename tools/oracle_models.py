"""The workloads of ``oracle.py``: small enough to try every set of regions, each with eight or more candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.vision import models

Inputs = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model, its inputs, and with ``by_hand`` the same model as somebody who knows the answer would write it."""

    build: Callable[[], Any]
    inputs: Inputs
    by_hand: Callable[[Any], Any] | None = None

    def made(self) -> tuple[Any, tuple[Tensor, ...]]:
        """The model in evaluation mode and its inputs, the same ones in every process."""
        paddle.seed(0)
        model = self.build()
        model.eval()
        return model, self.inputs()


class Block(nn.Layer):  # type: ignore[misc]
    """A pre-norm attention block on two streams, as diffusion transformers have them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_x, self.norm_y = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Linear(2 * width, 2 * width)
        self.attention = nn.MultiHeadAttention(width, 4)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        both = self.mix(paddle.concat([self.norm_x(x), self.norm_y(y)], axis=-1))
        shift, gate = both.chunk(2, axis=-1)
        x = x + gate * self.attention(shift)
        return x + self.mlp(x), y + gate


class Denoiser(nn.Layer):  # type: ignore[misc]
    """A loop over blocks in a forward that can't be converted as a whole."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embed_x, self.embed_y = nn.Linear(8, width), nn.Linear(8, width)
        self.blocks = nn.LayerList([Block(width) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = x / float(np.linalg.norm(x.numpy()))
        x, y = self.embed_x(x), self.embed_y(y)
        for block in self.blocks:
            x, y = block(x, y)
        return self.head(self.norm(x))


class Loop(nn.Layer):  # type: ignore[misc]
    """The loop over a model's blocks as a Layer of its own."""

    def __init__(self, blocks: Any) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            x, y = block(x, y)
        return x, y


class DenoiserByHand(nn.Layer):  # type: ignore[misc]
    """The denoiser with its loop moved into a Layer."""

    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.embed_x, self.embed_y, self.norm, self.head = model.embed_x, model.embed_y, model.norm, model.head
        self.loop = Loop(model.blocks)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = x / float(np.linalg.norm(x.numpy()))
        x, y = self.loop(self.embed_x(x), self.embed_y(y))
        return self.head(self.norm(x))


class Recognizer(nn.Layer):  # type: ignore[misc]
    """Convolutions, then a recurrent net, then a head: a text recognizer in small."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 24, 48, 96]
        self.stem = nn.Sequential(
            *[
                nn.Sequential(
                    nn.Conv2D(a, b, 3, stride=2 if b < 96 else (2, 1), padding=1), nn.BatchNorm2D(b), nn.Hardswish()
                )
                for a, b in pairwise(widths)
            ]
        )
        self.squeeze = nn.AdaptiveAvgPool2D((1, None))
        self.lstm = nn.LSTM(96, 64, direction="bidirect")
        self.head = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 500))

    def forward(self, image: Tensor) -> Tensor:
        features = self.squeeze(self.stem(image)).squeeze(2).transpose([0, 2, 1])
        features, _ = self.lstm(features)
        return F.softmax(self.head(features), axis=-1)


class Sorting(nn.Layer):  # type: ignore[misc]
    """A branch that works in NumPy in its middle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = _convolutions(3, width), _convolutions(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        order = np.argsort(x.mean([0, 2, 3]).numpy())
        return self.after(paddle.index_select(x, paddle.to_tensor(order), axis=1))


class TwoBranches(nn.Layer):  # type: ignore[misc]
    """Two branches, one of which can't be converted as a whole."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.plain = nn.Sequential(_convolutions(3, width), _convolutions(width, width))
        self.sorting = Sorting(width)
        self.fuse = nn.Sequential(nn.Conv2D(2 * width, width, 1), nn.ReLU(), nn.Conv2D(width, width, 3, padding=1))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        both = paddle.concat([self.plain(x), self.sorting(x)], axis=1)
        return self.head(self.fuse(both).mean([2, 3]))


def _convolutions(inputs: int, width: int) -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(inputs, width, 3, padding=1),
        nn.BatchNorm2D(width),
        nn.ReLU(),
        nn.Conv2D(width, width, 3, padding=1),
        nn.BatchNorm2D(width),
        nn.ReLU(),
    )


class Gates(nn.Layer):  # type: ignore[misc]
    """Many small Layers, each slower when converted, around one that gains; the whole can't be converted."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.LayerList([nn.Linear(16, 16) for _ in range(6)])
        self.norms = nn.LayerList([nn.LayerNorm(16) for _ in range(2)])
        self.expand = nn.Linear(16, 256)
        self.large = nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256), nn.GELU())
        self.head = nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        for number, gate in enumerate(self.gates):
            x = x * F.sigmoid(gate(x))
            if number % 3 == 2:
                x = self.norms[number // 3](x)
        scale = float(np.linalg.norm(x.numpy())) + 1.0
        return self.head(self.large(self.expand(x / scale)))


def _image(size: int, batch: int = 1) -> Inputs:
    return lambda: (paddle.randn([batch, 3, size, size]),)


def _sequences(*shapes: list[int]) -> Inputs:
    return lambda: tuple([paddle.randn(shape) for shape in shapes])


WORKLOADS: dict[str, Workload] = {
    "resnet18": Workload(build=lambda: models.resnet18(num_classes=100), inputs=_image(64)),
    "mobilenet_v1": Workload(build=lambda: models.mobilenet_v1(scale=0.5, num_classes=100), inputs=_image(128)),
    "squeezenet": Workload(build=lambda: models.squeezenet1_1(num_classes=100), inputs=_image(96)),
    "transformer": Workload(
        build=lambda: nn.Transformer(128, 4, 2, 2, 256, dropout=0.0), inputs=_sequences([1, 48, 128], [1, 32, 128])
    ),
    "denoiser": Workload(
        build=lambda: Denoiser(96, 4), inputs=_sequences([1, 64, 8], [1, 64, 8]), by_hand=DenoiserByHand
    ),
    "recognizer": Workload(build=Recognizer, inputs=lambda: (paddle.randn([1, 3, 48, 160]),)),
    "two_branches": Workload(build=TwoBranches, inputs=_image(40)),
    "gates": Workload(build=Gates, inputs=_sequences([64, 16])),
}
