"""``autohybrid export``: a plan's choice as plain code, or its regions as static models."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from autohybrid import plan
from autohybrid.cli import job as jobs
from autohybrid.cli.arguments import ScriptCommand, split_command, verbosity
from autohybrid.errors import ExitCode, ScriptError, UsageError
from autohybrid.exports.code import Code, exported
from autohybrid.runtime import threads


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
@verbosity
@click.argument("script", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT [ARGS]...]")
def command(
    plan_file: str | None,
    output: str | None,
    directory: str | None,
    force: bool,
    module: str | None,
    verbosity: int,
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
        target, arguments = split_command(module, script)
        if not made.recommends_change:
            print(f"autohybrid: {plan_file} has no region: nothing is written.", file=sys.stderr)
            return ExitCode.DONE
        job = jobs.Job(
            action="export",
            target=target,
            arguments=arguments,
            is_module=module is not None,
            plan=plan_file,
            verbosity=verbosity,
            variables=threads.variables_for(made),
        )
        return _static(job, Path(directory), force)
    if script or module is not None:
        raise UsageError("A script is only run with --static.", "Leave it out, or add --static DIR before it.")
    _write(exported(made), output, force, plan_file)
    return ExitCode.DONE


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


MANIFEST = "manifest.json"


class _Written(msgspec.Struct):
    directory: str


class _Manifest(msgspec.Struct):
    regions: list[_Written]


def _static(job: jobs.Job, place: Path, force: bool) -> int:
    old = _must_be_free(place, force)
    with tempfile.TemporaryDirectory(prefix="autohybrid-") as name:
        directory = Path(name)
        status = jobs.wait(jobs.start(job, directory))
        outcome = jobs.outcome_in(directory)
        if outcome is None:
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            raise ScriptError(f"The process of {job.target} ended by itself ({how}).", "Does it call os._exit?")
        if outcome.error:
            raise jobs.ReportedError(outcome)
        if outcome.interrupted:
            return ExitCode.INTERRUPTED
        if outcome.script_failed:
            raise ScriptError(
                f"{job.target} failed with exit code {outcome.script_exit_code}; nothing was written.",
                "Make it run without autohybrid first.",
            )
        for each in old:
            shutil.rmtree(each)
        shutil.copytree(directory / jobs.STATIC_MODELS, place, dirs_exist_ok=True)
    print(f"autohybrid: wrote {place / MANIFEST}.", file=sys.stderr)
    return ExitCode.DONE


def _must_be_free(place: Path, force: bool) -> list[Path]:
    """What is to be removed there.

    Raises:
        UsageError: something is there that may not be overwritten.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return []
    if place.is_dir() and force:
        return _written_before(place)
    if place.is_dir():
        raise UsageError(f"{place} isn't empty.", "Overwrite an earlier export with --force, or name another.")
    raise UsageError(f"{place} is a file.", "Name a directory.")


def _written_before(place: Path) -> list[Path]:
    """The directories of an earlier export; whatever else is there stays."""
    try:
        found = msgspec.json.decode((place / MANIFEST).read_bytes(), type=_Manifest)
    except (OSError, msgspec.DecodeError):
        raise UsageError(
            f"{place} isn't empty, and not from an earlier export: there is no readable {MANIFEST} in it.",
            "Name another directory.",
        ) from None
    names = [each.directory for each in found.regions]
    return [place / name for name in names if name.isidentifier() and (place / name).is_dir()]
