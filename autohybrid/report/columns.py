"""The columns that tables have in every format: what each is called, says and means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from autohybrid.plan import RankedLayer
from autohybrid.report import rows
from autohybrid.report.rows import AttemptRow, RegionRow, RejectedRow, WholeRow
from autohybrid.stats import Comparison

RowT = TypeVar("RowT")
Value = float | str | None
Quantity = Literal["text", "number", "seconds", "bytes"]

_UNITS: dict[str, list[tuple[float, str]]] = {
    "seconds": [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")],
    "bytes": [(2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[RowT]):
    """One column of a table.

    Args:
        key: its name in CSV, which holds plain values: seconds, bytes, fractions.
        header: its name for people.
        value: what it is sorted by.
        quantity: seconds and bytes are shown in one unit for the whole table, named in the header.
        text: how a cell is shown; None shows the value.
        rank: the columns of the lowest ranks stay where there isn't room for all.
        meaning: a sentence for those who meet it first.
    """

    key: str
    header: str
    value: Callable[[RowT], Value]
    quantity: Quantity = "number"
    text: Callable[[RowT], str] | None = None
    rank: int = 0
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Generic[RowT]):
    """Columns filled with rows, as text; ``alignment`` has an ``l`` or ``r`` for each column."""

    columns: Sequence[Column[RowT]]
    headers: list[str]
    cells: list[list[str]]
    values: list[list[Value]]

    @property
    def alignment(self) -> str:
        return "".join("l" if column.quantity == "text" else "r" for column in self.columns)


def filled(columns: Sequence[Column[RowT]], shown: Sequence[RowT]) -> Table[RowT]:
    """The table of these rows, all times in one unit, and all sizes."""
    values = [[column.value(row) for column in columns] for row in shown]
    units = {name: _unit(columns, values, name) for name in _UNITS}
    return Table(
        columns=columns,
        headers=[_header(column, units) for column in columns],
        cells=[
            [_cell(column, row, value, units) for column, value in zip(columns, line, strict=True)]
            for row, line in zip(shown, values, strict=True)
        ],
        values=values,
    )


def _unit(columns: Sequence[Column[RowT]], values: Sequence[Sequence[Value]], quantity: str) -> tuple[float, str]:
    numbers = [
        value
        for line in values
        for column, value in zip(columns, line, strict=True)
        if column.quantity == quantity and isinstance(value, (int, float))
    ]
    largest = max(numbers, default=0.0)
    return next((unit for unit in _UNITS[quantity] if largest >= unit[0]), _UNITS[quantity][-1])


def _header(column: Column[RowT], units: dict[str, tuple[float, str]]) -> str:
    return f"{column.header} {units[column.quantity][1]}".strip() if column.quantity in units else column.header


def _cell(column: Column[RowT], row: RowT, value: Value, units: dict[str, tuple[float, str]]) -> str:
    if column.text is not None:
        return column.text(row)
    if value is None or isinstance(value, str):
        return one_line(value or "")
    return significant(value / units[column.quantity][0] if column.quantity in units else value)


def one_line(text: str) -> str:
    """Without line breaks, and without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))


def significant(value: float) -> str:
    """A number with three significant digits and no exponent: ``1234``, ``12.3``, ``0.123``."""
    size = abs(value)
    decimals = 0 if size >= 100 or value == 0 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{decimals}f}"


def duration(seconds: float) -> str:
    """A time with its unit: ``13.3 ms``."""
    size, unit = next((each for each in _UNITS["seconds"] if seconds >= each[0]), _UNITS["seconds"][-1])
    return f"{significant(seconds / size)} {unit}"


def times(value: float) -> str:
    """``1.25x``."""
    return f"{value:.2f}x"


def interval(found: Comparison | None) -> str:
    """``1.20x to 1.31x``; open limits are named as such."""
    if found is None:
        return ""
    if found.high == float("inf"):
        return "too few pairs"
    return f"{times(found.low)} to {times(found.high)}"


def engine_and_options(engine: str, options: dict[str, object]) -> str:
    """``predictor mkldnn=False``."""
    return " ".join([engine, *(f"{key}={value}" for key, value in options.items())]).strip()


def _percent(share: float) -> str:
    return f"{share:.1%}"


REGION: list[Column[RegionRow]] = [
    Column(key="region", header="region", quantity="text", value=lambda row: row.name),
    Column(key="class", header="class", quantity="text", value=lambda row: row.class_name, rank=7),
    Column(key="kind", header="kind", quantity="text", value=lambda row: row.kind, rank=9),
    Column(
        key="engine",
        header="engine",
        quantity="text",
        value=lambda row: engine_and_options(row.engine, row.options),
        rank=3,
    ),
    Column(
        key="calls",
        header="calls",
        value=lambda row: row.calls,
        text=lambda row: f"{row.calls:.4g}",
        rank=8,
        meaning="How often a root call makes it.",
    ),
    Column(
        key="eager_seconds",
        header="eager",
        quantity="seconds",
        value=lambda row: row.eager,
        meaning="Median time of one call as the script is.",
    ),
    Column(
        key="hybrid_seconds",
        header="hybrid",
        quantity="seconds",
        value=lambda row: row.hybrid,
        meaning="Median time of one call converted, measured in turn with eager.",
    ),
    Column(
        key="speedup",
        header="speedup",
        value=lambda row: row.comparison.speedup,
        text=lambda row: times(row.comparison.speedup),
        meaning="Median of eager / hybrid over the pairs.",
    ),
    Column(
        key="speedup_interval",
        header="interval",
        value=lambda row: row.comparison.low,
        text=lambda row: interval(row.comparison),
        rank=6,
        meaning="Where the speedup lies with 99 % confidence.",
    ),
    Column(
        key="share",
        header="share",
        value=lambda row: row.share,
        text=lambda row: _percent(row.share),
        rank=1,
        meaning="Part of the root's time that it took in eager.",
    ),
    Column(
        key="relative_error",
        header="error",
        value=lambda row: row.error / row.scale if row.scale else row.error,
        text=rows.relative_error,
        rank=2,
        meaning="The largest difference from eager that was seen, relative to the output's largest value.",
    ),
    Column(
        key="conversion_seconds",
        header="convert s",
        value=lambda row: row.conversion,
        rank=5,
        meaning="Seconds of conversion, once.",
    ),
    Column(
        key="break_even_calls",
        header="pays",
        value=lambda row: row.break_even,
        text=lambda row: str(row.break_even or "-"),
        rank=4,
        meaning="Calls after which the conversion has paid.",
    ),
    Column(
        key="extra_memory_bytes",
        header="memory",
        quantity="bytes",
        value=lambda row: row.memory,
        rank=8,
        meaning="Memory that the converted form takes beside the Layer.",
    ),
]

REJECTED: list[Column[RejectedRow]] = [
    Column(
        key="unlocks",
        header="unlocks",
        value=lambda row: row.unlocks,
        text=lambda row: _percent(row.unlocks) if row.unlocks else "-",
        meaning="Part of the root's time that could be converted if the reason were mended.",
    ),
    Column(
        key="share",
        header="share",
        value=lambda row: row.share,
        text=lambda row: _percent(row.share),
        meaning="Part of the root's time.",
    ),
    Column(key="layer", header="not converted", quantity="text", value=lambda row: row.name),
    Column(key="class", header="class", quantity="text", value=lambda row: row.first.class_name, rank=2),
    Column(key="reason", header="reason", quantity="text", value=lambda row: row.first.reason),
    Column(key="source", header="source", quantity="text", value=lambda row: rows.place(row.first.source), rank=1),
    Column(key="detail", header="detail", quantity="text", value=lambda row: row.first.detail, rank=3),
    Column(key="hint", header="hint", quantity="text", value=lambda row: row.hint, rank=4),
]

WHOLE: list[Column[WholeRow]] = [
    Column(key="whole", header="whole", quantity="text", value=lambda row: row.name),
    Column(key="seconds", header="", quantity="seconds", value=lambda row: row.seconds),
    Column(
        key="speedup",
        header="speedup",
        value=lambda row: row.comparison.speedup if row.comparison else 1.0,
        text=lambda row: times(row.comparison.speedup if row.comparison else 1.0),
    ),
    Column(
        key="interval",
        header="interval",
        value=lambda row: row.comparison.low if row.comparison else None,
        text=lambda row: interval(row.comparison),
    ),
    Column(key="verdict", header="verdict", quantity="text", value=lambda row: row.verdict),
]

RANKED: list[Column[RankedLayer]] = [
    Column(key="layer", header="Layer", quantity="text", value=lambda row: row.name),
    Column(key="class", header="class", quantity="text", value=lambda row: row.class_name, rank=1),
    Column(key="calls", header="calls", value=lambda row: row.calls, text=lambda row: f"{row.calls:.4g}"),
    Column(
        key="seconds",
        header="time",
        quantity="seconds",
        value=lambda row: row.inclusive_seconds,
        rank=3,
        meaning="In all calls together, with the Layers inside.",
    ),
    Column(key="share", header="share", value=lambda row: row.share, text=lambda row: _percent(row.share)),
    Column(
        key="own",
        header="own",
        value=lambda row: row.self_seconds / (row.inclusive_seconds or 1.0),
        text=lambda row: f"{row.self_seconds / (row.inclusive_seconds or 1.0):.0%}",
        meaning="Part of its time outside the Layers inside it.",
    ),
    Column(
        key="ceiling",
        header="ceiling",
        value=lambda row: row.ceiling,
        text=lambda row: times(row.ceiling) if row.ceiling else "any",
        meaning="The speedup of the whole if this took no time.",
    ),
    Column(key="looks", header="looks", quantity="text", value=lambda row: row.looks, rank=2),
    Column(key="source", header="source", quantity="text", value=lambda row: rows.place(row.source), rank=4),
]

ATTEMPT: list[Column[AttemptRow]] = [
    Column(key="layer", header="Layer", quantity="text", value=lambda row: row.name),
    Column(key="class", header="class", quantity="text", value=lambda row: row.class_name),
    Column(key="kind", header="kind", quantity="text", value=lambda row: row.kind),
    Column(
        key="engine",
        header="engine and options",
        quantity="text",
        value=lambda row: engine_and_options(row.engine, row.options),
    ),
    Column(key="outcome", header="outcome", quantity="text", value=lambda row: row.outcome),
    Column(key="share", header="share", value=lambda row: row.share, text=lambda row: _percent(row.share)),
    Column(key="eager_seconds", header="eager", quantity="seconds", value=lambda row: row.eager),
    Column(key="hybrid_seconds", header="hybrid", quantity="seconds", value=lambda row: row.hybrid),
    Column(
        key="speedup",
        header="speedup",
        value=lambda row: row.comparison.speedup if row.comparison else None,
        text=lambda row: times(row.comparison.speedup) if row.comparison else "",
    ),
    Column(key="detail", header="detail", quantity="text", value=lambda row: row.detail),
]
