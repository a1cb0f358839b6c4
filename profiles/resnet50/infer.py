"""ResNet-50 of paddle.vision on one 224 x 224 image: a model that is convertible as a whole."""

import argparse

import paddle
from paddle.vision.models import resnet50

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--calls", type=int, default=20)
args = parser.parse_args()

paddle.seed(0)
model = resnet50()
model.eval()
images = paddle.rand([args.batch, 3, 224, 224])

with paddle.no_grad():
    for _ in range(args.calls):
        logits = model(images)
print("top-1 class", *logits.argmax(axis=-1).tolist())
