"""Random Layers, called in random ways with random changes in between: a region answers as eager does."""

from __future__ import annotations

import warnings

import pytest
from engine_regions import ENGINES
from hazards.fuzz import Call, Change, Program, first_difference
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

_arguments = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 4),
        "seed": st.integers(0, 9),
        "dtype": st.sampled_from(["float32", "float64"]),
        "strided": st.booleans(),
        "flag": st.booleans(),
        "scale": st.sampled_from([1, 1.0, True, None, 2.5, "twice"]),
        "extras": st.integers(0, 2),
        "nested": st.booleans(),
    }
)
CALLS = st.builds(Call, _arguments)
CHANGES = st.builds(Change, st.sampled_from(Change.KINDS), st.integers(0, 9))
PROGRAMS = st.builds(
    Program,
    st.lists(st.sampled_from(Program.OPERATIONS), min_size=1, max_size=5),
    st.sampled_from(Program.ANSWERS),
)
STEPS = st.lists(st.tuples(CALLS, st.none() | CHANGES), min_size=1, max_size=4)


@pytest.mark.parametrize("engine", ENGINES)
@settings(
    max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(program=PROGRAMS, steps=STEPS)
def test_random_layers_answer_as_eager_does(
    engine: str, program: Program, steps: list[tuple[Call, Change | None]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not first_difference(program, steps, engine)
