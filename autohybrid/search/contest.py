"""Two sets of regions on one root, measured in turn: which is the better, and what a region contributes to its set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from autohybrid.observe.profile import RootProfile
from autohybrid.plan import Region, Samples
from autohybrid.runtime import attach
from autohybrid.runtime.attach import Placed
from autohybrid.runtime.equality import Tolerance
from autohybrid.search.confirm import ROUNDS_TO_PROVE, call_kept, root_call
from autohybrid.search.sampling import Side, have_threads, interleaved
from autohybrid.store import Store


class Contested(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a root call with ``other`` in place (``eager``) and with ``one`` (``hybrid``); ``idle`` are regions
    that answered from eager."""

    samples: Samples
    idle: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What is compared; regions in both sets stay in place all the time. :meth:`conduct` runs in a child."""

    root: RootProfile
    one: Sequence[Region]
    other: Sequence[Region]
    tolerance: Tolerance
    least_difference: float
    measuring_seconds: float
    store: Store | None = None

    def conduct(self) -> Contested:
        shared = self._placed([region for region in self.one if region in self.other])
        sides: list[list[Placed]] = []
        try:
            for regions, others in ((self.other, self.one), (self.one, self.other)):
                sides.append(self._placed([region for region in regions if region not in others]))
                self._prove([*shared, *sides[-1]])
                for place in sides[-1]:
                    place.lift()
            idle = [place.region.planned.name for side in sides for place in side if not place.region.hybrid_calls]
            samples = Samples(eager=[], hybrid=[]) if idle else self._measured(*sides)
        finally:
            for place in [*shared, *(place for side in sides for place in side)]:
                place.lift()
                place.region.close()
        return Contested(samples=samples, idle=idle)

    def _placed(self, regions: Sequence[Region]) -> list[Placed]:
        layer, proofs = self.root.layer, attach.DEFAULT_PROOFS
        return [attach.place(layer, region, self.tolerance, proofs, self.store) for region in regions]

    def _prove(self, placed: Sequence[Placed]) -> None:
        for _ in range(ROUNDS_TO_PROVE):
            call_kept(self.root)
            if all(place.region.hybrid_calls for place in placed):
                return

    def _measured(self, other: Sequence[Placed], one: Sequence[Placed]) -> Samples:
        wall_clock = have_threads([each.options for each in (*self.one, *self.other)])
        called = root_call(self.root, wall_clock=wall_clock)

        def with_regions(placed: Sequence[Placed]) -> Side:
            def measured(again: bool) -> float:
                for place in placed:
                    place.put()
                try:
                    return called(again)
                finally:
                    for place in placed:
                        place.lift()

            return measured

        return interleaved(
            with_regions(other),
            with_regions(one),
            min_gain=self.least_difference,
            seconds=self.measuring_seconds,
        )
