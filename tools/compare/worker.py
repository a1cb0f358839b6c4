"""One row on one workload, in a process of its own: prepares it, and then gives a sample whenever it is asked.

Reads a word a line from stdin, writes a line of JSON for each to what was stdout. ``prepare`` makes the model and the
way to run it; ``answers FILE`` writes what it computes for two inputs; ``sample SECONDS`` calls it for about that long
and gives the median of the seconds of a call.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from rows import ROWS
from workloads import WORKLOADS


def tensors_of(value: Any) -> Iterator[Any]:
    """The Tensors and arrays in an answer, in order."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_of(each)
    elif isinstance(value, dict):
        yield from tensors_of(list(value.values()))
    elif isinstance(value, (paddle.Tensor, np.ndarray)):
        yield np.asarray(value)


class Worker:
    """A model and a way to run it."""

    def __init__(self, workload: str, row: str, threads: int) -> None:
        self.workload, self.row, self.threads = WORKLOADS[workload], row, threads
        self.inputs: list[tuple[Any, ...]] = []
        self.call: Any = None

    def prepare(self) -> dict[str, Any]:
        started = time.perf_counter()
        paddle.seed(0)
        model = self.workload.build()
        model.eval()
        for seed in (1, 2):
            paddle.seed(seed)
            self.inputs.append(self.workload.inputs())
        self.call = ROWS[self.row](model, self.inputs[0], self.workload.by_hand, self.threads)
        for _ in range(6):
            for given in self.inputs:
                self.call(*given)
        assert "autohybrid" in self.row or "autohybrid" not in sys.modules
        return {"seconds": time.perf_counter() - started, "regions": self._regions(model)}

    def _regions(self, model: Any) -> list[str]:
        if "autohybrid" not in sys.modules:
            return []
        from autohybrid.runtime.attach import regions_of

        return [
            f"{region.name} by {region.recipe.engine.name} {region.recipe.options or ''}: {region.hybrid_calls} hybrid"
            for region in regions_of(model)
        ]

    def answers(self, file: str) -> dict[str, Any]:
        found = [array for given in self.inputs for array in tensors_of(self.call(*given))]
        np.savez(file, *found)
        return {}

    def sample(self, seconds: str) -> dict[str, Any]:
        given = self.inputs[0]
        found: list[float] = []
        # Other processes have had the caches in the meantime.
        self.call(*given)
        ends = (now := time.perf_counter()) + float(seconds)
        while not found or now < ends:
            started = now
            self.call(*given)
            now = time.perf_counter()
            found.append(now - started)
        # Of a call in which somebody else had the core a mean would tell more than of all others.
        return {"seconds": statistics.median(found)}


def main() -> None:
    """Answers until stdin ends."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    worker = Worker(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    with paddle.no_grad():
        for line in sys.stdin:
            word, *rest = line.split()
            try:
                answer = getattr(worker, word)(*rest)
            except BaseException as error:  # noqa: BLE001 - paddle2onnx exits on what it can't do
                print(traceback.format_exc(), file=sys.stderr)
                said = [part.strip() for part in str(error).splitlines() if part.strip()]
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{last.line} ({Path(last.filename).name}:{last.lineno})"
                answer = {"error": f"{type(error).__name__}: {said[-1] if said else where}"[:200]}
            channel.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
