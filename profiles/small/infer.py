"""Three models too small to gain much: LeNet, an LSTM of width 32 and a 4-layer Transformer encoder of width 32."""

import argparse

import paddle
from paddle import Tensor, nn
from paddle.vision.models import LeNet


def build(name: str) -> tuple[nn.Layer, Tensor]:
    """Returns the model called name and an input for it."""
    if name == "lenet":
        return LeNet(), paddle.rand([1, 1, 28, 28])
    if name == "lstm":
        return nn.LSTM(32, 32), paddle.randn([1, 16, 32])
    layer = nn.TransformerEncoderLayer(d_model=32, nhead=4, dim_feedforward=64)
    return nn.TransformerEncoder(layer, num_layers=4), paddle.randn([1, 16, 32])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["lenet", "lstm", "encoder", "all"], default="all")
    parser.add_argument("--calls", type=int, default=200)
    args = parser.parse_args()

    for name in ["lenet", "lstm", "encoder"] if args.model == "all" else [args.model]:
        paddle.seed(0)
        model, x = build(name)
        model.eval()
        with paddle.no_grad():
            for _ in range(args.calls):
                output = model(x)
        if name == "lstm":
            output, _ = output
        print(f"{name}: output {list(output.shape)}, largest value {float(output.max()):.1f}")


if __name__ == "__main__":
    main()
