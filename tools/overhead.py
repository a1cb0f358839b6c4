"""What a region costs a call besides the program: the guards, the key, the rebuilt answer.

Prints microseconds, the best of several runs: a call of ten Tensors, the quick check in it, and the full check that
follows where the quick one sees a change. Then each engine beside Paddle's wrapper, for 1, 10 and 50 small Tensors in
and as many out, with next to nothing computed: medians of the wrapper's calls and a region's, by turns in one run, and
then of the parts of the region's call. Nothing is called twice in a row: in a program, too, caches are cold when a
region is called.

python tools/overhead.py [--rounds 500] [-o overhead.json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import timeit
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import paddle
from paddle import nn

import autohybrid
from autohybrid import device, engines
from autohybrid.device import clock
from autohybrid.engines.silence import stdout_kept
from autohybrid.errors import ConversionError
from autohybrid.runtime.variant import Variant

RUNS = 7
CALLS = 2000
WARM = 20


class Wide(nn.Layer):  # type: ignore[misc]
    """Ten Tensors in, as many parameters as asked for, next to nothing computed."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.layers = nn.LayerList([nn.Linear(1, 1) for _ in range(parameters // 2)])

    def forward(self, *tensors: Any) -> Any:
        return self.layers[0](sum(tensors))


def best(call: Any, calls: int = CALLS) -> float:
    """Microseconds for one call, the least of several runs."""
    return min(timeit.repeat(call, number=calls, repeat=RUNS)) / calls * 1e6


def measure(parameters: int) -> None:
    """Prints one row."""
    model: Any = Wide(parameters)
    model.eval()
    autohybrid.inference(model)
    tensors = [paddle.ones([1, 1]) for _ in range(10)]
    with paddle.no_grad():
        for _ in range(4):
            model(*tensors)
        region = model.forward
        (variant,) = region.variants
        snapshot = region._snapshot
        outputs = variant.run(tensors)
        # A mock would cost more than what is measured.
        with mock.patch.object(Variant, "run", lambda self, inputs: outputs):  # noqa: PT008
            call = best(lambda: region(*tensors))
        full = best(lambda: snapshot.what_changed(type(snapshot).of(model)), calls=20)
    print(f"{parameters:>10}  {call:>12.1f}  {best(snapshot.looks_unchanged):>12.1f}  {full:>12.0f}")
    autohybrid.restore(model)


class Many(nn.Layer):  # type: ignore[misc]
    """Tensors in, as many out."""

    def forward(self, tensors: Any) -> Any:
        return [tensor * 2.0 for tensor in tensors]


def wrapper(tensors: list[Any]) -> Any:
    """A Layer within ``paddle.incubate.jit.inference``, ready to be called."""
    with (
        tempfile.TemporaryDirectory() as directory,
        stdout_kept(),
        contextlib.redirect_stdout(sys.stderr),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        wrapped = paddle.incubate.jit.inference(Many(), save_model_dir=directory)
        wrapped(tensors)
    return wrapped


def serving(model: Any, tensors: list[Any]) -> Any:
    """The region of ``model``, proven; raises where it stays eager."""
    for _ in range(6):
        model(tensors)
    region = model.forward
    (variant,) = region.variants
    if not region.hybrid_calls:
        raise ConversionError(variant.reason)
    return region


def parts_of(region: Any, tensors: list[Any]) -> dict[str, Callable[[], Any]]:
    """What a call of a region is made of."""
    (variant,) = region.variants
    outputs = variant.run(tensors)
    return {
        "guards": region._nothing_to_consider,
        "key": lambda: variant.takes((tensors,), {}),
        "engine": lambda: variant.executable.run(tensors),
        "answer": lambda: variant.answer.rebuild(outputs, tensors),
    }


def sampled(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, the calls in turn: none has warmer caches than another."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + WARM):
        for name, call in calls.items():
            started = clock()
            call()
            if number >= WARM:
                samples[name].append(clock() - started)
    return samples


def against_wrapper(name: str, count: int, rounds: int) -> dict[str, Any]:
    """One engine beside the wrapper, call by call: medians in microseconds, and the median of the paired ratios."""
    tensors = [paddle.randn([1, 4]) for _ in range(count)]
    wrapped = wrapper(tensors)
    model: Any = Many()
    model.eval()
    autohybrid.inference(model, engine=name, isolation="none")
    try:
        region = serving(model, tensors)
        samples = sampled({"wrapper": lambda: wrapped(tensors), "call": lambda: model(tensors)}, rounds)
        parts = sampled(parts_of(region, tensors), rounds)
    except ConversionError as error:
        return {"engine": name, "tensors": count, "reason": str(error)}
    finally:
        autohybrid.restore(model)
    ratios = [call / other for call, other in zip(samples["call"], samples["wrapper"], strict=True)]
    return {
        "engine": name,
        "tensors": count,
        "ratio": median(ratios),
        "median_us": {part: median(found) * 1e6 for part, found in {**samples, **parts}.items()},
        "samples": {**samples, **parts},
    }


def measure_engines(rounds: int) -> list[dict[str, Any]]:
    """Prints a row for each engine and number of Tensors."""
    columns = ("wrapper", "call", "guards", "key", "engine", "answer")
    print(
        f"\n{'engine':>12}  {'Tensors':>7}" + "".join([f"  {f'{name}, us':>11}" for name in columns]) + "  call/wrapper"
    )
    rows = []
    with paddle.no_grad():
        for count in (1, 10, 50):
            for name in engines.available():
                row = against_wrapper(name, count, rounds)
                rows.append(row)
                found = row.get("median_us", {})
                cells = "".join([f"  {found[each]:>11.1f}" for each in columns if each in found])
                print(
                    f"{name:>12}  {count:>7}{cells}  {row.get('reason') or format(row['ratio'], '>12.2f')}", flush=True
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500, help="calls of each kind beside the wrapper (500)")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file for the machine, the medians and all samples")
    options = parser.parse_args()
    print(f"{'parameters':>10}  {'a call, us':>12}  {'quick, us':>12}  {'full, us':>12}")
    for count in (10, 200, 2000):
        measure(count)
    rows = measure_engines(options.rounds)
    if options.output is not None:
        machine = {"processor": device.cpu_model(), "cores": device.usable_cores(), "paddle": paddle.__version__}
        options.output.write_text(json.dumps({"machine": machine, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
