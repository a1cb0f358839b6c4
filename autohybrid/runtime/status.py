"""What the regions in a model have done, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autohybrid.report.html import fragment
from autohybrid.report.table import plain_table
from autohybrid.runtime.attach import Unplaced, notes_on, regions_of, unplaced_in
from autohybrid.runtime.region import Region
from autohybrid.runtime.released import NOTHING
from autohybrid.runtime.variant import State
from autohybrid.sizes import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionStatus:
    """How one region is doing.

    Attributes:
        state: ``"waiting"`` (no call yet), ``"proving"``, ``"hybrid"``, ``"eager"``, or ``"not placed"`` where the
            source has no such place any more.
        hybrid_calls: calls that a conversion answered.
        eager_calls: calls that eager answered; ``reasons`` the same by reason.
        conversions: how many are held.
        predictors: how many instances of them threads have.
        weight_bytes: what those hold of weights, at least.
        store: how the store took part in each conversion: ``"from the store"``, or ``"stored"`` or ``"not stored"``
            with the fields that differed, or the reason.
        released_bytes: weights that were moved to a file (``release_weights``).
        kept: bytes of weights that were to be moved and stay in memory, by the reason.
    """

    path: str
    engine: str
    state: str
    hybrid_calls: int
    eager_calls: int
    reasons: dict[str, int]
    conversions: int
    predictors: int
    weight_bytes: int
    store: tuple[str, ...]
    released_bytes: int = 0
    kept: Mapping[str, int] = field(default_factory=dict)


_HEADERS = ["region", "engine", "state", "hybrid", "eager", "why eager"]
_ALIGNMENT = "lllrrl"


@dataclass(frozen=True, slots=True)
class Status:
    """The regions of a model, and what must be known of how they run in this process; prints as a table."""

    regions: tuple[RegionStatus, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.regions:
            return "No regions: this model is eager."
        return f"{plain_table(self._rows(), _HEADERS, _ALIGNMENT)}\n{self._held()}"

    def _repr_html_(self) -> str:
        if not self.regions:
            return fragment.block(str(self))
        return fragment.block(fragment.cells(_HEADERS, self._rows(), _ALIGNMENT), self._held())

    def _rows(self) -> list[list[str]]:
        return [
            [
                each.path or "(root)",
                each.engine,
                each.state,
                str(each.hybrid_calls),
                str(each.eager_calls),
                _reasons(each),
            ]
            for each in self.regions
        ]

    def _held(self) -> str:
        held = sum(each.weight_bytes for each in self.regions)
        conversions = counted(sum(each.conversions for each in self.regions), "conversion")
        predictors = counted(sum(each.predictors for each in self.regions), "predictor")
        weights = f", at least {held / 2**20:.1f} MiB of weights" if held else ""
        first = f"{conversions} in {predictors}{weights}"
        return "\n".join([first, *told_of_weights(self.regions), *self.notes])


def told_of_weights(regions: Sequence[RegionStatus]) -> Iterator[str]:
    """What was moved to a file, and what not, a line each."""
    freed = sum(each.released_bytes for each in regions)
    if freed:
        yield f"{freed / 2**20:.1f} MiB of the Layers' weights moved to a file"
    for each in regions:
        for why, size in each.kept.items():
            yield f"{each.path or '(root)'}: {size / 2**20:.1f} MiB stay in memory: {why}"


def _reasons(region: RegionStatus) -> str:
    return ", ".join(f"{reason} ({count})" if count else reason for reason, count in region.reasons.items())


def status(model: Any) -> Status:
    """What the regions in ``model`` have done so far."""
    placed, unplaced = map(_status_of, regions_of(model)), map(_status_of_unplaced, unplaced_in(model))
    return Status((*placed, *unplaced), notes_on(model))


def _status_of_unplaced(found: Unplaced) -> RegionStatus:
    return RegionStatus(
        path=found.planned.name,
        engine=found.planned.engine,
        state="not placed",
        hybrid_calls=0,
        eager_calls=0,
        reasons={found.why: 0},
        conversions=0,
        predictors=0,
        weight_bytes=0,
        store=(),
    )


def _status_of(region: Region) -> RegionStatus:
    released = region.released or NOTHING
    states = {variant.state for variant in region.variants}
    held = [variant.executable for variant in region.variants if variant.executable is not None]
    if State.SERVING in states:
        state = "hybrid"
    elif State.PROVING in states or State.NEW in states:
        state = "proving"
    else:
        state = "eager" if states or region.eager_calls else "waiting"
    return RegionStatus(
        path=region.path,
        engine=region.recipe.engine.name,
        state=state,
        hybrid_calls=region.hybrid_calls,
        eager_calls=sum(region.eager_calls.values()),
        reasons=dict(region.eager_calls),
        conversions=len(held),
        predictors=sum(getattr(each, "predictors", 1) for each in held),
        weight_bytes=sum(getattr(each, "weight_bytes", 0) for each in held),
        store=tuple([variant.store_note for variant in region.variants if variant.store_note]),
        released_bytes=released.freed,
        kept=released.kept,
    )
