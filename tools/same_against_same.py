"""Eager against eager: how often the statistics say ``same``, as they should, and ``faster``, as they must not.

Real models, each measured against itself as trials measure eager against hybrid: by the same code, in a forked child
for each run. Ends with exit code 1 when a model was called ``faster`` more than once in 100 runs, or ``same`` in less
than 95.

Usage: python tools/same_against_same.py [--runs 100] [--seconds 30] [--model NAME]... [--samples FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import paddle
from paddle import nn
from paddle.vision import models
from tabulate import tabulate

from autohybrid import device
from autohybrid.device import clock
from autohybrid.isolation import Finished, Forked
from autohybrid.plan import Samples
from autohybrid.search import sampling
from autohybrid.search.options import DEFAULT_MIN_GAIN
from autohybrid.stats import DEFAULT_CONFIDENCE, median, neighbours_alike


def encoder() -> nn.Layer:
    """A small transformer encoder."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(96, 4, 384, dropout=0.0), 4)


MODELS: dict[str, tuple[Callable[[], nn.Layer], list[int]]] = {
    "resnet18": (models.resnet18, [1, 3, 112, 112]),
    "encoder": (encoder, [1, 32, 96]),
    "lstm": (lambda: nn.LSTM(64, 64), [1, 24, 64]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One comparison of a model with itself."""

    samples: Samples
    seconds: float

    @property
    def verdict(self) -> str:
        return self.samples.comparison().verdict(DEFAULT_MIN_GAIN)

    @property
    def alike(self) -> float:
        """How much neighbours resemble one another, see :func:`autohybrid.stats.neighbours_alike`."""
        return neighbours_alike(np.asarray(self.samples.eager) / np.asarray(self.samples.hybrid))


def runs_of(name: str, number: int, seconds: float) -> list[Run]:
    """So many comparisons of a model with itself, each in a child of its own."""
    paddle.seed(0)
    build, shape = MODELS[name]
    model, x = build(), paddle.rand(shape)
    model.eval()

    def measured() -> Samples:
        def one() -> object:
            return model(x)

        def other() -> object:
            return model(x)

        with paddle.no_grad():
            return sampling.in_turn(one, other, min_gain=DEFAULT_MIN_GAIN, seconds=seconds)

    made = []
    for at in range(number):
        started = clock()
        result = Forked().run(measured, seconds=120.0, memory=device.available_memory())
        assert isinstance(result, Finished), result
        made.append(Run(samples=msgspec.convert(result.value, Samples), seconds=clock() - started))
        print(f"\r{name}: {at + 1} of {number}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return made


def row_of(name: str, runs: list[Run]) -> list[str]:
    """One line of the table."""
    verdicts = Counter(run.verdict for run in runs)
    pairs = sorted(len(run.samples.eager) for run in runs)
    spread = sorted(run.samples.comparison().speedup for run in runs)
    return [
        name,
        f"{median([seconds for run in runs for seconds in run.samples.eager]) * 1e3:.2f}",
        *(str(verdicts[verdict]) for verdict in ("same", "inconclusive", "slower", "faster")),
        f"{pairs[len(pairs) // 2]} ({pairs[-1]})",
        f"{median([run.seconds for run in runs]):.1f} ({max(run.seconds for run in runs):.1f})",
        f"{spread[0]:.3f} to {spread[-1]:.3f}",
        f"{np.mean([run.alike for run in runs]):.2f}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--model", action="append", choices=list(MODELS), help="only this one; repeatable")
    parser.add_argument("--seconds", type=float, default=30.0, help="for a run at most, like a patient trial (30)")
    parser.add_argument("--samples", type=Path, help="keep all samples there, as JSON")
    options = parser.parse_args()
    found = {name: runs_of(name, options.runs, options.seconds) for name in options.model or MODELS}
    if options.samples is not None:
        kept = {name: [msgspec.to_builtins(run.samples) for run in runs] for name, runs in found.items()}
        options.samples.write_text(json.dumps(kept), encoding="utf-8")
    print(
        f"{device.cpu_model()}, {device.usable_cores()} cores, load {os.getloadavg()[2]:.1f} over 15 minutes, Paddle "
        f"{paddle.__version__}, {DEFAULT_CONFIDENCE:.0%} confidence, min_gain {DEFAULT_MIN_GAIN}, "
        f"{options.runs} runs of at most {options.seconds:.0f} s"
    )
    headers = ["model", "ms", "same", "open", "slower", "faster", "pairs", "seconds", "medians", "alike"]
    table = [row_of(name, runs) for name, runs in found.items()]
    print(tabulate(table, headers, disable_numparse=True, colalign=["left", *["right"] * 9]))
    print("pairs, seconds: of the run in the middle (of the longest); alike: neighbouring pairs, on average")
    counts = {name: Counter(run.verdict for run in runs) for name, runs in found.items()}
    fine = all(each["faster"] <= 0.01 * options.runs <= 0.95 * options.runs <= each["same"] for each in counts.values())
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
