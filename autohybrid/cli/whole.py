"""The whole script, plain and with its plan, in fresh processes in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from autohybrid import plan
from autohybrid.cli import job as jobs

NOTABLE = 0.1
"""A share of the script's time outside its roots from which the whole script is worth measuring."""

FEWEST_PAIRS = 3
"""Pairs without which nothing is told."""

MOST_PAIRS = 30


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
    runs = Runs(job=job, plan_file=plan_file, ends=time.monotonic() + seconds)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs of a script, its output discarded, until a moment of the monotonic clock.

    With ``cold`` each run with the plan has an empty store, so that it makes all conversions anew.
    """

    job: jobs.Job
    plan_file: Path
    ends: float
    cold: bool = False

    def in_turn(self) -> plan.Samples:
        """Wall-clock seconds of whole processes, until a verdict; the first pair fills caches and isn't counted.

        Raises:
            subprocess.TimeoutExpired: the time isn't enough for ``FEWEST_PAIRS``.
            Unlike: a run ended with another exit code than the first.
        """
        eager: list[float] = []
        hybrid: list[float] = []
        code, first = self._run(applied=False)
        again, other = self._run(applied=True, code=code)
        pair = first + other
        if time.monotonic() + FEWEST_PAIRS * pair > self.ends:
            raise subprocess.TimeoutExpired("the script", pair)
        samples = plan.Samples(eager=eager, hybrid=hybrid)
        while len(eager) < MOST_PAIRS and (len(eager) < FEWEST_PAIRS or time.monotonic() + pair < self.ends):
            order = (False, True) if len(eager) % 2 == 0 else (True, False)
            try:
                seconds = {applied: self._run(applied=applied, code=again)[1] for applied in order}
            except subprocess.TimeoutExpired:
                if len(eager) < FEWEST_PAIRS:
                    raise
                break  # a run that took longer than those before it; what they showed still holds
            eager.append(seconds[False])
            hybrid.append(seconds[True])
            if samples.comparison().verdict(1.0) in ("faster", "slower"):
                break
        return samples

    def _run(self, *, applied: bool, code: int | None = None) -> tuple[int, float]:
        """The exit code, which must be ``code`` if that is given, and the seconds of one run."""
        with tempfile.TemporaryDirectory(prefix="autohybrid-") as name:
            command = self._hybrid(Path(name)) if applied else self._plain()
            own = {"AUTOHYBRID_CACHE": str(Path(name) / "cache")} if self.cold else {}
            started = time.monotonic()
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **self.job.variables, **own},
                timeout=max(0.1, self.ends - started),
                check=False,
            )
            seconds = time.monotonic() - started
        if code is not None and done.returncode != code:
            how = "with the plan" if applied else "run again"
            raise Unlike(f"{how} it ended with exit code {done.returncode}, not {code}")
        return done.returncode, seconds

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
            variables=self.job.variables,
        )
        return jobs.command(job, directory)
