"""Measures the chosen set together, on the whole root: baseline and hybrid in turn, answers compared."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import paddle

from autohybrid.observe.profile import KeptCall, RootProfile
from autohybrid.plan import Equality, Region, Samples
from autohybrid.runtime import attach
from autohybrid.runtime.attach import Placed
from autohybrid.runtime.equality import Difference, Tolerance, difference, judged_with_noise, noise_of, tolerance_for
from autohybrid.search.sampling import Side, duration, have_threads, interleaved
from autohybrid.search.trial import equality_of
from autohybrid.store import Store
from autohybrid.structure import Tensor, flatten, signature

ROUNDS_TO_PROVE = 4
"""Rounds through the kept inputs after which a region that still hasn't answered counts as idle."""

TIMES_TO_REPEAT = 8
"""So often eager is asked the same where the root's answer differs: chance may change a choice only now and then."""

FEWEST_PAIRS = 10

PATIENCE = 3.0
"""So many times as long is measured, at most, where the gain on the whole isn't clear yet."""


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """One process's measurement of a set of regions on its root.

    ``idle`` are the paths whose regions answered from eager after all, with the reason; ``problem`` says how the root's
    answers differed, empty when they were equal.
    """

    samples: Samples
    equality: Equality
    problem: str
    idle: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What is confirmed, with what ``store`` has of it. :meth:`conduct` runs in a child."""

    root: RootProfile
    regions: Sequence[Region]
    tolerance: Tolerance
    min_gain: float
    measuring_seconds: float
    store: Store | None = None

    def conduct(self) -> Confirmed:
        layer = self.root.layer
        proofs = attach.DEFAULT_PROOFS
        placed = [attach.place(layer, region, self.tolerance, proofs, self.store) for region in self.regions]
        try:
            return self._judged(placed)
        finally:
            # Without isolation this is the script's own process, and the next measurement starts from eager.
            for place in placed:
                place.lift()
                place.region.close()

    def _judged(self, placed: Sequence[Placed]) -> Confirmed:
        for _ in range(ROUNDS_TO_PROVE):
            call_kept(self.root)
            if all(place.region.hybrid_calls for place in placed):
                break
        regions = [place.region for place in placed]
        idle = {each.planned.name: ", ".join(each.eager_calls) for each in regions if not each.hybrid_calls}
        found, compared = self._compared(placed)
        samples = self._measured(placed) if found.equal and not idle else Samples(eager=[], hybrid=[])
        return Confirmed(
            samples=samples,
            equality=equality_of(found, compared),
            problem=found.problem,
            idle=idle,
        )

    def _compared(self, placed: Sequence[Placed]) -> tuple[Difference, int]:
        """The worst difference of the root's answers, and how many could be compared.

        A root with state or chance gives another answer at each call, in eager too: there the regions' own
        comparisons, on identical inputs, have to do.
        """
        worst, compared = Difference(), 0
        tolerance = self.tolerance
        for region in self.regions:
            tolerance = tolerance_for(tolerance, region.options)
        for call in self.root.kept:
            with _lifted(placed):
                expected = _tensors(_answer(self.root.layer, call))
            found = difference(expected, _tensors(_answer(self.root.layer, call)), tolerance)
            if found.out_of_tolerance:
                with _lifted(placed):
                    noise = noise_of(lambda inputs, call=call: self._eager(call, inputs), call.tensors, expected)  # type: ignore[misc]
                found = judged_with_noise(found, noise)
            if not found.equal and not self._repeats(call, placed, tolerance):
                continue
            compared += 1
            worst = max(worst, found, key=lambda each: (not each.equal, each.error))
        return worst, compared

    def _repeats(self, call: KeptCall, placed: Sequence[Placed], tolerance: Tolerance) -> bool:
        """Whether eager gives one call the same answer each time."""
        with _lifted(placed):
            first, *others = (_tensors(_answer(self.root.layer, call)) for _ in range(TIMES_TO_REPEAT))
        return all(difference(first, other, tolerance).equal for other in others)

    def _eager(self, call: KeptCall, tensors: Sequence[Tensor]) -> list[Tensor]:
        moved = replace(call, tensors=tensors)
        return _tensors(_answer(self.root.layer, moved))

    def _measured(self, placed: Sequence[Placed]) -> Samples:
        """Seconds per root call, the kept calls weighted as the script makes them."""
        hybrid = root_call(self.root, wall_clock=have_threads([each.options for each in self.regions]))

        def baseline(again: bool) -> float:
            with _lifted(placed):
                return hybrid(again)

        return interleaved(
            baseline,
            hybrid,
            min_gain=self.min_gain,
            seconds=self.measuring_seconds,
            patience=PATIENCE * self.measuring_seconds,
            fewest=FEWEST_PAIRS,
        )


def call_kept(root: RootProfile) -> None:
    """Makes each kept call of a root once."""
    for call in root.kept:
        _answer(root.layer, call)


def root_call(root: RootProfile, *, wall_clock: bool = False) -> Side:
    """What calls a root with each size of its kept inputs and gives the seconds of a call, weighted as they came."""
    calls = _of_each_size(root.kept)
    weights = sum(weight for _, weight in calls)
    prepared = [(call, weight / weights, *call.fresh_arguments()) for call, weight in calls]

    def called(again: bool) -> float:
        seconds = 0.0
        for call, weight, args, kwargs in prepared:
            function = call.callable_of(root.layer)
            with paddle.set_grad_enabled(call.gradients):
                action = functools.partial(function, *args, **kwargs)
                seconds += weight * duration(action, wall_clock=wall_clock, again=again)
            again = True
        return seconds

    return called


def _of_each_size(kept: Sequence[KeptCall]) -> list[tuple[KeptCall, float]]:
    """One call of each structure and size, with the weight of all alike: other values take the same time."""
    found: dict[Any, tuple[KeptCall, float]] = {}
    for call in kept:
        key = (
            call.function,
            call.arguments,
            signature(call.tensors),
            tuple([tuple(tensor.shape) for tensor in call.tensors]),
        )
        first, weight = found.get(key, (call, 0.0))
        found[key] = (first, weight + call.weight)
    return list(found.values())


def _answer(layer: Any, call: KeptCall) -> Any:
    with paddle.set_grad_enabled(call.gradients):
        return call.answer(layer)


def _tensors(answer: Any) -> list[Tensor]:
    return flatten(answer)[0]


class _lifted:
    """Takes regions out for a moment, so that the baseline is the script as it is, without even our bypass."""

    def __init__(self, placed: Sequence[Placed]) -> None:
        self._placed = placed

    def __enter__(self) -> None:
        for place in self._placed:
            place.lift()

    def __exit__(self, *_: object) -> None:
        for place in self._placed:
            place.put()
