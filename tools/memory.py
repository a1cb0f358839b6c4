"""What a region holds in memory, by engine and options, in multiples of the model's weights.

Each number comes from a fresh process, which calls the model until a conversion answers, has the C library give back
what was freed, and reads what the kernel counts: memory of its own (``RssAnon`` and ``RssShmem``), and pages of files
(``RssFile``), which the kernel may drop. For each engine there is a process with eager only, one with a region, and one
with ``release_weights``. What a search writes into the plan, measured in a forked child, stands beside.

- copies: what the process holds beyond eager's, divided by the weights, plus 1 for eager's own copy
- released: the same with ``release_weights``
- plan: the plan's ``extra_memory`` by the same measure

Usage: python tools/memory.py [--models NAME,...] [--engines NAME,...] [--repeats N] [-o FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

MODELS = {
    "resnet50": "paddle.vision.models.resnet50(), (paddle.randn([1, 3, 224, 224]),)",
    "encoder 12x384": "paddle.nn.TransformerEncoder(paddle.nn.TransformerEncoderLayer(384, 6, 1536), 12), "
    "(paddle.randn([1, 64, 384]),)",
}

ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "predictor": ("predictor", {}),
    "predictor onednn=False": ("predictor", {"onednn": False}),
    "onnxruntime": ("onnxruntime", {}),
    "onnxruntime arena=False": ("onnxruntime", {"arena": False}),
    "openvino": ("openvino", {}),
}

MODES = ("eager", "region", "released")
CALLS = 6
BUDGET = 20
"""Seconds for the profile whose plan is compared."""

_SCRIPT = """
import paddle
paddle.seed(0)
model, inputs = {expression}
model.eval()
with paddle.no_grad():
    for _ in range(12):
        model(*inputs)
"""


def measured(model: str, engine: str, mode: str, cache: Path) -> dict[str, Any]:
    """What one fresh process holds at the end."""
    command = [sys.executable, __file__, "--one", model, engine, mode]
    environment = {**os.environ, "AUTOHYBRID_CACHE": str(cache)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode != 0:
        raise SystemExit(f"{model} with {engine} ({mode}) failed:\n{ended.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def measured_here(name: str, kind: str, mode: str) -> dict[str, Any]:
    """Builds, converts, calls; then what this process holds, in bytes."""
    import paddle

    import autohybrid
    from autohybrid import device, engines
    from autohybrid.runtime.equality import Tolerance
    from autohybrid.runtime.policies import Policies
    from autohybrid.runtime.region import Region
    from autohybrid.runtime.variant import Recipe

    paddle.seed(0)
    model, inputs = eval(MODELS[name], {"paddle": paddle})
    model.eval()
    engine, options = ENGINES[kind]
    if mode != "eager":
        recipe = Recipe(
            layer=model,
            function=model.forward,
            engine=engines.by_name(engine),
            options=options,
            tolerance=Tolerance(),
            proofs=2,
        )
        policies = Policies(on_miss="convert", isolation="none", release_weights=mode == "released")
        model.__dict__["forward"] = Region(path=name, recipe=recipe, admitted=None, policies=policies)
    with paddle.no_grad():
        for _ in range(CALLS):
            model(*inputs)
    device.trim_memory()
    found = {
        "weights": sum(each.size * each.element_size() for each in model.state_dict().values()),
        "private": device.private_memory(),
        "file": device.resident_memory() - device.private_memory(),
    }
    (status,) = autohybrid.status(model).regions or (None,)
    if status is not None and (not status.hybrid_calls or (mode == "released") != bool(status.released_bytes)):
        raise SystemExit(str(autohybrid.status(model)))
    return found


def planned(model: str, kind: str, directory: Path) -> int | None:
    """The ``extra_memory`` of the whole model in the plan of a search with this engine only; None for none."""
    engine, options = ENGINES[kind]
    if options:
        return None
    script, plan = directory / "script.py", directory / "plan.json"
    script.write_text(_SCRIPT.format(expression=MODELS[model]))
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
        "--fresh",
    ]
    ended = subprocess.run([*command, "-o", str(plan), str(script)], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"no plan for {model} with {engine}:\n{ended.stderr[-2000:]}")
    regions = json.loads(plan.read_text())["models"][0]["regions"]
    whole = [each["extra_memory"] for each in regions if each["path"] == "" and each["kind"] == "layer"]
    plan.unlink()
    return whole[0] if whole else None


def row(model: str, kind: str, repeats: int) -> dict[str, Any]:
    """One model with one engine."""
    with tempfile.TemporaryDirectory(prefix="autohybrid-", dir=Path.home()) as place:
        cache = Path(place) / "cache"
        samples = {mode: [measured(model, kind, mode, cache) for _ in range(repeats)] for mode in MODES}
        extra = planned(model, kind, Path(place))
    return {"model": model, "engine": kind, "samples": samples, "plan": extra}


def shown(found: list[dict[str, Any]]) -> str:
    """A table with a line for each model and engine."""
    lines = []
    for each in found:
        samples = each["samples"]
        weights = samples["eager"][0]["weights"]

        def middle(mode: str, what: str, samples: Any = samples) -> float:
            return float(statistics.median(sample[what] for sample in samples[mode]))

        def copies(extra: float, weights: float = weights) -> str:
            return f"{1.0 + extra / weights:.2f}"

        eager, region, released = (middle(mode, "private") for mode in MODES)
        lines.append(
            [
                each["model"],
                each["engine"],
                f"{weights / 2**20:.1f}",
                f"{eager / 2**20:.0f}",
                f"{region / 2**20:.0f}",
                f"{released / 2**20:.0f}",
                copies(region - eager),
                copies(released - eager),
                "" if each["plan"] is None else copies(each["plan"]),
                f"{(middle('region', 'file') - middle('eager', 'file')) / 2**20:+.0f}",
            ]
        )
    headers = ["model", "engine", "weights", "eager", "region", "released", "copies", "released", "plan", "files"]
    return tabulate(lines, headers=headers, disable_numparse=True, colalign=("left", "left", *["right"] * 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured_here(*args.one)))
        return
    from autohybrid.search.session import environment

    found = []
    for model in args.models.split(","):
        for kind in args.engines.split(","):
            found.append(row(model, kind, args.repeats))
            print(shown(found[-1:]), flush=True)
    machine = environment()
    print(shown(found))
    print(f"MiB, medians of {args.repeats} processes; Paddle {machine.paddle}, {machine.processor}.")
    if args.output:
        import msgspec

        content = {"environment": msgspec.to_builtins(machine), "memory": found}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
