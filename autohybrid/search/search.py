"""The search: which candidates are tried, in which order, and when to stop."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from autohybrid import engines
from autohybrid.device import math_threads, seconds_of_spinning
from autohybrid.engines import Engine, runtime_of
from autohybrid.isolation import Died, Finished, Isolation, Raised, Result, Stopped
from autohybrid.observe.profile import Profile, RootProfile, Spot
from autohybrid.runtime.chain_finder import Obstacle
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.signature import DYNAMIC
from autohybrid.search.below import Family
from autohybrid.search.candidates import Candidate, by_caller, candidates_of, selected
from autohybrid.search.chains import Chains
from autohybrid.search.choice import Choice
from autohybrid.search.findings import Attempt, Budget, Findings
from autohybrid.search.journal import Journal, key_of
from autohybrid.search.kept import SHARE_OF_OPENING, Kept
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted, Crashed, Failed, Outcome, Raced, TimedOut, Unfit, Wrong
from autohybrid.search.progress import Progress, Step
from autohybrid.search.sampling import FEWEST_PAIRS
from autohybrid.search.trial import Trial, inputs_of
from autohybrid.stats import amdahl_ceiling
from autohybrid.store import Store

OPTIMISM = 1.2
"""How many times the gain of a converted parent its parts are credited with before they have been tried."""

WORTH_DESCENDING = 0.06
"""Parts of a converted parent are tried only if they could together save this share of the time more than it does (of a
chain: this share of what is left of the time)."""

LONGEST_SHARE_OF_BUDGET = 0.45
"""Of the budget that is left, what a single trial may take."""

PATIENT_SHARE_OF_BUDGET = 0.05
"""Of the budget that is left, what a trial that isn't clear may take longer to measure."""

SPARE = 1.5
"""How many times as much as conversions should take is kept for those of a confirmation."""

SHORTEST_LIMIT = 8.0
MEASURING_SECONDS = 2.0
PATIENCE_SECONDS = 6.0
"""What measuring takes, and takes longer where it isn't clear yet whether something gains enough."""

CALLS_IN_A_TRIAL = 30
"""Eager calls that a trial makes at most on the way to its verdict; a slow Layer gets the time for them."""

CLEAR_GAIN = 1.5
"""A gain whose lower limit is at least this is believed after ``PROCESSES_IF_CLEAR`` processes, a closer one after
``PROCESSES_IF_CLOSE`` (when the budget ends, after ``FEWEST_IF_CLOSE``): how memory is laid out differs from process to
process and moves small gains."""

PROCESSES_IF_CLEAR = 2
PROCESSES_IF_CLOSE = 5
FEWEST_IF_CLOSE = 3

MOST_CRASHES = 2
"""Sets of options with which a candidate may kill its process; each is tried twice, and its parts wait."""


class Search:
    """Tries candidates until the budget is used up or nothing worthwhile is left.

    Args:
        profile: what was observed.
        options: what the user wants.
        isolation: where trials run.
        budget: how long.
        journal: what is known already, and where results go.
        progress: told what is being tried.
        kept: where trials leave what they have converted.
    """

    def __init__(
        self,
        profile: Profile,
        options: Options,
        *,
        isolation: Isolation,
        budget: Budget,
        memory: int,
        journal: Journal,
        progress: Progress,
        kept: Kept = Kept(),  # noqa: B008 - nothing can change it
    ) -> None:
        self._profile = profile
        self._options = options
        self._isolation = isolation
        self._budget = budget
        self._memory = memory
        self._journal = journal
        self._progress = progress
        self.kept = kept
        self._tolerance = Tolerance(rtol=options.rtol, atol=options.atol)
        self._engines: list[Engine] = [engines.by_name(name) for name in options.engines or engines.available()]
        self.machine = engines.this_machine(
            threads=options.most_threads, precisions=options.precisions, starts=options.objective == "script"
        )
        self._alike: dict[int, list[Candidate]] = {}
        self._family = Family()
        self._chains = Chains(self._family)
        self._reserved = (0, 0.0)
        self.findings = Findings()
        self.choice = Choice(self.findings, options, profile.roots, self._alike)

    @property
    def roots(self) -> Sequence[RootProfile]:
        """The roots that were observed."""
        return self._profile.roots

    @property
    def ends_of_chains(self) -> Mapping[int, Sequence[Obstacle]]:
        """What keeps sub-Layers that were called in a candidate's function from being in a chain, by ``id``."""
        return self._chains.obstacles

    def rank(self) -> Findings:
        """Finds the candidates and says of each whether it is worth a trial at all; tries nothing."""
        findings, family = self.findings, self._family
        for root in self._profile.roots:
            candidates = candidates_of(self._profile, root, family)
            findings.candidates += [*candidates, *self._chains.among(candidates)]
        groups: dict[Any, list[Candidate]] = defaultdict(list)
        for candidate in findings.candidates:
            alike = (
                self._chains.likeness(candidate)
                if candidate.chain is not None
                else family.likeness(candidate.owner, candidate.function)
            )
            groups[(id(candidate.root), alike)].append(candidate)
        for group in groups.values():
            together = sum(candidate.share for candidate in group)
            for candidate in group:
                self._alike[id(candidate)] = group
                if not selected(candidate, self._options.include, self._options.exclude):
                    self._pass(candidate, "excluded")
                elif together < 1.0 - 1.0 / self._options.min_gain:
                    self._pass(candidate, "too_small", f"{together:.1%} of the time")
                elif self._has_hooks_inside(candidate):
                    self._pass(candidate, "user_hooks")
        return findings

    def _has_hooks_inside(self, candidate: Candidate) -> bool:
        if candidate.chain is not None:
            return self._chains.has_hooks(candidate)
        return self._family.has_hooks_inside(candidate.owner)

    def run(self, after_each: Callable[[], None] = lambda: None) -> Findings:
        """Tries what :meth:`rank` left, the largest possible saving first, descending where that may pay.

        Args:
            after_each: called whenever a candidate has been considered.
        """
        findings = self.findings
        counter = 0
        queue: list[tuple[float, int, Candidate]] = []

        def push(candidate: Candidate, priority: float) -> None:
            nonlocal counter
            counter += 1
            heapq.heappush(queue, (-priority, counter, candidate))

        for candidate in findings.candidates:
            if not candidate.called_in:
                push(candidate, candidate.weight)
        queued: set[int] = {id(entry[2]) for entry in queue}
        called_by = by_caller(findings.candidates)
        while queue:
            _, _, candidate = heapq.heappop(queue)
            if self._budget.left <= self.reserve():
                findings.complete = False
                break
            self.consider(candidate)
            self._split(candidate)
            after_each()
            below = [each for each in self._below(candidate, called_by) if id(each) not in queued]
            surplus = self._worth_of_descending(candidate, below)
            if not surplus and self._is_guarded(candidate):
                # The chains in it may do as well without depending on values.
                below, surplus = [each for each in below if each.chain is not None], WORTH_DESCENDING
            for each in below:
                if surplus > 0.0:
                    queued.add(id(each))
                    push(each, surplus * each.share * each.weight)
        return findings

    def _below(self, candidate: Candidate, called_by: dict[tuple[int, Spot], list[Candidate]]) -> Sequence[Candidate]:
        """What to descend to: the chains first, and the members of a chain only from there."""
        if candidate.chain is not None:
            (parent,) = candidate.called_in
            called = called_by[id(candidate.root), parent]
            return [each for each in called if each.spot in candidate.members]
        called = called_by[id(candidate.root), candidate.spot]
        in_chains = {spot for each in called for spot in each.members}
        return [each for each in called if each.spot not in in_chains]

    def _split(self, whole: Candidate) -> None:
        """Where a chain doesn't convert as it is, tries its members, and chains of those that do."""
        if whole.chain is None or id(whole) in self.findings.passed or self.findings.best_attempt(whole):
            return
        candidates = [each for each in self.findings.candidates if each.root is whole.root]
        for member in self._chains.members(whole, candidates):
            if self._budget.left <= self.reserve():
                return
            self.consider(member)
        for part in self._chains.parts(whole, self._may_be_in_a_chain, candidates):
            self.findings.candidates.append(part)
            self._alike[id(part)] = [part]
            if self._budget.left > self.reserve():
                self.consider(part)

    def _may_be_in_a_chain(self, member: Candidate) -> bool:
        passed, _ = self.findings.passed.get(id(member), ("", ""))
        return passed == "too_small" or self.findings.best_attempt(member) is not None

    def _is_guarded(self, candidate: Candidate) -> bool:
        best = self.findings.best_attempt(candidate)
        return best is not None and best.guarded

    def _worth_of_descending(self, candidate: Candidate, below: Sequence[Candidate]) -> float:
        best = self.choice.best_within(candidate)
        if best is None or not best.proven(self._options.min_gain):
            return 1.0
        hoped = sum(each.share for each in below) * (1.0 - 1.0 / (OPTIMISM * best.speedup))
        saved = candidate.share * (1.0 - 1.0 / best.speedup)
        # A chain is our own cut through a forward: another cut may well be better, so it is held to what would be left.
        whole = 1.0 - saved if candidate.chain is not None else 1.0
        return hoped - saved if hoped - saved > WORTH_DESCENDING * whole else 0.0

    def consider(self, candidate: Candidate) -> None:
        """Tries one candidate with what may help, and notes what came of it."""
        if id(candidate) in self.findings.passed or self._is_known(candidate):
            return
        twins = [
            each
            for each in self._alike[id(candidate)]
            if each is not candidate and id(each) not in self.findings.passed and not self._is_known(each)
        ]
        for engine in self._engines:
            if not self._worth_trying(engine, candidate):
                continue
            if self._is_known(candidate) and self._budget.left <= self.reserve():
                self.findings.complete = False
                break
            crashes = 0
            for options in engines.attempts(engine, self.machine):
                outcome = self._tried(candidate, engine, options, twins)
                self._note(candidate, engine, options, outcome, twins)
                crashes += isinstance(outcome, Crashed)
                hopeless = crashes == MOST_CRASHES or not _another_try_may_help(outcome)
                if hopeless or self._budget.left <= self.reserve():
                    break
        best = self.findings.best_attempt(candidate)
        if best is not None and best.proven(self._options.min_gain) and not self.choice.fits(best):
            self._lighten(best)
        self._static_where_dynamic_fails(candidate, twins)

    def _static_where_dynamic_fails(self, candidate: Candidate, twins: Sequence[Candidate]) -> None:
        """Where a dimension that varied breaks the graph, each size that came may have a conversion of its own."""
        made = self.findings.attempts_of(candidate)
        if not made or not all(isinstance(each.outcome, (Failed, Crashed, TimedOut)) for each in made):
            return
        if DYNAMIC not in str(made[0].inputs) or self._budget.left <= self.reserve():
            return
        engine, options = self._engines[0], engines.attempts(self._engines[0], self.machine)[0]
        outcome = self._tried(candidate, engine, options, twins, static=True)
        self._note(candidate, engine, options, outcome, twins)

    def _worth_trying(self, engine: Engine, candidate: Candidate) -> bool:
        """Whether an engine may tell something that those before it haven't.

        Nothing is to be hoped for where the candidate itself is unfit. Engines with the same ``runtime`` trace and
        compute alike: where one of them converted rightly, or tracing failed, another would only take the time again.
        It is tried where what failed lies behind the export, which is where their settings differ, and not where the
        first one's time was too short.
        """
        for attempt in self.findings.attempts_of(candidate):
            if isinstance(attempt.outcome, Unfit):
                return False
            alike = runtime_of(engines.by_name(attempt.engine)) == runtime_of(engine) and attempt.engine != engine.name
            untraceable = isinstance(attempt.outcome, Failed) and not attempt.outcome.exported
            if alike and (untraceable or isinstance(attempt.outcome, (Converted, TimedOut))):
                return False
        return True

    def _is_known(self, candidate: Candidate) -> bool:
        return bool(self.findings.attempts_of(candidate))

    def _note(
        self,
        candidate: Candidate,
        engine: Engine,
        options: dict[str, Any],
        outcome: Outcome,
        twins: Sequence[Candidate],
        promoted: bool = False,
    ) -> None:
        alike = twins if not isinstance(outcome, Converted) else [t for t in twins if t.name in outcome.twins]
        if isinstance(outcome, (TimedOut, Crashed, Unfit)):
            alike = []
        inputs = getattr(outcome, "inputs", None)
        if inputs is None and not isinstance(outcome, Unfit):
            inputs = self._inputs_of(candidate)
        for each in (candidate, *alike):
            self.findings.note(
                Attempt(
                    candidate=each,
                    engine=engine.name,
                    options=options,
                    outcome=outcome,
                    measured_on=candidate.name,
                    inputs=inputs,
                    promoted=promoted,
                )
            )

    def promote(self, best: Attempt, engine: Engine, options: dict[str, Any]) -> Attempt | None:
        """Tries in full, and notes, what won a race against ``best``; None when it fails there."""
        return self._instead(best, engine, options, promoted=True)

    def lighten(self) -> None:
        """Where what would be best holds more memory than is allowed, tries what holds less."""
        for best in self.choice.too_heavy():
            self._lighten(best)

    def _lighten(self, best: Attempt) -> None:
        if self._options.memory_budget is None:
            return
        made = self.findings.attempts_of(best.candidate)
        known = [(each.engine, each.options) for each in made]
        for name in dict.fromkeys(each.engine for each in made if isinstance(each.outcome, Converted)):
            engine = engines.by_name(name)
            for options in engines.lean(engine, self.machine):
                if (name, options) not in known and self._budget.left > self.reserve():
                    self._instead(best, engine, options)

    def _instead(
        self, best: Attempt, engine: Engine, options: dict[str, Any], promoted: bool = False
    ) -> Attempt | None:
        twins = [
            each.candidate
            for each in self.findings.attempts
            if each.outcome is best.outcome and each.candidate is not best.candidate
        ]
        static = isinstance(best.outcome, Converted) and bool(best.outcome.other_sizes)
        outcome = self._tried(best.candidate, engine, options, twins, static=static)
        self._note(best.candidate, engine, options, outcome, twins, promoted=promoted)
        return self.findings.attempts_of(best.candidate)[-1] if isinstance(outcome, Converted) else None

    def _inputs_of(self, candidate: Candidate) -> Any:
        """What a candidate is called with, when the process that would have told is dead."""
        result = self._isolation.run(
            lambda: inputs_of(candidate), seconds=max(SHORTEST_LIMIT, self._budget.left), memory=self._memory
        )
        return result.value if isinstance(result, Finished) else None

    def _tried(
        self,
        candidate: Candidate,
        engine: Engine,
        options: dict[str, Any],
        twins: Sequence[Candidate],
        static: bool = False,
    ) -> Outcome:
        root = self._profile.roots.index(candidate.root)
        key = key_of(root, candidate.name, engine.name, {**options, "static": True} if static else options)
        limit = self._limit_for(candidate)
        known = self._journal.recall(key, limit)
        if known is not None and not isinstance(known, Raced):
            return known
        if self._journal.was_fatal(key):
            outcome: Outcome = Crashed(detail="the process died in an earlier run", evidence="")
            self._journal.end(key, outcome, lasting=False)  # who killed it then isn't known for certain
            return outcome
        shown = f" {options}" if options else ""
        self._progress(
            Step(stage="trying", what=f"{candidate.name} ({candidate.class_name}) with {engine.name}{shown}")
        )
        trial = self.trial(candidate, engine, options, twins=twins, static=static, store=self.kept.written)
        self._journal.begin(key)
        outcome = self._isolated(trial)
        self._journal.end(key, outcome, limit, lasting=not _was_killed(outcome))
        return outcome

    def trial(
        self,
        candidate: Candidate,
        engine: Engine,
        options: dict[str, Any],
        *,
        twins: Sequence[Candidate] = (),
        static: bool = False,
        store: Store | None = None,
    ) -> Trial:
        """One attempt, ready to be made in a child."""
        return Trial(
            candidate=candidate,
            engine=engine,
            options=options,
            tolerance=self._tolerance,
            min_gain=self._options.min_gain,
            measuring_seconds=MEASURING_SECONDS,
            patience=min(PATIENCE_SECONDS, PATIENT_SHARE_OF_BUDGET * self._budget.left),
            twins=twins,
            static=static,
            store=store,
        )

    def _isolated(self, trial: Trial) -> Outcome:
        result = self._once(trial)
        if isinstance(result, Died):
            # A crash may be the fault of something else in the process: it is believed when it comes again.
            again = self._once(trial)
            if not isinstance(again, Died):
                result = again
        return _outcome_of(result)

    def _once(self, trial: Trial) -> Result:
        self.findings.trials += 1
        return self._isolation.run(trial.conduct, seconds=self._limit_for(trial.candidate), memory=self._memory)

    def _limit_for(self, candidate: Candidate) -> float:
        """Seconds after which a trial that is begun now counts as hanging."""
        root = candidate.root
        needed = SHORTEST_LIMIT + CALLS_IN_A_TRIAL * root.seconds / root.calls
        if math_threads() > 1:
            # Once in a pair there is a rest, and a call that doesn't count, see :func:`sampling.duration`.
            needed += FEWEST_PAIRS * (root.seconds / root.calls + seconds_of_spinning())
        limit = max(needed, LONGEST_SHARE_OF_BUDGET * self._budget.left)
        return max(1.0, min(limit, self._budget.left))

    def reserve(self) -> float:
        """Seconds to keep for the confirmation of the best set so far."""
        if self._reserved[0] != self.findings.right_attempts:
            self._reserved = (self.findings.right_attempts, self._reserve_for_the_best())
        return self._reserved[1]

    def _reserve_for_the_best(self) -> float:
        total, share = 0.0, SPARE * (1.0 if self.kept.read is None else SHARE_OF_OPENING)
        for root in self._profile.roots:
            chosen = self.chosen(root)
            conversions = sum(each.outcome.conversion_seconds for each in chosen if isinstance(each.outcome, Converted))
            if chosen:
                clear = amdahl_ceiling(sum(each.saving for each in chosen)) > 1.2 * CLEAR_GAIN
                processes = PROCESSES_IF_CLEAR if clear else FEWEST_IF_CLOSE
                total += processes * (share * conversions + MEASURING_SECONDS)
        return min(total, 0.5 * self._budget.seconds)

    def chosen(self, root: RootProfile, without: Sequence[str] = ()) -> list[Attempt]:
        """The best set of proven attempts for one root, leaving out the names in ``without``."""
        return self.choice.best(root, without)

    def _pass(self, candidate: Candidate, reason: str, detail: str = "") -> None:
        self.findings.passed[id(candidate)] = (reason, detail)


def _another_try_may_help(outcome: Outcome) -> bool:
    """Whether other options of the same engine may cure it: what went wrong lies behind the export."""
    if isinstance(outcome, Failed):
        return outcome.exported
    return isinstance(outcome, (Wrong, Crashed))


def _was_killed(outcome: Outcome) -> bool:
    """Whether somebody else ended its process, as the kernel does when memory runs out."""
    return isinstance(outcome, Crashed) and "SIGKILL" in outcome.detail


def _outcome_of(result: Result) -> Outcome:
    if isinstance(result, Finished):
        outcome: Outcome = msgspec.convert(result.value, Outcome)
        if isinstance(outcome, Failed) and not outcome.evidence:
            return msgspec.structs.replace(outcome, evidence=result.log)
        return outcome
    if isinstance(result, Raised):
        last = result.error.strip().splitlines()[-1]
        return Failed(detail=f"the trial raised {last}", evidence=result.error, inputs=None, exported=False)
    if isinstance(result, Stopped):
        return TimedOut(detail=f"stopped after {result.limit}", evidence=result.log)
    return Crashed(detail=f"the process ended with {result.how}, twice", evidence=result.log)
