"""An autoencoder that is used through its methods; only ``reconstruct`` calls the model itself."""

import paddle
import paddle.nn.functional as F
from paddle import nn

WIDTH = 24


class Block(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2D(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2D(WIDTH)

    def forward(self, x):
        return F.silu(self.norm(self.conv(x)))


class Autoencoder(nn.Layer):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2D(3, WIDTH, 3, padding=1), *[Block() for _ in range(4)])
        self.decoder = nn.Sequential(*[Block() for _ in range(4)], nn.Conv2D(WIDTH, 3, 3, padding=1))

    def encode(self, image, scale=1.0):
        return {"latent": self.encoder(image) * scale}

    def decode(self, latent):
        return (self.upwards(latent),)

    def upwards(self, latent):
        return self.decoder(latent)

    def forward(self, image):
        return self.decode(self.encode(image)["latent"])[0]

    def reconstruct(self, image):
        return self(image)


if __name__ == "__main__":
    paddle.seed(0)
    model = Autoencoder()
    model.eval()
    with paddle.no_grad():
        for _ in range(6):
            latent = model.encode(paddle.randn([1, 3, 40, 40]), scale=2.0)["latent"]
            (image,) = model.decode(latent)
            print(round(float(image.mean()), 3))
