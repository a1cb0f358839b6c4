"""Confirms the chosen set in fresh processes, and drops what doesn't hold up until the rest does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from autohybrid import device, plan, stats
from autohybrid.isolation import Finished, Isolation, Result
from autohybrid.observe.profile import RootProfile
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.fingerprint import source_hash
from autohybrid.search.confirm import FEWEST_PAIRS, ROUNDS_TO_PROVE, Confirmation, Confirmed
from autohybrid.search.contest import Contest, Contested
from autohybrid.search.eager_threads import CALLS, EagerThreads
from autohybrid.search.findings import Attempt, Budget
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted
from autohybrid.search.progress import Progress, Step
from autohybrid.search.proofs import Proofs, Proven
from autohybrid.search.search import (
    CLEAR_GAIN,
    FEWEST_IF_CLOSE,
    MEASURING_SECONDS,
    PROCESSES_IF_CLEAR,
    PROCESSES_IF_CLOSE,
    Search,
)
from autohybrid.sizes import counted
from autohybrid.stats import amdahl_ceiling

EARLY_SHARE_OF_BUDGET = 0.3
"""Of the budget that is left, what the confirmation of a set may take that isn't certain to be the last."""

LEAST_CONTRIBUTION = 1.01
"""A region without which the root would be slower by less than this, and perhaps not at all, is left out again."""

MOST_LEFT_OUT = 8
"""Groups of alike regions whose contribution is measured: those that were to save least."""

CLOSE_ENOUGH = 0.85
"""A set without guarded conversions is measured against one with them if it promises this part of its saving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """What a root's confirmation needs; :meth:`best` does it. What holds is noted in ``proofs`` at once.

    ``notes`` are what the plan is to say of it; ``eager_threads`` what was measured of eager with more threads than the
    script gives it, by their number, None where that came to nothing.
    """

    root: RootProfile
    search: Search
    options: Options
    isolation: Isolation
    budget: Budget
    memory: int
    progress: Progress
    proofs: Proofs = field(default_factory=Proofs)
    notes: list[str] = field(default_factory=list)
    eager_threads: dict[int, plan.EagerThreads | None] = field(default_factory=dict)

    def confirm_early(self) -> None:
        """Confirms the best set so far where it is strong and new, so that an end at any moment leaves a plan."""
        chosen = self.search.chosen(self.root)
        if not chosen or amdahl_ceiling(sum(each.saving for each in chosen)) < CLEAR_GAIN:
            return
        if self.search.reserve() <= EARLY_SHARE_OF_BUDGET * self.budget.left and self.proofs.should_try(
            self.root, chosen
        ):
            self._tell(chosen, " for the time being")
            self._confirmation(chosen)

    def _tell(self, chosen: Sequence[Attempt], how: str = "") -> None:
        what = f"{counted(len(chosen), 'region')} of {self.root.class_name}{how}"
        self.progress(Step(stage="confirming", what=what))

    def best(self) -> Proven:
        """The best set whose gain holds on the whole root; what doesn't hold is dropped until one does."""
        dropped: dict[str, str] = {}
        last: plan.Confirmation | None = None
        while True:
            chosen = self._less_guarded(self.search.chosen(self.root, without=list(dropped)), list(dropped))
            if not chosen:
                return Proven(regions=[], confirmation=last, dropped=dropped)
            if self.budget.left <= 0.0 and (kept := self.proofs.best(self.root)) is not None:
                return replace(kept, dropped={**dropped, **_in_favour_of(kept, chosen)})
            if dropped and self.budget.left <= 0.0:
                dropped |= {each.candidate.name: "the budget ended before it was confirmed" for each in chosen}
                return Proven(regions=[], confirmation=last, dropped=dropped)
            regions = [region_of(attempt) for attempt in chosen]
            self._tell(chosen)
            verdict = self._confirmation(chosen)
            if verdict.holds and self._without_threads_alone(chosen, verdict):
                continue
            last = verdict.confirmation or last
            idlers = self.without_idlers(chosen) if verdict.holds else {}
            if idlers:
                dropped |= idlers
                continue
            if verdict.holds:
                return Proven(
                    regions=regions, confirmation=verdict.confirmation, dropped=dropped, attempts=tuple(chosen)
                )
            guilty = self._guilty(chosen, verdict)
            # Options that don't hold up on the whole cost a region its options first, and only then its place.
            demoted = [each for each in chosen if each.candidate.name in guilty and self.search.findings.demote(each)]
            if not demoted:
                dropped |= guilty

    def _guilty(self, chosen: Sequence[Attempt], verdict: _Verdict) -> dict[str, str]:
        """The names of what has to go, each with the reason."""
        if verdict.all_guilty:
            return {each.candidate.name: verdict.why for each in chosen}
        if verdict.guilty:
            return dict.fromkeys(verdict.guilty, verdict.why)
        groups = self._groups(chosen)
        if verdict.differs:
            found = self._at_fault(chosen, groups)
            return {each.candidate.name: verdict.why for each in found or groups[0]}
        if len(groups) == 1:
            return {each.candidate.name: verdict.why for each in chosen}
        measured = [(self._contribution(chosen, group), group) for group in groups[:MOST_LEFT_OUT]]
        found_ratio, least = min(measured, key=lambda each: each[0].speedup if each[0] else 0.0)
        return {each.candidate.name: f"{verdict.why}; {_contributed(found_ratio)}" for each in least}

    def _groups(self, chosen: Sequence[Attempt]) -> list[list[Attempt]]:
        """Regions that one trial stands for, together; those that were to save least first."""
        groups: dict[tuple[str, str, str], list[Attempt]] = {}
        for each in chosen:
            groups.setdefault((each.measured_on, each.engine, str(each.options)), []).append(each)
        return sorted(groups.values(), key=lambda group: sum(each.saving for each in group))

    def _at_fault(self, chosen: Sequence[Attempt], groups: Sequence[list[Attempt]]) -> list[Attempt]:
        """The group without which the root answers as eager does; empty when no single one is at fault."""
        for group in groups if len(groups) > 1 else ():
            rest = [region_of(each) for each in chosen if each not in group]
            result = self._in_a_child(self._confirmation_of(rest, seconds=0.0).conduct, rest)
            if isinstance(result, Finished) and not msgspec.convert(result.value, Confirmed).problem:
                return group
        return []

    def without_idlers(self, chosen: Sequence[Attempt]) -> dict[str, str]:
        """What contributes nothing to a set that holds: names with the reason."""
        found: dict[str, str] = {}
        groups = self._groups(chosen)
        for group in groups[:MOST_LEFT_OUT] if len(groups) > 1 else ():
            if self.budget.left <= 0.0:
                break
            contribution = self._contribution(chosen, group)
            if contribution is not None and contribution.low <= 1.0 and contribution.speedup < LEAST_CONTRIBUTION:
                found |= {each.candidate.name: _contributed(contribution) for each in group}
        return found

    def _without_threads_alone(self, chosen: Sequence[Attempt], verdict: _Verdict) -> bool:
        """Takes their threads from regions that are no gain over eager with as many; whether there was something to
        take. What eager has from threads alone is no reason to convert."""
        alone = self.eager_with_threads_of([region_of(each) for each in chosen])
        if alone is None or verdict.confirmation is None:
            return False
        eager, hybrid = alone.samples.comparison().speedup, verdict.confirmation.comparison().speedup
        if hybrid / eager >= self.options.min_gain:
            return False
        demoted = [each for each in chosen if more_threads(each.options) and self.search.findings.demote(each)]
        if not demoted:
            return False
        self.proofs.withdraw(self.root, chosen)
        self.notes.append(
            f"{counted(alone.threads, 'thread')} alone make eager {eager:.2f}x as fast, with "
            f"{counted(len(chosen), 'region')} it was {hybrid:.2f}x: too little for a conversion. For the threads set "
            f"{device.MATH_THREADS}={alone.threads} before Python starts, and profile again."
        )
        return True

    def eager_with_threads_of(self, regions: Sequence[plan.Region]) -> plan.EagerThreads | None:
        """What the threads that regions use would do for eager, where they use more than eager does."""
        threads = max((more_threads(region.options) for region in regions), default=0)
        if not threads or device.on_gpu():
            return None
        if threads not in self.eager_threads:
            self.eager_threads[threads] = self._measured_eager(threads)
        return self.eager_threads[threads]

    def _measured_eager(self, threads: int) -> plan.EagerThreads | None:
        root = self.root
        work = EagerThreads(
            root=root, threads=threads, min_gain=self.options.min_gain, measuring_seconds=MEASURING_SECONDS
        )
        self.progress(Step(stage="measuring", what=f"eager with {threads} threads"))
        result = self.isolation.run(work.conduct, seconds=30.0 + CALLS * root.seconds / root.calls, memory=self.memory)
        if not isinstance(result, Finished):
            self.notes.append(f"Eager with {threads} threads could not be measured: {shown(result)}.")
            return None
        samples = msgspec.convert(result.value, plan.Samples)
        return plan.EagerThreads(threads=threads, set_by="paddle.base.core.set_num_threads", samples=samples)

    def _contribution(self, chosen: Sequence[Attempt], group: Sequence[Attempt]) -> stats.Comparison | None:
        """How much faster the root is with all of ``chosen`` than without ``group``; None when that can't be told."""
        rest = [each for each in chosen if each not in group]
        return self._contest(chosen, rest)

    def _contest(self, one: Sequence[Attempt], other: Sequence[Attempt]) -> stats.Comparison | None:
        regions = [region_of(each) for each in one], [region_of(each) for each in other]
        contest = Contest(
            root=self.root,
            one=regions[0],
            other=regions[1],
            tolerance=Tolerance(rtol=self.options.rtol, atol=self.options.atol),
            least_difference=LEAST_CONTRIBUTION,
            measuring_seconds=MEASURING_SECONDS,
            store=self.search.kept.read,
        )
        result = self._in_a_child(contest.conduct, [*regions[0], *regions[1]])
        if not isinstance(result, Finished):
            return None
        found = msgspec.convert(result.value, Contested)
        return None if found.idle or not found.samples.eager else found.samples.comparison()

    def _in_a_child(self, work: Callable[[], Any], regions: Sequence[plan.Region]) -> Result:
        return self.isolation.run(work, seconds=confirmation_limit(self.root, regions), memory=self.memory)

    def _less_guarded(self, chosen: list[Attempt], dropped: Sequence[str]) -> list[Attempt]:
        """Instead of a conversion that holds for one way through a forward only, one without, if it does as well."""
        guarded = [each.candidate.name for each in chosen if each.guarded]
        if not guarded or self.budget.left <= 0.0:
            return chosen
        other = self.search.chosen(self.root, without=[*dropped, *guarded])
        if sum(each.saving for each in other) < CLOSE_ENOUGH * sum(each.saving for each in chosen):
            return chosen
        found = self._contest(other, chosen)
        return other if found is not None and found.high >= 1.0 / LEAST_CONTRIBUTION else chosen

    def _confirmation_of(self, regions: Sequence[plan.Region], seconds: float) -> Confirmation:
        return Confirmation(
            root=self.root,
            regions=regions,
            tolerance=Tolerance(rtol=self.options.rtol, atol=self.options.atol),
            min_gain=self.options.min_gain,
            measuring_seconds=seconds,
            store=self.search.kept.read,
        )

    def _confirmation(self, chosen: Sequence[Attempt]) -> _Verdict:
        known = self.proofs.confirmation(self.root, chosen)
        if known is not None:
            return _Verdict(confirmation=known, holds=True)
        verdict = self._measured(chosen)
        if not verdict.holds:
            self.proofs.withdraw(self.root, chosen)
        return verdict

    def _measured(self, chosen: Sequence[Attempt]) -> _Verdict:
        regions = [region_of(attempt) for attempt in chosen]
        work = self._confirmation_of(regions, MEASURING_SECONDS)
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
            result = self._in_a_child(work.conduct, regions)
            if not isinstance(result, Finished):
                return _Verdict(
                    confirmation=None, all_guilty=True, why=f"confirming it together ended with: {shown(result)}"
                )
            found = msgspec.convert(result.value, Confirmed)
            if found.idle:
                return _Verdict(
                    confirmation=None, guilty=tuple(found.idle), why=f"stayed eager ({next(iter(found.idle.values()))})"
                )
            if found.problem:
                return _Verdict(confirmation=None, differs=True, why=f"the root's answer differs: {found.problem}")
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
            if wanted == PROCESSES_IF_CLEAR or len(processes) >= FEWEST_IF_CLOSE:
                proven = Proven(regions=regions, confirmation=confirmation, dropped={}, attempts=tuple(chosen))
                self.proofs.note(self.root, proven, complete=len(processes) >= wanted)
        return _Verdict(confirmation=confirmation, holds=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    confirmation: plan.Confirmation | None
    holds: bool = False
    guilty: tuple[str, ...] = ()
    all_guilty: bool = False
    differs: bool = False
    why: str = ""


def confirmation_limit(root: RootProfile, regions: Sequence[plan.Region]) -> float:
    """Seconds after which a confirmation counts as hanging: three times what it should take."""
    conversions = sum(region.conversion_seconds for region in regions)
    calls = (ROUNDS_TO_PROVE + FEWEST_PAIRS + 10) * len(root.kept) * root.seconds / root.calls
    return 3.0 * (conversions + calls + MEASURING_SECONDS) + 10.0


def more_threads(options: Mapping[str, Any]) -> int:
    """How many math threads a region with these options uses, where that is more than eager; else 0."""
    threads = int(options.get("threads", 0))
    return threads if threads > device.math_threads() else 0


def _in_favour_of(kept: Proven, chosen: Sequence[Attempt]) -> dict[str, str]:
    stay = {each.candidate.name for each in kept.attempts}
    why = "the budget ended before it was confirmed; what was confirmed earlier stays"
    return {each.candidate.name: why for each in chosen if each.candidate.name not in stay}


def _contributed(found: stats.Comparison | None) -> str:
    if found is None:
        return "what it contributes could not be measured"
    return f"with it the whole is {found.speedup:.3f}x as fast (certain: {found.low:.3f}x to {found.high:.3f}x)"


def _worse(one: plan.Equality | None, other: plan.Equality) -> plan.Equality:
    return other if one is None or other.error > one.error else one


def shown(result: Any) -> str:
    """How a child ended that has no result."""
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
