"""``autohybrid profile``: the main job."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import msgspec

from autohybrid import plan
from autohybrid.cli import job as jobs
from autohybrid.cli import whole
from autohybrid.cli.arguments import ScriptCommand, must_be_writable, script_arguments, split_command, verbosity
from autohybrid.cli.report import on_terminal
from autohybrid.errors import ExitCode, ScriptError, UsageError
from autohybrid.offers import offer
from autohybrid.report import table
from autohybrid.sizes import parsed_size

MOST_RESTARTS = 50


@click.command(
    "profile",
    cls=ScriptCommand,
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="Example: autohybrid profile --budget 120 train_infer.py --batch 4",
)
@click.option("-m", "module", metavar="MODULE", help="Run a module as a script, as python -m does.")
@click.option("-o", "--output", metavar="FILE", help="Where to write the plan.  [default: plan.json]")
@click.option(
    "--budget",
    type=float,
    metavar="SECONDS",
    help="For trials and confirmation.  [default: the larger of 30 and 5 times the script]",
)
@click.option("--rtol", type=float, default=1e-3, show_default=True, help="Tolerance relative to each element.")
@click.option("--atol", type=float, default=1e-5, show_default=True, help="Tolerance relative to the largest element.")
@click.option("--min-gain", type=float, default=1.05, show_default=True, help="The speedup that must be certain.")
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="Try this engine only; repeatable.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Consider only these paths or classes; repeatable.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out these paths or classes; repeatable.")
@click.option("--max-calls", type=int, metavar="N", help="Stop observing after N calls of roots.")
@click.option(
    "--max-memory",
    type=int,
    metavar="MIB",
    help="For kept inputs, and for each trial.  [default: half of what is free]",
)
@click.option(
    "--threads",
    metavar="N|auto",
    default="auto",
    help="The most math threads that a conversion may use on a CPU; 1: the script's own.  [default: auto, one a core, "
    "within OMP_NUM_THREADS where that is set]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["bfloat16", "float16"]),
    metavar="NAME",
    help="Allow bfloat16 or float16 besides float32, with a wider tolerance; repeatable.",
)
@click.option(
    "--memory-budget", metavar="SIZE", help="What all regions may hold beyond eager, as 500MB or 2GiB.  [default: any]"
)
@click.option(
    "--convert-budget", type=float, metavar="S", help="Seconds that all conversions may take at start.  [default: any]"
)
@click.option(
    "--objective",
    type=click.Choice(["steady", "script"]),
    default="steady",
    show_default=True,
    metavar="NAME",
    help="steady or script: choose by the time of a call once converted, or by what such a run saves, conversions "
    "included.",
)
@click.option("--dry-run", is_flag=True, help="Rank only, convert nothing; writes a plan only with -o.")
@click.option("--fresh", is_flag=True, help="Try everything anew, also what an earlier search has tried.")
@click.option("--report", "report_file", metavar="FILE", help="Write the report there, not after the script's output.")
@click.option("--force", is_flag=True, help="Overwrite an existing plan.")
@click.option(
    "--rerun",
    is_flag=True,
    help="Without isolation (GPU, threads), try in the script's process; run it again after a crash.",
)
@verbosity
@script_arguments
def command(
    module: str | None,
    output: str | None,
    max_memory: int | None,
    threads: str,
    memory_budget: str | None,
    dry_run: bool,
    report_file: str | None,
    force: bool,
    rerun: bool,
    verbosity: int,
    script: tuple[str, ...],
    **options: Any,
) -> int:
    """Run SCRIPT unchanged, find what is worth converting, prove it, and write a plan."""
    target, arguments = split_command(module, script)
    writes = output is not None or not dry_run
    place = Path(output or "plan.json")
    if writes:
        must_be_writable(place, force)
    if report_file is not None:
        must_be_writable(Path(report_file), force=True)
    settings = {
        **options,
        "max_memory": None if max_memory is None else max_memory * 2**20,
        "threads": _thread_count(threads),
        "memory_budget": _bytes(memory_budget),
        "dry_run": dry_run,
    }
    job = jobs.Job(
        action="profile",
        target=target,
        arguments=arguments,
        is_module=module is not None,
        verbosity=verbosity,
        options=settings,
        rerun=rerun,
        show_progress=sys.stderr.isatty() and not verbosity,
    )
    _check_numbers(settings)
    for name in settings["engines"]:
        offer(name)
    with tempfile.TemporaryDirectory(prefix="autohybrid-") as name:
        directory = Path(name)
        outcome = _finished(job, directory)
        if (directory / jobs.PLAN).exists():
            made = plan.load(directory / jobs.PLAN)
            kept = writes and not outcome.script_failed and (not outcome.interrupted or _recommends(made))
            if kept:
                _keep_reproductions(directory / jobs.REPRODUCTIONS, place)
                plan.save(made, place)
                if not outcome.interrupted:
                    made = whole.confirmed(made, job, outcome.obstacle, place)
                    plan.save(made, place)
            _publish(made, str(place) if kept else None, report_file)
    return _exit_code(job, outcome)


def _recommends(made: plan.Plan) -> bool:
    return any(model.regions for model in made.models)


def _thread_count(value: str) -> int | str:
    if value == "auto":
        return value
    if not value.isdigit() or int(value) < 1:
        raise UsageError(f"--threads is a number of at least 1, or auto, got {value!r}.")
    return int(value)


def _bytes(value: str | None) -> int | None:
    try:
        return None if value is None else parsed_size(value)
    except ValueError:
        raise UsageError(f"--memory-budget is an amount of memory, as 500MB or 2GiB, got {value!r}.") from None


def _check_numbers(settings: dict[str, Any]) -> None:
    budget, gain = settings["budget"], settings["min_gain"]
    if budget is not None and not budget > 0.0:
        raise UsageError(f"--budget must be a positive number of seconds, got {budget}.")
    if not gain >= 1.0:
        raise UsageError(f"--min-gain is a speedup of at least 1, got {gain}.")
    for name in ("rtol", "atol", "convert_budget"):
        if settings[name] is not None and not settings[name] >= 0.0:
            raise UsageError(f"--{name.replace('_', '-')} can't be negative, got {settings[name]}.")
    for name in ("max_calls", "max_memory"):
        if settings[name] is not None and settings[name] < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1.")


def _finished(job: jobs.Job, directory: Path) -> jobs.Outcome:
    process = jobs.start(job, directory)
    status = jobs.wait(process)
    outcome = jobs.outcome_in(directory)
    restarts = 0
    while outcome is None and job.rerun and (directory / jobs.JOURNAL).exists() and restarts < MOST_RESTARTS:
        restarts += 1
        again = msgspec.structs.replace(job, repeated=True, options={**job.options, "fresh": False})
        status = jobs.wait(jobs.start(again, directory))
        outcome = jobs.outcome_in(directory)
    if outcome is None:
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        raise ScriptError(
            f"The process of {job.target} ended by itself ({how}) before it could be profiled.",
            "Does it call os._exit, or crash without autohybrid too?",
        )
    return outcome


def _keep_reproductions(made: Path, place: Path) -> None:
    kept = place.parent / f"{place.stem}.repro"
    for old in kept.glob("[0-9][0-9]-*.py"):
        old.unlink()
    if any(made.iterdir()):
        shutil.copytree(made, kept, dirs_exist_ok=True)
    elif kept.is_dir() and not any(kept.iterdir()):
        kept.rmdir()


def _publish(made: plan.Plan, plan_file: str | None, report_file: str | None) -> None:
    if report_file is None:
        print(f"\n{on_terminal(made, plan_file)}")
    else:
        Path(report_file).write_text(table.render(made, plan_file=plan_file) + "\n", encoding="utf-8")


def _exit_code(job: jobs.Job, outcome: jobs.Outcome) -> int:
    if outcome.error:
        raise jobs.ReportedError(outcome)
    if outcome.interrupted:
        return ExitCode.INTERRUPTED
    if outcome.script_failed:
        raise ScriptError(
            f"{job.target} failed with exit code {outcome.script_exit_code}; no plan was written.",
            "Make it run without autohybrid first.",
        )
    return ExitCode.DONE
