"""What searches cost: trials, samples and seconds, as multiples of the script's own time.

Without names: each workload of ``profiles/``, and 60 identical blocks against 6 (a root that converts as a whole, and
one that doesn't). The search time of the blocks is also given in units of one eager root call plus one whole
conversion, for both grow with the depth: the conversion is that of the candidate which takes longest, with all that are
like it.

A pair is two samples, one of eager and one of hybrid, of a trial that ended in numbers or of a confirmation.

Usage: python tools/search_cost.py [--json FILE] [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from measure_profiles import HOME, WORKLOADS
from tabulate import tabulate

from autohybrid import plan
from autohybrid.cli import job as jobs
from autohybrid.search.journal import ended
from autohybrid.search.outcomes import Converted

BLOCKS = Path(__file__).with_name("blocks_script.py")
DEPTHS = (6, 60)
KINDS: dict[str, tuple[str, ...]] = {"blocks": (), "blocks, whole": ("--whole",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one search took. Times are in seconds."""

    script: float
    search: float
    trials: int
    trial_pairs: int
    confirmation_pairs: int
    root_call: float
    conversion: float
    regions: int
    complete: bool

    @property
    def pairs(self) -> int:
        return self.trial_pairs + self.confirmation_pairs

    @property
    def units(self) -> float:
        """The search time over that of one eager root call and one conversion of all that is converted."""
        return self.search / (self.root_call + self.conversion)


class ScriptFailed(Exception):
    """A workload's script ended with an error."""


def cost_of(folder: Path, command: Sequence[str]) -> Cost:
    """Profiles a script as the command line does, and counts."""
    with tempfile.TemporaryDirectory(prefix="autohybrid-cost-") as name, _inside(folder):
        directory = Path(name)
        job = jobs.Job(
            action="profile",
            target=command[0],
            arguments=list(command[1:]),
            is_module=False,
            options={"fresh": True},
            repeated=True,
        )
        if jobs.wait(jobs.start(job, directory)) != 0:
            raise ScriptFailed(f"{folder.name}: the script failed")
        made = plan.load(directory / jobs.PLAN)
        outcomes = list(ended(directory / jobs.JOURNAL).values())
    assert made.script is not None
    confirmations = [model.confirmation for model in made.models if model.confirmation is not None]
    regions = [region for model in made.models for region in model.regions]
    return Cost(
        script=made.script.seconds,
        search=made.search_seconds,
        trials=made.trials,
        trial_pairs=sum(len(each.samples.eager) for each in outcomes if isinstance(each, Converted)),
        confirmation_pairs=sum(len(each.eager_samples()) for each in confirmations),
        root_call=sum(model.seconds_per_call for model in made.models),
        conversion=max(
            [each.conversion_seconds * (1 + len(each.twins)) for each in outcomes if isinstance(each, Converted)],
            default=0.0,
        ),
        regions=len(regions),
        complete=made.complete,
    )


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def row(name: str, cost: Cost) -> list[str]:
    return [
        name,
        f"{cost.script:.1f}",
        f"{cost.search:.1f}{'' if cost.complete else '*'}",
        f"{cost.search / cost.script:.1f}",
        str(cost.trials),
        str(cost.trial_pairs),
        str(cost.confirmation_pairs),
        str(cost.regions),
        f"{cost.units:.1f}",
    ]


HEADERS = ("workload", "script, s", "search, s", "multiple", "trials", "pairs", "confirmed by", "regions", "units")


def table(costs: dict[str, Cost]) -> str:
    alignment = ["left", *["right"] * (len(HEADERS) - 1)]
    rows = [row(*item) for item in costs.items()]
    return tabulate([HEADERS, *rows], headers="firstrow", disable_numparse=True, colalign=alignment)


def growth(few: Cost, many: Cost) -> str:
    """How a search of ten times the blocks compares."""
    return (
        f"{many.trials / few.trials:.2f} times the trials, {many.pairs / max(1, few.pairs):.2f} times the pairs, "
        f"{many.units / few.units:.2f} times the units"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*WORKLOADS, *KINDS])}")
    parser.add_argument("--json", metavar="FILE", help="where to write the numbers")
    wanted = parser.parse_args()
    commands = {name: (HOME / name.partition(",")[0], command) for name, command in WORKLOADS.items()}
    for kind, arguments in KINDS.items():
        commands |= {f"{kind}, {depth}": (BLOCKS.parent, [BLOCKS.name, str(depth), *arguments]) for depth in DEPTHS}
    chosen = set(wanted.names or commands)
    names = [name for name in commands if chosen & {name, name.rpartition(", ")[0]}]
    costs: dict[str, Cost] = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            costs[name] = cost_of(*commands[name])
        except ScriptFailed as why:
            # A workload may need a package that isn't here: what the others cost is told all the same.
            print(f"left out: {why}", file=sys.stderr)
    print(table(costs))
    print("*: the budget ended the search")
    for kind in KINDS:
        ends = [costs.get(f"{kind}, {depth}") for depth in DEPTHS]
        if ends[0] is not None and ends[1] is not None:
            print(f"{kind}, {DEPTHS[1]} against {DEPTHS[0]}: {growth(ends[0], ends[1])}")
    if wanted.json:
        shown = {name: asdict(cost) for name, cost in costs.items()}
        Path(wanted.json).write_text(json.dumps(shown, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
