"""A measurement as rows and sentences, and in each format."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from autohybrid import stats
from autohybrid.plan import Confirmation
from autohybrid.plan.measurement import Measurement, ModelMeasured
from autohybrid.report import columns
from autohybrid.report.columns import filled, interval, times
from autohybrid.report.data import comparison_values
from autohybrid.report.html import fragment
from autohybrid.report.markdown import escaped, filled_table
from autohybrid.report.rows import WholeRow
from autohybrid.report.table import WIDTH, plain_table
from autohybrid.sizes import counted


def measured_rows(found: Measurement) -> list[WholeRow]:
    """Eager and hybrid, of each model (seconds per call) and of the whole script (seconds per process)."""
    made = []
    for model in found.models:
        if model.confirmation is not None:
            proof = model.confirmation
            made.append(
                WholeRow(name=f"{model.id}, eager", seconds=stats.median(proof.eager_samples()), comparison=None)
            )
            made.append(
                WholeRow(
                    name=f"{model.id}, hybrid",
                    seconds=stats.median(proof.hybrid_samples()),
                    comparison=proof.comparison(),
                    verdict=proof.verdict(),
                )
            )
    for name, samples in _script_samples(found):
        compared = samples.comparison()
        made.append(WholeRow(name=f"script, eager ({name})", seconds=stats.median(samples.eager), comparison=None))
        verdict = compared.verdict(found.min_gain)
        hybrid = stats.median(samples.hybrid)
        made.append(WholeRow(name=f"script, {name}", seconds=hybrid, comparison=compared, verdict=verdict))
    return made


def _script_samples(found: Measurement) -> Iterator[tuple[str, Any]]:
    if found.script is not None:
        for name, samples in (("warm", found.script.warm), ("cold", found.script.cold)):
            if samples is not None and samples.eager:
                yield name, samples


def sentences(found: Measurement) -> list[str]:
    """The two verdicts first, then what stands in the way, then where it was measured."""
    said = [_steady(model) for model in found.models]
    for name, samples in _script_samples(found):
        compared = samples.comparison()
        how = "conversions from the store" if name == "warm" else "conversions made anew"
        said.append(
            f"This script, {name} ({how}): {compared.verdict(found.min_gain)}, {times(compared.speedup)} "
            f"({interval(compared)}), {counted(compared.pairs, 'pair')} of processes."
        )
    said += [
        f"{model.id}: the source of {', '.join(model.changed)} has changed since the plan was made."
        for model in found.models
        if model.changed
    ]
    return [*said, *found.notes] or ["Nothing was measured: the plan has no region."]


def _steady(model: ModelMeasured) -> str:
    if model.confirmation is None:
        return f"Steady, {model.id}: not measured, {model.problem.rstrip('.')}."
    compared = model.confirmation.comparison()
    pays = model.pays_after()
    paid = f"pays after {counted(pays, 'call')}" if pays else "never pays"
    return (
        f"Steady, {model.id}: {model.confirmation.verdict()}, {times(compared.speedup)} ({interval(compared)}); "
        f"{paid}, this script makes {model.calls}."
    )


def as_table(found: Measurement, width: int = WIDTH) -> str:
    """Text of at most ``width`` columns; ends without a newline."""
    parts = [textwrap.fill(each, width) for each in sentences(found)]
    listed = measured_rows(found)
    if listed:
        table = filled(columns.WHOLE, listed)
        parts.insert(
            len(found.models) + len(list(_script_samples(found))),
            plain_table(table.cells, table.headers, table.alignment, width, wraps=False),
        )
    return "\n\n".join(parts)


def as_markdown(found: Measurement) -> str:
    """GitHub-flavoured Markdown; ends without a newline."""
    listed = measured_rows(found)
    table = [filled_table(columns.WHOLE, listed)] if listed else []
    return "\n\n".join(["# autohybrid bench", *table, *map(escaped, sentences(found))])


def as_html(found: Measurement) -> str:
    """For a notebook's cell."""
    first, *others = sentences(found)
    return fragment.block(fragment.heading(first), fragment.table(columns.WHOLE, measured_rows(found)), *others)


def as_page(found: Measurement) -> str:
    """One self-contained HTML document; ends with a newline."""
    return fragment.page("autohybrid bench", as_html(found))


def as_csv(found: Measurement) -> str:
    """A line for each row, times in seconds; RFC 4180."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(["whole", "eager_or_hybrid_seconds", "speedup", "low", "high", "pairs", "verdict"])
    for row in measured_rows(found):
        compared = row.comparison
        numbers: list[Any] = ["", "", "", ""]
        if compared is not None:
            numbers = [compared.speedup, compared.low, compared.high, compared.pairs]
        writer.writerow([row.name, row.seconds, *numbers, row.verdict or ""])
    return written.getvalue().removesuffix("\r\n")


def as_json(found: Measurement) -> str:
    """The samples, and what is derived from them."""
    content = msgspec.to_builtins(found)
    for model, shown in zip(found.models, content["models"], strict=True):
        if model.confirmation is not None:
            derived = comparison_values(model.confirmation.comparison())
            shown["derived"] = {**derived, "verdict": model.confirmation.verdict(), "pays_after": model.pays_after()}
    for name, samples in _script_samples(found):
        compared = samples.comparison()
        content["script"][name]["derived"] = {
            **comparison_values(compared),
            "verdict": compared.verdict(found.min_gain),
        }
    return json.dumps(content, indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One thing that must hold: ``applies``, ``equal`` or ``faster``, of what, and what was found."""

    name: str
    subject: str
    holds: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok' if self.holds else 'FAILED':6}  {self.name:7}  {self.subject}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The gates, and the measurement that they were held against; prints as a list."""

    gates: Sequence[Gate]
    measurement: Measurement

    @property
    def passed(self) -> bool:
        """Whether there are gates and all of them hold."""
        return bool(self.gates) and all(gate.holds for gate in self.gates)

    def _repr_html_(self) -> str:
        verdict = "All gates hold." if self.passed else "A gate fell." if self.gates else "The plan has no region."
        rows = [["ok" if each.holds else "FAILED", each.name, each.subject, each.detail] for each in self.gates]
        table = fragment.cells(["", "gate", "of", "found"], rows, "llll") if rows else ""
        return fragment.block(fragment.heading(verdict), table)

    def __str__(self) -> str:
        return "\n".join(map(str, self.gates)) or "FAILED  applies  the plan has no region"


def gates(found: Measurement, *, min_speedup: float, objective: str) -> list[Gate]:
    """What the measurement says of each gate. What wasn't measured, or isn't clear, doesn't hold.

    Args:
        min_speedup: what the lower limit of the speedup must reach.
        objective: ``steady`` gates the time of a root call, ``script`` that of the whole process, conversions from the
            store.
    """
    made = []
    for model in found.models:
        proof = model.confirmation
        equal = not model.differs
        applies = proof is not None or model.differs
        made.append(_gate("applies", model.id, applies, counted(model.regions, "region"), model.problem))
        if applies:
            made.append(_gate("equal", model.id, equal, _error(proof), model.problem))
        if proof is not None and objective == "steady":
            made.append(_faster(model.id, proof.comparison(), min_speedup))
    if objective == "script" and all(gate.holds for gate in made) and made:
        warm = found.script.warm if found.script else None
        if warm is None or not warm.eager:
            made.append(_gate("faster", "this script", False, "", "it was not measured"))
        else:
            made.append(_faster("this script", warm.comparison(), min_speedup))
    return made


def _error(proof: Confirmation | None) -> str:
    if proof is None:
        return ""
    if not proof.equality.inputs_compared:
        return "its regions are; it answers otherwise each time, in eager too"
    return f"largest error {proof.equality.error:.1e}"


def _gate(name: str, subject: str, holds: bool, good: str, bad: str) -> Gate:
    return Gate(name=name, subject=subject, holds=holds, detail=good if holds else bad)


def _faster(subject: str, compared: stats.Comparison, least: float) -> Gate:
    low = times(compared.low) if compared.low else "nothing"
    detail = f"{times(compared.speedup)}, at least {low} is certain, {times(least)} is wanted"
    holds = compared.low >= least
    if not holds and compared.high >= least:
        detail += " (inconclusive)"
    return Gate(name="faster", subject=subject, holds=holds, detail=detail)
