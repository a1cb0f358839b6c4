"""``autohybrid run``: an unmodified script with a plan applied."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from autohybrid import plan
from autohybrid.cli import job as jobs
from autohybrid.cli.arguments import ScriptCommand, script_arguments, split_command, verbosity
from autohybrid.runtime import threads


@click.command(
    "run",
    cls=ScriptCommand,
    context_settings={"allow_interspersed_args": False},
    epilog="Example: autohybrid run --plan plan.json train_infer.py --batch 4",
)
@click.option("-m", "module", metavar="MODULE", help="Run a module as a script, as python -m does.")
@click.option("--plan", "plan_file", metavar="FILE", default="plan.json", show_default=True, help="The plan to apply.")
@click.option(
    "--release-weights",
    is_flag=True,
    help="Move the weights of converted Layers to a file, from which eager gets them back where it needs them.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing at the end of what ran hybrid and what fell back.")
@verbosity
@script_arguments
def command(
    module: str | None,
    plan_file: str,
    release_weights: bool,
    quiet: bool,
    verbosity: int,
    script: tuple[str, ...],
) -> int:
    """Run SCRIPT with the plan applied to its models at their first calls; exits as the script does.

    Nothing is added to its output; on stderr stands, at the end, what ran hybrid and what fell back, and why.
    """
    target, arguments = split_command(module, script)
    made = plan.load(plan_file)
    job = jobs.Job(
        action="run",
        target=target,
        arguments=arguments,
        is_module=module is not None,
        plan=plan_file,
        quiet=quiet,
        verbosity=verbosity,
        variables=threads.variables_for(made),
        release_weights=release_weights,
    )
    with tempfile.TemporaryDirectory(prefix="autohybrid-") as name:
        status = jobs.wait(jobs.start(job, Path(name)))
        outcome = jobs.outcome_in(Path(name))
    if outcome is not None and outcome.error:
        raise jobs.ReportedError(outcome)
    return 128 - status if status < 0 else status
