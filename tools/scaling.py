"""How the cost of observation, ranking, choice and reporting grows with the number of sub-Layers.

For trees of several shapes (``flat``: all below the root; ``wide``: groups below the root; ``deep``: each group inside
the one before it) and sizes up to 2,000 sub-Layers, the processor's seconds for each step (what else the machine does
counts less there), the best of several:

- observe: what four observed root calls and making the profile of them take longer than four plain calls
- rank: candidates, ceilings, likeness, what is passed over
- search: the search's own time where every trial is done at once and fails, so that every Layer is tried
- choose: the exact choice with all candidates proven
- reject: a row for each candidate that became no region
- plan: writing the plan and reading it again
- report: the report for a terminal

All Layers are of one class and no two of them alike, so that no step gets cheaper by grouping.

Usage: python tools/scaling.py [--sizes 125,250,500,1000,2000] [--repeats 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import paddle
from paddle import nn
from tabulate import tabulate

from autohybrid import plan
from autohybrid.isolation import Finished, Result
from autohybrid.observe.observer import Observer
from autohybrid.observe.profile import Profile, RootProfile
from autohybrid.plan import Equality, Samples
from autohybrid.report import table
from autohybrid.search import choice
from autohybrid.search.findings import Attempt, Budget
from autohybrid.search.journal import Journal
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted
from autohybrid.search.rejections import Rejections
from autohybrid.search.search import Search
from autohybrid.search.session import Session

SIZES = (125, 250, 500, 1000, 2000)
GROUP = 20
"""Sub-Layers of a group in a wide or deep tree, the group included. Python's own recursion limit bounds the depth: a
Layer's call takes five frames while it is observed."""


class Numbered(nn.Layer):  # type: ignore[misc]
    """Adds one, and has a parameter of a size of its own, so that it is like no other."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = self.create_parameter([number + 1])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + 1.0


def flat(count: int) -> nn.Layer:
    return nn.Sequential(*[Numbered(number) for number in range(count)])


def wide(count: int) -> nn.Layer:
    return nn.Sequential(
        *[
            nn.Sequential(*[Numbered(group * GROUP + number) for number in range(GROUP - 1)])
            for group in range(count // GROUP)
        ]
    )


def deep(count: int) -> nn.Layer:
    inner: list[nn.Layer] = []
    for group in range(count // GROUP):
        leaves = [Numbered(group * GROUP + number) for number in range(GROUP - 1)]
        inner = [nn.Sequential(*leaves, *inner)]
    return nn.Sequential(*inner)


SHAPES: dict[str, Callable[[int], nn.Layer]] = {"flat": flat, "wide": wide, "deep": deep}


class Hopeless:
    """Isolation that does nothing and says at once that it failed."""

    name = "hopeless"

    def run(self, work: Callable[[], Any], *, seconds: float, memory: int) -> Result:
        return Finished(value={"type": "Failed", "detail": "no", "evidence": "-", "inputs": None, "exported": False})


@dataclass(slots=True)
class Steps:
    """Takes one model through all steps; ``seconds`` has the time of each."""

    model: nn.Layer
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self) -> dict[str, float]:
        self.model.eval()
        profile = self._observed()
        tried = _search(profile)
        tried.rank()
        self._timed("search", tried.run)
        proven = _search(profile)
        self._timed("rank", proven.rank)
        _prove_everything(proven)
        root = profile.roots[0]
        chosen = self._timed("choose", lambda: proven.chosen(root))
        rows = self._timed("reject", lambda: _rejected(proven, root, chosen))
        written = _plan(profile, rows)
        self._timed("plan", lambda: plan.parse(plan.dump(written)))
        self._timed("report", lambda: table.render(written))
        return self.seconds

    def _timed(self, step: str, action: Callable[[], Any]) -> Any:
        started = time.process_time()
        answer = action()
        self.seconds[step] = time.process_time() - started
        return answer

    def _observed(self) -> Profile:
        x = paddle.ones([1])

        def calls() -> None:
            with paddle.no_grad():
                for _ in range(4):
                    self.model(x)

        calls()
        started = time.process_time()
        calls()
        plain = time.process_time() - started
        observer = Observer()
        with observer:
            started = time.process_time()
            calls()
        profile = observer.profile()
        self.seconds["observe"] = max(0.0, time.process_time() - started - plain)
        return profile


def _search(profile: Profile) -> Search:
    return Search(
        profile,
        Options(engines=("predictor",), min_gain=1.0),
        isolation=Hopeless(),
        budget=Budget(1e9),
        memory=1 << 30,
        journal=Journal(),
        progress=lambda _line: None,
    )


def _prove_everything(search: Search) -> None:
    """Notes a gain for every candidate, so that the choice has all of them to choose from."""
    random.seed(0)
    for candidate in search.findings.candidates:
        outcome = Converted(
            inputs=None,
            outputs=None,
            training_mode="eager",
            equality=Equality(error=0.0, limit=1.0, noise=0.0, scale=1.0, inputs_compared=2),
            samples=Samples(eager=[random.uniform(1.2, 4.0)] * 12, hybrid=[1.0] * 12),
            conversion_seconds=0.1,
            extra_memory=0,
            twins=[],
        )
        search.findings.note(
            Attempt(
                candidate=candidate,
                engine="predictor",
                options={},
                outcome=outcome,
                measured_on=candidate.path,
                inputs=None,
            )
        )


def _rejected(search: Search, root: RootProfile, chosen: Sequence[Attempt]) -> list[plan.Rejected]:
    return Rejections(
        ends_of_chains={},
        findings=search.findings,
        regions=chosen,
        dropped={},
        options=Options(),
        root=root,
        script=None,
        reproductions={},
        reproduces=False,
    ).rows(search.findings.candidates)


def _plan(profile: Profile, rows: list[plan.Rejected]) -> plan.Plan:
    made = Session(profile=profile, options=Options(dry_run=True), script=None, script_seconds=1.0).make_plan()
    return msgspec.structs.replace(made, models=[msgspec.structs.replace(made.models[0], rejected=rows)])


def measured(shape: str, size: int, repeats: int) -> dict[str, list[float]]:
    """For each step its seconds, once for each repeat with a model made anew."""
    samples: dict[str, list[float]] = {}
    # Every Layer of a large model is a small share of it; here the choice is to have them all.
    choice.LEAST_SAVING = 0.0
    for _ in range(repeats):
        model = SHAPES[shape](size)
        with _collector_off():
            for step, seconds in Steps(model).take().items():
                samples.setdefault(step, []).append(seconds)
    return samples


@contextmanager
def _collector_off() -> Iterator[None]:
    """As in timeit: one full collection takes 0.1 s with Paddle loaded, whoever happens to set it off."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="where to write all samples")
    wanted = parser.parse_args()
    sizes = [int(size) for size in wanted.sizes.split(",")]
    samples: dict[str, dict[int, dict[str, list[float]]]] = {}
    print(f"processor milliseconds, the best of {wanted.repeats}")
    for shape in wanted.shapes.split(","):
        samples[shape] = {size: measured(shape, size, wanted.repeats) for size in sizes}
        shown = [
            [step, *[f"{min(samples[shape][size][step]) * 1e3:.1f}" for size in sizes]]
            for step in samples[shape][sizes[0]]
        ]
        print(
            "\n"
            + tabulate(
                [[shape, *map(str, sizes)], *shown],
                headers="firstrow",
                disable_numparse=True,
                colalign=["left", *["right"] * len(sizes)],
            ),
            flush=True,
        )
    if wanted.json:
        Path(wanted.json).write_text(json.dumps(samples, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
