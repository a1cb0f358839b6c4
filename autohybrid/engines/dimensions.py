"""What can be chosen about a conversion: each engine declares it as data, the search tries it, knowing none by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autohybrid import device
from autohybrid.engines.interface import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where conversions run, and what is allowed there.

    Attributes:
        gpu: whether Paddle's current device is one.
        math_threads: what eager uses on a CPU.
        threads: the most that a conversion may use on a CPU, at least ``math_threads``.
        precisions: what was allowed besides float32, as far as this machine computes with it.
        cinn: whether this Paddle has the CINN compiler.
        tensorrt: whether this Paddle has TensorRT.
        starts: whether what conversions cost at a start counts, and not only what a call takes.
    """

    gpu: bool = False
    math_threads: int = 1
    threads: int = 1
    precisions: tuple[str, ...] = ()
    cinn: bool = False
    tensorrt: bool = False
    starts: bool = False


def this_machine(*, threads: int | None = None, precisions: Sequence[str] = (), starts: bool = False) -> Machine:
    """The machine that this process runs on; ``threads`` None for what the script itself runs with."""
    paddle, own = device.require_paddle(), device.math_threads()
    on_gpu = device.on_gpu()
    version = paddle.inference.get_trt_compile_version()
    return Machine(
        gpu=on_gpu,
        math_threads=own,
        threads=max(own, min(threads or own, device.most_math_threads())),
        precisions=tuple(name for name in precisions if name in device.lower_precisions()),
        cinn=paddle.is_compiled_with_cinn(),
        tensorrt=on_gpu and any(version),
        starts=starts,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Options that may be better than an engine's defaults.

    Attributes:
        options: what differs from the defaults.
        hope: how many times as fast as with the defaults it may be at best; 1 where it is never faster.
        cures: whether it is known to put right what the defaults convert wrongly, or not at all.
        lean: whether it holds less memory than the defaults; tried where that is limited.
        alone: whether it takes the cores from everything else in the process, so that it is only for a region in which
            nearly all time goes.
        short: whether what it saves is the same for each operator, however little that computes, so that it is only
            for regions whose calls are short.
    """

    options: dict[str, Any]
    hope: float = 1.0
    cures: bool = False
    lean: bool = False
    alone: bool = False
    short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A choice that an engine offers: its defaults, or one of the ``alternatives`` that a machine allows."""

    name: str
    alternatives: Callable[[Machine], Sequence[Alternative]]


def on_cpu(*alternatives: Alternative) -> Callable[[Machine], Sequence[Alternative]]:
    """The same alternatives on every CPU, none on a GPU."""
    return lambda machine: () if machine.gpu else alternatives


def on_gpu(*alternatives: Alternative) -> Callable[[Machine], Sequence[Alternative]]:
    """The same alternatives on every GPU, none on a CPU."""
    return lambda machine: alternatives if machine.gpu else ()


def _other_threads(machine: Machine) -> Sequence[Alternative]:
    if machine.gpu:
        return ()
    # To share out a small operator takes longer than to compute it.
    one = [Alternative(options={"threads": 1}, hope=1.2, short=True)] if machine.math_threads > 1 else []
    counts = {machine.threads, *(2**power for power in range(1, 10) if 2**power < machine.threads)}
    more = [
        Alternative(options={"threads": count}, hope=count / machine.math_threads)
        for count in sorted(counts)
        if count > machine.math_threads
    ]
    return [*one, *more]


def with_threads(*alternatives: Alternative) -> Callable[[Machine], Sequence[Alternative]]:
    """The same alternatives on every CPU of which a conversion may use several cores."""
    return lambda machine: () if machine.gpu or machine.threads == 1 else alternatives


THREADS = Dimension(name="threads", alternatives=_other_threads)
"""For engines with an option ``threads``: more than eager uses, by powers of two, where that was allowed; and one."""

PRECISION = Dimension(
    name="precision",
    alternatives=lambda machine: [Alternative(options={"precision": name}, hope=3.0) for name in machine.precisions],
)
"""For engines with an option ``precision``. Which tolerance holds then: :mod:`autohybrid.runtime.equality`."""


def attempts(engine: Engine, machine: Machine) -> list[dict[str, Any]]:
    """What to try one after another until it is right: the engine's defaults, then each alternative that cures."""
    return [{}, *(each.options for choice in engine.dimensions for each in choice.alternatives(machine) if each.cures)]


def lean(engine: Engine, machine: Machine) -> list[dict[str, Any]]:
    """The options with which an engine holds less memory."""
    return [each.options for choice in engine.dimensions for each in choice.alternatives(machine) if each.lean]


def combined(options: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Both together; where both have a list, the one with what it lacks of the other."""
    made = dict(options)
    for name, value in more.items():
        own = made.get(name)
        if isinstance(own, list) and isinstance(value, list):
            made[name] = [*own, *(each for each in value if each not in own)]
        else:
            made[name] = value
    return made
