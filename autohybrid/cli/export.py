"""``autohybrid export``: a plan's choice as plain code, or its regions as static models."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autohybrid import plan
from autohybrid.cli.arguments import ScriptCommand, script_arguments, split_command
from autohybrid.errors import UsageError
from autohybrid.exports.code import Code, exported


class _ExportCommand(ScriptCommand):
    """Takes the plan also before the options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-"):
            args = ["--plan", *args]
        return super().parse_args(ctx, args)


@click.command(
    "export",
    cls=_ExportCommand,
    context_settings={"allow_interspersed_args": False},
    options_metavar="PLAN [OPTIONS]",
    epilog="""\b
Examples: autohybrid export plan.json -o hybrid.py
          autohybrid export plan.json --static models infer.py --batch 4""",
)
@click.option("--plan", "plan_file", metavar="FILE", help="The plan, if it isn't the first argument.")
@click.option("-o", "--output", metavar="FILE", help="Write the code there, not to the standard output.")
@click.option("--static", "directory", metavar="DIR", help="Write static models there instead of code; runs SCRIPT.")
@click.option("--force", is_flag=True, help="Overwrite FILE, or what an earlier export left in DIR.")
@click.option("-m", "module", metavar="MODULE", help="With --static, run a module as a script, as python -m does.")
@script_arguments
def command(
    plan_file: str | None,
    output: str | None,
    directory: str | None,
    force: bool,
    module: str | None,
    script: tuple[str, ...],
) -> int:
    """Show the choice in PLAN as plain code with paddle.incubate.jit.inference, which runs without autohybrid.

    With --static, run SCRIPT with the plan applied, and write each region that was converted as a static model, with a
    manifest of its inputs and outputs, for Paddle Inference in C++ and other languages.
    """
    if plan_file is None:
        if not script or module is not None:
            raise UsageError("No plan was given.", "Example: autohybrid export plan.json")
        plan_file, *rest = script
        script = tuple(rest)
    made = plan.load(plan_file)
    if directory is not None:
        if output is not None:
            raise UsageError("-o is for code, --static writes to its directory.", "Leave out one of them.")
        return _static(made, plan_file, Path(directory), force, split_command(module, script), module is not None)
    if script or module is not None:
        raise UsageError("A script is only run with --static.", "Leave it out, or add --static DIR before it.")
    _write(exported(made), output, force, plan_file)
    return 0


def _write(code: Code, output: str | None, force: bool, plan_file: str) -> None:
    if output is None:
        click.echo(code.text, nl=False)
    else:
        place = Path(output)
        if place.exists() and (not force or place.is_dir() or place.resolve() == Path(plan_file).resolve()):
            raise UsageError(f"{place} exists already.", "Overwrite a file with --force, or name another with -o.")
        try:
            place.write_text(code.text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{place} can't be written: {error.strerror}.", "Name another file with -o.") from error
    for each in code.left_out:
        print(f"autohybrid: {each.model}: the region {each.region} is left out: {each.why}.", file=sys.stderr)
