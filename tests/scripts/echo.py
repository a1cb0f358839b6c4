"""Says all that a script can see of how it was started, and calls a model."""

import json
import os
import sys

import neighbour  # from the script's own directory
import paddle

seen = {
    "argv": sys.argv,
    "name": __name__,
    "file": __file__,
    "doc": __doc__,
    "package": __package__,
    "cwd": os.getcwd(),
    "path": sys.path[0],
    "terminal": [sys.stdin.isatty(), sys.stdout.isatty()],
    "main": sys.modules["__main__"].__dict__ is globals(),
    "neighbour": neighbour.NAME,
    "annotations": __annotations__,
}
print(json.dumps(seen))
if not sys.stdin.isatty():
    print("stdin:", sys.stdin.read())
model = paddle.nn.Linear(4, 4)
model.eval()
with paddle.no_grad():
    for _ in range(6):
        answer = model(paddle.ones([2, 4]))
print("answer:", answer.shape)
print("written to stdout without a newline", end="", flush=True)
if "--exit" in sys.argv:
    code = sys.argv[-1]
    sys.exit(int(code) if code.lstrip("-").isdigit() else code)
