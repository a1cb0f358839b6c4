"""The exact choice, against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autohybrid.search.choose import Limit, best_set, next_step

Problem = tuple[list[float], list[tuple[int, int]], list[Limit]]


def _admitted(problem: Problem) -> Iterator[tuple[int, ...]]:
    savings, conflicts, limits = problem
    for size in range(len(savings) + 1):
        for chosen in combinations(range(len(savings)), size):
            if any(a in chosen and b in chosen for a, b in conflicts):
                continue
            if all(sum(limit.costs[index] for index in chosen) <= limit.most + 1e-9 for limit in limits):
                yield chosen


def _saved(savings: list[float], chosen: tuple[int, ...]) -> float:
    return sum([savings[index] for index in chosen])


def _brute_force(problem: Problem) -> float:
    return max(_saved(problem[0], chosen) for chosen in _admitted(problem))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Savings, pairs that exclude each other, and limits of memory and of conversion time (both or none)."""
    size = draw(st.integers(0, 8))
    savings = draw(st.lists(st.floats(-1.0, 1.0), min_size=size, max_size=size))
    indices = st.integers(0, max(0, size - 1))
    pairs = draw(st.lists(st.tuples(indices, indices), max_size=12))
    costs = st.lists(st.integers(0, 9).map(float), min_size=size, max_size=size)
    limits = draw(st.lists(st.builds(Limit, costs=costs, most=st.integers(0, 30).map(float)), max_size=2))
    return savings, [(a, b) for a, b in pairs if a != b and size], limits


@settings(deadline=None, max_examples=300)
@given(problems())
def test_the_choice_is_as_good_as_the_best_of_all_sets(problem: Problem) -> None:
    savings, _, _ = problem
    chosen = tuple(best_set(*problem))
    assert chosen in set(_admitted(problem))
    assert _saved(savings, chosen) >= _brute_force(problem) - 1e-6


@settings(deadline=None, max_examples=200)
@given(problems())
def test_the_next_step_of_a_limit_is_the_smallest_that_buys_something(problem: Problem) -> None:
    savings, conflicts, limits = problem
    if not limits:
        return
    first, *others = limits
    found = next_step(savings, conflicts, limits, 0)

    def best_with(most: float) -> float:
        return _brute_force((savings, conflicts, [Limit(costs=first.costs, most=most), *others]))

    now, scale = best_with(first.most), max([*savings, 1e-9])
    if found is None:
        assert best_with(float("inf")) <= now + 3e-4 * max(scale, now)
        return
    assert found > first.most
    assert best_with(found) > now
    # Costs are whole numbers: one less buys nothing that is worth telling.
    assert best_with(found - 1.0) <= now + 3e-4 * max(scale, now)


def test_an_unproven_gain_is_never_chosen() -> None:
    assert best_set([0.0, -0.5, 0.0], []) == []


def test_within_a_limit_many_small_ones_may_be_worth_more_than_the_largest() -> None:
    costs = Limit(costs=[10.0, 3.0, 3.0, 3.0], most=9.0)
    assert best_set([0.5, 0.2, 0.2, 0.2], [(0, 1), (0, 2)], [costs]) == [1, 2, 3]
    assert next_step([0.5, 0.2, 0.2, 0.2], [(0, 1), (0, 2)], [costs], 0) == pytest.approx(13.0)
