"""Confirms the chosen set in fresh processes, and drops what doesn't hold up until the rest does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from autohybrid import plan
from autohybrid.isolation import Finished, Isolation
from autohybrid.observe.profile import RootProfile
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.fingerprint import source_hash
from autohybrid.search.confirm import FEWEST_PAIRS, ROUNDS_TO_PROVE, Confirmation, Confirmed
from autohybrid.search.findings import Attempt, Budget, Progress
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted
from autohybrid.search.search import (
    CLEAR_GAIN,
    FEWEST_IF_CLOSE,
    MEASURING_SECONDS,
    PROCESSES_IF_CLEAR,
    PROCESSES_IF_CLOSE,
    Search,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """What a root's confirmation needs; :meth:`best` does it."""

    root: RootProfile
    search: Search
    options: Options
    isolation: Isolation
    budget: Budget
    memory: int
    progress: Progress

    def best(self) -> Proven:
        """The best set whose gain holds on the whole root; what doesn't hold is dropped until one does."""
        dropped: dict[str, str] = {}
        last: plan.Confirmation | None = None
        while True:
            chosen = self.search.chosen(self.root, without=list(dropped))
            if not chosen:
                return Proven(regions=[], confirmation=last, dropped=dropped)
            if dropped and self.budget.left <= 0.0:
                dropped |= {each.candidate.name: "the budget ended before it was confirmed" for each in chosen}
                return Proven(regions=[], confirmation=last, dropped=dropped)
            regions = [region_of(attempt) for attempt in chosen]
            self.progress(
                f"confirming {len(regions)} region(s) of {self.root.class_name}, {self.budget.left:.0f} s left"
            )
            verdict = self._confirmation(regions)
            last = verdict.confirmation or last
            if verdict.holds:
                return Proven(
                    regions=regions, confirmation=verdict.confirmation, dropped=dropped, attempts=tuple(chosen)
                )
            # What is known to be at fault goes; else what contributes least.
            guilty = list(verdict.guilty) or [min(chosen, key=lambda each: each.saving).candidate.name]
            if verdict.all_guilty:
                guilty = [each.candidate.name for each in chosen]
            # Options that don't hold up on the whole cost a region its options first, and only then its place.
            demoted = [each for each in chosen if each.candidate.name in guilty and self.search.findings.demote(each)]
            for path in [] if demoted else guilty:
                dropped[path] = verdict.why

    def _confirmation(self, regions: Sequence[plan.Region]) -> _Verdict:
        work = Confirmation(
            root=self.root,
            regions=regions,
            tolerance=Tolerance(rtol=self.options.rtol, atol=self.options.atol),
            min_gain=self.options.min_gain,
            measuring_seconds=MEASURING_SECONDS,
        )
        processes: list[plan.Samples] = []
        equality: plan.Equality | None = None
        wanted = 1
        confirmation: plan.Confirmation | None = None
        while len(processes) < wanted:
            if processes and self.budget.left <= 0.0:
                if wanted == PROCESSES_IF_CLEAR or len(processes) >= FEWEST_IF_CLOSE:
                    break  # one process is enough for a gain that is clear
                return _Verdict(
                    confirmation=confirmation, all_guilty=True, why="the budget ended before its gain was confirmed"
                )
            result = self.isolation.run(
                work.conduct, seconds=_confirmation_limit(self.root, regions), memory=self.memory
            )
            if not isinstance(result, Finished):
                return _Verdict(
                    confirmation=None, all_guilty=True, why=f"confirming it together ended with: {_shown(result)}"
                )
            found = msgspec.convert(result.value, Confirmed)
            if found.idle:
                return _Verdict(
                    confirmation=None, guilty=tuple(found.idle), why=f"stayed eager ({next(iter(found.idle.values()))})"
                )
            if found.problem:
                return _Verdict(confirmation=None, why=f"the root's answer differs: {found.problem}")
            processes.append(found.samples)
            equality = _worse(equality, found.equality)
            confirmation = plan.Confirmation(
                processes=list(processes), equality=equality, min_gain=self.options.min_gain
            )
            comparison = confirmation.comparison()
            if confirmation.verdict() != "faster":
                return _Verdict(
                    confirmation=confirmation,
                    why=f"together {comparison.speedup:.2f}x (at least {comparison.low:.2f}x is certain)",
                )
            wanted = PROCESSES_IF_CLEAR if comparison.low >= CLEAR_GAIN else PROCESSES_IF_CLOSE
        return _Verdict(confirmation=confirmation, holds=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A set of regions with its confirmation, and why others were dropped, by path. ``attempts`` made the regions."""

    regions: list[plan.Region]
    confirmation: plan.Confirmation | None
    dropped: dict[str, str]
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    confirmation: plan.Confirmation | None
    holds: bool = False
    guilty: tuple[str, ...] = ()
    all_guilty: bool = False
    why: str = ""


def _confirmation_limit(root: RootProfile, regions: Sequence[plan.Region]) -> float:
    """Seconds after which a confirmation counts as hanging: three times what it should take."""
    conversions = sum(region.conversion_seconds for region in regions)
    calls = (ROUNDS_TO_PROVE + FEWEST_PAIRS + 10) * len(root.kept) * root.seconds / root.calls
    return 3.0 * (conversions + calls + MEASURING_SECONDS) + 10.0


def _worse(one: plan.Equality | None, other: plan.Equality) -> plan.Equality:
    return other if one is None or other.error > one.error else one


def _shown(result: Any) -> str:
    return str(getattr(result, "how", "") or getattr(result, "limit", "") or getattr(result, "error", ""))[-300:]


def region_of(attempt: Attempt) -> plan.Region:
    outcome = attempt.outcome
    assert isinstance(outcome, Converted), "only what converts is chosen"
    candidate = attempt.candidate
    return plan.Region(
        kind=candidate.kind,
        path=candidate.path,
        function=candidate.function,
        members=list(candidate.member_paths),
        code=candidate.chain.text if candidate.chain else "",
        source=candidate.source,
        aliases=list(candidate.timed.aliases),
        class_name=candidate.class_name,
        source_hash=source_hash(candidate.owner, candidate.function),
        engine=attempt.engine,
        options=attempt.options,
        inputs=[outcome.inputs, *outcome.other_sizes],
        outputs=outcome.outputs,
        training_mode="same" if outcome.training_mode == "same" else "eager",
        share=candidate.share,
        calls=candidate.timed.calls,
        measured_on=attempt.measured_on,
        equality=outcome.equality,
        samples=outcome.samples,
        conversion_seconds=outcome.conversion_seconds,
        extra_memory=outcome.extra_memory,
    )
