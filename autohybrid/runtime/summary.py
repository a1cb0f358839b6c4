"""What a script's models did with a plan, told at the script's end."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autohybrid.report.table import WIDTH, plain_table
from autohybrid.runtime.status import RegionStatus, Status, told_of_weights
from autohybrid.runtime.variant import State
from autohybrid.sizes import counted

MOST_REGIONS = 12
MOST_UNKNOWN = 3

PROVING = "converting and proving"
"""What eager calls are called that a conversion needs, and that tell of no fallback."""

_NEEDED = (State.NEW.value, State.PROVING.value)


@dataclass(slots=True, kw_only=True)
class _Row:
    """A region, of all models of its class together."""

    name: str
    engine: str
    models: int = 0
    hybrid: int = 0
    eager: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, done: RegionStatus) -> None:
        self.models += 1
        self.hybrid += done.hybrid_calls
        self.eager += done.eager_calls
        for reason, count in done.reasons.items():
            self.reasons[PROVING if reason in _NEEDED else reason] += count

    @property
    def fell_back(self) -> bool:
        return any(reason != PROVING for reason in self.reasons)

    @property
    def cells(self) -> list[str]:
        name = self.name + (f" and {self.models - 1} alike" if self.models > 1 else "")
        return [name, self.engine, str(self.hybrid), str(self.eager), self._why()]

    def _why(self) -> str:
        if not self.reasons:
            return "" if self.hybrid else "never called"
        return ", ".join(f"{reason} ({count})" if count else reason for reason, count in self.reasons.most_common())


def summary(
    models: Sequence[tuple[str, Status]], unknown: Mapping[str, str], *, planned: bool = True, width: int = WIDTH
) -> str:
    """A sentence, a table of regions, and the models that the plan doesn't know; ends without a newline.

    Args:
        planned: whether the plan has regions at all.
        models: for each root its class and what its regions did, in the order of their first calls.
        unknown: for each class that isn't in the plan the first difference.
    """
    if not planned:
        return "autohybrid: the plan has no region, the script ran as it is."
    rows: dict[tuple[str, str, str], _Row] = {}
    for class_name, status in models:
        for done in status.regions:
            name = f"{class_name}.{done.path}" if done.path else class_name
            rows.setdefault((name, done.engine, class_name), _Row(name=name, engine=done.engine)).add(done)
    # Who fell back is what is looked for.
    listed = sorted(rows.values(), key=lambda row: not row.fell_back)
    parts = [textwrap.fill(f"autohybrid: {_sentence(listed, bool(models))}", width)]
    if listed:
        headers = ["region", "engine", "hybrid", "eager", "why eager"]
        parts.append(plain_table([row.cells for row in listed[:MOST_REGIONS]], headers, "llrrl", width))
    if len(listed) > MOST_REGIONS:
        parts.append(f"and {counted(len(listed) - MOST_REGIONS, 'more region')}")
    parts += told_of_weights([done for _, status in models for done in status.regions])
    notes = dict.fromkeys(note for _, status in models for note in status.notes)
    parts += [textwrap.fill(note, width, subsequent_indent="  ") for note in notes]
    return "\n".join([*parts, *_unknown_lines(unknown, bool(listed), width)])


def _sentence(rows: Sequence[_Row], any_called: bool) -> str:
    if not rows:
        return f"no region of the plan was used: {'all calls were eager' if any_called else 'no Layer was called'}."
    hybrid, eager = sum(row.hybrid for row in rows), sum(row.eager for row in rows)
    all_eager = sum(not row.hybrid for row in rows)
    several = all_eager and len(rows) > 1
    aside = f"; {counted(all_eager, 'region')} never {'was' if all_eager == 1 else 'were'}" if several else ""
    return f"{hybrid} of {counted(hybrid + eager, 'call')} of {counted(len(rows), 'region')} were hybrid{aside}."


def _unknown_lines(unknown: Mapping[str, str], others_known: bool, width: int) -> list[str]:
    """The models that the plan doesn't know: why not only where it knows none, since then it may be the wrong plan."""
    if not unknown:
        return []
    if others_known:
        names = ", ".join(list(unknown)[:MOST_UNKNOWN])
        more = f" and {len(unknown) - MOST_UNKNOWN} more" if len(unknown) > MOST_UNKNOWN else ""
        return [textwrap.fill(f"Not in the plan, so eager: {names}{more}.", width, subsequent_indent="  ")]
    told = list(unknown.items())[:MOST_UNKNOWN]
    return [textwrap.fill(f"{name}: {why}", width, subsequent_indent="  ") for name, why in told]
