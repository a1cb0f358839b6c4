"""What the reports say, before any formatting: sentences and rows of values, from a plan alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autohybrid.plan import Confirmation, Model, Place, Plan, RankedLayer, Region, Rejected
from autohybrid.plan.reasons import HOLDS_MORE, NOTHING_TO_DO
from autohybrid.sizes import counted
from autohybrid.stats import Comparison, Verdict, median

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
    calls: float
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
        calls=region.calls,
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
    verdict: Verdict | None = None


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
    hybrid = median(found.hybrid_samples())
    return [*made, WholeRow(name="hybrid", seconds=hybrid, comparison=found.comparison(), verdict=found.verdict())]


def script_rows(plan: Plan) -> list[WholeRow]:
    """The whole script's rows, seconds of a whole process. None where it wasn't measured."""
    found = plan.whole_script
    if found is None:
        return []
    return [
        WholeRow(name="script, eager", seconds=median(found.eager), comparison=None),
        WholeRow(
            name="script, hybrid",
            seconds=median(found.hybrid),
            comparison=found.comparison(),
            verdict=found.comparison().verdict(1.0),
        ),
    ]


def script_sentence(plan: Plan) -> str:
    """What the plan does for such a run of the script, conversion included; empty where it changes nothing."""
    return " ".join(part for part in (_whole_script(plan), *map(_break_even, plan.models)) if part)


def _whole_script(plan: Plan) -> str:
    if plan.whole_script is None:
        return ""
    found = plan.whole_script.comparison()
    verdict = found.verdict(1.0)
    if verdict == "faster":
        return (
            f"The whole script is {found.speedup:.2f}x as fast with it, conversion included "
            f"(at least {found.low:.2f}x, {found.confidence:.0%} confidence)."
        )
    if verdict == "slower":
        return f"The whole script is slower with it: {found.speedup:.2f}x, conversion included."
    return (
        f"The whole script was {found.speedup:.2f}x as fast with it, conversion included, in "
        f"{counted(found.pairs, 'pair')} of runs: not enough to be sure."
    )


def _break_even(model: Model) -> str:
    """After how many calls of the root the conversions have paid, and how many there were."""
    pays = pays_after(model) if model.regions else None
    if pays is None:
        return ""
    more = "only " if model.calls < pays else ""
    return (
        f"Converting takes {_conversion_seconds(model):.2g} s, which pays after {counted(pays, 'call')} of {model.id}; "
        f"this script makes {more}{model.calls}."
    )


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


def is_dry_run(plan: Plan) -> bool:
    return plan.trials == 0 and not plan.recommends_change


def headline(plan: Plan) -> str:
    """The result in a sentence or two."""
    if not plan.models:
        return "No Layer was called in inference."
    if is_dry_run(plan):
        return "Ranked only: nothing was converted."
    if not plan.recommends_change and not plan.complete:
        budget, trials = plan.settings.budget_seconds, counted(plan.trials, "trial")
        return f"No change recommended so far: the budget of {budget:.0f} s ended the search after {trials}."
    if not plan.recommends_change:
        return f"No change recommended: no gain could be proven in {counted(plan.trials, 'trial')}."
    return " ".join(_model_sentence(model) for model in plan.models if model.regions)


def _model_sentence(model: Model) -> str:
    assert model.confirmation is not None, "regions are only kept with a confirmation"
    comparison = model.confirmation.comparison()
    return (
        f"{model.id} is {comparison.speedup:.2f}x as fast with {counted(len(model.regions), 'region')} converted "
        f"(at least {comparison.low:.2f}x, {comparison.confidence:.0%} confidence, "
        f"{counted(len(model.confirmation.processes), 'process', 'processes')}).{_of_threads(model)}"
    )


def _of_threads(model: Model) -> str:
    """What of the speedup is no conversion's; empty where no region uses more threads than eager."""
    found = model.eager_threads
    if found is None or model.confirmation is None:
        return ""
    alone = found.samples.comparison().speedup
    if alone <= 1.0:
        return f" Eager gains nothing from {found.threads} threads."
    left = model.confirmation.comparison().speedup / alone
    adds = f", which leaves {left:.2f}x to" if left >= model.confirmation.min_gain else ": nothing is left to"
    return f" {found.threads} threads alone make eager {alone:.2f}x as fast{adds} the conversion."


def layers(model: Model) -> list[RankedLayer]:
    """The ranking of Layers and methods, without the chains: their time is that of the Layers that they call."""
    return [row for row in model.ranking if not row.members]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """Layers that were passed over for the same reason: the first of them, how many, and their share together.

    ``unlocks`` is the share that would become convertible if the reason were mended: what regions don't cover of it,
    and nothing where there is nothing to mend or where it converts with other options.
    """

    first: Rejected
    layers: int
    share: float
    unlocks: float

    @property
    def name(self) -> str:
        return self.first.name + (f" and {self.layers - 1} alike" if self.layers > 1 else "")

    @property
    def hint(self) -> str:
        """What a user can do about it, or nothing."""
        return "" if self.first.hint.startswith(NOTHING_TO_DO) else self.first.hint


_CONVERTS = ("not_faster", "not_chosen")
"""Reasons of what converts and answers rightly."""


def _unlocked_share(row: Rejected, model: Model) -> float:
    if row.hint.startswith(NOTHING_TO_DO):
        return 0.0
    if any(other.name == row.name and other.reason in _CONVERTS for other in model.rejected):
        return 0.0
    outer = row.members or [row.path]
    inside = sum(
        region.share
        for region in model.regions
        if all(any(lies_in(path, each) for each in outer) for path in region.members or [region.path])
    )
    return max(0.0, row.share - inside)


def lies_in(path: str, outer: str) -> bool:
    """Whether a Layer's path is that of another, or below it."""
    return not outer or path == outer or path.startswith(outer + ".")


def listed(model: Model) -> list[RejectedRow]:
    """The rejections worth a line, of Layers that stay eager: by what mending them would unlock, then by share.

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
        shown = RejectedRow(
            first=rows[0],
            layers=len(rows),
            share=min(1.0, sum(row.share for row in rows)),
            unlocks=min(1.0, sum(_unlocked_share(row, model) for row in rows)),
        )
        made.setdefault((rows[0].name, rows[0].reason), shown)
    return sorted(made.values(), key=lambda row: (-row.unlocks, -row.share))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One thing that was tried on a Layer, and what came of it: ``converted``, or a reason code.

    Times are medians in seconds per call, None where it never came to measuring or the plan keeps no samples of it.
    """

    name: str
    class_name: str
    kind: str
    engine: str
    options: dict[str, object]
    outcome: str
    share: float
    eager: float | None = None
    hybrid: float | None = None
    comparison: Comparison | None = None
    detail: str = ""
    evidence: str = ""
    reproduce: str = ""


def attempt_rows(model: Model) -> list[AttemptRow]:
    """All that was tried on this model, regions first."""
    return [
        *(_kept(region, region_row(region)) for region in model.regions),
        *(_passed_over(row) for row in model.rejected if row.reason not in UNINTERESTING),
    ]


def _kept(region: Region, row: RegionRow) -> AttemptRow:
    return AttemptRow(
        name=region.name,
        class_name=region.class_name,
        kind=region.kind,
        engine=region.engine,
        options=region.options,
        outcome="converted",
        share=region.share,
        eager=row.eager,
        hybrid=row.hybrid,
        comparison=row.comparison,
        detail="" if region.measured_on == region.name else f"measured on {region.measured_on}",
    )


def _passed_over(row: Rejected) -> AttemptRow:
    return AttemptRow(
        name=row.name,
        class_name=row.class_name,
        kind="chain" if row.members else "layer" if row.function == "forward" else "method",
        engine=row.engine,
        options=row.options,
        outcome=row.reason,
        share=row.share,
        eager=median(row.samples.eager) if row.samples else None,
        hybrid=median(row.samples.hybrid) if row.samples else None,
        comparison=row.samples.comparison() if row.samples else None,
        detail=row.detail,
        evidence=row.evidence,
        reproduce=row.reproduce,
    )


def reasons_without(model: Model, options: dict[str, object]) -> list[str]:
    """Why the regions with these options don't have the engine's defaults: the codes of the attempts that failed, or
    what kept one out that answers rightly and is faster."""
    names = {region.name for region in model.regions if region.options == options}
    rejected = [row for row in model.rejected if row.name in names]
    heavier = [row.detail for row in rejected if HOLDS_MORE in row.detail]
    return sorted({row.reason for row in rejected if row.reason != "not_chosen"}) + heavier[:1]


def pays_after(model: Model) -> int | None:
    """Root calls after which all conversions together have paid; None when they never do."""
    if model.confirmation is None:
        return None
    eager, *_, hybrid = whole_rows(model)
    gain = eager.seconds - hybrid.seconds
    return int(_conversion_seconds(model) / gain) + 1 if gain > 0.0 else None


def _conversion_seconds(model: Model) -> float:
    return sum(row.conversion * row.regions for row in region_rows(model))


_COUNTED_WORDS = {
    "covered": "inside a region",
    "too_small": "too small to matter",
    "excluded": "excluded",
    "dry_run": "not tried in a dry run",
    "not_tried": "not tried",
}


def others_line(model: Model) -> str:
    """``Other Layers: 53 inside a region.``, or nothing."""
    counts = ", ".join(f"{count} {_COUNTED_WORDS[reason]}" for reason, count in uninteresting(model).items())
    return f"Other Layers: {counts}." if counts else ""


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
