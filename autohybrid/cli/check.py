"""``autohybrid check``: a gate for CI."""

from __future__ import annotations

import sys

import click

from autohybrid import plan
from autohybrid.cli import job as jobs
from autohybrid.cli.arguments import ScriptCommand, script_arguments, split_command, verbosity
from autohybrid.cli.measuring import Interrupted, measured
from autohybrid.errors import ExitCode, UsageError
from autohybrid.report.measurement import Checked, gates, sentences
from autohybrid.runtime import threads


@click.command(
    "check",
    cls=ScriptCommand,
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Examples: autohybrid check --plan plan.json infer.py --batch 4
          autohybrid check --min-speedup 1.5 --plan plan.json infer.py

Exit code 1 when a gate fell; what isn't measured or isn't clear doesn't pass.""",
)
@click.option("-m", "module", metavar="MODULE", help="Run a module as a script, as python -m does.")
@click.option("--plan", "plan_file", metavar="FILE", default="plan.json", show_default=True, help="The plan to check.")
@click.option("--min-speedup", type=float, metavar="X", help="Speedup that must be certain.  [default: the plan's]")
@click.option("--rtol", type=float, help="Tolerance relative to each element.  [default: the plan's]")
@click.option("--atol", type=float, help="Tolerance relative to the largest element.  [default: the plan's]")
@click.option(
    "--objective",
    type=click.Choice(["steady", "script"]),
    default="steady",
    show_default=True,
    metavar="NAME",
    help="steady or script: gate the time of a root call once converted, or that of the whole process.",
)
@click.option("--budget", type=float, default=120.0, show_default=True, help="Seconds for runs of the whole script.")
@click.option("--rerun", is_flag=True, help="Run the script again and again, also if it trained, wrote or read stdin.")
@verbosity
@script_arguments
def command(
    module: str | None,
    plan_file: str,
    min_speedup: float | None,
    rtol: float | None,
    atol: float | None,
    objective: str,
    budget: float,
    rerun: bool,
    verbosity: int,
    script: tuple[str, ...],
) -> int:
    """Check that a plan still applies to SCRIPT's models, is still equal, and still faster."""
    target, arguments = split_command(module, script)
    made = plan.load(plan_file)
    least = made.settings.min_gain if min_speedup is None else min_speedup
    options = {
        "rtol": made.settings.rtol if rtol is None else rtol,
        "atol": made.settings.atol if atol is None else atol,
        # Pairs go on until it is clear on which side of the gate the speedup lies.
        "min_gain": max(1.0, least),
    }
    if not least > 0.0 or not budget > 0.0:
        raise UsageError("--min-speedup and --budget must be above 0.")
    if options["rtol"] < 0.0 or options["atol"] < 0.0:
        raise UsageError("--rtol and --atol can't be negative.")
    job = jobs.Job(
        action="measure",
        target=target,
        arguments=arguments,
        is_module=module is not None,
        verbosity=verbosity,
        plan=plan_file,
        variables=threads.variables_for(made),
        rerun=rerun,
        options=options,
    )
    try:
        found = measured(job, budget, ("warm",) if objective == "script" else ())
    except Interrupted:
        return ExitCode.INTERRUPTED
    checked = Checked(gates=gates(found, min_speedup=least, objective=objective), measurement=found)
    for each in sentences(found)[len(found.models) :]:
        print(f"autohybrid: {each}", file=sys.stderr)
    click.echo(f"Gates of {plan_file}, objective {objective}:\n{checked}")
    return ExitCode.DONE if checked.passed else ExitCode.GATE
