"""What the reports say, before any formatting: sentences and rows of values, from a plan alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autohybrid.plan import Confirmation, Model, Place, Plan, Region, Rejected
from autohybrid.stats import Comparison, median

UNINTERESTING = ("covered", "too_small", "excluded", "dry_run", "not_tried")
"""Reasons that many small Layers share; the text report counts them instead of listing them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRow:
    """A region. Times are medians in seconds, per call of the Layer."""

    path: str
    class_name: str
    kind: str
    engine: str
    options: dict[str, object]
    eager: float
    hybrid: float
    comparison: Comparison
    share: float
    error: float
    scale: float
    conversion: float
    break_even: int | None
    memory: int
    regions: int = 1

    @property
    def name(self) -> str:
        return self.path + (f" and {self.regions - 1} alike" if self.regions > 1 else "")


def region_row(region: Region) -> RegionRow:
    eager, hybrid = median(region.samples.eager), median(region.samples.hybrid)
    gain = eager - hybrid
    return RegionRow(
        path=region.name,
        class_name=region.class_name,
        kind=region.kind,
        engine=region.engine,
        options=region.options,
        eager=eager,
        hybrid=hybrid,
        comparison=region.samples.comparison(),
        share=region.share,
        error=region.equality.error,
        scale=region.equality.scale,
        conversion=region.conversion_seconds,
        break_even=int(region.conversion_seconds / gain) + 1 if gain > 0.0 else None,
        memory=region.extra_memory,
    )


def region_rows(model: Model) -> list[RegionRow]:
    """One row for each measurement: regions that share one, being alike, are one row with their shares together."""
    measured: dict[str, list[Region]] = {}
    for region in model.regions:
        measured.setdefault(region.measured_on, []).append(region)
    made = []
    for regions in measured.values():
        row = region_row(regions[0])
        made.append(replace(row, regions=len(regions), share=min(1.0, sum(region.share for region in regions))))
    return made


def relative_error(row: RegionRow) -> str:
    """The largest error seen, in units of the largest absolute value of that output."""
    return f"{row.error / row.scale if row.scale else row.error:.0e}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRow:
    """The whole root in one way: eager, eager with more threads, hybrid. Seconds per call; no comparison for eager."""

    name: str
    seconds: float
    comparison: Comparison | None


def whole_rows(model: Model) -> list[WholeRow]:
    """The confirmation's rows; a gain that eager could have too is one of its own. None without a confirmation."""
    found, threads = model.confirmation, model.eager_threads
    if found is None:
        return []
    made = [WholeRow(name="eager", seconds=median(found.eager_samples()), comparison=None)]
    if threads is not None:
        compared = threads.samples.comparison()
        # Measured at another time than the confirmation: its ratio holds, its seconds are for that machine's mood.
        seconds = made[0].seconds / compared.speedup
        made.append(WholeRow(name=f"eager, {threads.threads} threads", seconds=seconds, comparison=compared))
    return [*made, WholeRow(name="hybrid", seconds=median(found.hybrid_samples()), comparison=found.comparison())]


def gain_cells(row: WholeRow) -> list[str]:
    """The speedup and its interval, as shown."""
    found = row.comparison
    return ["1.00x", ""] if found is None else [f"{found.speedup:.2f}x", f"{found.low:.2f}x to {found.high:.2f}x"]


def threads_note(model: Model) -> str:
    """Where the gain of threads comes from, and how eager would get it; empty where no region uses more than eager."""
    found = model.eager_threads
    if found is None:
        return ""
    return (
        f"The regions use {counted(found.threads, 'math thread')}. Eager with as many is "
        f"{found.samples.comparison().speedup:.2f}x as fast by itself: OMP_NUM_THREADS={found.threads} in its "
        f"environment, or {found.set_by}({found.threads})."
    )


def verdict_line(found: Confirmation) -> str:
    """``faster: 20 pairs in 2 processes``."""
    pairs = counted(found.comparison().pairs, "pair")
    return f"{found.verdict()}: {pairs} in {counted(len(found.processes), 'process', 'processes')}"


def measured_where(plan: Plan) -> str:
    """One sentence about the machine and the search."""
    where = plan.environment
    return (
        f"Measured on {where.processor}, {counted(where.cores, 'core')}, {counted(where.math_threads, 'math thread')}, "
        f"{where.device}, Paddle {where.paddle}; {counted(plan.trials, 'trial')} in {plan.search_seconds:.0f} s."
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 call``, ``2 calls``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def is_dry_run(plan: Plan) -> bool:
    return plan.trials == 0 and not plan.recommends_change


def headline(plan: Plan) -> str:
    """The result in a sentence or two."""
    if not plan.models:
        return "No Layer was called in inference."
    if is_dry_run(plan):
        return "Ranked only: nothing was converted."
    if not plan.recommends_change:
        return f"No change recommended: no gain could be proven in {counted(plan.trials, 'trial')}."
    return " ".join(_model_sentence(model) for model in plan.models if model.regions)


def _model_sentence(model: Model) -> str:
    assert model.confirmation is not None, "regions are only kept with a confirmation"
    comparison = model.confirmation.comparison()
    return (
        f"{model.id} is {comparison.speedup:.2f}x as fast with {counted(len(model.regions), 'region')} converted "
        f"(at least {comparison.low:.2f}x, {comparison.confidence:.0%} confidence, "
        f"{counted(len(model.confirmation.processes), 'process', 'processes')}{_threads_alone(model)})."
    )


def _threads_alone(model: Model) -> str:
    found = model.eager_threads
    if found is None:
        return ""
    return f"; eager with {found.threads} threads: {found.samples.comparison().speedup:.2f}x"


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """Layers that were passed over for the same reason: the first of them, how many, and their share together."""

    first: Rejected
    layers: int
    share: float

    @property
    def name(self) -> str:
        more = f" and {self.layers - 1} alike" if self.layers > 1 else ""
        return f"{self.first.name} ({self.first.class_name}){more}"


def listed(model: Model) -> list[RejectedRow]:
    """The rejections worth a line, by share: of Layers that stay eager.

    Layers of one class with one fate are one row, and what failed again with other options isn't repeated.
    """
    groups: dict[tuple[str, str, str, str], dict[str, Rejected]] = {}
    converted = {region.name for region in model.regions}
    for row in model.rejected:
        if row.reason not in UNINTERESTING and row.name not in converted:
            fate = row.detail.partition(": ")[2] if row.detail.startswith("as ") else row.detail
            groups.setdefault((row.class_name, row.function, row.reason, fate), {}).setdefault(row.name, row)
    made: dict[tuple[str, str], RejectedRow] = {}
    for members in groups.values():
        rows = list(members.values())
        shown = RejectedRow(first=rows[0], layers=len(rows), share=min(1.0, sum(row.share for row in rows)))
        made.setdefault((rows[0].name, rows[0].reason), shown)
    return sorted(made.values(), key=lambda row: -row.share)


def reasons_without(model: Model, options: dict[str, object]) -> list[str]:
    """Why the regions with these options don't have the engine's defaults: the codes of the attempts that failed."""
    names = {region.name for region in model.regions if region.options == options}
    return sorted({row.reason for row in model.rejected if row.name in names})


def uninteresting(model: Model) -> dict[str, int]:
    """How many rejections there are of each kind that isn't listed."""
    counts: dict[str, int] = {}
    for row in model.rejected:
        if row.reason in UNINTERESTING:
            counts[row.reason] = counts.get(row.reason, 0) + 1
    return counts


def place(where: Place | None) -> str:
    """``file.py:12``, the file by its name alone."""
    return f"{where.file.rpartition('/')[2]}:{where.line}" if where else ""
