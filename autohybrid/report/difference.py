"""What changed from one plan to another, as values: models matched by structure, regions by place."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from autohybrid.plan import Document, Model, Plan, Region, Rejected, load
from autohybrid.report.columns import engine_and_options
from autohybrid.report.rows import UNINTERESTING, RegionRow, WholeRow, region_row, whole_rows
from autohybrid.sizes import counted

Fate = Literal["came", "went", "changed", "same"]

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """A field that has another value in the second plan; both as text."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name} {self.before or 'none'} → {self.after or 'none'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionDifference:
    """A region in both plans, or in one of them (the other is None then).

    ``fate`` is ``changed`` when something other than measurements differs; ``changes`` says what.
    """

    name: str
    fate: Fate
    before: RegionRow | None
    after: RegionRow | None
    changes: tuple[FieldDifference, ...]

    @property
    def gain(self) -> Literal["up", "down", ""]:
        """Whether the confidence intervals of the two speedups lie apart, and which way."""
        return _apart(self.before, self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionDifference:
    """What was passed over in one plan only, or for another reason; ``""`` where it wasn't passed over.

    ``share`` is its part of the root's time, in the later of the plans that have it.
    """

    name: str
    fate: Fate
    before: str
    after: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDifference:
    """A model in both plans, or in one of them (the other's ``id`` is ``""`` then).

    ``structure`` names the first line in which two models of one class differ, empty where none does; ``before`` and
    ``after`` are the confirmations' hybrid rows, None without one; ``rejections`` is empty where one plan lacks the
    model.
    """

    before_id: str
    after_id: str
    structure: str
    before: WholeRow | None
    after: WholeRow | None
    regions: tuple[RegionDifference, ...]
    rejections: tuple[RejectionDifference, ...]

    @property
    def name(self) -> str:
        return self.after_id or self.before_id

    @property
    def fate(self) -> Fate:
        if not self.before_id:
            return "came"
        if not self.after_id:
            return "went"
        fates: list[Fate] = [each.fate for each in self.regions]
        return "same" if not self.structure and not self.rejections and set(fates) <= {"same"} else "changed"

    @property
    def gain(self) -> Literal["up", "down", ""]:
        """Whether the confidence intervals of the two speedups lie apart, and which way."""
        return _apart(self.before, self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDifference:
    """What changed from one plan to another; prints as a table.

    ``before`` and ``after`` are what the plans are called: their files' names, or "the first" and "the second".
    """

    before: str
    after: str
    environment: tuple[FieldDifference, ...]
    settings: tuple[FieldDifference, ...]
    models: tuple[ModelDifference, ...]

    @property
    def choice_changed(self) -> bool:
        """Whether another choice was made: a region came, went or changed."""
        return any(region.fate != "same" for model in self.models for region in model.regions)

    def headline(self) -> str:
        """The result in a sentence."""
        fates = Counter(region.fate for model in self.models for region in model.regions)
        if not fates:
            return "Neither plan has a region."
        if not self.choice_changed:
            return f"The same choice: {counted(fates['same'], 'region')}, none came, went or changed."
        words: dict[Fate, str] = {"came": "came", "went": "went", "changed": "changed", "same": "as before"}
        told = [f"{fates[fate]} {word}" for fate, word in words.items() if fates[fate]]
        return f"Regions: {', '.join(told)}."

    def __str__(self) -> str:
        from autohybrid.report.difference_formats import as_table

        return as_table(self)

    def _repr_html_(self) -> str:
        from autohybrid.report.difference_formats import as_html

        return as_html(self)


def diff(plan: Plan | str | os.PathLike[str], other: Plan | str | os.PathLike[str]) -> PlanDifference:
    """What changed from ``plan`` to ``other``; each is a plan or its file.

    Raises:
        PlanError: a file can't be read as a plan.
    """
    first, before = _loaded(plan, "the first plan")
    second, after = _loaded(other, "the second plan")
    return PlanDifference(
        before=before,
        after=after,
        environment=tuple(_fields(first.environment, second.environment)),
        settings=tuple(_fields(first.settings, second.settings)),
        models=tuple(_model(*pair) for pair in _paired_models(first.models, second.models)),
    )


def _loaded(plan: Plan | str | os.PathLike[str], otherwise: str) -> tuple[Plan, str]:
    return (plan, otherwise) if isinstance(plan, Plan) else (load(plan), os.fspath(plan))


def _fields(before: Document, after: Document) -> Iterator[FieldDifference]:
    for name in before.__struct_fields__:
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            yield FieldDifference(name=name, before=_shown(one), after=_shown(other))


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _paired(
    before: Sequence[ItemT], after: Sequence[ItemT], *keys: Callable[[ItemT], Any]
) -> Iterator[tuple[ItemT | None, ItemT | None]]:
    """Each item with the first that has the same key, by the first key that finds one; in the order of ``after``."""
    left, partners = list(before), dict[int, ItemT]()
    for key in keys:
        for place, item in enumerate(after):
            found = next((each for each in left if key(each) == key(item)), None)
            if place not in partners and found is not None:
                partners[place] = found
                left.remove(found)
    yield from ((partners.get(place), item) for place, item in enumerate(after))
    yield from ((item, None) for item in left)


def _paired_models(before: Sequence[Model], after: Sequence[Model]) -> Iterable[tuple[Model | None, Model | None]]:
    return _paired(
        before,
        after,
        lambda model: (model.fingerprint, model.id),
        lambda model: model.fingerprint,
        lambda model: model.class_name,
    )


def _model(before: Model | None, after: Model | None) -> ModelDifference:
    regions = _paired(
        before.regions if before else [],
        after.regions if after else [],
        lambda region: (region.kind, region.path, region.function, tuple(region.members)),
        lambda region: (region.path, region.function),
    )
    return ModelDifference(
        before_id=before.id if before else "",
        after_id=after.id if after else "",
        structure=_first_difference(before.structure, after.structure) if before and after else "",
        before=_hybrid(before),
        after=_hybrid(after),
        regions=tuple(_region(*pair) for pair in regions),
        rejections=tuple(_rejections(before, after)) if before and after else (),
    )


def _first_difference(before: Sequence[str], after: Sequence[str]) -> str:
    length = max(len(before), len(after))
    lines = zip([*before, *[""] * (length - len(before))], [*after, *[""] * (length - len(after))], strict=True)
    return next((f"{one or 'nothing'} → {other or 'nothing'}" for one, other in lines if one != other), "")


def _hybrid(model: Model | None) -> WholeRow | None:
    rows = whole_rows(model) if model is not None else []
    return rows[-1] if rows else None


def _region(before: Region | None, after: Region | None) -> RegionDifference:
    present = after or before
    assert present is not None, "pairs have at least one side"
    changes = tuple(_region_changes(before, after)) if before and after else ()
    return RegionDifference(
        name=present.name,
        fate="came" if before is None else "went" if after is None else "changed" if changes else "same",
        before=region_row(before) if before else None,
        after=region_row(after) if after else None,
        changes=changes,
    )


def _region_changes(before: Region, after: Region) -> Iterator[FieldDifference]:
    for name in ("kind", "engine", "training_mode"):
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            yield FieldDifference(name=name, before=one, after=other)
    if before.options != after.options:
        one, other = engine_and_options("", before.options), engine_and_options("", after.options)
        yield FieldDifference(name="options", before=one, after=other)
    if before.members != after.members:
        yield FieldDifference(name="members", before=_shown(before.members), after=_shown(after.members))
    if before.inputs != after.inputs:
        one, other = (counted(len(each.inputs), "argument structure") for each in (before, after))
        yield FieldDifference(name="inputs", before=one, after=other if one != other else f"{other}, another")
    if before.source_hash != after.source_hash:
        yield FieldDifference(name="source", before=before.source_hash[:8], after=after.source_hash[:8])


def _rejections(before: Model, after: Model) -> Iterator[RejectionDifference]:
    """What came, went or has another reason, of what is worth a line; the largest shares first."""
    one, other = _reasons(before), _reasons(after)
    found = []
    for name in {**other, **one}:
        was, now = one.get(name), other.get(name)
        if was and now and was[0] == now[0]:
            continue
        fate: Fate = "changed" if was and now else "came" if now else "went"
        share = (now or was or ("", 0.0))[1]
        reasons = (was[0] if was else "", now[0] if now else "")
        found.append(RejectionDifference(name=name, fate=fate, before=reasons[0], after=reasons[1], share=share))
    yield from sorted(found, key=lambda row: -row.share)


def _reasons(model: Model) -> dict[str, tuple[str, float]]:
    """The reasons of each candidate that was passed over for something worth a line, and its share."""
    reasons: dict[str, list[Rejected]] = {}
    for row in model.rejected:
        if row.reason not in UNINTERESTING:
            reasons.setdefault(row.name, []).append(row)
    return {
        name: (", ".join(sorted({row.reason for row in rejected})), rejected[0].share)
        for name, rejected in reasons.items()
    }


def _apart(before: RegionRow | WholeRow | None, after: RegionRow | WholeRow | None) -> Literal["up", "down", ""]:
    one = before.comparison if before is not None else None
    other = after.comparison if after is not None else None
    if one is None or other is None:
        return ""
    return "up" if other.low > one.high else "down" if other.high < one.low else ""
