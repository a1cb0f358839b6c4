"""A script as a user writes it, around a model of ``oracle_models.py``: python oracle_script.py NAME."""

import sys

import paddle
from oracle_models import WORKLOADS

model, inputs = WORKLOADS[sys.argv[1]].made()
with paddle.no_grad():
    for _ in range(60):
        answer = model(*inputs)
print(f"mean {float(answer.mean()):.6f}")
