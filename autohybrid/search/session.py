"""The main job after observation: a ``Profile`` becomes a ``Plan``."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import paddle

import autohybrid
from autohybrid import device, engines, plan
from autohybrid import isolation as isolated
from autohybrid.device import clock
from autohybrid.errors import SetupError
from autohybrid.isolation import Finished, Forked, InProcess, Isolation
from autohybrid.observe.profile import Profile, RootProfile
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.fingerprint import fingerprint, source_hash, structure_lines
from autohybrid.search.candidates import Candidate, contains
from autohybrid.search.confirm import FEWEST_PAIRS, ROUNDS_TO_PROVE, Confirmation, Confirmed
from autohybrid.search.journal import Journal
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted, Crashed, Failed, Outcome, TimedOut, Unfit, Wrong
from autohybrid.search.reasons import hint
from autohybrid.search.reproduce import reproduction
from autohybrid.search.search import (
    CLEAR_GAIN,
    MEASURING_SECONDS,
    PROCESSES_IF_CLEAR,
    PROCESSES_IF_CLOSE,
    Attempt,
    Budget,
    Findings,
    Progress,
    Search,
)


@dataclass(slots=True, kw_only=True)
class Session:
    """One search with what it needs; :meth:`make_plan` does it.

    Args:
        profile: what was observed.
        options: what the user wants.
        script: what was run, None for a callable.
        script_seconds: how long that took.
        journal: results of trials, of this run and of earlier ones.
        progress: told in a line what is going on.
        isolation: where trials run; None finds out.
        rerun: where trials can't be isolated, try them in this process, which somebody watches and starts again.
    """

    profile: Profile
    options: Options
    script: plan.Script | None
    script_seconds: float
    journal: Journal = field(default_factory=Journal)
    progress: Progress = lambda _line: None
    isolation: Isolation | None = None
    rerun: bool = False
    reproductions: dict[str, str] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)

    def make_plan(self) -> plan.Plan:
        """Ranks, tries, chooses, confirms.

        Raises:
            SetupError: trials can't be isolated here.
            UsageError: an engine isn't known.
        """
        started = clock()
        budget = Budget(self.options.budget_for(self.script_seconds))
        memory = self.options.max_memory or device.available_memory() // 2
        isolation = self.isolation or self._isolation()
        search = Search(
            self.profile,
            self.options,
            isolation=isolation,
            budget=budget,
            memory=memory,
            journal=self.journal,
            progress=self.progress,
        )
        findings = search.rank()
        if not self.options.dry_run:
            findings = search.run()
        models = [self._model(number, root, search, isolation, budget, memory) for number, root in self._numbered()]
        return plan.Plan(
            schema_version=plan.SCHEMA_VERSION,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            environment=environment(),
            script=self.script,
            settings=self._settings(isolation, budget),
            models=models,
            trials=findings.trials,
            search_seconds=clock() - started,
            complete=findings.complete,
            notes=[*self.profile.notes, *self._notes],
        )

    def _numbered(self) -> list[tuple[int, RootProfile]]:
        return list(enumerate(self.profile.roots))

    def _isolation(self) -> Isolation:
        if self.options.dry_run or self.options.isolation == "none":
            return InProcess()
        obstacle = "a GPU is in use" if device.on_gpu() else isolated.obstacle()
        if not obstacle:
            self.progress("checking that trials can be isolated")
            answer = Forked().run(_trivial_conversion, seconds=60.0, memory=device.available_memory())
            if isinstance(answer, Finished) and answer.value is True:
                return Forked()
            obstacle = f"a trivial conversion in a forked process failed: {answer}"
        if self.rerun:
            self._notes.append(f"Trials ran in the script's own process, started again after a crash: {obstacle}.")
            return InProcess()
        raise SetupError(
            f"Trials can't be isolated: {obstacle}.",
            "Try them in the script's own process: --rerun on the command line (the script runs again after a crash), "
            "isolation='none' from Python.",
        )

    def _settings(self, isolation: Isolation, budget: Budget) -> plan.Settings:
        return plan.Settings(
            engines=list(self.options.engines or engines.available()),
            rtol=self.options.rtol,
            atol=self.options.atol,
            min_gain=self.options.min_gain,
            budget_seconds=budget.seconds,
            isolation=isolation.name,
        )

    def _model(
        self, number: int, root: RootProfile, search: Search, isolation: Isolation, budget: Budget, memory: int
    ) -> plan.Model:
        lines = structure_lines(root.layer)
        findings = search.findings
        confirmed = _Confirmed(regions=[], confirmation=None, dropped={})
        if not self.options.dry_run:
            confirmed = self._confirmed(root, search, isolation, budget, memory)
        candidates = [each for each in findings.candidates if each.root is root]
        rejected = _Rejections(
            findings=findings,
            regions=confirmed.attempts,
            dropped=confirmed.dropped,
            options=self.options,
            root=root,
            script=self.script,
            reproductions=self.reproductions,
        )
        return plan.Model(
            id=f"{root.class_name}-{number + 1}",
            class_name=root.class_name,
            places=list(root.places),
            fingerprint=fingerprint(lines),
            structure=lines,
            calls=root.calls,
            training_calls=root.training_calls,
            seconds_per_call=root.seconds / root.calls,
            share=min(1.0, root.seconds / (self.profile.seconds or 1.0)),
            ranking=[_ranked(candidate) for candidate in sorted(candidates, key=lambda c: -c.share)],
            regions=confirmed.regions,
            rejected=rejected.rows(candidates),
            confirmation=confirmed.confirmation,
        )

    def _confirmed(
        self, root: RootProfile, search: Search, isolation: Isolation, budget: Budget, memory: int
    ) -> _Confirmed:
        dropped: dict[str, str] = {}
        last: plan.Confirmation | None = None
        while True:
            chosen = search.chosen(root, without=list(dropped))
            if not chosen:
                return _Confirmed(regions=[], confirmation=last, dropped=dropped)
            if dropped and budget.left <= 0.0:
                dropped |= {each.candidate.path: "the budget ended before it was confirmed" for each in chosen}
                return _Confirmed(regions=[], confirmation=last, dropped=dropped)
            regions = [_region(attempt) for attempt in chosen]
            self.progress(f"confirming {len(regions)} region(s) of {root.class_name}, {budget.left:.0f} s left")
            verdict = self._confirmation(root, regions, isolation, budget, memory)
            last = verdict.confirmation or last
            if verdict.holds:
                return _Confirmed(
                    regions=regions, confirmation=verdict.confirmation, dropped=dropped, attempts=tuple(chosen)
                )
            # What is known to be at fault goes; else what contributes least.
            guilty = list(verdict.guilty) or [min(chosen, key=lambda each: each.saving).candidate.path]
            if verdict.all_guilty:
                guilty = [each.candidate.path for each in search.chosen(root)]
            for path in guilty:
                dropped[path] = verdict.why

    def _confirmation(
        self, root: RootProfile, regions: Sequence[plan.Region], isolation: Isolation, budget: Budget, memory: int
    ) -> _Verdict:
        work = Confirmation(
            root=root,
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
            if processes and budget.left <= 0.0:
                if wanted == PROCESSES_IF_CLEAR:
                    break  # one process is enough for a gain that is clear
                return _Verdict(
                    confirmation=confirmation, all_guilty=True, why="the budget ended before its gain was confirmed"
                )
            result = isolation.run(work.conduct, seconds=_confirmation_limit(root, regions), memory=memory)
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
class _Confirmed:
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


def _trivial_conversion() -> bool:
    """Whether a forked child can trace, convert and run anything at all."""
    layer = paddle.nn.Linear(4, 4)
    layer.eval()
    static = paddle.jit.to_static(layer, input_spec=[paddle.static.InputSpec([1, 4], "float32")], full_graph=True)
    with paddle.no_grad():
        answer = static(paddle.ones([1, 4]))
    return bool(paddle.isfinite(answer).all())


def environment() -> plan.Environment:
    """Where this process runs."""
    return plan.Environment(
        autohybrid=autohybrid.__version__,
        paddle=paddle.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=str(paddle.device.get_device()),
        processor=device.cpu_model(),
        cores=device.usable_cores(),
        math_threads=device.math_threads(),
    )


def _ranked(candidate: Candidate) -> plan.RankedLayer:
    timed = candidate.timed
    ceiling = candidate.ceiling
    return plan.RankedLayer(
        path=candidate.path,
        class_name=candidate.class_name,
        aliases=list(timed.aliases),
        calls=timed.calls,
        inclusive_seconds=timed.inclusive,
        self_seconds=timed.own,
        share=candidate.share,
        ceiling=None if ceiling == float("inf") else ceiling,
        looks=candidate.looks,
        source=candidate.source,
    )


def _region(attempt: Attempt) -> plan.Region:
    outcome = attempt.outcome
    assert isinstance(outcome, Converted), "only what converts is chosen"
    candidate = attempt.candidate
    return plan.Region(
        kind="layer",
        path=candidate.path,
        aliases=list(candidate.timed.aliases),
        class_name=candidate.class_name,
        source_hash=source_hash(candidate.layer),
        engine=attempt.engine,
        options=attempt.options,
        inputs=[outcome.inputs],
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


_REASON_OF: dict[type, str] = {Wrong: "wrong", Failed: "failed", Crashed: "crashed", TimedOut: "timed_out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rejections:
    """Says of each candidate that became no region why."""

    findings: Findings
    regions: Sequence[Attempt]
    dropped: dict[str, str]
    options: Options
    root: RootProfile
    script: plan.Script | None
    reproductions: dict[str, str]

    def rows(self, candidates: Sequence[Candidate]) -> list[plan.Rejected]:
        """One row for each failed attempt, and one for each other candidate; the largest share first."""
        rows: list[plan.Rejected] = []
        taken = {id(attempt.candidate) for attempt in self.regions}
        for candidate in candidates:
            failed = [
                attempt
                for attempt in self.findings.attempts
                if attempt.candidate is candidate and not isinstance(attempt.outcome, Converted)
            ]
            rows += [self._failed(attempt) for attempt in failed]
            if id(candidate) not in taken and (not failed or self.findings.best_attempt(candidate)):
                rows.append(self._passed_over(candidate))
        return sorted(rows, key=lambda row: -row.share)

    def _failed(self, attempt: Attempt) -> plan.Rejected:
        candidate, outcome = attempt.candidate, attempt.outcome
        reason = outcome.reason if isinstance(outcome, Unfit) else _REASON_OF[type(outcome)]
        detail = outcome.detail  # type: ignore[union-attr]
        if attempt.measured_on != candidate.path:
            detail = f"as {attempt.measured_on}: {detail}"
        finding = candidate.findings[0] if candidate.findings and reason in ("failed", "wrong", "state") else None
        cured = self.findings.best_attempt(candidate)
        if cured is not None:
            detail += f"; right with {cured.options}"
        return self._row(
            candidate,
            reason,
            detail,
            hint_text=_training_hint(candidate) if reason == "training_mode" else (finding.hint if finding else ""),
            place=finding.place if finding else candidate.source,
            engine=attempt.engine,
            options=attempt.options,
            evidence=_evidence(outcome),
            reproduce=self._reproduction(attempt, reason) if attempt.measured_on == candidate.path else "",
        )

    def _passed_over(self, candidate: Candidate) -> plan.Rejected:
        if id(candidate) in self.findings.passed:
            reason, detail = self.findings.passed[id(candidate)]
            return self._row(candidate, reason, detail)
        outer = next((each for each in self.regions if contains(each.candidate, candidate)), None)
        if outer is not None:
            return self._row(candidate, "covered", f"by {outer.candidate.path or '(root)'}")
        best = self.findings.best_attempt(candidate)
        if best is None:
            return self._row(candidate, "dry_run" if self.options.dry_run else "not_tried", "")
        if candidate.path in self.dropped:
            return self._row(candidate, "dropped", self.dropped[candidate.path], attempt=best)
        comparison = best.outcome.samples.comparison()  # type: ignore[union-attr]
        shown = f"{comparison.speedup:.2f}x, certain to lie between {comparison.low:.2f}x and {comparison.high:.2f}x"
        return self._row(
            candidate, "not_chosen" if best.proven(self.options.min_gain) else "not_faster", shown, attempt=best
        )

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
        )

    def _reproduction(self, attempt: Attempt, reason: str) -> str:
        if reason not in _REASON_OF.values():
            return ""
        name = f"{len(self.reproductions) + 1:02d}-{attempt.candidate.path or 'root'}-{reason}.py"
        self.reproductions[name] = reproduction(attempt, self.root, self.script, reason)
        return name


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
