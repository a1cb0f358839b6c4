"""``autohybrid bench``: a plan measured again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import click

from autohybrid import plan
from autohybrid.cli import job as jobs
from autohybrid.cli.arguments import ScriptCommand, must_be_writable, script_arguments, split_command, verbosity
from autohybrid.cli.measuring import Interrupted, measured
from autohybrid.errors import ExitCode, PlanError, UsageError
from autohybrid.plan.measurement import Measurement
from autohybrid.report.rendering import Format, render
from autohybrid.report.table import WIDTH
from autohybrid.runtime import threads


@click.command(
    "bench",
    cls=ScriptCommand,
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Examples: autohybrid bench --plan plan.json infer.py --batch 4
          autohybrid bench --plan plan.json --format json -o bench.json infer.py

Exit code 0 whatever is found: autohybrid check is the gate.""",
)
@click.option("-m", "module", metavar="MODULE", help="Run a module as a script, as python -m does.")
@click.option(
    "--plan", "plan_file", metavar="FILE", default="plan.json", show_default=True, help="The plan to measure."
)
@click.option("--budget", type=float, default=120.0, show_default=True, help="Seconds for runs of the whole script.")
@click.option("--format", "shape", type=click.Choice(get_args(Format)), default="table", show_default=True)
@click.option("-o", "--output", metavar="FILE", help="Write the result there, not to the standard output.")
@click.option("--rerun", is_flag=True, help="Run the script again and again, also if it trained, wrote or read stdin.")
@verbosity
@script_arguments
def command(
    module: str | None,
    plan_file: str,
    budget: float,
    shape: Format,
    output: str | None,
    rerun: bool,
    verbosity: int,
    script: tuple[str, ...],
) -> int:
    """Measure a plan again, baseline and hybrid by turns: each root (steady) and the whole SCRIPT, warm and cold.

    The roots are measured in fresh processes with inputs of the script's; the script is run whole, its output dropped.
    """
    target, arguments = split_command(module, script)
    made = plan.load(plan_file)
    if not budget > 0.0:
        raise UsageError(f"--budget must be a positive number of seconds, got {budget}.")
    if output is not None and Path(output).exists():
        raise UsageError(f"{output} exists already.", "Name another file with -o.")
    if output is not None:
        must_be_writable(Path(output), force=False)
    job = jobs.Job(
        action="measure",
        target=target,
        arguments=arguments,
        is_module=module is not None,
        verbosity=verbosity,
        plan=plan_file,
        variables=threads.variables_for(made),
        rerun=rerun,
        options={"rtol": made.settings.rtol, "atol": made.settings.atol, "min_gain": made.settings.min_gain},
    )
    try:
        found = measured(job, budget, ("warm", "cold"))
    except Interrupted:
        return ExitCode.INTERRUPTED
    if made.recommends_change and not any(model.called for model in found.models):
        raise PlanError(
            f"{target} calls no model of the plan: {found.models[0].id}: {found.models[0].problem}.",
            "Measure the script that was profiled, or profile this one.",
        )
    text = _rendered(found, shape, output is None)
    if output is None:
        click.echo(text)
        return ExitCode.DONE
    try:
        Path(output).write_text(text + "\n", encoding="utf-8", newline="")
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror}.", "Name another file with -o.") from error
    return ExitCode.DONE


def _rendered(found: Measurement, shape: Format, on_screen: bool) -> str:
    width = shutil.get_terminal_size((WIDTH, 24)).columns if on_screen else WIDTH
    return render(found, shape, width=max(60, min(width, 120)))
