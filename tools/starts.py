"""What a start costs, by part: a process that has to convert (cold), and later ones that find it in the store (warm).

For each model and engine ``autohybrid profile`` makes a plan once. Then fresh processes apply it, the first with an
empty store, and measure the seconds of each part:

- import: Paddle
- apply: importing autohybrid, reading the plan and putting the regions in place
- key: telling by content what would be converted (source, structure, weights)
- find: looking it up in the store, and checking the files
- open: opening what was found, which for the predictor is ``create_predictor``; cold, converting, with one run
- first run: of what was opened; cold, it is in the part before
- rest: the remainder of the first call; cold, mostly eager's own answer and the comparison with it

``first result`` is from ``apply`` to the first answer, all parts but the import. ``traces`` and ``exports`` count
``paddle.jit.to_static`` and ``paddle.jit.save`` until then.

``bare`` is a process like the warm one without autohybrid: it imports Paddle, builds the model, and opens the stored
program through ``paddle.inference`` with the same settings; its ``open`` and ``first run`` are ``create_predictor`` and
one run. ``over bare`` is what a warm first result takes of that, the median of the ratios of neighbours. Engines that
keep what they have optimised are held against the cold start instead (``of cold``).

Usage: python tools/starts.py [--models NAME,...] [--engines NAME,...] [--repeats N] [-o FILE]
"""

from __future__ import annotations

import argparse
import compileall
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

PARTS = ("import", "apply", "key", "find", "open", "first run", "rest", "first result")
COUNTED = ("traces", "exports")
BUDGET = 20
"""Seconds for the profile that makes a plan."""

COLD_STARTS = 2
MORE_CALLS = 3

MODELS = {
    "resnet18": "paddle.vision.models.resnet18(), (paddle.randn([1, 3, 224, 224]),)",
    "resnet50": "paddle.vision.models.resnet50(), (paddle.randn([1, 3, 224, 224]),)",
    "mobilenet_v2": "paddle.vision.models.mobilenet_v2(), (paddle.randn([1, 3, 224, 224]),)",
    "mobilenet_v3": "paddle.vision.models.mobilenet_v3_large(), (paddle.randn([1, 3, 224, 224]),)",
    "encoder 6x256": "paddle.nn.TransformerEncoder(paddle.nn.TransformerEncoderLayer(256, 4, 1024), 6), "
    "(paddle.randn([1, 64, 256]),)",
}

ENGINES = ("predictor", "predictor:pdmodel", "onnxruntime", "openvino")
"""``predictor:pdmodel`` is the predictor's plan with its option ``program`` put in."""

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

_BARE = """
import json, sys, time
from paddle import inference
program, wanted = sys.argv[1], json.loads(sys.argv[2])
began = time.perf_counter()
config = inference.Config(program, program.rpartition(".")[0] + ".pdiparams")
config.disable_glog_info()
config.disable_gpu()
config.enable_memory_optim(False)
config.switch_ir_optim(wanted["ir_optim"])
config.set_cpu_math_library_num_threads(wanted["threads"])
kind = "onednn" if hasattr(config, "enable_onednn") else "mkldnn"
getattr(config, ("enable_" if wanted["onednn"] else "disable_") + kind)()
for name in wanted["deleted_passes"]:
    config.delete_pass(name)
predictor = inference.create_predictor(config)
opened = time.perf_counter()
with paddle.no_grad():
    predictor.run(list(inputs))
print(json.dumps({"open": opened - began, "first run": time.perf_counter() - opened}))
"""


class NoStart(Exception):
    """A plan can't be made or applied; says why."""


def made_plan(expression: str, engine: str, directory: Path) -> Path | None:
    """The plan that a search with this engine only comes to; None when it recommends nothing."""
    engine, _, program = engine.partition(":")
    script, plan = directory / "script.py", directory / "plan.json"
    script.write_text(_BUILT.format(expression=expression) + _CALLED)
    command = [sys.executable, "-m", "autohybrid", "profile", "--engine", engine, "--threads", "1"]
    ended = subprocess.run(
        [*command, "--budget", str(BUDGET), "-o", str(plan), str(script)],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    if ended.returncode != 0 or not plan.exists():
        raise NoStart(f"no plan: {_last_line(ended.stderr)}")
    found = json.loads(plan.read_text())
    if program:
        for region in [region for model in found["models"] for region in model["regions"]]:
            region["options"]["program"] = program
        plan.write_text(json.dumps(found))
    return plan if any(model["regions"] for model in found["models"]) else None


def start(expression: str, plan: Path, cache: Path) -> dict[str, float]:
    """The parts of one start, in a fresh process, and what it counted.

    Raises:
        NoStart: the plan's regions stay eager; or the process failed.
    """
    command = [sys.executable, __file__, "--start", expression, str(plan)]
    environment = {**_environment(), "AUTOHYBRID_CACHE": str(cache)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode != 0:
        raise NoStart(_last_line(ended.stderr))
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def bare(expression: str, plan: Path, cache: Path) -> dict[str, float] | None:
    """``create_predictor`` and one run of the stored program, in a fresh process without autohybrid.

    None where the plan has anything but the predictor for the whole model.
    """
    (region, *others), *models = [model["regions"] for model in json.loads(plan.read_text())["models"]]
    programs = [
        each
        for each in cache.glob("v*/*/*/infer.*")
        if each.suffix in (".json", ".pdmodel") and each.with_suffix(".pdiparams").exists()
    ]
    whole = not others and not models and region["path"] == "" and region["kind"] == "layer"
    if not whole or region["engine"] != "predictor" or len(programs) != 1:
        return None
    from autohybrid.engines.predictor import DELETED_PASSES

    options = region["options"]
    wanted = {
        "ir_optim": options.get("ir_optim", True) and options.get("program") != "pdmodel",
        "onednn": options.get("onednn", True),
        "threads": options.get("threads", int(os.environ.get("OMP_NUM_THREADS", "1"))),
        "deleted_passes": [*DELETED_PASSES, *options.get("deleted_passes", ())],
    }
    command = [sys.executable, "-c", _BUILT.format(expression=expression) + _BARE, str(programs[0]), json.dumps(wanted)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if ended.returncode != 0:
        raise NoStart(f"bare: {_last_line(ended.stderr)}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return {**found, "first result": sum(found.values())}


def _environment() -> dict[str, str]:
    # As installed, modules are there compiled.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def measured_here(expression: str, plan: str) -> dict[str, float]:
    """Builds, applies, calls once, in this process."""
    clock = time.perf_counter
    spent = dict.fromkeys((*PARTS, *COUNTED), 0.0)
    began = clock()
    import paddle

    spent["import"] = clock() - began
    scope: dict[str, Any] = {}
    exec(_BUILT.format(expression=expression), scope)
    model, inputs = scope["model"], scope["inputs"]

    def timed(part: str, owner: Any, name: str) -> Any:
        function = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += clock() - began

        return mock.patch.object(owner, name, called)

    def counting(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            spent[what] += 1
            return function(*args, **kwargs)

        return called

    with (
        mock.patch.object(paddle.jit, "to_static", counting("traces", paddle.jit.to_static)),
        mock.patch.object(paddle.jit, "save", counting("exports", paddle.jit.save)),
        paddle.no_grad(),
    ):
        began = clock()
        import autohybrid

        autohybrid.apply(model, plan)
        spent["apply"] = clock() - began
        from autohybrid.runtime import variant
        from autohybrid.runtime.attach import regions_of
        from autohybrid.runtime.conversion import Conversion
        from autohybrid.store import Store

        (engine,) = {region.recipe.engine for region in regions_of(model)}
        with (
            timed("key", variant, "key_of"),
            timed("find", Store, "find"),
            timed("open", engine, "convert"),
            timed("open", engine, "open"),
            timed("first run", Conversion, "run_first"),
        ):
            began = clock()
            model(*inputs)
            spent["first result"] = spent["apply"] + clock() - began
        counts = {name: spent[name] for name in COUNTED}
        # What comes after isn't measured: a conversion that is proven is written down so for later processes.
        for _ in range(MORE_CALLS):
            model(*inputs)
    for region in autohybrid.status(model).regions:
        if not region.hybrid_calls:
            raise SystemExit(f"eager: {', '.join(region.reasons)}")
    spent["rest"] = spent["first result"] - sum(spent[part] for part in PARTS[1:-2])
    return {**spent, **counts}


def row(name: str, engine: str, repeats: int) -> dict[str, Any]:
    """Cold, warm and bare starts of one model with one engine; ``why`` where there are none."""
    found: dict[str, Any] = {"model": name, "engine": engine, "why": "", "cold": [], "warm": [], "bare": []}
    with tempfile.TemporaryDirectory(prefix="autohybrid-") as place:
        try:
            plan = made_plan(MODELS[name], engine, Path(place))
            if plan is None:
                return {**found, "why": "no gain"}
            cache = Path(place) / "cache-0"
            for index in range(COLD_STARTS):
                found["cold"].append(start(MODELS[name], plan, Path(place) / f"cache-{index}"))
            for _ in range(repeats):
                found["warm"].append(start(MODELS[name], plan, cache))
                beside = bare(MODELS[name], plan, cache)
                found["bare"] += [] if beside is None else [beside]
        except NoStart as error:
            return {**found, "why": str(error)}
    return found


def shown(found: list[dict[str, Any]]) -> str:
    """A table: for each model and engine a line for cold, one for warm and one for bare starts."""
    lines = []
    for each in found:
        if each["why"]:
            lines.append([each["model"], each["engine"], f"none: {each['why'][:60]}"])
            continue
        cold = _middle(each["cold"], "first result")
        pairs = zip(each["warm"], each["bare"], strict=False)
        over = [warm["first result"] / beside["first result"] for warm, beside in pairs]
        for kind in ("cold", "warm", "bare"):
            samples = each[kind]
            if samples:
                times = [f"{_middle(samples, part):.3f}" if part in samples[0] else "" for part in PARTS]
                counts = [
                    f"{max(each[name] for each in samples):.0f}" if name in samples[0] else "" for name in COUNTED
                ]
                of_cold = f"{_middle(samples, 'first result') / cold:.2f}"
                ratio = f"{statistics.median(over):.2f}" if kind == "warm" and over else ""
                lines.append([each["model"], each["engine"], kind, *times, *counts, of_cold, ratio])
    headers = ["model", "engine", "start", *PARTS, *COUNTED, "of cold", "over bare"]
    return tabulate(lines, headers=headers, disable_numparse=True)


def _middle(samples: list[dict[str, float]], part: str) -> float:
    return statistics.median(sample[part] for sample in samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start:
        print(json.dumps(measured_here(*args.start)))
        return
    import autohybrid
    from autohybrid.search.session import environment

    compileall.compile_dir(Path(autohybrid.__file__).parent, quiet=2)
    found = []
    for name in args.models.split(","):
        for engine in args.engines.split(","):
            found.append(row(name, engine, args.repeats))
            print(shown(found[-1:]), flush=True)
    machine = environment()
    print(shown(found))
    print(
        f"Seconds, medians of {args.repeats} warm and bare starts by turns and {COLD_STARTS} cold ones; "
        f"{machine.processor}, {machine.cores} cores."
    )
    if args.output:
        import msgspec

        content = {"environment": msgspec.to_builtins(machine), "budget": BUDGET, "starts": found}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
