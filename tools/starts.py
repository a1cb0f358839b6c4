"""What a start costs, by part: a process that has to convert (cold), and later ones that find it in the store (warm).

For each model and engine ``autohybrid profile`` makes a plan once. Then fresh processes apply it, the first with an
empty store, and measure the seconds of each part:

- import: Paddle and autohybrid
- apply: reading the plan and putting the regions in place
- key: telling by content what would be converted (source, structure, weights)
- find: looking it up in the store, and checking the files
- make: converting, with one run; or opening what was found, which for the predictor is ``create_predictor``
- rest: the remainder of the first call: cold, eager's own answer and the comparison with it; warm, the first run

``first result`` is from ``apply`` to the first answer, all parts but the import. Warm numbers are medians.

Usage: python tools/starts.py [--models NAME,...] [--engines NAME,...] [--repeats N] [-o FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from tabulate import tabulate

PARTS = ("import", "apply", "key", "find", "make", "rest", "first result")
BUDGET = 20
"""Seconds for the profile that makes a plan."""

MORE_CALLS = 3

MODELS = {
    "mobilenet_v3": "paddle.vision.models.mobilenet_v3_large(), (paddle.randn([1, 3, 224, 224]),)",
    "mobilenet_v2": "paddle.vision.models.mobilenet_v2(), (paddle.randn([1, 3, 224, 224]),)",
    "resnet50": "paddle.vision.models.resnet50(), (paddle.randn([1, 3, 224, 224]),)",
    "resnet18": "paddle.vision.models.resnet18(), (paddle.randn([1, 3, 224, 224]),)",
    "encoder 6x256": "paddle.nn.TransformerEncoder(paddle.nn.TransformerEncoderLayer(256, 4, 1024), 6), "
    "(paddle.randn([1, 64, 256]),)",
}

_BUILT = """
import paddle
paddle.seed(0)
model, inputs = {expression}
model.eval()
"""

_CALLED = """
with paddle.no_grad():
    for _ in range(10):
        model(*inputs)
"""


def made_plan(expression: str, engine: str, directory: Path) -> Path | None:
    """The plan that a search with this engine only comes to; None when it recommends nothing.

    ``predictor:pdmodel`` is the predictor's plan with that option put in by hand.
    """
    engine, _, program = engine.partition(":")
    script, plan = directory / "script.py", directory / "plan.json"
    script.write_text(_BUILT.format(expression=expression) + _CALLED)
    command = [
        sys.executable,
        "-m",
        "autohybrid",
        "profile",
        "--engine",
        engine,
        "--threads",
        "1",
        "--budget",
        str(BUDGET),
    ]
    ended = subprocess.run([*command, "-o", str(plan), str(script)], capture_output=True, text=True, check=False)
    if ended.returncode != 0 or not plan.exists():
        raise SystemExit(f"no plan for {expression} with {engine}:\n{ended.stderr[-2000:]}")
    found = json.loads(plan.read_text())
    if program:
        for region in [region for model in found["models"] for region in model["regions"]]:
            region["options"]["program"] = program
        plan.write_text(json.dumps(found))
    return plan if any(model["regions"] for model in found["models"]) else None


def start(expression: str, plan: Path, cache: Path) -> dict[str, float]:
    """The parts of one start, in a fresh process."""
    command = [sys.executable, __file__, "--start", expression, str(plan)]
    environment = {**os.environ, "AUTOHYBRID_CACHE": str(cache)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode != 0:
        raise SystemExit(f"{expression} didn't start:\n{ended.stderr[-2000:]}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def measured_here(expression: str, plan: str) -> dict[str, float]:
    """Builds, applies, calls once, in this process."""
    clock = time.perf_counter
    spent = dict.fromkeys(PARTS, 0.0)
    began = clock()
    import autohybrid
    from autohybrid import engines
    from autohybrid.runtime import identity, variant
    from autohybrid.store import Store

    spent["import"] = clock() - began
    scope: dict[str, Any] = {}
    exec(_BUILT.format(expression=expression), scope)
    model, inputs, paddle = scope["model"], scope["inputs"], scope["paddle"]
    engine: Any = engines.by_name(json.loads(Path(plan).read_text())["models"][0]["regions"][0]["engine"])

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += clock() - began

        return called

    with (
        mock.patch.object(variant, "key_of", timed("key", identity.key_of)),
        mock.patch.object(Store, "find", timed("find", Store.find)),
        mock.patch.object(engine, "convert", timed("make", engine.convert)),
        mock.patch.object(engine, "open", timed("make", engine.open)),
        paddle.no_grad(),
    ):
        began = clock()
        autohybrid.apply(model, plan)
        spent["apply"] = clock() - began
        model(*inputs)
        spent["first result"] = clock() - began
        # What comes after isn't measured: a conversion that is proven is written down so for later processes.
        for _ in range(MORE_CALLS):
            model(*inputs)
    spent["rest"] = spent["first result"] - sum(spent[part] for part in ("apply", "key", "find", "make"))
    return spent


def row(name: str, engine: str, repeats: int) -> dict[str, Any]:
    """Cold and warm starts of one model with one engine."""
    with tempfile.TemporaryDirectory(prefix="autohybrid-") as place:
        plan = made_plan(MODELS[name], engine, Path(place))
        if plan is None:
            return {"model": name, "engine": engine, "cold": [], "warm": []}
        cold = [start(MODELS[name], plan, Path(place) / f"cache-{index}") for index in range(2)]
        warm = [start(MODELS[name], plan, Path(place) / "cache-0") for _ in range(repeats)]
    return {"model": name, "engine": engine, "cold": cold, "warm": warm}


def shown(found: list[dict[str, Any]]) -> str:
    """A table: for each model and engine a line for cold, and one for warm starts."""
    lines = []
    for each in found:
        medians = {
            kind: {part: statistics.median(sample[part] for sample in each[kind]) for part in PARTS}
            for kind in ("cold", "warm")
            if each[kind]
        }
        for kind, parts in medians.items():
            share = parts["first result"] / medians["cold"]["first result"]
            lines.append(
                [each["model"], each["engine"], kind, *(f"{parts[part]:.3f}" for part in PARTS), f"{share:.2f}"]
            )
        if not medians:
            lines.append([each["model"], each["engine"], "no gain", *[""] * (len(PARTS) + 1)])
    return tabulate(lines, headers=["model", "engine", "start", *PARTS, "of cold"], disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--engines", default="onnxruntime,openvino,predictor,predictor:pdmodel")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start:
        print(json.dumps(measured_here(*args.start)))
        return
    from autohybrid.search.session import environment

    found = []
    for name in args.models.split(","):
        for engine in args.engines.split(","):
            found.append(row(name, engine, args.repeats))
            print(shown(found[-1:]), flush=True)
    machine = environment()
    print(shown(found))
    print(f"Seconds; {args.repeats} warm and 2 cold starts each; {machine.processor}, {machine.cores} cores.")
    if args.output:
        import msgspec

        content = {"environment": msgspec.to_builtins(machine), "budget": BUDGET, "starts": found}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
