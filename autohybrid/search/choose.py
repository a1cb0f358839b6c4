"""The exact choice: the set of regions with the largest saving in which none lies inside another, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

SMALLEST_STEP = 1e-4
"""What a larger limit must add to the saving, as a part of it, to count as a better choice: the solver's own tolerance
lies below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What all chosen together may cost: one entry of ``costs`` for each candidate, none negative."""

    costs: Sequence[float]
    most: float


def best_set(savings: Sequence[float], conflicts: Sequence[Sequence[int]], limits: Sequence[Limit] = ()) -> list[int]:
    """Chooses indices that maximize the sum of ``savings``, never two of one of the ``conflicts``, within ``limits``.

    An integer programme (HiGHS, through SciPy), solved to optimality. What saves nothing is never chosen.

    Args:
        savings: what each candidate saves.
        conflicts: sets of indices of which each excludes all others.
        limits: what the chosen may cost together.

    Returns:
        The chosen indices in ascending order.
    """
    useful = _useful(savings)
    if not useful:
        return []
    constraints = [*_exclusions(conflicts, useful), *(_within(limit, useful) for limit in limits)]
    # Scaled, since the solver's tolerances are absolute and savings may be microseconds.
    scale = max(savings)
    found = _solved([-savings[index] / scale for index in useful], constraints)
    if found is None:
        raise RuntimeError("the choice could not be solved")
    return [index for index, value in zip(useful, found, strict=True) if value > 0.5]


def next_step(
    savings: Sequence[float], conflicts: Sequence[Sequence[int]], limits: Sequence[Limit], which: int
) -> float | None:
    """The smallest larger value of one of the limits with which more could be saved; None where none would help.

    An integer programme as well: the cheapest set that saves more than the best within the limits.
    """
    useful = _useful(savings)
    if not useful:
        return None
    scale = max(savings)
    best = sum(savings[index] for index in best_set(savings, conflicts, limits)) / scale
    values = np.asarray([savings[index] / scale for index in useful])
    costs = np.asarray([limits[which].costs[index] for index in useful], dtype=float)
    others = [_within(limit, useful) for number, limit in enumerate(limits) if number != which]
    saves_more = LinearConstraint(values[np.newaxis, :], best + max(best, 1.0) * SMALLEST_STEP, np.inf)
    largest = float(costs.max()) or 1.0
    found = _solved(list(costs / largest), [*_exclusions(conflicts, useful), *others, saves_more])
    return None if found is None else float(costs[found > 0.5].sum())


def _useful(savings: Sequence[float]) -> list[int]:
    return [index for index, saving in enumerate(savings) if saving > 0.0]


def _exclusions(conflicts: Sequence[Sequence[int]], useful: Sequence[int]) -> list[LinearConstraint]:
    position = {index: place for place, index in enumerate(useful)}
    groups = [{position[index] for index in group if index in position} for group in conflicts]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return []
    columns = np.concatenate([sorted(group) for group in groups])
    ends = np.cumsum([0, *map(len, groups)])
    matrix = csr_array((np.ones(len(columns)), columns, ends), shape=(len(groups), len(useful)))
    return [LinearConstraint(matrix, -np.inf, 1.0)]


def _within(limit: Limit, useful: Sequence[int]) -> LinearConstraint:
    costs = np.asarray([limit.costs[index] for index in useful], dtype=float)
    scale = float(costs.max()) or 1.0
    return LinearConstraint((costs / scale)[np.newaxis, :], -np.inf, limit.most / scale)


def _solved(minimized: Sequence[float], constraints: Sequence[LinearConstraint]) -> Any:
    """1 for what is chosen and 0 for what isn't; None where there is no such set."""
    result = milp(
        c=minimized,
        constraints=constraints,
        bounds=Bounds(0.0, 1.0),
        integrality=np.ones(len(minimized), dtype=np.int64),
        options={"mip_rel_gap": 0.0},
    )
    return result.x
