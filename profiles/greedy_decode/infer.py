"""Greedy decoding with paddle.nn.Transformer: the encoder runs once, the decoder step by step on growing caches."""

import argparse

import paddle
from paddle import Tensor, nn


class Translator(nn.Layer):
    def __init__(self, vocabulary: int, width: int, longest: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(longest, width)
        self.transformer = nn.Transformer(
            d_model=width, nhead=8, num_encoder_layers=4, num_decoder_layers=4, dim_feedforward=4 * width
        )
        self.project = nn.Linear(width, vocabulary)

    def forward(self, source: Tensor, length: int, start: int = 0) -> Tensor:
        positions = paddle.arange(source.shape[1])
        memory = self.transformer.encoder(self.embed(source) + self.position(positions))
        caches = self.transformer.decoder.gen_cache(memory)
        tokens = [paddle.full([source.shape[0], 1], start, dtype="int64")]
        for step in range(length):
            embedded = self.embed(tokens[-1]) + self.position(paddle.full([1], step, dtype="int64"))
            output, caches = self.transformer.decoder(embedded, memory, None, None, caches)
            tokens.append(self.project(output[:, -1:]).argmax(axis=-1))
        return paddle.concat(tokens[1:], axis=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=24, help="tokens to decode, at most 64")
    parser.add_argument("--calls", type=int, default=20)
    args = parser.parse_args()

    paddle.seed(6)
    model = Translator(vocabulary=1000, width=256, longest=64)
    model.eval()
    source = paddle.randint(0, 1000, [1, 64])
    with paddle.no_grad():
        for _ in range(args.calls):
            tokens = model(source, args.length)
    print("tokens", *tokens[0].tolist())
