"""Which of the proven attempts make the plan: the exact choice, within what memory and conversions may cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from autohybrid.observe.profile import RootProfile
from autohybrid.search.candidates import Candidate, nests
from autohybrid.search.chains import covering
from autohybrid.search.choose import Limit, best_set, next_step
from autohybrid.search.findings import Attempt, Findings
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Converted

LEAST_SAVING = 0.005
"""Layers of one kind that together save less of the time than this aren't converted: it can't be seen on the whole."""


class Choice:
    """Chooses among what was found so far.

    Args:
        findings: what the search knows.
        options: the user's limits and objective.
        roots: all of them, in order.
        alike: the candidates that are like one another, by the ``id`` of each.
    """

    def __init__(
        self,
        findings: Findings,
        options: Options,
        roots: Sequence[RootProfile],
        alike: Mapping[int, Sequence[Candidate]],
    ) -> None:
        self._findings = findings
        self._options = options
        self._roots = roots
        self._alike = alike
        self._settled: dict[int, list[Attempt]] = {}

    def best(self, root: RootProfile, without: Sequence[str] = ()) -> list[Attempt]:
        """The best set of proven attempts for one root, leaving out the names in ``without``.

        Where the choice has limits, all roots share them: those that were settled keep what they have.
        """
        shared = self._limited and len(self._roots) > 1
        open_roots = [each for each in self._roots if id(each) not in self._settled] if shared else [root]
        proven = [each for one in open_roots for each in self._proven(one, without if one is root else ())]
        spent = [each for attempts in self._settled.values() for each in attempts]
        chosen = best_set([self._worth(each) for each in proven], _conflicts(proven), self._limits(proven, spent))
        return [proven[index] for index in chosen if proven[index].candidate.root is root]

    def fits(self, attempt: Attempt) -> bool:
        """Whether an attempt by itself stays within the limits."""
        return all(_LIMITS[name].cost(attempt) <= getattr(self._options, name) for name in self._limited)

    def best_within(self, candidate: Candidate) -> Attempt | None:
        """The fastest right attempt for a candidate that by itself stays within the limits."""
        best = self._findings.best_attempt(candidate)
        if best is None or self.fits(best):
            return best
        fitting = [each for each in self._findings.right_attempts_of(candidate) if self.fits(each)]
        return max(fitting, key=lambda each: each.speedup, default=None)

    def too_heavy(self) -> list[Attempt]:
        """What would be chosen if memory weren't limited, the heaviest first; empty where it fits."""
        if self._options.memory_budget is None:
            return []
        proven = [each for root in self._roots for each in self._proven(root, (), every=False)]
        chosen = [proven[index] for index in best_set([self._worth(each) for each in proven], _conflicts(proven))]
        if sum(map(_extra_memory, chosen)) <= self._options.memory_budget:
            return []
        return sorted(chosen, key=_extra_memory, reverse=True)

    def settle(self, root: RootProfile, attempts: Sequence[Attempt]) -> None:
        """Tells that a root's regions are confirmed: of the limits of the choice they have their part."""
        self._settled[id(root)] = list(attempts)

    def next_steps(self) -> list[str]:
        """What the next step of each limit of the choice would buy, in words."""
        proven = [each for root in self._roots for each in self._proven(root, ())]
        savings, conflicts = [self._worth(each) for each in proven], _conflicts(proven)
        limits = self._limits(proven, spent=())
        now = sum(savings[index] for index in best_set(savings, conflicts, limits))
        found = []
        for number, (name, limit) in enumerate(zip(self._limited, limits, strict=True)):
            needed, kind = next_step(savings, conflicts, limits, number), _LIMITS[name]
            told = f"{kind.title}: {kind.shown(limit.most)} {kind.unit}"
            if needed is None:
                found.append(f"{told}; more would buy nothing.")
                continue
            more = [replace(each, most=needed) if each is limit else each for each in limits]
            then = sum(savings[index] for index in best_set(savings, conflicts, more))
            saved = f"{100.0 * (then - now):.1f} % more of the time"
            found.append(f"{told}; with {kind.shown(needed)} an estimated {saved} would be saved.")
        return found

    @property
    def _limited(self) -> list[str]:
        return [name for name in _LIMITS if getattr(self._options, name) is not None]

    def _limits(self, proven: Sequence[Attempt], spent: Sequence[Attempt]) -> list[Limit]:
        return [
            Limit(
                costs=[_LIMITS[name].cost(each) for each in proven],
                most=float(getattr(self._options, name)) - sum(_LIMITS[name].cost(each) for each in spent),
            )
            for name in self._limited
        ]

    def _worth(self, attempt: Attempt) -> float:
        """What the choice counts: the share of all roots' time that is saved, conversion taken off if so asked."""
        saved = attempt.saving * attempt.candidate.weight
        if self._options.objective == "script":
            seconds = sum(root.seconds for root in self._roots) or 1.0
            saved -= _conversion_seconds(attempt) / seconds
        return saved

    def _proven(self, root: RootProfile, without: Sequence[str], every: bool | None = None) -> list[Attempt]:
        """The proven attempts for one root: the best of each candidate, and where there are limits those that cost
        less (``every``)."""
        several = bool(self._limited) if every is None else every
        proven = [
            attempt
            for candidate in self._findings.candidates
            if candidate.root is root and candidate.name not in without
            for attempt in self._offered(candidate, several)
            if attempt.proven(self._options.min_gain)
        ]
        together: defaultdict[int, dict[int, float]] = defaultdict(dict)
        for attempt in proven:
            savings = together[id(self._alike[id(attempt.candidate)])]
            savings[id(attempt.candidate)] = max(attempt.saving, savings.get(id(attempt.candidate), 0.0))
        return [each for each in proven if sum(together[id(self._alike[id(each.candidate)])].values()) >= LEAST_SAVING]

    def _offered(self, candidate: Candidate, several: bool) -> list[Attempt]:
        best = self._findings.best_attempt(candidate)
        if best is None:
            return []
        if not several:
            return [best]
        costs = [_LIMITS[name].cost for name in self._limited]
        right = self._findings.right_attempts_of(candidate)
        return [best, *(each for each in right if any(cost(each) < cost(best) for cost in costs))]


def _conflicts(proven: Sequence[Attempt]) -> list[list[int]]:
    """Which of some attempts exclude each other, by their places in the list."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for index, each in enumerate(proven):
        places[id(each.candidate)].append(index)
    candidates = list({id(each.candidate): each.candidate for each in proven}.values())
    roots = {id(each.root): each.root for each in candidates}
    # Of several attempts for one candidate only one.
    found = [each for each in places.values() if len(each) > 1]
    for root in roots.values():
        own = [each for each in candidates if each.root is root]
        nested = [*nests([each for each in own if each.chain is None]), *covering(own)]
        found += [[index for each in nest for index in places[id(each)]] for nest in nested]
    return found


def _conversion_seconds(attempt: Attempt) -> float:
    return attempt.outcome.conversion_seconds if isinstance(attempt.outcome, Converted) else 0.0


def _extra_memory(attempt: Attempt) -> float:
    return float(attempt.outcome.extra_memory) if isinstance(attempt.outcome, Converted) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _LimitOfChoice:
    """An option that limits what the chosen regions may cost together."""

    title: str
    unit: str
    cost: Callable[[Attempt], float]
    shown: Callable[[float], str]


_LIMITS = {
    "memory_budget": _LimitOfChoice(
        title="Memory budget", unit="MiB", cost=_extra_memory, shown=lambda size: f"{size / 2**20:.0f}"
    ),
    "convert_budget": _LimitOfChoice(
        title="Conversion budget", unit="s", cost=_conversion_seconds, shown=lambda seconds: f"{seconds:.1f}"
    ),
}
"""By the name of the option. What a region costs is what its trial measured."""
