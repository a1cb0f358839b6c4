"""The exact choice, against brute force."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from autohybrid.search.choose import best_set


def _brute_force(savings: list[float], conflicts: list[tuple[int, int]]) -> float:
    best = 0.0
    for size in range(len(savings) + 1):
        for chosen in combinations(range(len(savings)), size):
            if not any(a in chosen and b in chosen for a, b in conflicts):
                best = max(best, sum(savings[index] for index in chosen))
    return best


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_choice_is_as_good_as_the_best_of_all_sets(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 8))
    savings = data.draw(st.lists(st.floats(-1.0, 1.0), min_size=size, max_size=size))
    indices = st.integers(0, max(0, size - 1))
    pairs = data.draw(st.lists(st.tuples(indices, indices), max_size=12))
    conflicts = [(a, b) for a, b in pairs if a != b and size]
    chosen = best_set(savings, conflicts)
    assert not any(a in chosen and b in chosen for a, b in conflicts)
    assert sum(savings[index] for index in chosen) >= _brute_force(savings, conflicts) - 1e-6


def test_an_unproven_gain_is_never_chosen() -> None:
    assert best_set([0.0, -0.5, 0.0], []) == []
