"""The root's answers with regions in place, beside eager's."""

from __future__ import annotations

from typing import Any, cast

import paddle
import pytest
from paddle import nn

from autohybrid.observe.profile import KeptCall, RootProfile
from autohybrid.runtime.attach import Placed
from autohybrid.runtime.equality import Tolerance
from autohybrid.search.confirm import Confirmation
from autohybrid.structure import flatten


class Plain(nn.Layer):  # type: ignore[misc]
    """Adds ``off``, which is what a wrong region does."""

    off = 0.0

    def forward(self, x: Any) -> Any:
        return x + self.off


class Counting(Plain):
    """Answers otherwise at each call."""

    calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x * self.calls + self.off


class Random(Plain):
    def forward(self, x: Any) -> Any:
        return x + paddle.randn(x.shape) + self.off


class Wrong:
    """A region that spoils the answers of the root while it is in place."""

    def __init__(self, root: Plain) -> None:
        self.root = root

    def lift(self) -> None:
        self.root.off = 0.0

    def put(self) -> None:
        self.root.off = 0.5


def _compared(root: Plain, regions: list[Wrong]) -> tuple[str, int]:
    arguments, tensors = flatten(((paddle.ones([4]),), {}))[::-1]
    kept = KeptCall(arguments=arguments, tensors=tensors, gradients=False, training=False)
    profile = RootProfile(
        layer=root,
        places=(),
        calls=1,
        training_calls=0,
        seconds=1.0,
        durations=(1.0,),
        layers=(),
        kept=(kept,),
        sampled=1,
    )
    work = Confirmation(root=profile, regions=[], tolerance=Tolerance(), min_gain=1.05, measuring_seconds=0.1)
    found, compared = work._compared(cast(list[Placed], regions))
    return found.problem, compared


def test_a_wrong_answer_of_the_root_is_seen() -> None:
    root = Plain()
    assert _compared(root, []) == ("", 1)
    assert _compared(root, [Wrong(root)])[0].startswith("Tensor 0 of the answer: differs by 0.5")


@pytest.mark.parametrize("kind", [Counting, Random])
def test_a_root_that_does_not_repeat_itself_in_eager_is_not_held_against_its_regions(kind: type[Plain]) -> None:
    assert _compared(kind(), []) == ("", 0)
