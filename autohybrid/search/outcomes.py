"""What can come of a trial, each with its evidence. These are values: they go through pipes and journals as JSON."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from autohybrid.plan import Equality, Samples


class Converted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It converts and answers as eager does; ``samples`` say whether it gains. ``twins`` are the paths of Layers of
    the same class, structure and signature, for which this trial stands too; ``checked_on`` the one of them on which it
    was checked (without agreeing, when there are no twins), empty for none. ``guarded`` says that Python values of the
    forward decide which way it goes: another way needs another conversion."""

    inputs: Any
    outputs: Any
    training_mode: str
    equality: Equality
    samples: Samples
    conversion_seconds: float
    extra_memory: int
    twins: list[str]
    other_sizes: list[Any] = []
    checked_on: str = ""
    guarded: bool = False


class Wrong(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It converts, and answers otherwise than eager."""

    detail: str
    equality: Equality
    inputs: Any


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The conversion raised. ``exported`` says that what the engine's options work on had been made: others may do."""

    detail: str
    evidence: str
    inputs: Any
    exported: bool


class Crashed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The process died, twice, each time with this as the first conversion tried in it."""

    detail: str
    evidence: str


class TimedOut(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It did not come to an end within its time or memory."""

    detail: str
    evidence: str


class Unfit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Eager itself shows that no conversion can be right: random results, state kept, inputs changed, training mode,
    or nothing to convert. ``reason`` is the code of it."""

    reason: str
    detail: str


class Runner(msgspec.Struct, frozen=True, kw_only=True):
    """An alternative in a race: what was wrong with it, or its last samples (``hybrid``) beside the present best's
    (``eager``), and how many rounds it stayed in."""

    engine: str
    options: dict[str, Any]
    problem: str
    samples: Samples | None
    rounds: int


class Raced(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Alternatives raced against the present best; ``winner`` is the place of the one that is certainly faster, in
    ``runners``. ``detail`` says why there was no race, or is empty."""

    runners: list[Runner]
    winner: int | None = None
    detail: str = ""


Outcome: TypeAlias = Converted | Wrong | Failed | Crashed | TimedOut | Unfit
