"""The report for a terminal: at 80 columns the most telling columns, more of them where there is room."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from autohybrid.plan import Model, Plan
from autohybrid.report import columns, rows
from autohybrid.report.advice import next_steps
from autohybrid.report.columns import Column, RowT, duration, engine_and_options, filled, one_line
from autohybrid.sizes import counted

WIDTH = 80
WIDEST = 200
MOST_RANKED = 12
MOST_REGIONS = 12
MOST_REJECTED = 15
NARROWEST_NAME = 22
"""Columns that a name needs, before others are left out for it."""
NARROWEST_TEXT = 24
"""Columns that a text needs which is wrapped for the sake of a name."""

BOLD, GREEN, YELLOW, FAINT = "1", "32", "33", "2"


def render(plan: Plan, *, plan_file: str | None = "plan.json", width: int = WIDTH, colour: bool = False) -> str:
    """The whole report; ends without a newline.

    Args:
        plan_file: what the commands that it suggests call the plan; None when it wasn't written.
        width: columns of the terminal.
        colour: whether to use ANSI colours.
    """
    return _Report(width=max(60, min(width, WIDEST)), colour=colour).of(plan, plan_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """The report at one width, with colour or without."""

    width: int
    colour: bool

    def of(self, plan: Plan, plan_file: str | None) -> str:
        verdict = GREEN if plan.recommends_change else BOLD
        parts = [self._painted(self._wrapped(rows.headline(plan)), verdict), self._wrapped(rows.script_sentence(plan))]
        for model in plan.models:
            parts += self._model(model, ranked=rows.is_dry_run(plan) or not model.regions)
        script = rows.script_rows(plan)
        parts.append(self._table(columns.WHOLE, script) if script else "")
        parts += [self._next(plan, plan_file), self._wrapped(rows.measured_where(plan))]
        parts += [self._wrapped(note) for note in plan.notes]
        return "\n\n".join(part for part in parts if part)

    def _model(self, model: Model, ranked: bool) -> list[str]:
        training = f", {counted(model.training_calls, 'training call')} left out" if model.training_calls else ""
        title = (
            f"{model.id}: {counted(model.calls, 'call')}, {duration(model.calls * model.seconds_per_call)} in all, "
            f"{model.share:.0%} of the inference time{training}"
        )
        return [
            self._painted(self._wrapped(title), BOLD),
            self._ranking(model) if ranked else "",
            self._regions(model),
            self._confirmation(model),
            self._rejected(model),
            self._wrapped(rows.others_line(model)),
        ]

    def _ranking(self, model: Model) -> str:
        ranking = rows.layers(model)
        more = len(ranking) - MOST_RANKED
        told = f"\nand {counted(more, 'more Layer')}" if more > 0 else ""
        return self._table(columns.RANKED, ranking[:MOST_RANKED]) + told if ranking else ""

    def _regions(self, model: Model) -> str:
        if not model.regions:
            return ""
        listed = rows.region_rows(model)
        table = self._table(columns.REGION, listed[:MOST_REGIONS])
        more = len(listed) - MOST_REGIONS
        notes = [f"and {counted(more, 'more region')}"] if more > 0 else []
        notes.append(self._meanings(listed))
        for options in {str(row.options): row.options for row in listed if row.options}.values():
            without = rows.reasons_without(model, options)
            if without:
                notes.append(f"without {engine_and_options('', options)}: {', '.join(without)}")
        return "\n".join([table, *(self._painted(self._wrapped(note, "  "), FAINT) for note in notes)])

    def _meanings(self, listed: Sequence[rows.RegionRow]) -> str:
        words = {
            "relative_error": "error: the largest, relative to the output's scale",
            "break_even_calls": "pays: after so many calls",
        }
        shown = [column.key for column in fitting(columns.REGION, listed, self.width)]
        return "; ".join(said for key, said in words.items() if key in shown)

    def _confirmation(self, model: Model) -> str:
        if model.confirmation is None:
            return ""
        table = self._table(columns.WHOLE, rows.whole_rows(model))
        notes = [self._wrapped(note) for note in (rows.verdict_line(model.confirmation), rows.threads_note(model))]
        return "\n".join([table, *(self._painted(note, FAINT) for note in notes if note)])

    def _rejected(self, model: Model) -> str:
        """A line for each row, below it what doesn't fit in columns: what was seen, what to do."""
        listed = rows.listed(model)
        if not listed:
            return ""
        shown = listed[:MOST_REJECTED]
        header, ruler, *lines = self._table(columns.REJECTED[:-2], shown).splitlines()
        parts = [header, ruler]
        for line, row in zip(lines, shown, strict=True):
            parts.append(line)
            if row.first.detail:
                detail = shortened(row.first.detail, 2 * WIDTH)
                parts.append(self._painted(self._indented(detail, " " * 7), FAINT))
            if row.hint:
                parts.append(self._painted(self._indented(row.hint, " " * 7 + "-> "), YELLOW))
        if len(listed) > MOST_REJECTED:
            parts.append(f"and {len(listed) - MOST_REJECTED} more, see --format csv")
        return "\n".join(parts)

    def _next(self, plan: Plan, plan_file: str | None) -> str:
        """Commands are never wrapped: they are there to be copied."""
        lines = []
        for step in next_steps(plan, plan_file):
            purpose = f"# {step.purpose}"
            if len(step.command) + len(purpose) + 4 <= self.width:
                lines.append(f"  {step.command}  {self._painted(purpose, FAINT)}")
            else:
                lines += [self._painted(f"  {purpose}", FAINT), f"  {step.command}"]
        return "\n".join([self._painted("What to run next:", BOLD), *lines]) if lines else ""

    def _table(self, all_columns: Sequence[Column[RowT]], shown: Sequence[RowT]) -> str:
        table = filled(fitting(all_columns, shown, self.width), shown)
        name = _name_column(table.columns)
        text = plain_table(table.cells, table.headers, table.alignment, self.width, name, wraps=False)
        header, rest = text.split("\n", 1)
        return f"{self._painted(header, BOLD)}\n{rest}"

    def _wrapped(self, text: str, further: str = "") -> str:
        return textwrap.fill(one_line(text), self.width, subsequent_indent=further)

    def _indented(self, text: str, indent: str) -> str:
        return textwrap.fill(one_line(text), self.width, initial_indent=indent, subsequent_indent=" " * len(indent))

    def _painted(self, text: str, code: str) -> str:
        if not self.colour or not text:
            return text
        return "\n".join(f"\x1b[{code}m{line}\x1b[0m" for line in text.split("\n"))


def fitting(all_columns: Sequence[Column[RowT]], shown: Sequence[RowT], width: int) -> list[Column[RowT]]:
    """Those of the columns that fit, the lowest ranks first; columns in which nothing stands are left out.

    The column of names may be shortened for it to a certain degree.
    """
    table = filled(all_columns, shown)
    name = _name_column(all_columns)
    widths = [max(map(len, column)) for column in zip(table.headers, *table.cells, strict=True)]
    widths[name] = min(widths[name], NARROWEST_NAME)
    told = [any(line[place] for line in table.cells) for place in range(len(all_columns))]
    chosen: set[int] = set()
    used = -2
    for place in sorted(range(len(all_columns)), key=lambda place: all_columns[place].rank):
        fits = used + widths[place] + 2 <= width
        if all_columns[place].rank == 0 or (fits and told[place]):
            chosen.add(place)
            used += widths[place] + 2
    return [column for place, column in enumerate(all_columns) if place in chosen]


def _name_column(shown: Sequence[Column[RowT]]) -> int:
    return next(place for place, column in enumerate(shown) if column.quantity == "text")


def plain_table(
    shown: Sequence[Sequence[str]],
    headers: Sequence[str],
    alignment: str,
    width: int = WIDTH,
    name: int = 0,
    wraps: bool = True,
) -> str:
    """A table whose column ``name`` gives way until the whole fits; ``alignment`` has an ``l`` or ``r`` a column.

    A last column of text is wrapped where the others leave it too little room, unless each row must be a line.
    """
    widths = [max(len(row[column]) for row in (headers, *shown)) for column in range(len(headers))]
    others = sum(widths) - widths[name] + 2 * (len(widths) - 1)
    wraps = wraps and alignment[-1] == "l"
    if wraps:
        others -= max(0, widths[-1] - NARROWEST_TEXT)
    widths[name] = min(widths[name], max(12, width - others))
    body = [[*row[:name], shortened(row[name], widths[name]), *row[name + 1 :]] for row in shown]
    if wraps and sum(widths) + 2 * (len(widths) - 1) > width:
        widths[-1] = max(NARROWEST_TEXT, width - sum(widths[:-1]) - 2 * (len(widths) - 1))
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


def shortened(text: str, width: int) -> str:
    """The text in so many columns, with an ellipsis for what is left out."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    # The end of a path tells more than its beginning, of a sentence it's the other way round.
    return text[: width - 1] + "…" if ": " in text or ". " in text else "…" + text[-(width - 1) :]
