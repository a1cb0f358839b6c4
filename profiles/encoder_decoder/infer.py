"""paddle.nn.Transformer, 4 + 4 layers of width 256, on 64 source and 32 target tokens."""

import argparse

import paddle
from paddle import nn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--calls", type=int, default=60)
args = parser.parse_args()

paddle.seed(0)
model = nn.Transformer(d_model=256, nhead=8, num_encoder_layers=4, num_decoder_layers=4, dim_feedforward=1024)
model.eval()
source = paddle.randn([args.batch, 64, 256])
target = paddle.randn([args.batch, 32, 256])
causal = model.generate_square_subsequent_mask(32)

with paddle.no_grad():
    for _ in range(args.calls):
        output = model(source, target, tgt_mask=causal)
print(f"output {list(output.shape)}, first value {float(output[0, 0, 0]):.1f}, largest {float(output.max()):.1f}")
