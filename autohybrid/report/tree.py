"""The Layer tree by time, eager and hybrid: what the chart draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autohybrid.plan import Model, RankedLayer, Region
from autohybrid.report.rows import layers, listed
from autohybrid.stats import median

Mark = Literal["eager", "region", "inside", "unlocks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A function of a Layer, or a region in its place.

    Args:
        name: what people call it.
        label: the last part of that.
        parent: the index of the box that it lies in, before it in the list; None for the outermost.
        own: seconds per root call that no box inside it accounts for. All boxes together are as long as the root's call
            was when the choice was confirmed, or while observing where nothing was.
        layer: its index in :func:`~autohybrid.report.rows.layers`; None for what isn't a Layer.
        region: the index of the region that it is; None for others.
        mark: whether it is converted, lies inside what is, would gain if its reason were mended, or just stays eager.
    """

    name: str
    label: str
    parent: int | None
    own: float
    layer: int | None
    region: int | None = None
    mark: Mark = "eager"


def eager_boxes(model: Model) -> list[Box]:
    """A box for each function of a Layer that was called; parents before children."""
    ranking = layers(model)
    parts = sum(row.self_seconds for row in ranking) or 1.0
    whole = median(model.confirmation.eager_samples()) if model.confirmation else model.seconds_per_call
    parents = _parents(model, ranking)
    order = _from_the_top(parents, _positions(model, ranking))
    places: dict[int | None, int] = {}
    mendable = {row.first.name for row in listed(model) if row.unlocks}
    boxes: list[Box] = []
    tops = [index for index in order if parents[index] is None]
    if len(tops) > 1:
        boxes.append(Box(name=model.id, label=model.id, parent=None, own=0.0, layer=None))
        places[None] = 0
    for index in order:
        row = ranking[index]
        parent = places.get(parents[index])
        region = _region_of(row, model.regions)
        above: Mark = boxes[parent].mark if parent is not None else "eager"
        mark: Mark = (
            "region"
            if region is not None
            else "inside"
            if above in ("region", "inside")
            else "unlocks"
            if row.name in mendable
            else "eager"
        )
        places[index] = len(boxes)
        boxes.append(
            Box(
                name=row.name,
                label=row.name if row.name.startswith("(") else row.name.rpartition(".")[2],
                parent=parent,
                own=row.self_seconds / parts * whole,
                layer=index,
                region=region,
                mark=mark,
            )
        )
    return boxes


def hybrid_boxes(model: Model, eager: Sequence[Box]) -> list[Box]:
    """The tree with the regions in place, each one box: its time is the eager one divided by the region's gain.

    The whole is as long as the confirmation found it: what the parts lack or have too much is spread over them.
    """
    times = totals(eager)
    boxes: list[Box] = []
    places: dict[int, int] = {}
    chained: dict[tuple[int, int], int] = {}
    for index, box in enumerate(eager):
        if box.mark == "inside" or (box.parent is not None and box.parent not in places):
            continue
        parent = places[box.parent] if box.parent is not None else None
        if box.region is None:
            places[index] = len(boxes)
            boxes.append(replace(box, parent=parent))
            continue
        region = model.regions[box.region]
        taken = times[index] * _ratio(region)
        at = (box.region, parent if parent is not None else -1)
        if region.kind == "chain" and at in chained:
            first = boxes[chained[at]]
            boxes[chained[at]] = replace(first, own=first.own + taken)
            continue
        chained[at] = len(boxes)
        if region.kind == "chain":
            box = replace(box, name=region.name, label=f"chain of {len(region.members)}", layer=None)
        boxes.append(replace(box, parent=parent, own=taken))
    return _as_confirmed(boxes, model)


def totals(boxes: Sequence[Box]) -> list[float]:
    """Seconds of each box with all that lies in it."""
    found = [box.own for box in boxes]
    for index in range(len(boxes) - 1, -1, -1):
        parent = boxes[index].parent
        if parent is not None:
            found[parent] += found[index]
    return found


def _as_confirmed(boxes: list[Box], model: Model) -> list[Box]:
    parts = sum(box.own for box in boxes)
    if model.confirmation is None or not model.regions or parts <= 0.0:
        return boxes
    whole = median(model.confirmation.hybrid_samples())
    return [replace(box, own=box.own / parts * whole) for box in boxes]


def _ratio(region: Region) -> float:
    eager = median(region.samples.eager)
    return median(region.samples.hybrid) / eager if eager > 0.0 else 1.0


def _region_of(row: RankedLayer, regions: Sequence[Region]) -> int | None:
    for index, region in enumerate(regions):
        if region.kind == "chain":
            if row.path in region.members and row.function == "forward":
                return index
        elif (row.path, row.function) == (region.path, region.function):
            return index
    return None


def _parents(model: Model, ranking: Sequence[RankedLayer]) -> list[int | None]:
    """For each row of the ranking that of the function it is called in: the one that calls it, or as far as paths
    tell."""
    names = {row.name: index for index, row in enumerate(ranking)}
    spots: dict[str, list[int]] = {}
    for index, row in enumerate(ranking):
        spots.setdefault(row.path, []).append(index)
    return [
        names[row.called_in[0]]
        if len(row.called_in) == 1 and row.called_in[0] in names
        else _parent(index, model, ranking, spots)
        for index, row in enumerate(ranking)
    ]


def _parent(index: int, model: Model, ranking: Sequence[RankedLayer], spots: dict[str, list[int]]) -> int | None:
    row = ranking[index]
    if row.function != "forward" and not (row.path == "" and row.function in model.functions):
        around = _forward_of(spots[row.path], ranking)
        if around is not None and ranking[around].inclusive_seconds >= row.inclusive_seconds:
            return around
    for path in _above(row.path):
        if path in spots:
            around = _forward_of(spots[path], ranking)
            return around if around is not None else _longest(spots[path], ranking)
    return None


def _above(path: str) -> Iterable[str]:
    while path:
        path = path.rpartition(".")[0]
        yield path


def _forward_of(indices: Sequence[int], ranking: Sequence[RankedLayer]) -> int | None:
    return next((index for index in indices if ranking[index].function == "forward"), None)


def _longest(indices: Sequence[int], ranking: Sequence[RankedLayer]) -> int:
    return max(indices, key=lambda index: ranking[index].inclusive_seconds)


def _positions(model: Model, ranking: Sequence[RankedLayer]) -> list[int]:
    """For each row of the ranking the place of its Layer in the model."""
    lines = {line.partition(" ")[0]: position for position, line in enumerate(model.structure)}
    return [lines.get(row.path or ".", len(lines)) for row in ranking]


def _from_the_top(parents: Sequence[int | None], positions: Sequence[int]) -> list[int]:
    """All indices, parents before children, otherwise as they are placed in the model."""
    children: dict[int | None, list[int]] = {}
    for index in sorted(range(len(parents)), key=lambda index: positions[index]):
        children.setdefault(parents[index], []).append(index)
    order: list[int] = []
    waiting = children.get(None, [])[::-1]
    while waiting:
        index = waiting.pop()
        order.append(index)
        waiting += children.get(index, [])[::-1]
    return order
