"""A DiT-like denoiser: its loop over joint-attention blocks is convertible, the forward around the loop is not."""

import argparse

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class Attention(nn.Layer):
    """Attention over the tokens of both streams together."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.qkv_x, self.qkv_y = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.out_x, self.out_y = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        batch, n_x, width = x.shape
        n_y = y.shape[1]
        qkv = paddle.concat([self.qkv_x(x), self.qkv_y(y)], axis=1)
        qkv = qkv.reshape([batch, n_x + n_y, 3, self.heads, self.head_width]).transpose([2, 0, 3, 1, 4])
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = paddle.matmul(q, k, transpose_y=True) * self.head_width**-0.5 + mask
        joint = paddle.matmul(F.softmax(scores, axis=-1), v)
        joint = joint.transpose([0, 2, 1, 3]).reshape([batch, n_x + n_y, width])
        return self.out_x(joint[:, :n_x]), self.out_y(joint[:, n_x:])


class JointBlock(nn.Layer):
    """One block on the image tokens x and the text tokens y, both modulated by the condition c."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation_x = nn.Sequential(nn.Silu(), nn.Linear(width, 6 * width))
        self.modulation_y = nn.Sequential(nn.Silu(), nn.Linear(width, 6 * width))
        self.norm1_x, self.norm1_y = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2_x, self.norm2_y = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp_x = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_y = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, y: Tensor, c: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        shift1_x, scale1_x, gate1_x, shift2_x, scale2_x, gate2_x = self.modulation_x(c).chunk(6, axis=-1)
        shift1_y, scale1_y, gate1_y, shift2_y, scale2_y, gate2_y = self.modulation_y(c).chunk(6, axis=-1)
        attended_x, attended_y = self.attention(
            self.norm1_x(x) * (1 + scale1_x) + shift1_x, self.norm1_y(y) * (1 + scale1_y) + shift1_y, mask
        )
        x = x + gate1_x * attended_x
        y = y + gate1_y * attended_y
        x = x + gate2_x * self.mlp_x(self.norm2_x(x) * (1 + scale2_x) + shift2_x)
        y = y + gate2_y * self.mlp_y(self.norm2_y(y) * (1 + scale2_y) + shift2_y)
        return x, y


class Denoiser(nn.Layer):
    def __init__(self, width: int, depth: int, channels: int) -> None:
        super().__init__()
        self.embed_x, self.embed_y = nn.Linear(channels, width), nn.Linear(channels, width)
        self.embed_time = nn.Sequential(nn.Linear(1, width), nn.Silu(), nn.Linear(width, width))
        self.blocks = nn.LayerList([JointBlock(width, heads=6) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, channels)

    def forward(self, latent: Tensor, text: Tensor, time: Tensor, mask: Tensor, mode: str = "full") -> Tensor:
        x = self.embed_x(latent)
        if mode == "skip" or time.numpy().max() < 0.05:  # a cheap step, or hardly any noise left: no blocks
            return self.head(self.norm(x))
        y = self.embed_y(text)
        c = self.embed_time(time).unsqueeze(1)
        for block in self.blocks:
            x, y = block(x, y, c, mask)
        return self.head(self.norm(x))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=384, help="a multiple of 6")
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--calls", type=int, default=20)
    args = parser.parse_args()

    paddle.seed(0)
    model = Denoiser(args.width, args.depth, channels=16)
    model.eval()
    latent, text = paddle.randn([1, 128, 16]), paddle.randn([1, 32, 16])
    mask = paddle.zeros([1, 1, 1, 128 + 32])
    mask[:, :, :, -8:] = -1e9  # the text is 24 tokens long, the rest is padding

    with paddle.no_grad():
        for step in range(args.calls):
            time = paddle.full([1, 1], 1 - step / args.calls)
            noise = model(latent, text, time, mask, mode="skip" if step % 4 == 3 else "full")
            latent = latent - noise / args.calls
    print(f"latent mean {float(latent.mean()):.2f}, mean of squares {float((latent**2).mean()):.1f}")
