"""What is compared: models with inputs, and where a user would put the wrapper by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One model.

    Attributes:
        build: makes the model; random numbers are seeded before.
        inputs: makes the arguments of a call; random numbers are seeded before.
        by_hand: the sub-Layers around which a user would put the wrapper; one ending in ``.*`` means each of a list.
    """

    build: Callable[[], Any]
    inputs: Callable[[], tuple[Any, ...]]
    by_hand: Sequence[str] = ("",)


def _vision(name: str, size: int = 224, channels: int = 3, batch: int = 1, **more: Any) -> Workload:
    def build() -> Any:
        return getattr(import_module("paddle.vision.models"), name)(**more)

    return Workload(build=build, inputs=lambda: (_random(batch, channels, size, size),))


def _encoder(layers: int, width: int, tokens: int = 64) -> Workload:
    def build() -> Any:
        nn = import_module("paddle.nn")
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 4, 4 * width), layers)

    return Workload(build=build, inputs=lambda: (_random(1, tokens, width),))


def _random(*shape: int) -> Any:
    return import_module("paddle").randn(list(shape))


def _script(profile: str) -> Any:
    """The module of a workload in ``profiles/``, whose main part doesn't run."""
    name = f"profile_{profile}"
    if name not in sys.modules:
        spec = util.spec_from_file_location(name, PROFILES / profile / "infer.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def _denoiser_inputs() -> tuple[Any, ...]:
    paddle = import_module("paddle")
    mask = paddle.zeros([1, 1, 1, 160])
    mask[:, :, :, -8:] = -1e9
    return _random(1, 128, 16), _random(1, 32, 16), paddle.full([1, 1], 0.5), mask


def _transformer() -> Any:
    nn = import_module("paddle.nn")
    return nn.Transformer(d_model=256, nhead=8, num_encoder_layers=4, num_decoder_layers=4, dim_feedforward=1024)


def _recogniser() -> Any:
    modeling = import_module("paddlex.inference.models.text_recognition.modeling")
    return modeling.PPOCRV5MobileRec(modeling.PPOCRV5MobileRec.config_class())


def _example_layer() -> Any:
    paddle = import_module("paddle")

    class ExampleLayer(paddle.nn.Layer):  # type: ignore[misc,name-defined]
        """As in ``profiles/example_layer``, whose script trains when it is imported."""

        def __init__(self) -> None:
            super().__init__()
            self.fn = paddle.nn.Linear(1024, 1024, bias_attr=False)

        def forward(self, x: Any) -> Any:
            for _ in range(10):
                x = paddle.nn.functional.softmax(x, -1)
            x = x.cast("float32")
            return self.fn(x + x)

    return ExampleLayer()


WORKLOADS: dict[str, Workload] = {
    "resnet50": _vision("resnet50"),
    "mobilenet_v2": _vision("mobilenet_v2"),
    "densenet121": _vision("densenet121"),
    "encoder 6x256": _encoder(6, 256),
    "encoder 12x384": _encoder(12, 384),
    "encoder 4x32": _encoder(4, 32),
    "small: encoder": Workload(
        build=lambda: _script("small").build("encoder")[0], inputs=lambda: (_random(1, 16, 32),)
    ),
    "small: lenet": _vision("LeNet", 28, 1),
    "small: lstm": Workload(build=lambda: _script("small").build("lstm")[0], inputs=lambda: (_random(1, 16, 32),)),
    "mobilenet_v3": _vision("mobilenet_v3_large"),
    "example_layer": Workload(build=_example_layer, inputs=lambda: (_random(4096, 1024),)),
    "transformer_blocks": Workload(
        build=lambda: _script("transformer_blocks").Denoiser(384, 12, channels=16),
        inputs=_denoiser_inputs,
        by_hand=("blocks.*",),
    ),
    "encoder_decoder": Workload(build=_transformer, inputs=lambda: (_random(1, 64, 256), _random(1, 32, 256))),
    "greedy_decode": Workload(
        build=lambda: _script("greedy_decode").Translator(vocabulary=1000, width=256, longest=64),
        inputs=lambda: (import_module("paddle").randint(0, 1000, [1, 64]), 24),
        by_hand=("transformer.encoder",),
    ),
    "ppocr_rec": Workload(
        build=_recogniser,
        inputs=lambda: ([_random(1, 3, 48, 320).numpy()],),
        by_hand=("model", "head"),
    ),
}
