"""What more math threads alone would do for eager: a gain that is no conversion's."""

from __future__ import annotations

from dataclasses import dataclass

from autohybrid import device
from autohybrid.observe.profile import RootProfile
from autohybrid.plan import Samples
from autohybrid.search.confirm import FEWEST_PAIRS, root_call
from autohybrid.search.sampling import Side, interleaved

MOST_PAIRS = 2 * FEWEST_PAIRS
"""There is no verdict to come to: the gain of the regions is set beside it."""

CALLS = 5 * MOST_PAIRS
"""Root calls that it takes at most: two in each pair, one with another before it that isn't counted; some to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerThreads:
    """Eager with so many threads beside eager as the script runs it. :meth:`conduct` runs in a child."""

    root: RootProfile
    threads: int
    min_gain: float
    measuring_seconds: float

    def conduct(self) -> Samples:
        """Seconds per root call, by the wall clock: with threads of its own, waiting can't be told from working."""
        call = root_call(self.root, wall_clock=True)

        def with_threads(count: int) -> Side:
            def called(again: bool) -> float:
                device.set_math_threads(count)
                return call(again)

            return called

        try:
            with_threads(self.threads)(False)  # the threads are made at the first call
            return interleaved(
                with_threads(device.math_threads()),
                with_threads(self.threads),
                min_gain=self.min_gain,
                seconds=self.measuring_seconds,
                fewest=FEWEST_PAIRS,
                most=MOST_PAIRS,
            )
        finally:
            device.set_math_threads(device.math_threads())
