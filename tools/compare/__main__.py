"""Compares autohybrid with what a user would do instead: every row measured in one run, sample by sample in turn.

Each row has its own process with its own model; all of a workload's processes are alive at once and only one of them
works at a time. Rows get the same threads and the same inputs, Paddle Tensors in and out. A number is given only where
the answers to two inputs agree with eager's (1e-3 of each element or 1e-4 of the largest).

Usage: python tools/compare [--only WORKLOAD ...] [--rows ROW ...] [--threads N ...] [--rounds N] [--seconds S]
                            [-o FILE] [--resume] [--show FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rows import ROWS
from verdicts import OURS, speeds, verdicts
from workloads import WORKLOADS

HERE = Path(__file__).parent
SPINNING = 0.25
"""Seconds after which no idle thread of a row's is busy any more: Paddle's wait busily for 0.2 s (Intel's OpenMP), and
would take a core from whichever row is next."""

PREPARING = 400.0
"""Seconds after which a row is given up: it hangs, or takes longer to convert than anybody would wait."""


class Process:
    """A worker, and what became of it: ``problem`` says why it has no numbers, or is empty."""

    def __init__(self, workload: str, row: str, threads: int, scratch: Path) -> None:
        self.row, self.threads = row, threads
        self.problem = ""
        self.samples: list[float] = []
        self.prepared: dict[str, Any] = {}
        self._answers = scratch / f"{abs(hash((row, threads)))}.npz"
        self._log = (scratch / f"{abs(hash((row, threads)))}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), workload, row, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "AUTOHYBRID_CACHE": str(scratch / "cache")},
        )

    def prepare(self) -> None:
        self.prepared = self._asked("prepare", PREPARING)

    def answers(self) -> list[Any]:
        self._asked(f"answers {self._answers}", 60.0)
        if self.problem:
            return []
        with np.load(self._answers) as found:
            return [found[name] for name in found.files]

    def sample(self, seconds: float) -> None:
        answer = self._asked(f"sample {seconds}", 60.0)
        if answer:
            self.samples.append(answer["seconds"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _asked(self, word: str, patience: float) -> dict[str, Any]:
        if self.problem:
            return {}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
            if select.select([self._process.stdout], [], [], patience)[0]:
                line = self._process.stdout.readline()
            else:
                self.problem = f"can't: not done after {patience:.0f} s"
        except BrokenPipeError:
            pass
        if line:
            answer: dict[str, Any] = json.loads(line)
            self.problem = f"can't: {answer['error']}" if "error" in answer else ""
            return {} if self.problem else answer
        self.problem = self.problem or f"can't: the process ended with {self._ending()}"
        self.close()
        return {}

    def _ending(self) -> str:
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def difference(expected: list[Any], got: list[Any]) -> str:
    """In words, how answers differ; empty where they agree."""
    if len(expected) != len(got):
        return f"{len(got)} Tensors instead of {len(expected)}"
    for one, other in zip(expected, got, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"{other.dtype} {list(other.shape)} instead of {one.dtype} {list(one.shape)}"
        scale = float(np.abs(one).max(initial=0))
        if not np.allclose(one, other, rtol=1e-3, atol=1e-4 * scale):
            return f"differs by {float(np.abs(one - other).max()):.2g} of {scale:.2g}"
    return ""


def _prepared(process: Process) -> None:
    process.prepare()
    print(f"  {process.row}, {process.threads} threads: {process.problem or 'prepared'}", file=sys.stderr, flush=True)


def compared(workload: str, rows: list[str], threads: list[int], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """All rows of one workload, eager with one thread first."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        wanted = [("eager", 1), *((row, count) for count in threads for row in rows if (row, count) != ("eager", 1))]
        processes = [Process(workload, row, count, Path(directory)) for row, count in wanted]
        # A search measures, and wants to be alone; what only converts doesn't mind company.
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(_prepared, [each for each in processes if each.row not in OURS]))
        for each in processes:
            if each.row in OURS:
                _prepared(each)
        expected = processes[0].answers()
        for each in processes[1:]:
            found = difference(expected, each.answers()) if not each.problem else ""
            each.problem = each.problem or (f"wrong: {found}" if found else "")
        order, chance = list(processes), random.Random(0)
        for _ in range(rounds):
            chance.shuffle(order)
            for each in order:
                each.sample(seconds)
                if each.threads > 1:
                    time.sleep(SPINNING)
        for each in processes:
            each.close()
        return [
            {
                "row": each.row,
                "threads": each.threads,
                "problem": each.problem,
                # Rows are compared round by round: one that broke off in between has no number.
                "samples": [] if each.problem else each.samples,
                "prepared": each.prepared,
            }
            for each in processes
        ]


def environment() -> dict[str, Any]:
    versions = {}
    for package in ("paddlepaddle", "onnxruntime", "openvino", "paddle2onnx", "autohybrid"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "python": platform.python_version(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "versions": versions,
    }


def told(content: dict[str, Any]) -> str:
    """The tables, and what they were measured on."""
    found = content["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    rounds = max(len(row["samples"]) for rows in content["results"].values() for row in rows)
    machine = f"{found['cpu']}, {found['cores']} cores; Python {found['python']}, {versions}; {rounds} rounds"
    return "\n\n".join([speeds(content["results"]), verdicts(content["results"]), machine])


def main() -> None:
    """Measures what was asked for, prints the table, writes the JSON."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS), metavar="WORKLOAD")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, cores}))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2, help="for each sample")
    parser.add_argument("-o", "--output", type=Path, default=Path("compare.json"))
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing, print what an earlier run wrote")
    parser.add_argument("--resume", action="store_true", help="leave out the workloads that are in the output already")
    options = parser.parse_args()
    if options.show:
        print(told(json.loads(options.show.read_text())))
        return
    results: dict[str, list[dict[str, Any]]] = {}
    before = environment()
    if options.resume and options.output.exists():
        earlier = json.loads(options.output.read_text())
        results, before = earlier["results"], earlier["environment"]
    for name in [each for each in options.only if each not in results]:
        print(name, file=sys.stderr, flush=True)
        results[name] = compared(name, options.rows, options.threads, options.rounds, options.seconds)
        # After each workload, so that a later failure loses nothing.
        content = {"environment": before, "load_after": os.getloadavg(), "results": results}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    print(told(json.loads(options.output.read_text())))


if __name__ == "__main__":
    main()
