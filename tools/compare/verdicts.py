"""What the samples of a comparison say: speeds relative to eager, and autohybrid beside the best of the other rows.

Samples are taken round by round, one of each row in a round, so that ratios are taken within rounds and then the median
of them: a drift of the machine's speed cancels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binom
from tabulate import tabulate

OURS = ("autohybrid", "autohybrid + extras")
EXTRAS = ("ONNX Runtime, whole", "OpenVINO, whole")
"""Rows that need more than Paddle: beside ``autohybrid + extras`` only."""

WRAPPER = "wrapper, whole"
SIX = ("resnet50", "mobilenet_v2", "densenet121", "encoder 6x256", "encoder 12x384", "encoder 4x32")
LEVEL = 0.98
NEAR = 40e-6
"""The ratio, and the seconds a call, within which two rows count as equal."""

Results = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One of our rows beside the best of the others, with the same threads.

    Attributes:
        speed: the median of the rounds' ratios, the other's seconds by ours: above 1 we are faster.
        low, high: what it lies between, at 95 % confidence, by the order of the ratios.
        behind: the median of the rounds' differences, ours less the other's, in seconds a call.
        over_eager: likewise the ratio over eager with one thread.
    """

    workload: str
    row: str
    threads: int
    best: str
    speed: float
    low: float
    high: float
    behind: float
    over_eager: float


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios, round by round."""
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def comparisons(results: Results) -> Iterator[Beside]:
    """Each of our rows beside the best other row that answers rightly with the same threads."""
    for workload, rows in results.items():
        eager = rows[0]["samples"]
        for ours in rows:
            if ours["row"] not in OURS or not ours["samples"]:
                continue
            others = [each for each in rows if _is_rival(each, ours)]
            best = min(others, key=lambda each: statistics.median(each["samples"]))
            quotients = [one / own for one, own in zip(best["samples"], ours["samples"], strict=True)]
            low, high = _limits(quotients)
            yield Beside(
                workload=workload,
                row=ours["row"],
                threads=ours["threads"],
                best=best["row"],
                speed=statistics.median(quotients),
                low=low,
                high=high,
                behind=statistics.median(own - one for one, own in zip(best["samples"], ours["samples"], strict=True)),
                over_eager=ratio(eager, ours["samples"]),
            )


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Limits of the median at 95 % confidence, whatever the distribution: the sign test's order statistics."""
    ordered = sorted(values)
    at = max(0, int(binom.ppf(0.025, len(ordered), 0.5)) - 1)
    return ordered[at], ordered[-1 - at]


def _is_rival(other: dict[str, Any], ours: dict[str, Any]) -> bool:
    reachable = ours["row"] != OURS[0] or other["row"] not in EXTRAS
    return other["row"] not in OURS and other["threads"] == ours["threads"] and bool(other["samples"]) and reachable


def speeds(results: Results) -> str:
    """A line for each row and thread count, a column for each workload: the speed over eager with one thread."""
    names = list(results)
    lines, notes = [["eager, 1 thread, ms", *(_milliseconds(results[name][0]["samples"]) for name in names)]], []
    for index, row in enumerate(results[names[0]]):
        label = f"{row['row']}, {row['threads']}"
        cells = []
        for name in names:
            found = results[name][index]
            if found["samples"]:
                cells.append(f"{ratio(results[name][0]['samples'], found['samples']):.2f}")
            else:
                cells.append(found["problem"].partition(":")[0] or "-")
                notes.append(f"{name}, {label}: {found['problem']}")
        lines.append([label, *cells])
    return "\n".join([_table(["speed over eager", *names], lines), "", *notes])


def verdicts(results: Results) -> str:
    """Our rows beside the best of the others, and the geometric means."""
    found = list(comparisons(results))
    rows = [
        [
            each.workload,
            f"{each.row}, {each.threads}",
            f"{each.over_eager:.2f}",
            each.best,
            f"{each.speed:.3f}",
            f"{each.low:.2f} to {each.high:.2f}",
            f"{each.behind * 1e6:.0f}",
            _level(each),
        ]
        for each in found
    ]
    headers = ["workload", "row", "over eager", "best other", "speed", "95 % interval", "us behind", "level"]
    level = "level: at least 0.98 of the best other row, or at most 40 us a call behind it; open: it may be"
    return "\n".join([_table(headers, rows), level, "", *_means(found, results)])


def _level(found: Beside) -> str:
    if found.speed >= LEVEL or found.behind <= NEAR:
        return "yes"
    return "open" if found.high >= LEVEL else "no"


def _means(found: Sequence[Beside], results: Results) -> Iterator[str]:
    for row in OURS:
        for threads in sorted({each.threads for each in found}):
            mine = [each for each in found if each.row == row and each.threads == threads]
            yield from _mean(f"{row}, {threads}: over eager, all", mine, lambda each: each.over_eager)
            six = [each for each in mine if each.workload in SIX]
            yield from _mean(f"{row}, {threads}: over eager, the six", six, lambda each: each.over_eager)
            yield from _mean(
                f"{row}, {threads}: over the wrapper, the six", six, lambda each: _over_wrapper(each, results)
            )


def _over_wrapper(ours: Beside, results: Results) -> float:
    rows = {(each["row"], each["threads"]): each["samples"] for each in results[ours.workload]}
    wrapper = rows.get((WRAPPER, ours.threads)) or []
    return ratio(wrapper, rows[ours.row, ours.threads]) if wrapper else math.nan


def _mean(label: str, found: Iterable[Beside], value: Callable[[Beside], float]) -> Iterator[str]:
    values = [each for each in map(value, found) if not math.isnan(each)]
    if values:
        mean = statistics.geometric_mean(values)
        yield f"{label}: geometric mean {mean:.2f} of {len(values)}, least {min(values):.2f}"


def _milliseconds(samples: Sequence[float]) -> str:
    return f"{statistics.median(samples) * 1e3:.2f}" if samples else "-"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)
