"""What ``bench`` and ``check`` have in common: a script measured again with an existing plan."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import msgspec

from autohybrid import plan
from autohybrid.cli import job as jobs
from autohybrid.cli import whole
from autohybrid.errors import ScriptError
from autohybrid.plan.measurement import Measurement, ScriptMeasured


class Interrupted(Exception):
    """Ctrl-C, or a request to terminate."""


def measured(job: jobs.Job, budget: float, scripts: tuple[str, ...]) -> Measurement:
    """The roots in one run of the script, then whole processes.

    Args:
        job: with the action ``measure``.
        budget: seconds for the whole processes.
        scripts: of ``warm`` and ``cold``, which runs of whole processes to make.

    Raises:
        ScriptError: the script failed, or called no Layer.
        ReportedError: what the script's process raised.
        Interrupted: the script was interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="autohybrid-") as name:
        directory = Path(name)
        status = jobs.wait(jobs.start(job, directory, silent=True))
        outcome = _good(job, jobs.outcome_in(directory), status)
        found = msgspec.json.decode((directory / jobs.MEASUREMENT).read_bytes(), type=Measurement)
    has_regions = any(model.called for model in found.models) and plan.load(job.plan).recommends_change
    if not scripts or not has_regions:
        return found
    if outcome.obstacle and not job.rerun:
        note = f"The whole script was not measured: {outcome.obstacle}. It is run again with --rerun."
        return msgspec.structs.replace(found, notes=[*found.notes, note])
    return _with_script(found, job, budget, scripts)


def _good(job: jobs.Job, outcome: jobs.Outcome | None, status: int) -> jobs.Outcome:
    if outcome is None:
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        raise ScriptError(f"The process of {job.target} ended by itself ({how}).", "Does it call os._exit?")
    if outcome.error:
        raise jobs.ReportedError(outcome)
    if outcome.interrupted:
        raise Interrupted
    if outcome.script_failed:
        raise ScriptError(
            f"{job.target} failed with exit code {outcome.script_exit_code}; nothing was measured.",
            "Make it run without autohybrid first.",
        )
    return outcome


def _with_script(found: Measurement, job: jobs.Job, budget: float, scripts: tuple[str, ...]) -> Measurement:
    samples: dict[str, plan.Samples] = {}
    notes = list(found.notes)
    for name in scripts:
        ends = time.monotonic() + budget / len(scripts)
        runs = whole.Runs(job=job, plan_file=Path(job.plan), ends=ends, cold=name == "cold")
        try:
            samples[name] = runs.in_turn()
        except subprocess.TimeoutExpired:
            notes.append(f"The whole script was not measured ({name}): --budget {budget:g} is too little for it.")
        except whole.Unlike as error:
            notes.append(f"The whole script was not measured ({name}): {error}.")
    script = ScriptMeasured(warm=samples.get("warm"), cold=samples.get("cold"))
    return msgspec.structs.replace(found, script=script, notes=notes)
