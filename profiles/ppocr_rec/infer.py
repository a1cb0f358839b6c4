"""The text recogniser of PP-OCRv5 mobile (PaddleX, dygraph): NumPy images in, NumPy probabilities out.

Needs PaddleX: ``pip install paddlex==3.7.2``. The weights are random, nothing is downloaded.
"""

import argparse

import numpy as np
import paddle
from paddlex.inference.models.text_recognition.modeling import PPOCRV5MobileRec

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--calls", type=int, default=20, help="calls for each of the two widths")
args = parser.parse_args()

paddle.seed(0)
model = PPOCRV5MobileRec(PPOCRV5MobileRec.config_class())
model.eval()
random = np.random.default_rng(0)

for width in (320, 480):
    images = random.uniform(-1, 1, [args.batch, 3, 48, width]).astype(np.float32)
    with paddle.no_grad():
        for _ in range(args.calls):
            (probabilities,) = model([images])
    print(f"width {width}: output {list(probabilities.shape)}, first character {probabilities[0, 0].argmax()}")
