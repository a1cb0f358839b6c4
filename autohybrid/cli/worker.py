"""The process in which the user's script runs: ``python -m autohybrid.cli.worker DIRECTORY``."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from autohybrid import logs, plan
from autohybrid.cli.job import (
    JOB,
    JOURNAL,
    MEASUREMENT,
    OUTCOME,
    PLAN,
    REPRODUCTIONS,
    STATIC_MODELS,
    Job,
    Outcome,
    Warmed,
)
from autohybrid.device import available_memory, clock, remember_environment, require_paddle
from autohybrid.errors import AutohybridError, ScriptError
from autohybrid.observe.arrival import Arrival, BegunT
from autohybrid.report.table import WIDEST, WIDTH

if TYPE_CHECKING:
    from autohybrid.observe.observer import Observer
    from autohybrid.runtime.applier import Applier
    from autohybrid.runtime.warmer import Warmer

_NO_PADDLE = "autohybrid: the script never imported Paddle."


def main() -> None:
    """Does the job in the directory, leaves its outcome there, and exits as the script did."""
    directory = Path(sys.argv[1])
    job = msgspec.json.decode((directory / JOB).read_bytes(), type=Job)
    try:
        logs.show(job.verbosity)
        if importlib.util.find_spec("paddle") is None:
            require_paddle()  # says what is missing
        outcome = _ACTIONS[job.action](job, directory)
    except AutohybridError as error:
        outcome = Outcome(
            script_exit_code=0,
            script_failed=False,
            interrupted=False,
            error=str(error),
            error_code=int(error.exit_code),
        )
    except KeyboardInterrupt:
        outcome = Outcome(script_exit_code=0, script_failed=False, interrupted=True)
    (directory / OUTCOME).write_bytes(msgspec.json.encode(outcome))
    sys.exit(outcome.script_exit_code)


def _profile(job: Job, directory: Path) -> Outcome:
    from autohybrid.observe import script
    from autohybrid.observe.deeds import Deeds

    command = script.Command(target=job.target, arguments=job.arguments, is_module=job.is_module)
    with _arrival_of_paddle(lambda: _observer(job)) as arrival:
        started = clock()
        with Deeds() as deeds:
            ending = script.run(command)
        seconds = clock() - started - arrival.seconds
    seen = arrival.begun.profile() if arrival.begun is not None else None
    outcome = Outcome(
        script_exit_code=ending.exit_code,
        script_failed=ending.failed or (ending.exit_code != 0 and not ending.interrupted),
        interrupted=ending.interrupted,
        obstacle=deeds.obstacle,
    )
    if seen is None or not seen.roots:
        if outcome.script_failed or outcome.interrupted:
            return outcome
        raise ScriptError(
            f"{job.target} calls no Layer in inference.",
            "Profile a script that calls its model without training it afterwards.",
        )
    from autohybrid import progress
    from autohybrid.search import memory
    from autohybrid.search.journal import Journal
    from autohybrid.search.options import Options
    from autohybrid.search.session import Session, environment

    options = msgspec.convert(job.options, Options)
    if outcome.script_failed or outcome.interrupted:
        # What was seen is still worth a report; a search isn't what somebody waits for now.
        options = dataclasses.replace(options, dry_run=True)
    journal = Journal(directory / JOURNAL, memory.place(seen, options, environment()))
    session = Session(
        profile=seen,
        options=options,
        script=plan.Script(command=command.shown(), seconds=seconds, exit_code=ending.exit_code),
        script_seconds=seconds,
        journal=journal,
        rerun=job.rerun,
    )
    with contextlib.ExitStack() as stack:
        if job.show_progress:
            session.progress = stack.enter_context(progress.shown())
        stack.enter_context(_interrupted_when_terminated())
        made = session.make_plan()
    if journal.recalled:
        print(f"autohybrid: {journal.recalled} (--fresh makes all of them.)", file=sys.stderr)
    outcome = msgspec.structs.replace(outcome, interrupted=outcome.interrupted or session.interrupted)
    plan.save(made, directory / PLAN)
    (directory / REPRODUCTIONS).mkdir(exist_ok=True)
    for name, text in session.reproductions.items():
        (directory / REPRODUCTIONS / name).write_text(text)
    return outcome


def _arrival_of_paddle(begin: Callable[[], AbstractContextManager[BegunT]]) -> Arrival[BegunT]:
    return Arrival("paddle", begin, ahead=remember_environment)


def _observer(job: Job) -> Observer:
    """What watches the script, once Paddle is there and the options have been found to make sense."""
    from autohybrid.observe.observer import Observer
    from autohybrid.search.options import Options

    require_paddle()
    options = msgspec.convert(job.options, Options)
    most_memory = options.max_memory or available_memory() // 2
    return Observer(max_calls=options.max_calls, keep_bytes=most_memory // 4)


def _warmer(job: Job) -> Warmer:
    from autohybrid.runtime.warmer import Warmer

    require_paddle()
    return Warmer(plan.load(job.plan))


def _measuring_observer() -> Observer:
    from autohybrid.observe.observer import Observer

    require_paddle()
    return Observer(max_calls=None, keep_bytes=available_memory() // 8)


def _applier(job: Job) -> Applier:
    from autohybrid.runtime.applier import Applier

    require_paddle()
    return Applier(plan.load(job.plan), release_weights=job.release_weights)


@contextlib.contextmanager
def _interrupted_when_terminated() -> Iterator[None]:
    """Within it a request to terminate is as Ctrl-C, whatever the script had made of both."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(job: Job, directory: Path) -> Outcome:
    del directory
    from autohybrid.observe import script

    command = script.Command(target=job.target, arguments=job.arguments, is_module=job.is_module)
    with _arrival_of_paddle(lambda: _applier(job)) as arrival:
        ending = script.run(command)
    if not job.quiet:
        told = [
            f"autohybrid: ran with {name}={value}, as the plan was measured." for name, value in job.variables.items()
        ]
        done = arrival.begun.summary(width=_width_of_stderr()) if arrival.begun is not None else _NO_PADDLE
        _tell("\n".join([*told, done]))
    return Outcome(script_exit_code=ending.exit_code, script_failed=ending.failed, interrupted=ending.interrupted)


def _warm(job: Job, directory: Path) -> Outcome:
    from autohybrid.observe import script

    command = script.Command(target=job.target, arguments=job.arguments, is_module=job.is_module)
    with _arrival_of_paddle(lambda: _warmer(job)) as arrival:
        ending = script.run(command)
    found = arrival.begun.warmed() if arrival.begun is not None else []
    warmed = [Warmed(region=each.region, engine=each.engine, stored=each.stored, told=each.told) for each in found]
    return Outcome(
        script_exit_code=ending.exit_code, script_failed=ending.failed, interrupted=ending.interrupted, warmed=warmed
    )


def _measure(job: Job, directory: Path) -> Outcome:
    from autohybrid.observe import script
    from autohybrid.observe.deeds import Deeds

    command = script.Command(target=job.target, arguments=job.arguments, is_module=job.is_module)
    with _arrival_of_paddle(_measuring_observer) as arrival, Deeds() as deeds:
        ending = script.run(command)
    outcome = Outcome(
        script_exit_code=ending.exit_code,
        script_failed=ending.failed or (ending.exit_code != 0 and not ending.interrupted),
        interrupted=ending.interrupted,
        obstacle=deeds.obstacle,
    )
    if outcome.script_failed or outcome.interrupted:
        return outcome
    if arrival.begun is None:
        raise ScriptError(
            f"No Layer was called in inference: {job.target} never imports Paddle.",
            "Measure the script that was profiled.",
        )
    from autohybrid.runtime.equality import Tolerance
    from autohybrid.search.again import Again

    seen = arrival.begun.profile()
    if any(root.training_calls for root in seen.roots):
        outcome = msgspec.structs.replace(outcome, obstacle=outcome.obstacle or "it trained")
    again = Again(
        plan=plan.load(job.plan),
        profile=seen,
        tolerance=Tolerance(rtol=job.options["rtol"], atol=job.options["atol"]),
        min_gain=job.options["min_gain"],
    )
    with _interrupted_when_terminated():
        (directory / MEASUREMENT).write_bytes(msgspec.json.encode(again.measured()))
    return outcome


def _export(job: Job, directory: Path) -> Outcome:
    from autohybrid.observe import script

    command = script.Command(target=job.target, arguments=job.arguments, is_module=job.is_module)
    with _arrival_of_paddle(lambda: _applier(job)) as arrival:
        ending = script.run(command)
        outcome = Outcome(
            script_exit_code=ending.exit_code,
            script_failed=ending.failed or (ending.exit_code != 0 and not ending.interrupted),
            interrupted=ending.interrupted,
        )
        if outcome.script_failed or outcome.interrupted:
            return outcome
        found = arrival.begun
        if found is None or not found.models:
            done = found.summary() if found is not None else _NO_PADDLE
            raise ScriptError(f"{job.target} calls no model of the plan.\n{done}", "Run the script that was profiled.")
        from autohybrid.exports.static import export_static

        written = export_static(found.models, directory / STATIC_MODELS)
    for region, why in written.left_out:
        print(f"autohybrid: the region {region} is left out: {why}.", file=sys.stderr)
    return outcome


_ACTIONS = {"profile": _profile, "run": _run, "measure": _measure, "export": _export, "warm": _warm}


def _tell(text: str) -> None:
    """Writes to stderr, if the script has left one open."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)


def _width_of_stderr() -> int:
    try:
        return max(66, min(os.get_terminal_size(sys.stderr.fileno()).columns, WIDEST))
    except (OSError, ValueError, AttributeError):
        return WIDTH


if __name__ == "__main__":
    main()
