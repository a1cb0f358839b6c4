"""Options as a dimension of the search: what engines offer is raced against the present best, where it matters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from autohybrid import engines
from autohybrid.device import seconds_of_spinning
from autohybrid.engines import Machine, combined
from autohybrid.isolation import Died, Finished, Isolation, Result
from autohybrid.observe.profile import Spot
from autohybrid.search.candidates import Candidate
from autohybrid.search.findings import Attempt, Budget
from autohybrid.search.journal import Journal, key_of
from autohybrid.search.kept import SHARE_OF_OPENING
from autohybrid.search.outcomes import Converted, Raced, Runner
from autohybrid.search.progress import Progress, Step
from autohybrid.search.race import Race
from autohybrid.search.sampling import FEWEST_PAIRS, have_threads
from autohybrid.search.search import Search
from autohybrid.sizes import counted
from autohybrid.stats import median

WORTH_TUNING = 0.02
"""Options are raced for a candidate if they could save at least this share of the time that the choice leaves."""

MOST_TUNED = 4
"""Candidates whose options are raced: those with which most is to be gained."""

MOST_RACES = 2
"""For one candidate: the second has what else is worth trying on top of the first one's winner."""

CLOSE = 1.15
"""Another engine takes part in a race when its trial was at most so many times slower than the best one's, or when its
own interval reaches the best one's speed: with several threads trials at different times differ by more."""

SHORT_CALL = 5e-3
"""Seconds of a converted region's call up to which options are tried that only matter beside short operators."""

NEARLY_ALL = 0.95
"""Share of the time in a candidate for which options may be tried that take the cores from everything else."""

SHARE_OF_BUDGET = 0.7
"""Of the budget that is left and isn't kept for the confirmation, what races and their winners' trials may take."""

FIRST_LAP_SECONDS = 0.4

LAPS_PER_RUNNER = 3
"""First laps' time that a runner takes in all rounds together, on average."""

Choice = tuple[str, dict[str, Any]]
"""An engine's name, and options."""


@dataclass(slots=True, kw_only=True)
class Tuning:
    """Improves what a search found, as long as its budget lasts. :meth:`run` does it.

    ``races`` counts the races, ``seconds`` is how long they and the trials of their winners took.
    """

    search: Search
    machine: Machine
    isolation: Isolation
    budget: Budget
    memory: int
    journal: Journal
    progress: Progress
    races: int = 0
    won: int = 0
    seconds: float = 0.0
    _seen: set[tuple[int, str]] = field(default_factory=set)
    _beaten: set[tuple[int, str]] = field(default_factory=set)

    def run(self) -> None:
        """Races options for the few candidates with which most is to be gained; winners get trials of their own."""
        started = self.budget.spent
        until = started + SHARE_OF_BUDGET * (self.budget.left - self.search.reserve())
        for attempt in self.worth_tuning()[:MOST_TUNED]:
            self._tune(attempt, until)
        self.seconds = self.budget.spent - started

    def worth_tuning(self) -> list[Attempt]:
        """One attempt for each measurement that options might improve by enough, the largest hope first."""
        chosen = _Chosen([each for root in self.search.roots for each in self.search.chosen(root)])
        groups: dict[int, list[Attempt]] = defaultdict(list)
        for candidate in self.search.findings.candidates:
            best = self.search.findings.best_attempt(candidate)
            if best is not None:
                groups[id(best.outcome)].append(best)
        hopes = [(self._hope(group, chosen), group) for group in groups.values()]
        least = WORTH_TUNING * chosen.left
        worth = sorted((each for each in hopes if each[0] >= least), key=lambda each: -each[0])
        return [next((one for one in group if one.candidate.name == one.measured_on), group[0]) for _, group in worth]

    def _hope(self, group: Sequence[Attempt], chosen: _Chosen) -> float:
        """The share of all time that options may save with these alike, beyond what is saved already."""
        first = group[0]
        gain = max((hope for _, hope in self._alternatives(first)), default=1.0)
        time = sum(each.candidate.share * each.candidate.weight for each in group)
        return time * (1.0 - 1.0 / (gain * first.speedup)) - chosen.saved_in_place_of(group)

    def _alternatives(self, best: Attempt) -> list[tuple[Choice, float]]:
        """What may be faster than the best attempt for a candidate, and how many times as fast it is hoped to be."""
        found: dict[str, tuple[Choice, float]] = {}
        made, number = self.search.findings.attempts_of(best.candidate), id(best.candidate)
        known = {key_of(each.engine, each.options) for each in made if not isinstance(each.outcome, Converted)}
        known |= {key_of(best.engine, best.options)}
        for right in made:
            if not isinstance(right.outcome, Converted):
                continue
            engine = engines.by_name(right.engine)
            offered = [
                each
                for choice in engine.dimensions
                for each in choice.alternatives(self.machine)
                if (not each.alone or self._is_nearly_all(best.candidate))
                and (not each.short or median(right.outcome.samples.hybrid) <= SHORT_CALL)
            ]
            for options, hope, change in (
                (right.options, _hope_of_another_trial(right.outcome), right.options),
                *((combined(right.options, each.options), each.hope, each.options) for each in offered),
            ):
                key = key_of(right.engine, options)
                is_new = key not in known and (number, key) not in self._seen
                beaten = (number, key_of(right.engine, change)) in self._beaten
                hoped = hope * right.speedup / best.speedup
                if is_new and not beaten and hoped > 1.0 and hope > 1.0:
                    found[key] = ((right.engine, options), hoped)
        return list(found.values())

    def _is_nearly_all(self, candidate: Candidate) -> bool:
        return candidate.share * candidate.weight >= NEARLY_ALL

    def _tune(self, best: Attempt, until: float) -> None:
        for _ in range(MOST_RACES):
            choices = [choice for choice, _ in sorted(self._alternatives(best), key=lambda each: -each[1])]
            while choices and self.budget.spent + self._seconds_needed(best, choices) > until:
                # With little time those race of which most is hoped.
                choices.pop()
                self.search.findings.complete = False
            if not choices:
                return
            winner = self._race(best, choices)
            if winner is None:
                return
            tried = self._tried_with(best.candidate, winner)
            if tried is not None:
                # Nothing is to be found out about it: the race alone compares it with what was best.
                self.search.findings.prefer(tried)
                best = tried
                continue
            promoted = self.search.promote(best, engines.by_name(winner[0]), winner[1])
            if promoted is None:
                return
            self.won += 1
            best = promoted

    def _tried_with(self, candidate: Candidate, choice: Choice) -> Attempt | None:
        right = self.search.findings.right_attempts_of(candidate)
        return next((each for each in right if (each.engine, each.options) == choice), None)

    def _better_of_those_tried(self, best: Attempt, runners: Sequence[Runner]) -> Choice | None:
        """Of what was tried in full before, as ``best`` was, the fastest, if it was faster than ``best`` in the race.

        No certainty is asked of it: it is as good a choice as ``best``, and a race tells more than trials at two times.
        """
        found = [
            (each.samples.comparison().speedup, (each.engine, each.options))
            for each in runners
            if each.samples is not None and self._tried_with(best.candidate, (each.engine, each.options)) is not None
        ]
        speedup, choice = max(found, key=lambda each: each[0], default=(0.0, None))
        return choice if speedup > 1.0 else None

    def _seconds_needed(self, best: Attempt, choices: Sequence[Choice]) -> float:
        assert isinstance(best.outcome, Converted), "only what converts is tuned"
        new = sum(self._tried_with(best.candidate, each) is None for each in choices)
        # What was tried before is opened; a new one is converted, and so it is in a trial of its own when it wins.
        conversions = (1.2 * new + (1.2 if new else 0.0) + SHARE_OF_OPENING * (len(choices) + 1 - new)) * (
            best.outcome.conversion_seconds
        )
        answers = (len(choices) + 1 + (1 if new else 0)) * 8.0 * median(best.outcome.samples.eager)
        return conversions + answers + sum(map(self._lap_seconds, choices)) + 1.0

    def _lap_seconds(self, choice: Choice) -> float:
        """What a runner's laps take on average."""
        if not have_threads([choice[1]]):
            return FIRST_LAP_SECONDS * LAPS_PER_RUNNER
        # A sample waits until the threads of the one before it have stopped spinning.
        return max(FIRST_LAP_SECONDS * LAPS_PER_RUNNER, FEWEST_PAIRS * seconds_of_spinning())

    def _race(self, best: Attempt, choices: Sequence[Choice]) -> Choice | None:
        """The choice that is to take the place of ``best``, or None. What was seen of the others is remembered."""
        raced = self._ran(best, choices)
        if raced is None and len(choices) > 1:
            # One of them took all down with it; alone, it harms nobody.
            alone = [self._ran(best, [choice]) for choice in choices]
            runners = [runner for each in alone if each is not None for runner in each.runners]
            won = [each.runners[0] for each in alone if each is not None and each.winner is not None]
        else:
            runners = raced.runners if raced is not None else []
            won = [raced.runners[raced.winner]] if raced is not None and raced.winner is not None else []
        self._seen |= {(id(best.candidate), key_of(*each)) for each in (*choices, (best.engine, best.options))}
        for runner in runners:
            beaten = runner.problem or (runner.samples is not None and runner.samples.comparison().high < 1.0)
            if beaten:
                change = {name: value for name, value in runner.options.items() if best.options.get(name) != value}
                self._beaten.add((id(best.candidate), key_of(runner.engine, change)))
        fastest = max(won, key=lambda each: each.samples.comparison().speedup if each.samples else 0.0, default=None)
        winner = (fastest.engine, fastest.options) if fastest else self._better_of_those_tried(best, runners)
        lost = [each for each in runners if each not in won and (each.engine, each.options) != winner]
        self.search.findings.raced[id(best.candidate)] += lost
        return winner

    def _ran(self, best: Attempt, choices: Sequence[Choice]) -> Raced | None:
        """What came of a race; None when its process didn't live to tell."""
        assert isinstance(best.outcome, Converted), "only what converts is tuned"
        number = self.search.roots.index(best.candidate.root)
        key = key_of("race", number, best.candidate.name, best.engine, best.options, choices)
        limit = max(1.0, min(10.0 + 3.0 * self._seconds_needed(best, choices), self.budget.left))
        known = self.journal.recall(key, limit)
        if isinstance(known, Raced):
            return known if not known.detail else None
        if self.journal.was_fatal(key):
            return None
        what = f"{counted(len(choices), 'alternative')} for {best.candidate.name}"
        self.progress(Step(stage="racing", what=what))
        static = bool(best.outcome.other_sizes)
        kept = self.search.kept.read
        race = Race(
            best=self.search.trial(
                best.candidate, engines.by_name(best.engine), best.options, static=static, store=kept
            ),
            others=[
                self.search.trial(best.candidate, engines.by_name(name), options, static=static, store=kept)
                for name, options in choices
            ],
            inputs=best.outcome.inputs,
            training_mode=best.outcome.training_mode,
            seconds=FIRST_LAP_SECONDS,
            longest=2.0 * sum(map(self._lap_seconds, choices)),
        )
        self.races += 1
        self.journal.begin(key)
        raced = _raced(self._isolated(race, limit))
        self.journal.end(key, raced, limit)
        return raced if not raced.detail else None

    def _isolated(self, race: Race, seconds: float) -> Result:
        self.search.findings.trials += 1
        return self.isolation.run(race.conduct, seconds=seconds, memory=self.memory)


def _hope_of_another_trial(found: Converted) -> float:
    comparison = found.samples.comparison()
    return max(CLOSE, comparison.high / comparison.speedup) if comparison.speedup > 0.0 else CLOSE


def _raced(result: Result) -> Raced:
    if isinstance(result, Finished):
        return msgspec.convert(result.value, Raced)
    how = f"the process ended with {result.how}" if isinstance(result, Died) else str(result)
    return Raced(runners=[], detail=how)


class _Chosen:
    """What a choice saves, and what of it would be lost with something else in its place."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self._saving: dict[tuple[int, Spot], float] = {}
        self._inside: defaultdict[tuple[int, Spot], float] = defaultdict(float)
        for attempt in attempts:
            candidate = attempt.candidate
            saving = attempt.saving * candidate.weight
            root = id(candidate.root)
            self._saving[root, candidate.spot] = saving
            for spot in candidate.inside:
                self._inside[root, spot] += saving

    @property
    def left(self) -> float:
        """The share of all time that remains."""
        return max(0.0, 1.0 - sum(self._saving.values()))

    def saved_in_place_of(self, group: Sequence[Attempt]) -> float:
        """The share of all time that is saved by what can't stand beside these: themselves, parts, what is around."""
        root = id(group[0].candidate.root)
        around = {(root, spot) for each in group for spot in (each.candidate.spot, *each.candidate.inside)}
        return sum(self._saving.get(spot, 0.0) for spot in around) + sum(
            self._inside[root, each.candidate.spot] for each in group
        )
