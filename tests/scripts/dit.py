"""The DiT of ppdiffusers, in small, in a loop that takes noise away. Prints the mean square of what is left."""

import paddle
from ppdiffusers import Transformer2DModel


def main():
    paddle.seed(0)
    model = Transformer2DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=4,
        out_channels=8,
        num_layers=6,
        sample_size=16,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        attention_bias=True,
        activation_fn="gelu-approximate",
        norm_elementwise_affine=False,
    )
    model.eval()
    latent = paddle.randn([2, 4, 16, 16])
    labels = paddle.to_tensor([3, 7])
    with paddle.no_grad():
        for step in range(20):
            time = paddle.full([2], 1000 - 50 * step - 1, dtype="int64")
            noise = model(latent, timestep=time, class_labels=labels).sample[:, :4]
            latent = latent - 0.05 * noise
    print(f"mean square {float((latent**2).mean()):.6f}")


if __name__ == "__main__":
    main()
