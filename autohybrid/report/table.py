"""The report for a terminal, at most 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from autohybrid.plan import Model, Plan, RankedLayer
from autohybrid.plan.reasons import NOTHING_TO_DO
from autohybrid.report import rows
from autohybrid.report.rows import counted

WIDTH = 80
MOST_RANKED = 12
MOST_REGIONS = 12
MOST_REJECTED = 15


def render(plan: Plan) -> str:
    """The whole report; ends without a newline."""
    parts = [textwrap.fill(rows.headline(plan), WIDTH)]
    for model in plan.models:
        parts += _model(model, ranked=rows.is_dry_run(plan) or not model.regions)
    parts += _closing(plan)
    return "\n\n".join(part for part in parts if part)


def _model(model: Model, ranked: bool) -> list[str]:
    training = f", {counted(model.training_calls, 'training call')} left out" if model.training_calls else ""
    title = (
        f"{model.id}: {counted(model.calls, 'call')}, {_duration(model.calls * model.seconds_per_call)} in all, "
        f"{model.share:.0%} of the inference time{training}"
    )
    parts = [textwrap.fill(title, WIDTH)]
    if ranked:
        parts.append(_ranking(model.ranking))
    parts += [_regions(model), _confirmation(model), _rejected(rows.listed(model)), _counted(model)]
    return parts


def _ranking(ranking: Sequence[RankedLayer]) -> str:
    shown = [
        [
            row.name,
            _shortened(row.class_name, 18),
            f"{row.calls:.4g}",
            f"{row.share:.1%}",
            f"{row.self_seconds / (row.inclusive_seconds or 1.0):.0%}",
            f"{row.ceiling:.2f}x" if row.ceiling else "any",
            row.looks,
        ]
        for row in ranking[:MOST_RANKED]
    ]
    headers = ["Layer", "class", "calls", "share", "own", "ceiling", "looks"]
    table = plain_table(shown, headers, "llrrrrl")
    more = len(ranking) - MOST_RANKED
    return table + (f"\nand {counted(more, 'more Layer')}" if more > 0 else "")


def _regions(model: Model) -> str:
    if not model.regions:
        return ""
    listed = rows.region_rows(model)
    shown = [
        [
            row.name,
            row.engine + ("*" if row.options else ""),
            _duration(row.eager),
            _duration(row.hybrid),
            f"{row.comparison.speedup:.2f}x",
            f"{row.share:.0%}",
            rows.relative_error(row),
            str(row.break_even or "-"),
        ]
        for row in listed[:MOST_REGIONS]
    ]
    headers = ["region", "engine", "eager", "hybrid", "gain", "share", "error", "pays"]
    notes = [f"and {counted(len(listed) - MOST_REGIONS, 'more region')}"] if len(listed) > MOST_REGIONS else []
    notes.append("error: the largest, relative to the output's scale; pays: after so many calls")
    for options in {str(row.options): row.options for row in listed if row.options}.values():
        settings = ", ".join(f"{key}={value}" for key, value in options.items())
        without = ", ".join(rows.reasons_without(model, options))
        notes.append(f"* with {settings}" + (f" ({without} without)" if without else ""))
    wrapped = [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in notes]
    return "\n".join([plain_table(shown, headers, "llrrrrrr"), *wrapped])


def _confirmation(model: Model) -> str:
    found = model.confirmation
    if found is None:
        return ""
    comparison = found.comparison()
    shown = [[row.name, _milliseconds(row.seconds), *rows.gain_cells(row)] for row in rows.whole_rows(model)]
    what = f"whole {model.class_name}"
    table = plain_table(shown, [what, "ms", "speedup", f"{comparison.confidence:.0%} interval"], "lrrr")
    lines = [rows.verdict_line(found), rows.threads_note(model)]
    return "\n".join([table, *(textwrap.fill(line, WIDTH) for line in lines if line)])


def _rejected(rejected: Sequence[rows.RejectedRow]) -> str:
    if not rejected:
        return ""
    lines = ["Not converted:"]
    for row in rejected[:MOST_REJECTED]:
        where = f" [{rows.place(row.first.source)}]" if row.first.source else ""
        detail = _shortened(row.first.detail, 2 * WIDTH)
        text = f"{row.share:6.1%}  {row.name}: {row.first.reason}{', ' if detail else ''}{detail}{where}"
        lines.append(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent=" " * 10))
        if not row.first.hint.startswith(NOTHING_TO_DO):
            lines.append(
                textwrap.fill(row.first.hint, WIDTH, initial_indent=" " * 10 + "-> ", subsequent_indent=" " * 13)
            )
    if len(rejected) > MOST_REJECTED:
        lines.append(f"  and {len(rejected) - MOST_REJECTED} more, see --format json")
    return "\n".join(lines)


def _counted(model: Model) -> str:
    words = {
        "covered": "inside a region",
        "too_small": "too small to matter",
        "excluded": "excluded",
        "dry_run": "not tried in a dry run",
        "not_tried": "not tried",
    }
    counts = ", ".join(f"{count} {words[reason]}" for reason, count in rows.uninteresting(model).items())
    return textwrap.fill(f"Other Layers: {counts}.", WIDTH) if counts else ""


def _closing(plan: Plan) -> list[str]:
    lines = [rows.measured_where(plan)]
    if not plan.complete:
        lines.append("The budget ended the search: --budget gives it more time.")
    lines += plan.notes
    return [textwrap.fill(line, WIDTH) for line in lines]


def plain_table(shown: Sequence[Sequence[str]], headers: Sequence[str], alignment: str) -> str:
    """A table whose first column gives way until the whole fits; ``alignment`` has an ``l`` or ``r`` a column.

    A last column of text is wrapped where the others leave it too little room.
    """
    widths = [max(len(row[column]) for row in (headers, *shown)) for column in range(len(headers))]
    widths[0] = min(widths[0], max(12, WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)))
    body = [[_shortened(row[0], widths[0]), *row[1:]] for row in shown]
    if alignment[-1] == "l" and sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widths[-1] = max(24, WIDTH - sum(widths[:-1]) - 2 * (len(widths) - 1))
        body = [[*row[:-1], textwrap.fill(row[-1], widths[-1])] for row in body]
    ruler = ["-" * width for width in widths]
    words = {"l": "left", "r": "right"}
    # As a header of its own, tabulate would make a column at least two wider than its name.
    return tabulate(
        [headers, ruler, *body],
        tablefmt="plain",
        disable_numparse=True,
        colalign=[words[letter] for letter in alignment],
    )


def _shortened(text: str, width: int) -> str:
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    # The end of a path tells more than its beginning, of a sentence it's the other way round.
    return text[: width - 1] + "…" if ": " in text or ". " in text else "…" + text[-(width - 1) :]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _duration(seconds: float) -> str:
    return (
        f"{seconds * 1e6:.0f} us"
        if seconds < 1e-3
        else f"{seconds * 1e3:.3g} ms"
        if seconds < 1.0
        else f"{seconds:.2f} s"
    )
