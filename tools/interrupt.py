"""Interrupts ``autohybrid profile`` at random moments, by SIGINT, SIGTERM and SIGKILL in turn, and goes on behind it.

    python tools/interrupt.py [--times N] [--seed N] [--budget SECONDS] SCRIPT [ARGS...]

After each interruption there must be a valid plan or none, a journal that can be read and forgets nothing, and no
process left. At the end one more run goes to its end behind all of them. Exits with 1 where something of this fails.
The moments lie anywhere in the time that the last complete run took; a run that is faster than that isn't counted.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from autohybrid import plan
from autohybrid.errors import PlanError
from autohybrid.search.journal import ended

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
GRACE = 60.0
"""Seconds after which a process that was told to end counts as hanging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What one run left: ``plan`` in words, ``known`` trials in the journal, ``problems`` with any of it."""

    how: str
    seconds: float
    code: int
    plan: str
    known: int
    problems: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A script that is profiled again and again with one cache."""

    directory: Path
    command: Sequence[str]
    options: Sequence[str]

    @property
    def place(self) -> Path:
        return self.directory / "plan.json"

    def run(self, number: signal.Signals | None = None, after: float = 0.0) -> Ending:
        """Profiles the script, and sends it a signal ``after`` so many seconds, if it still runs then."""
        self.place.unlink(missing_ok=True)
        known = self.known()
        started = time.monotonic()
        process = self._started()
        how = "finished"
        try:
            process.wait(after if number is not None else None)
        except subprocess.TimeoutExpired:
            assert number is not None
            how = number.name
            self._send(process.pid, number)
        try:
            code = process.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            how += ", hung"
        seconds = time.monotonic() - started
        shown, problems = self._plan()
        if how.endswith("hung"):
            problems.append(f"it didn't end within {GRACE:.0f} s")
        if self.known() < known:
            problems.append("the journal forgot trials")
        problems += [f"process {each} was left" for each in _left_in(process.pid)]
        return Ending(how=how, seconds=seconds, code=code, plan=shown, known=self.known(), problems=problems)

    def known(self) -> int:
        """Trials in the journal that a later run can read."""
        return sum(len(ended(path)) for path in (self.directory / "cache" / "journals").glob("*.jsonl"))

    def _started(self) -> subprocess.Popen[bytes]:
        words = ["profile", "-o", str(self.place), *self.options, *self.command]
        environment = {**os.environ, "AUTOHYBRID_CACHE": str(self.directory / "cache")}
        with open(self.directory / "output.txt", "wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "autohybrid", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                # Who runs this in the background has Ctrl-C ignored, and what is ignored is inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    @staticmethod
    def _send(process: int, number: signal.Signals) -> None:
        """As it comes in life: Ctrl-C and the end of a container reach the whole group, SIGTERM one process."""
        (os.kill if number is signal.SIGTERM else os.killpg)(process, number)

    def _plan(self) -> tuple[str, list[str]]:
        if not self.place.exists():
            return "none", []
        try:
            made = plan.load(self.place)
        except PlanError as error:
            return "broken", [str(error)]
        regions = sum(len(model.regions) for model in made.models)
        gains = [model.confirmation.comparison().speedup for model in made.models if model.confirmation]
        return f"{regions} region(s), {max(gains, default=1.0):.2f}x", []


def _left_in(session: int, patience: float = 5.0) -> list[int]:
    """Processes of a session that still live after a while."""
    ends = time.monotonic() + patience
    while (left := _members(session)) and time.monotonic() < ends:
        time.sleep(0.1)
    return left


def _members(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(of) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def interrupted(bench: Bench, times: int, draw: random.Random) -> list[Ending]:
    """A complete run first, in a cache of its own, for its length; ``times`` interruptions; then one to the end."""
    with tempfile.TemporaryDirectory() as aside:
        whole = Bench(directory=Path(aside), command=bench.command, options=bench.options).run().seconds
    print(f"uninterrupted: {whole:.1f} s", file=sys.stderr, flush=True)
    endings: list[Ending] = []
    while len(endings) < times:
        found = bench.run(SIGNALS[len(endings) % len(SIGNALS)], after=draw.uniform(0.0, whole))
        print(found, file=sys.stderr, flush=True)
        if found.how == "finished":
            whole = min(whole, found.seconds)
        else:
            endings.append(found)
    return [*endings, bench.run()]


def problems_of(endings: Sequence[Ending]) -> list[str]:
    """What must not be."""
    last = endings[-1]
    found = [f"{each.how} after {each.seconds:.1f} s: {problem}" for each in endings for problem in each.problems]
    if last.code != 0 or last.plan == "none":
        found.append(f"the last run ended with {last.code} and the plan {last.plan}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="handed on")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="SCRIPT [ARGS...]")
    wanted = parser.parse_args()
    options = [] if wanted.budget is None else ["--budget", str(wanted.budget)]
    with tempfile.TemporaryDirectory(prefix="autohybrid-interrupt-") as name:
        bench = Bench(directory=Path(name), command=wanted.command, options=options)
        endings = interrupted(bench, wanted.times, random.Random(wanted.seed))
    headers = ("ended by", "after, s", "exit code", "plan", "trials known")
    rows = [(each.how, f"{each.seconds:.1f}", each.code, each.plan, each.known) for each in endings]
    print(tabulate(rows, headers))
    problems = problems_of(endings)
    print("\n".join(problems) or "Always a valid plan or none, and a journal to go on behind.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
