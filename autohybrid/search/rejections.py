"""Says of each candidate that became no region why, with evidence and a script that shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from autohybrid import plan
from autohybrid.observe.profile import RootProfile
from autohybrid.plan.reasons import HOLDS_MORE, hint
from autohybrid.runtime.chain_finder import Obstacle
from autohybrid.search.candidates import Candidate
from autohybrid.search.findings import Attempt, Findings
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted, Crashed, Failed, Outcome, TimedOut, Unfit, Wrong
from autohybrid.search.reproduce import reproduction
from autohybrid.stats import median

MOST_OBSTACLES = 3
"""Statements that are named of those that part a function's calls."""

_REASON_OF: dict[type, str] = {Wrong: "wrong", Failed: "failed", Crashed: "crashed", TimedOut: "timed_out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejections:
    """Says of each candidate that became no region why.

    Attributes:
        ends_of_chains: what keeps the sub-Layers that a candidate calls from being one region, by its ``id``.
    """

    findings: Findings
    ends_of_chains: Mapping[int, Sequence[Obstacle]]
    regions: Sequence[Attempt]
    dropped: dict[str, str]
    options: Options
    root: RootProfile
    script: plan.Script | None
    reproductions: dict[str, str]
    reproduces: bool

    def rows(self, candidates: Sequence[Candidate]) -> list[plan.Rejected]:
        """One row for each failed attempt, and one for each other candidate; the largest share first."""
        rows: list[plan.Rejected] = []
        taken = {id(attempt.candidate) for attempt in self.regions}
        converted = {attempt.candidate.spot: attempt.candidate for attempt in self.regions}
        converted |= {spot: each.candidate for each in self.regions for spot in each.candidate.covers}
        for candidate in candidates:
            made = self.findings.attempts_of(candidate)
            failed = [attempt for attempt in made if not isinstance(attempt.outcome, Converted)]
            rows += [self._failed(attempt) for attempt in failed]
            if id(candidate) in taken:
                rows += self._beaten(candidate, made)
            if id(candidate) not in taken and (not failed or self.findings.best_attempt(candidate)):
                around = (candidate.spot, *candidate.inside)
                outer = next((converted[spot] for spot in around if spot in converted), None)
                rows.append(self._passed_over(candidate, outer))
                if outer is None:
                    rows += self._between(candidate, candidates)
            elif id(candidate) not in taken:
                rows += self._between(candidate, candidates)
        return sorted(rows, key=lambda row: -row.share)

    def _failed(self, attempt: Attempt) -> plan.Rejected:
        candidate, outcome = attempt.candidate, attempt.outcome
        reason = outcome.reason if isinstance(outcome, Unfit) else _REASON_OF[type(outcome)]
        detail = outcome.detail  # type: ignore[union-attr]
        if attempt.measured_on != candidate.name:
            detail = f"as {attempt.measured_on}: {detail}"
        finding = candidate.findings[0] if candidate.findings and reason in ("failed", "wrong", "state") else None
        cured = self.findings.best_attempt(candidate)
        if cured is not None:
            how = " ".join([cured.engine, *(f"{name}={value}" for name, value in cured.options.items())])
            detail += f"; right with {how}"
        return self._row(
            candidate,
            reason,
            detail,
            hint_text=_training_hint(candidate) if reason == "training_mode" else (finding.hint if finding else ""),
            place=finding.place if finding else candidate.source,
            engine=attempt.engine,
            options=attempt.options,
            evidence=_evidence(outcome),
            reproduce=self._reproduction(attempt, reason) if attempt.measured_on == candidate.name else "",
        )

    def _beaten(self, candidate: Candidate, made: Sequence[Attempt]) -> Iterator[plan.Rejected]:
        """What answers rightly as well for a region, and isn't what it was given."""
        chosen = next(attempt for attempt in self.regions if attempt.candidate is candidate)
        for attempt in made:
            if attempt is not chosen and isinstance(attempt.outcome, Converted):
                detail = _shown(attempt) + self._too_heavy(attempt, chosen)
                yield self._row(candidate, "not_chosen", detail, attempt=attempt)
        for runner in self.findings.raced.get(id(candidate), ()):
            lost = runner.problem or (f"raced: {_race(runner.samples)}" if runner.samples else "")
            if lost:
                yield self._row(candidate, "not_chosen", lost, engine=runner.engine, options=runner.options)

    def _too_heavy(self, attempt: Attempt, chosen: Attempt) -> str:
        """What is to be said of a faster attempt that holds more than the chosen one, where memory is limited."""
        one, other = attempt.outcome, chosen.outcome
        assert isinstance(one, Converted), "only what converts was measured"
        assert isinstance(other, Converted), "only what converts is chosen"
        heavier = one.extra_memory > other.extra_memory and attempt.speedup > chosen.speedup
        if self.options.memory_budget is None or not heavier:
            return ""
        return f", with {one.extra_memory / 2**20:.0f} MiB{HOLDS_MORE}"

    def _between(self, parent: Candidate, candidates: Sequence[Candidate]) -> Iterator[plan.Rejected]:
        """What keeps the sub-Layers that a candidate calls from being one region."""
        if self.options.dry_run or id(parent) in self.findings.passed or self._gains(parent):
            return
        called = [each for each in candidates if each.chain is None and parent.spot in each.called_in]
        share = min(parent.share, sum(each.share for each in called))
        if share < 1.0 - 1.0 / self.options.min_gain:
            return
        for obstacle in self.ends_of_chains.get(id(parent), ())[:MOST_OBSTACLES]:
            row = self._row(parent, obstacle.code, obstacle.detail, place=obstacle.place)
            yield msgspec.structs.replace(row, share=share)

    def _gains(self, candidate: Candidate) -> bool:
        best = self.findings.best_attempt(candidate)
        return best is not None and best.proven(self.options.min_gain)

    def _passed_over(self, candidate: Candidate, outer: Candidate | None) -> plan.Rejected:
        if outer is not None:
            return self._row(candidate, "covered", f"by {outer.name}")
        if id(candidate) in self.findings.passed:
            reason, detail = self.findings.passed[id(candidate)]
            return self._row(candidate, reason, detail)
        best = self.findings.best_attempt(candidate)
        if best is None:
            return self._row(candidate, "dry_run" if self.options.dry_run else "not_tried", "")
        if candidate.name in self.dropped:
            return self._row(candidate, "dropped", self.dropped[candidate.name], attempt=best)
        reason = "not_chosen" if best.proven(self.options.min_gain) else "not_faster"
        return self._row(candidate, reason, _shown(best), attempt=best)

    def _row(
        self,
        candidate: Candidate,
        reason: str,
        detail: str,
        *,
        hint_text: str = "",
        place: plan.Place | None = None,
        engine: str = "",
        options: dict[str, Any] | None = None,
        evidence: str = "",
        reproduce: str = "",
        attempt: Attempt | None = None,
    ) -> plan.Rejected:
        return plan.Rejected(
            path=candidate.path,
            function=candidate.function,
            members=list(candidate.member_paths),
            class_name=candidate.class_name,
            reason=reason,
            detail=detail,
            hint=hint_text or hint(reason),
            share=candidate.share,
            source=place or candidate.source,
            engine=attempt.engine if attempt else engine,
            options=attempt.options if attempt else (options or {}),
            evidence=evidence,
            reproduce=reproduce,
            samples=attempt.outcome.samples if attempt and isinstance(attempt.outcome, Converted) else None,
        )

    def _reproduction(self, attempt: Attempt, reason: str) -> str:
        if not self.reproduces or reason not in _REASON_OF.values():
            return ""
        name = f"{len(self.reproductions) + 1:02d}-{attempt.candidate.name.strip('()')}-{reason}.py"
        self.reproductions[name] = reproduction(attempt, self.root, self.script, reason)
        return name


def _shown(attempt: Attempt) -> str:
    assert isinstance(attempt.outcome, Converted), "only what converts is measured"
    found = attempt.outcome.samples.comparison()
    return f"{found.speedup:.2f}x, certain to lie between {found.low:.2f}x and {found.high:.2f}x"


def _race(samples: plan.Samples) -> str:
    """The last lap of one that lost, beside what was the best then."""
    one, best = median(samples.hybrid), median(samples.eager)
    return f"{1e3 * one:.3g} ms, {1e3 * best:.3g} ms in turn with what it raced against"


def _training_hint(candidate: Candidate) -> str:
    return f"call model.eval() before inference: unlocks up to {candidate.share:.0%} of the time"


def _evidence(outcome: Outcome) -> str:
    if isinstance(outcome, Wrong):
        found = outcome.equality
        return (
            f"largest error {found.error:.3g} on a scale of {found.scale:.3g}, allowed {found.limit:.3g}, "
            f"eager's own noise {found.noise:.3g}"
        )
    return str(getattr(outcome, "evidence", ""))
