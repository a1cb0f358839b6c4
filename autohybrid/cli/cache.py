"""``autohybrid cache``: lists, verifies, clears and fills the store of conversions."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import click

from autohybrid import cache, plan, store
from autohybrid.cli import job as jobs
from autohybrid.cli.arguments import ScriptCommand, script_arguments, split_command, verbosity
from autohybrid.errors import ExitCode, ScriptError, UsageError
from autohybrid.report.signatures import signature_text
from autohybrid.report.table import plain_table
from autohybrid.runtime import threads
from autohybrid.sizes import counted, size_text

Format = Literal["table", "json"]


@click.group(
    "cache",
    epilog="""\b
Examples: autohybrid cache list
          autohybrid cache verify
          autohybrid cache clear --older-than 30 --yes
          autohybrid cache warm --plan plan.json infer.py

AUTOHYBRID_CACHE names the cache's directory (off for none),
AUTOHYBRID_CACHE_SIZE bounds it.""",
)
def command() -> None:
    """Look after the conversions that are kept on disk, and after what searches remember."""


@command.command("list", epilog="Example: autohybrid cache list --format json")
@click.option("--format", "shape", type=click.Choice(get_args(Format)), default="table", show_default=True)
def list_command(shape: Format) -> None:
    """Show what is kept: conversions, the graphs that they were made from, journals of searches, leftovers.

    A graph holds no weights: blocks like the one that it is of, and changed weights, are converted from it without
    tracing again.
    """
    found = cache.entries()
    if shape == "json":
        click.echo(json.dumps([_plain(each) for each in found], indent=2, ensure_ascii=False))
    elif not found:
        click.echo(f"Nothing is kept in {_place()}.")
    else:
        click.echo(f"{_table(found)}\n{_sum(found)} in {_place()}")


@command.command(
    "verify",
    epilog="""\b
Example: autohybrid cache verify
Exit code 1 when something was altered; it is made again when it is needed.""",
)
def verify_command() -> int:
    """Compare every byte of every entry with what was written."""
    found, altered = cache.entries(), cache.verify()
    for each in altered:
        click.echo(f"{each.name} {each.region}".rstrip() + f": {each.problem}")
    if not altered:
        click.echo(f"{_sum(found)}: all complete and unaltered." if found else f"Nothing is kept in {_place()}.")
        return ExitCode.DONE
    click.echo(
        f"{len(altered)} of {counted(len(found), 'entry', 'entries')} not used any more; made again when needed."
    )
    return ExitCode.GATE


@command.command("clear", epilog="Example: autohybrid cache clear --older-than 30 --yes")
@click.option("--older-than", "days", type=float, metavar="DAYS", help="Only what nobody has used for so long.")
@click.option("--plan", "plan_file", metavar="FILE", help="Only the conversions of this plan's regions.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
def clear_command(days: float | None, plan_file: str | None, yes: bool) -> None:
    """Remove what is kept, but for what a process has open. Everything is made again when it is needed."""
    if days is not None and not days >= 0.0:
        raise UsageError(f"--older-than is a number of days of at least 0, got {days}.")
    chosen = cache.entries()
    if plan_file is not None:
        chosen = cache.of_plan(chosen, plan_file)
    if days is not None:
        chosen = cache.unused_for(chosen, days)
    if not chosen:
        click.echo(f"Nothing to remove in {_place()}.")
        return
    if not yes and not sys.stdin.isatty():
        raise UsageError(f"Removing {_sum(chosen)} needs a yes, and nobody can be asked here.", "Give --yes.")
    if not yes and not click.confirm(f"Remove {_sum(chosen)} from {_place()}?"):
        click.echo("Nothing was removed.")
        return
    done = cache.clear(chosen)
    click.echo(f"Removed {_sum(done.removed)}." if done.removed else "Nothing was removed.")
    if done.kept:
        click.echo(f"Kept {_sum(done.kept)}: a process has them open.")


@command.command(
    "warm",
    cls=ScriptCommand,
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Example: autohybrid cache warm --plan plan.json infer.py --batch 4

From Python: autohybrid.apply(model, plan), then autohybrid.warmup(model).
Exit code 1 when a region isn't in the store afterwards; the table says why.""",
)
@click.option("-m", "module", metavar="MODULE", help="Run a module as a script, as python -m does.")
@click.option("--plan", "plan_file", metavar="FILE", default="plan.json", show_default=True, help="The plan to apply.")
@verbosity
@script_arguments
def warm_command(module: str | None, plan_file: str, verbosity: int, script: tuple[str, ...]) -> int:
    """Run SCRIPT with the plan until all regions are converted and kept, so that later processes only load them.

    The script is ended then, as by sys.exit(); what it prints to stdout is dropped.
    """
    target, arguments = split_command(module, script)
    made = plan.load(plan_file)
    job = jobs.Job(
        action="warm",
        target=target,
        arguments=arguments,
        is_module=module is not None,
        verbosity=verbosity,
        plan=plan_file,
        variables=threads.variables_for(made),
        repeated=True,
    )
    with tempfile.TemporaryDirectory(prefix="autohybrid-") as name:
        jobs.wait(jobs.start(job, Path(name)))
        outcome = jobs.outcome_in(Path(name))
    return _told(job, outcome)


def _told(job: jobs.Job, outcome: jobs.Outcome | None) -> int:
    if outcome is None:
        raise ScriptError(f"The process of {job.target} ended by itself.", "Does it run without autohybrid?")
    if outcome.error:
        raise jobs.ReportedError(outcome)
    lacking = [each for each in outcome.warmed if not each.stored]
    rows = [[each.region, each.engine, "yes" if each.stored else "no", each.told] for each in outcome.warmed]
    if rows:
        click.echo(plain_table(rows, ["region", "engine", "kept", ""], "llll"))
    else:
        click.echo("The plan has no regions: nothing to keep.")
    if outcome.interrupted:
        return ExitCode.INTERRUPTED
    if lacking and (outcome.script_failed or outcome.script_exit_code):
        raise ScriptError(f"{job.target} failed with exit code {outcome.script_exit_code} before all was converted.")
    return ExitCode.GATE if lacking else ExitCode.DONE


def _place() -> str:
    place = store.place()
    return str(place) if place is not None else "the cache: AUTOHYBRID_CACHE is off"


def _sum(found: Sequence[cache.Found]) -> str:
    """``2 conversions, 1 graph and 1 journal, 12.4 MiB``."""
    counts = {kind: sum(each.kind == kind for each in found) for kind in get_args(cache.Kind)}
    *most, last = [counted(count, kind) for kind, count in counts.items() if count]
    told = f"{', '.join(most)} and {last}" if most else last
    return f"{told}, {size_text(sum(each.size for each in found))}"


def _table(found: Sequence[cache.Found]) -> str:
    headers = ["entry", "what", "engine", "size", "used", "proven", "arguments"]
    return plain_table([_row(each) for each in found], headers, "lllrrll", name=1)


def _row(found: cache.Found) -> list[str]:
    what = "a chain" if cache.is_chain(found) else found.region.removesuffix(".forward") or found.kind
    proven = found.problem or ("yes" if found.verified else "no" if found.kind == "conversion" else "")
    engine = "any (graph)" if found.kind == "graph" else found.key.get("engine", "")
    return [found.name, what, engine, size_text(found.size), _age(found.used), proven, _arguments(found)]


def _arguments(found: cache.Found) -> str:
    text = found.key.get("inputs", "")
    return signature_text(json.loads(text)) if text else ""


def _age(when: float) -> str:
    """``5 min``, ``3 d``."""
    seconds = max(0.0, time.time() - when)
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "now"


def _plain(found: cache.Found) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.name,
        "place": str(found.place),
        "region": found.region,
        "key": found.key,
        "size": found.size,
        "used": found.used,
        "verified": found.verified,
        "problem": found.problem,
    }
