"""The math threads of a plan and of a process: what must be said before Paddle is imported, and what comes too late.

``import paddle`` sets ``OMP_NUM_THREADS=1`` unless it is set, and OpenMP reads it once. Later a count can be told to
the calling thread only (``paddle.base.core.set_num_threads``); eager operators of all other threads, and regions that
use as many threads as eager does, have what the environment said.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from autohybrid import device
from autohybrid.plan import Model, Plan

PADDLES_OWN = 1
"""What importing Paddle sets where nobody has set anything."""


def wanted(plan: Plan) -> int:
    """The math threads that eager had when the plan was measured, as far as there are cores for them here."""
    return min(plan.environment.math_threads, device.cores_granted())


def variables_for(plan: Plan) -> dict[str, str]:
    """What this environment lacks for a process that is yet to import Paddle and is to run the plan as it was measured.

    What the user has set stays.
    """
    if os.environ.get(device.MATH_THREADS) or not plan.recommends_change or wanted(plan) == PADDLES_OWN:
        return {}
    return {device.MATH_THREADS: str(wanted(plan))}


def difference(plan: Plan) -> str:
    """Where this process, which has imported Paddle, runs the plan with other threads than it was measured with.

    With the remedy; empty where nothing differs that the plan's regions or what is between them would notice.
    """
    if device.on_gpu() or not any(map(_depends_on_eagers, plan.models)):
        return ""
    here, there = device.math_threads(), wanted(plan)
    if here == there:
        return ""
    return (
        f"The plan was measured with {_counted(plan.environment.math_threads)}, this process has {here}, and it is too "
        f"late to change that: set {device.MATH_THREADS}={there} before Python starts, use 'autohybrid run', or "
        f"profile again with {device.MATH_THREADS}={here}."
    )


def notes(plan: Plan) -> tuple[str, ...]:
    """What must be known of this process's threads where it uses the plan, each in a sentence."""
    return tuple([note for note in (difference(plan), fewer_threads(plan)) if note])


def untold(found: Iterable[str]) -> list[str]:
    """Those of the notes that nobody has been told in this process; from now on they count as told."""
    new = [note for note in found if note not in _told]
    _told.update(new)
    return new


_told: set[str] = set()


def fewer_threads(plan: Plan) -> str:
    """Where regions get fewer threads than the plan gives them, and why; empty where none does."""
    most, here = max(_threads_of(plan), default=0), device.most_math_threads()
    if most <= here or device.on_gpu():
        return ""
    cores = device.cores_granted()
    why = "one a core that may be used" if here == cores else f"which {device.MATH_THREADS} was set to"
    return f"The plan's regions were measured with {_counted(most)}; they get {here}, {why}."


def _threads_of(plan: Plan) -> list[int]:
    return [
        region.options["threads"]
        for model in plan.models
        for region in model.regions
        if isinstance(region.options.get("threads"), int)
    ]


def _depends_on_eagers(model: Model) -> bool:
    """Whether a region has as many threads as eager, or something beside the regions is eager."""
    told = all("threads" in region.options for region in model.regions)
    return bool(model.regions) and not (
        told and any(region.path == "" and region.kind == "layer" for region in model.regions)
    )


def _counted(threads: int) -> str:
    return f"{threads} math thread{'s' if threads != 1 else ''}"
