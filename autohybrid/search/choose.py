"""The exact choice: the set of regions with the largest proven saving in which none lies inside another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array


def best_set(savings: Sequence[float], conflicts: Sequence[Sequence[int]]) -> list[int]:
    """Chooses indices that maximize the sum of ``savings``, never two of one of the ``conflicts``.

    An integer programme (HiGHS, through SciPy), solved to optimality. What saves nothing is never chosen.

    Args:
        savings: seconds saved by each candidate.
        conflicts: sets of indices of which each excludes all others.

    Returns:
        The chosen indices in ascending order.
    """
    useful = [index for index, saving in enumerate(savings) if saving > 0.0]
    if not useful:
        return []
    position = {index: place for place, index in enumerate(useful)}
    groups = [{position[index] for index in group if index in position} for group in conflicts]
    groups = [group for group in groups if len(group) > 1]
    constraints = []
    if groups:
        columns = np.concatenate([sorted(group) for group in groups])
        ends = np.cumsum([0, *map(len, groups)])
        matrix = csr_array((np.ones(len(columns)), columns, ends), shape=(len(groups), len(useful)))
        constraints.append(LinearConstraint(matrix, -np.inf, 1.0))
    # Scaled, since the solver's tolerances are absolute and savings may be microseconds.
    scale = max(savings)
    result = milp(
        c=[-savings[index] / scale for index in useful],
        constraints=constraints,
        bounds=Bounds(0.0, 1.0),
        integrality=np.ones(len(useful), dtype=np.int64),
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise RuntimeError(f"the choice could not be solved: {result.message}")
    return [index for index, value in zip(useful, result.x, strict=True) if value > 0.5]
