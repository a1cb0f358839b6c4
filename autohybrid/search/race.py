"""Several conversions of one candidate against each other, in one child: proven first, then measured in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from autohybrid.observe.profile import KeptCall
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import State
from autohybrid.search.halving import WORTH_CHANGING, halved
from autohybrid.search.outcomes import Raced, Runner
from autohybrid.search.sampling import have_threads, in_turn
from autohybrid.search.trial import Trial, proven


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What is raced: the trial of the present best, and those of its alternatives.

    ``inputs`` and ``training_mode`` are what the present best was converted with; ``seconds`` what a lap of the first
    round takes at most; when the laps have taken ``longest`` seconds, no further round begins.
    """

    best: Trial
    others: Sequence[Trial]
    inputs: Any
    training_mode: str
    seconds: float
    longest: float

    def conduct(self) -> Raced:
        """Converts and proves all of them, then has those that are right race. Leaves nothing behind."""
        different = self.best.different_inputs()
        regions: list[Region] = []
        try:
            return self._raced(different, regions)
        finally:
            for region in regions:
                region.close()

    def _raced(self, different: Sequence[KeptCall], regions: list[Region]) -> Raced:
        problems = []
        for trial in (self.best, *self.others):
            regions.append(trial.region(trial.candidate, different, self.inputs, self.training_mode))
            problems.append(_problem(regions[-1], different))
        if problems[0]:
            return Raced(runners=[], detail=f"what is in use could not be converted again: {problems[0]}")
        args, kwargs = different[0].fresh_arguments()

        def called(region: Region) -> Callable[[], Any]:
            return lambda: region(*args, **kwargs)

        wall_clock = have_threads([trial.options for trial in (self.best, *self.others)])
        with paddle.set_grad_enabled(different[0].gradients):
            winner, laps = halved(
                [at for at, problem in enumerate(problems) if at and not problem],
                lambda at, seconds: in_turn(
                    called(regions[0]),
                    called(regions[at]),
                    min_gain=WORTH_CHANGING,
                    seconds=seconds,
                    wall_clock=wall_clock,
                ),
                self.seconds,
                self.longest,
            )
        runners = [
            Runner(
                engine=trial.engine.name,
                options=trial.options,
                problem=problem,
                samples=laps[at].samples if at in laps else None,
                rounds=laps[at].rounds if at in laps else 0,
            )
            for at, (trial, problem) in enumerate(zip(self.others, problems[1:], strict=True), start=1)
        ]
        return Raced(runners=runners, winner=None if winner is None else winner - 1)


def _problem(region: Region, different: Sequence[KeptCall]) -> str:
    """Why a region can't take part; empty when it is right."""
    variant = proven(region, different)
    if isinstance(variant, str):
        return variant
    return "" if variant.state is State.SERVING else variant.reason
