"""Runs a script's models with a plan until all of its regions are converted and stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autohybrid import store
from autohybrid.errors import SetupError
from autohybrid.plan import Plan
from autohybrid.plan import Region as PlannedRegion
from autohybrid.runtime.applier import Applier
from autohybrid.runtime.attach import regions_of, unplaced_in
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import State


class Enough(SystemExit):
    """Ends the script, which has nothing to add: a request to exit, so that its own clean-up runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """A region of the plan: whether its conversions are in the store, and in words why not, or since when."""

    region: str
    engine: str
    stored: bool
    told: str


class Warmer:
    """Between ``__enter__`` and ``__exit__`` the plan is applied; once nothing is left to convert, the next end of a
    root's call raises :class:`Enough`.

    Raises:
        PlanError, SetupError: as :class:`Applier`, and where there is no store.
    """

    def __init__(self, plan: Plan) -> None:
        if store.default() is None:
            raise SetupError("There is no store to fill.", "AUTOHYBRID_CACHE names a directory for it, or is left out.")
        self._plan = plan
        self._applier = Applier(plan, after_call=self._look)
        # Models of one structure share their regions: whichever of them is called, stands for all.
        self._wanted = {(model.fingerprint, region.name): region for model in plan.models for region in model.regions}

    def __enter__(self) -> Warmer:
        self._applier.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._applier.__exit__()

    def warmed(self) -> list[Warmed]:
        """What came of each region."""
        return [self._warmed(planned) for planned in self._wanted.values()]

    def _look(self) -> None:
        if all(self._is_finished(planned) for planned in self._wanted.values()):
            raise Enough(0)

    def _is_finished(self, planned: PlannedRegion) -> bool:
        if self._why_unplaced(planned):
            return True
        ended = [variant for region in self._live(planned) for variant in region.variants if _has_ended(variant.state)]
        return len(ended) >= len(planned.inputs)

    def _live(self, planned: PlannedRegion) -> Iterator[Region]:
        for layer in self._applier.layers:
            yield from (region for region in regions_of(layer) if region.planned is planned)

    def _why_unplaced(self, planned: PlannedRegion) -> str:
        found = (each for layer in self._applier.layers for each in unplaced_in(layer) if each.planned is planned)
        return next((each.why for each in found), "")

    def _warmed(self, planned: PlannedRegion) -> Warmed:
        variants = [variant for region in self._live(planned) for variant in region.variants]
        notes = [variant.store_note for variant in variants]
        missing = [variant.reason or variant.store_note for variant in variants if not _is_stored(variant.store_note)]
        unplaced = self._why_unplaced(planned)
        if unplaced:
            told = f"not placed: {unplaced}"
        elif not variants:
            told = "not called by the script"
        elif missing:
            told = missing[0] or f"the engine {planned.engine} keeps nothing"
        elif len(variants) < len(planned.inputs):
            told = f"{len(variants)} of {len(planned.inputs)} argument structures were called"
        else:
            told = "stored" if any(note.startswith("stored") for note in notes) else "was there already"
        return Warmed(
            region=planned.name,
            engine=planned.engine,
            stored=bool(variants) and not missing and not unplaced and len(variants) >= len(planned.inputs),
            told=told,
        )


def _has_ended(state: State) -> bool:
    return state in (State.SERVING, State.REFUSED)


def _is_stored(note: str) -> bool:
    return note == "from the store" or note.startswith("stored")
