"""The main job from a running process: a notebook, or a program of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from autohybrid import device, progress
from autohybrid.device import clock
from autohybrid.errors import ScriptError, UsageError
from autohybrid.observe.observer import Observer
from autohybrid.plan import Plan, load
from autohybrid.plan.measurement import Measurement
from autohybrid.report.measurement import Checked, gates
from autohybrid.runtime.equality import Tolerance
from autohybrid.search import memory
from autohybrid.search.again import Again
from autohybrid.search.journal import Journal
from autohybrid.search.options import Options
from autohybrid.search.session import Session, environment

OBSERVED_CALLS = 6
"""How often the callable is called to be observed: hooked and unhooked calls are both needed."""


def profile(model_or_callable: Callable[..., Any], *args: Any, options: Options | None = None, **kwargs: Any) -> Plan:
    """Profiles a model, or a function that calls one, and returns the plan.

    The callable is called a few times with the arguments; trials run in child processes, this process and its models
    stay as they are.

    A notebook shows a bar meanwhile, a terminal a line on stderr.

    Args:
        model_or_callable: a ``paddle.nn.Layer``, or any callable that calls Layers.
        options: see :class:`autohybrid.Options`; every other argument goes to the callable.

    Raises:
        UsageError: the first argument can't be called.
        ScriptError: it calls no Layer in inference.
        SetupError: no Paddle, or trials can't be isolated (then ``isolation="none"`` tries them in this process).
    """
    wanted = options or Options()
    if not callable(model_or_callable):
        raise UsageError(f"autohybrid.profile needs a Layer or a callable, got {type(model_or_callable).__name__}.")
    most_memory = wanted.max_memory or device.available_memory() // 2
    started = clock()
    with Observer(max_calls=wanted.max_calls, keep_bytes=most_memory // 4) as observer:
        for _ in range(OBSERVED_CALLS):
            model_or_callable(*args, **kwargs)
    seconds = clock() - started
    seen = observer.profile()
    if not seen.roots:
        raise ScriptError(
            "The callable calls no Layer in inference.", "Profile the code that calls the model, without training it."
        )
    session = Session(
        profile=seen,
        options=wanted,
        script=None,
        script_seconds=seconds,
        journal=Journal(memory=memory.place(seen, wanted, environment())),
        reproduces=wanted.reproductions is not None,
    )
    with progress.shown() as session.progress:
        plan = session.make_plan()
    if wanted.reproductions is not None:
        directory = Path(wanted.reproductions)
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in session.reproductions.items():
            (directory / name).write_text(text, encoding="utf-8")
    return plan


def bench(model_or_callable: Callable[..., Any], *args: Any, plan: str | Path | Plan, **kwargs: Any) -> Measurement:
    """Measures a plan again: each root that the callable calls, hybrid in turn with eager, in child processes.

    Args:
        model_or_callable: a ``paddle.nn.Layer``, or any callable that calls Layers; gets the other arguments.
        plan: a file, or a plan that was loaded.

    Raises:
        ScriptError: it calls no Layer in inference.
        PlanError, SetupError: the plan can't be read, or asks for an engine that can't be had here.
    """
    content = plan if isinstance(plan, Plan) else load(plan)
    return _again(content, content.settings.min_gain, lambda: model_or_callable(*args, **kwargs))


def check(
    model_or_callable: Callable[..., Any],
    *args: Any,
    plan: str | Path | Plan,
    min_speedup: float | None = None,
    **kwargs: Any,
) -> Checked:
    """Like :func:`bench`, held against the gates: still applies, still equal, still faster (steady).

    Args:
        min_speedup: what the lower limit of the speedup must reach; by default what the plan was made for.

    Raises:
        As :func:`bench`.
    """
    content = plan if isinstance(plan, Plan) else load(plan)
    least = content.settings.min_gain if min_speedup is None else min_speedup
    found = _again(content, max(1.0, least), lambda: model_or_callable(*args, **kwargs))
    return Checked(gates=gates(found, min_speedup=least, objective="steady"), measurement=found)


def _again(plan: Plan, min_gain: float, call: Callable[[], Any]) -> Measurement:
    with Observer(max_calls=None, keep_bytes=device.available_memory() // 8) as observer:
        for _ in range(OBSERVED_CALLS):
            call()
    tolerance = Tolerance(rtol=plan.settings.rtol, atol=plan.settings.atol)
    return Again(plan=plan, profile=observer.profile(), tolerance=tolerance, min_gain=min_gain).measured()
