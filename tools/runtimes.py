"""What it costs that several runtimes have threads in one process, and which settings help.

One model, whose parts are regions of the three CPU engines with eager operators between them, is called with different
settings: math threads of eager and of the regions, whether ONNX Runtime's idle threads spin, whether OpenVINO's are
pinned, and what Intel's OpenMP, which Paddle and its math library run on, is told about waiting. Each setting has a
process of its own; all are alive at once, one works at a time, and samples are taken in turn, in another order in each
round. A ratio is the median over the rounds of the first row's seconds by this row's of the same round.

The quickest call of all is what a machine with nothing else to do comes to; medians are of this machine as it was.

Usage: python tools/runtimes.py [--engines NAME,...] [--threads N ...] [--width N] [--rounds N] [--seconds S] [-o FILE]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from autohybrid import device

ENGINES = ("predictor", "onnxruntime", "openvino")

SETTLING = 0.25
"""Seconds between samples: Intel's OpenMP has idle threads wait busily for 0.2 s, which the next row would pay for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A row: the environment of its process, and what its regions are told. No engine: all is eager.

    ``options`` are those of each engine besides ``threads``.
    """

    name: str
    eager: int
    regions: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name}, {self.eager}/{self.regions or '-'}"


def settings_for(threads: int) -> list[Setting]:
    """What is tried with so many threads for the regions; eager's own come from OMP_NUM_THREADS."""
    made = [Setting(name="eager", eager=threads)]
    if threads > 1:
        made.append(Setting(name="regions", eager=1, regions=threads))
    both = functools.partial(Setting, eager=threads, regions=threads)
    made += [
        both(name="regions"),
        both(name="spinning", options={"onnxruntime": {"spinning": True}}),
        both(name="pinning", options={"openvino": {"pinning": True}}),
        both(name="no pinning", options={"openvino": {"pinning": False}}),
    ]
    if threads > 1:
        made += [
            both(name="KMP_BLOCKTIME=0", environment={"KMP_BLOCKTIME": "0"}),
            both(name="KMP_BLOCKTIME=1", environment={"KMP_BLOCKTIME": "1"}),
            both(name="OMP_WAIT_POLICY=PASSIVE", environment={"OMP_WAIT_POLICY": "PASSIVE"}),
            both(name="OMP_WAIT_POLICY=ACTIVE", environment={"OMP_WAIT_POLICY": "ACTIVE"}),
            Setting(name="eager, KMP_BLOCKTIME=0", eager=threads, environment={"KMP_BLOCKTIME": "0"}),
        ]
    return made


class Worker:
    """A setting's process, and the seconds of its calls."""

    def __init__(self, setting: Setting, engines: list[str], width: int) -> None:
        self.setting = setting
        self.samples: list[float] = []
        self.quickest = float("inf")
        said = json.dumps({"setting": asdict(setting), "engines": engines, "width": width})
        # No store: what is kept with one setting must not be found by another.
        environment = {**os.environ, "AUTOHYBRID_CACHE": "off"}
        environment.pop("OMP_NUM_THREADS", None)  # Paddle's own 1: a number of the user's would limit the regions too
        if setting.eager > 1:
            environment["OMP_NUM_THREADS"] = str(setting.eager)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", said],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**environment, **setting.environment},
        )

    def sample(self, seconds: float) -> None:
        """Seconds of a call: the median over about so many seconds, and the least."""
        middle, least = self.asked(seconds)
        self.samples.append(middle)
        self.quickest = min(self.quickest, least)

    def asked(self, seconds: float) -> list[float]:
        """What the process says after calling its model for so many seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{self.setting.label} ended:\n{self._log.read()[-2000:]}")
        return [float(word) for word in line.split()]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def measured(settings: list[Setting], engines: list[str], width: int, rounds: int, seconds: float) -> list[Worker]:
    """Every setting, sampled in turn."""
    workers = []
    try:
        for setting in settings:
            print(f"  {setting.label}", file=sys.stderr, flush=True)
            workers.append(Worker(setting, engines, width))
            workers[-1].asked(0.0)
        order = list(workers)
        for _ in range(rounds):
            random.shuffle(order)
            for worker in order:
                time.sleep(SETTLING)
                worker.sample(seconds)
    finally:
        for worker in workers:
            worker.close()
    return workers


def model_with(engines: list[str], width: int) -> tuple[Any, Any, list[Any]]:
    """A model with a part for each engine and eager operators after each, its input, and the parts."""
    import paddle
    from paddle import nn

    class Convolutions(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*(nn.Conv2D(width // 16, width // 16, 3, padding=1) for _ in range(4)))

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.layers(x.reshape([1, width // 16, 56, 56]))).reshape(x.shape)

    class Mixed(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            made: list[Any] = [Convolutions, *[functools.partial(nn.TransformerEncoderLayer, width, 8, 2 * width)] * 2]
            self.parts = nn.LayerList([made[index % len(made)]() for index in range(2 * len(engines))])
            self.eager = nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            for part in self.parts:
                x = part(x)
                # Operators of Paddle's own and of its math library, both with OpenMP's threads.
                x = nn.functional.softmax(self.eager(x) + x.cumsum(axis=1) * 1e-3, axis=-1) * 20.0
            return x

    paddle.seed(0)
    model = Mixed()
    model.eval()
    x = paddle.randn([1, 196, width])
    return model, x, list(model.parts)


def serve(setting: Setting, names: list[str], width: int) -> None:
    """In a worker: puts the regions in place, and times calls for as long as it is asked."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import paddle

    model, x, parts = model_with(names, width)
    with paddle.no_grad():
        expected = model(x)
        regions = _placed(parts, names, setting) if setting.regions else []
        for _ in range(4):
            answer = model(x)
        assert all(region.hybrid_calls for region in regions), [region.eager_calls for region in regions]
        assert bool(paddle.allclose(answer, expected, rtol=1e-2, atol=1e-3)), "another answer"
        for line in sys.stdin:
            ends = time.perf_counter() + float(line)
            found: list[float] = []
            while not found or time.perf_counter() < ends:
                started = time.perf_counter()
                model(x)
                found.append(time.perf_counter() - started)
            channel.write(f"{statistics.median(found)} {min(found)}\n")


def _placed(parts: list[Any], names: list[str], setting: Setting) -> list[Any]:
    from autohybrid import engines
    from autohybrid.runtime.equality import Tolerance
    from autohybrid.runtime.policies import Policies
    from autohybrid.runtime.region import Region
    from autohybrid.runtime.variant import Recipe

    made = []
    for index, part in enumerate(parts):
        name = names[index % len(names)]
        recipe = Recipe(
            layer=part,
            function=part.forward,
            engine=engines.by_name(name),
            options={"threads": setting.regions, **setting.options.get(name, {})},
            tolerance=Tolerance(),
            proofs=2,
            store=None,
        )
        policies = Policies(on_miss="convert", isolation="none")
        part.__dict__["forward"] = Region(path=str(index), recipe=recipe, admitted=None, policies=policies)
        made.append(part.forward)
    return made


def table(workers: list[Worker]) -> str:
    """A line a setting."""
    first = workers[0]
    rows = []
    for worker in workers:
        ratios = [one / other for one, other in zip(first.samples, worker.samples, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        name, at = worker.setting.name, f"{worker.setting.eager}/{worker.setting.regions or '-'}"
        middle = f"{statistics.median(worker.samples) * 1e3:.2f}"
        quickest = [f"{worker.quickest * 1e3:.2f}", f"{first.quickest / worker.quickest:.2f}"]
        rows.append([name, at, middle, f"{statistics.median(ratios):.2f}", f"{low:.2f} to {high:.2f}", *quickest])
    headers = ["setting", "eager/regions", "ms", "speed", "half of the ratios", "quickest ms", "speed"]
    aligned = ("left", "left", *("right",) * 5)
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=aligned)


def main() -> None:
    """Measures what was asked for, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default=",".join(ENGINES), metavar="NAME,...")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, device.usable_cores()}))
    parser.add_argument("--width", type=int, default=256, help="of the model, a multiple of 16")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each sample")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        said = json.loads(options.worker)
        serve(Setting(**said["setting"]), said["engines"], said["width"])
        return
    engines = options.engines.split(",")
    settings = [each for count in options.threads for each in settings_for(count)]
    load = os.getloadavg()
    workers = measured(settings, engines, options.width, options.rounds, options.seconds)
    where = {"processor": device.cpu_model(), "cores": device.usable_cores(), "load": [load, os.getloadavg()]}
    if options.output is not None:
        rows = [
            {**asdict(worker.setting), "samples": worker.samples, "quickest": worker.quickest} for worker in workers
        ]
        content = {"environment": where, "engines": engines, "width": options.width, "rows": rows}
        options.output.write_text(json.dumps(content, indent=1))
    print(f"{', '.join(engines)} on {where['processor']}, {where['cores']} cores; {options.rounds} rounds\n")
    print(table(workers))


if __name__ == "__main__":
    main()
