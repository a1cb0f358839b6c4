"""Observation, ranking, choice and reports stay near-linear in the number of sub-Layers."""

from __future__ import annotations

from typing import Any

import pytest
import scaling
from hypothesis import given
from hypothesis import strategies as st
from paddle import nn

from autohybrid.observe.profile import LayerTime, Profile, RootProfile, Spot
from autohybrid.runtime.fingerprint import source_hash, structure_lines
from autohybrid.search import choice
from autohybrid.search.below import Family
from autohybrid.search.candidates import Candidate, candidates_of, nests

MOST_GROWTH = 6.0
"""Of the time when there are four times as many sub-Layers; quadratic would be 16."""

ROUNDS = 6
"""Rounds after which the best of each step counts, on a machine that does other things too."""

SHORTEST = 2e-3
"""Seconds: below this a step's time is that of its beginning and end."""


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["flat", "wide"])
def test_no_step_takes_much_more_than_its_share_longer_on_a_larger_model(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "LEAST_SAVING", 0.0)
    small: dict[str, float] = {}
    large: dict[str, float] = {}
    too_much: dict[str, float] = {}
    for _ in range(ROUNDS):
        for best, size in ((small, 500), (large, 2000)):
            for step, (seconds,) in scaling.measured(shape, size, repeats=1).items():
                best[step] = min(seconds, best.get(step, seconds))
        growth = {step: large[step] / max(small[step], SHORTEST) for step in small}
        too_much = {step: ratio for step, ratio in growth.items() if ratio > MOST_GROWTH}
        if not too_much:
            return
    assert too_much == {}


def test_what_lies_below_is_what_walking_each_tree_tells() -> None:
    one, other = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    model = nn.Sequential(one, other, nn.Sequential(nn.Linear(2, 4), nn.ReLU()), nn.Sequential(nn.ReLU(), one))
    family = Family()

    def walked(layer: Any) -> tuple[str, str]:
        return "\n".join(structure_lines(layer)), source_hash(layer)

    every = model.sublayers(include_self=True)
    for a in every:
        for b in every:
            assert (family.likeness(a) == family.likeness(b)) == (walked(a) == walked(b))
    assert not family.has_hooks_inside(model)
    one[1].register_forward_pre_hook(lambda layer, inputs: None)
    assert Family().has_hooks_inside(model)
    assert not Family().has_hooks_inside(one[1])


class Calls(nn.Layer):  # type: ignore[misc]
    pass


def _candidates(callers: dict[int, set[int]]) -> list[Candidate]:
    layers = tuple(
        [
            LayerTime(
                path=str(number) if number else "",
                aliases=(),
                layer=Calls(),
                calls=1.0,
                inclusive=1.0,
                own=0.0,
                called_from=frozenset([Spot(str(each) if each else "") for each in above]),
            )
            for number, above in callers.items()
        ]
    )
    root = RootProfile(
        layer=layers[0].layer,
        places=(),
        calls=1,
        training_calls=0,
        seconds=1.0,
        durations=(),
        layers=layers,
        kept=(),
        sampled=1,
    )
    return candidates_of(Profile(roots=(root,)), root, Family())


@given(st.data())
def test_nests_have_every_pair_that_lies_one_inside_the_other_and_no_other_pair(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 7))
    callers: dict[int, set[int]] = {0: set()}
    for number in range(1, size):
        callers[number] = data.draw(st.sets(st.integers(0, number - 1), min_size=1, max_size=2))
    candidates = _candidates(callers)
    nested = {
        frozenset((one.spot, other.spot))
        for one in candidates
        for other in candidates
        if one.spot in other.inside and one is not other
    }
    found = {
        frozenset((one.spot, other.spot))
        for nest in nests(candidates)
        for one in nest
        for other in nest
        if one is not other
    }
    assert found == nested
