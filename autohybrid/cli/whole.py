"""The whole script, plain and with its plan, in fresh processes in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from autohybrid import plan
from autohybrid.cli import job as jobs

NOTABLE = 0.1
"""A share of the script's time outside its roots from which the whole script is worth measuring."""

FEWEST_PAIRS = 3
MOST_PAIRS = 60


class Unlike(Exception):
    """A run of the script didn't end as the first one did, or in its time."""


def outside_share(made: plan.Plan) -> float:
    """The share of the script's time that lies outside its roots."""
    if made.script is None or made.script.seconds <= 0.0:
        return 0.0
    inside = sum(model.seconds_per_call * (model.calls + model.training_calls) for model in made.models)
    return max(0.0, 1.0 - inside / made.script.seconds)


def confirmed(made: plan.Plan, job: jobs.Job, obstacle: str, plan_file: Path) -> plan.Plan:
    """The plan with the whole script's samples, or with a note why there are none.

    Nothing is done where the plan changes nothing, or the script hardly does anything outside its roots.

    Args:
        obstacle: why the script must not be run again, empty when it may be; ``--rerun`` allows it in any case.
        plan_file: where the plan is.
    """
    if not made.recommends_change or outside_share(made) < NOTABLE:
        return made
    trained = any(model.training_calls for model in made.models)
    refusal = "" if job.rerun else obstacle or ("it trained" if trained else "")
    if refusal:
        return _noted(made, f"The whole script was not measured: {refusal}. It is run again with --rerun.")
    seconds = made.settings.budget_seconds - made.search_seconds
    runs = Runs(job=job, plan_file=plan_file, ends=time.monotonic() + seconds, min_gain=made.settings.min_gain)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        samples = runs.in_turn()
    except (Unlike, subprocess.TimeoutExpired) as error:
        told = "the budget was used up" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        return _noted(made, f"The whole script was not measured: {told}.")
    except KeyboardInterrupt:
        return _noted(made, "The whole script was not measured: interrupted.")
    finally:
        signal.signal(signal.SIGTERM, before)
    return msgspec.structs.replace(made, whole_script=samples)


def _noted(made: plan.Plan, note: str) -> plan.Plan:
    return msgspec.structs.replace(made, notes=[*made.notes, note])


@dataclass(slots=True, kw_only=True)
class Runs:
    """Runs of a script, its output discarded, until a moment of the monotonic clock.

    Args:
        job: the script.
        plan_file: the plan that it is run with.
        ends: that moment.
        min_gain: the speedup against which there is a verdict.
        cold: empties the store of conversions before each run with the plan.
    """

    job: jobs.Job
    plan_file: Path
    ends: float
    min_gain: float
    cold: bool = False
    _code: int | None = field(default=None, init=False)

    def in_turn(self) -> plan.Samples:
        """Wall-clock seconds of whole processes; the first pair fills caches and isn't counted.

        Goes on until there is a verdict, or the time is used up: a pair that isn't finished by then doesn't count.

        Raises:
            subprocess.TimeoutExpired: the time isn't enough for ``FEWEST_PAIRS``.
            Unlike: a run ended with another exit code than the first.
        """
        samples = plan.Samples(eager=[], hybrid=[])
        pair = sum(self._pair(eager_first=True))
        if time.monotonic() + FEWEST_PAIRS * pair > self.ends:
            raise subprocess.TimeoutExpired("the script", pair)
        while len(samples.eager) < MOST_PAIRS and time.monotonic() + pair < self.ends:
            try:
                eager, hybrid = self._pair(eager_first=len(samples.eager) % 2 == 0)
            except subprocess.TimeoutExpired:
                break
            samples.eager.append(eager)
            samples.hybrid.append(hybrid)
            if samples.comparison().verdict(self.min_gain) != "inconclusive":
                break
        if len(samples.eager) < FEWEST_PAIRS:
            raise subprocess.TimeoutExpired("the script", pair)
        return samples

    def _pair(self, *, eager_first: bool) -> tuple[float, float]:
        """Seconds plain, and with the plan."""
        if eager_first:
            return self._run(applied=False), self._run(applied=True)
        hybrid = self._run(applied=True)
        return self._run(applied=False), hybrid

    def _run(self, *, applied: bool) -> float:
        with tempfile.TemporaryDirectory(prefix="autohybrid-") as name:
            command = self._hybrid(Path(name)) if applied else self._plain()
            environment = {**os.environ, "AUTOHYBRID_CACHE": f"{name}/cache"} if self.cold else None
            started = time.monotonic()
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                timeout=max(0.1, self.ends - started),
                check=False,
            )
            seconds = time.monotonic() - started
        if self._code is not None and done.returncode != self._code:
            how = "with the plan" if applied else "run again"
            raise Unlike(f"{how} it ended with exit code {done.returncode}, not {self._code}")
        self._code = done.returncode
        return seconds

    def _plain(self) -> list[str]:
        module = ["-m"] if self.job.is_module else []
        return [sys.executable, *module, self.job.target, *self.job.arguments]

    def _hybrid(self, directory: Path) -> list[str]:
        job = jobs.Job(
            action="run",
            target=self.job.target,
            arguments=self.job.arguments,
            is_module=self.job.is_module,
            plan=str(self.plan_file),
        )
        return jobs.command(job, directory)
