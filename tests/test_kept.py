"""What trials converted is opened by the confirmation, and gone when the search has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle import nn

from autohybrid.engines import by_name
from autohybrid.engines.predictor import PredictorEngine
from autohybrid.observe.observer import Observer
from autohybrid.runtime.equality import Tolerance
from autohybrid.search.below import Family
from autohybrid.search.candidates import candidates_of
from autohybrid.search.confirm import Confirmation
from autohybrid.search.findings import Attempt
from autohybrid.search.kept import conversions_kept
from autohybrid.search.outcomes import Converted
from autohybrid.search.prove import region_of
from autohybrid.search.trial import Trial


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by one with each conversion of the engine ``predictor``."""
    found: list[Any] = []
    convert = PredictorEngine.convert

    def counted(self: PredictorEngine, request: Any) -> Any:
        found.append(request)
        return convert(self, request)

    monkeypatch.setattr(PredictorEngine, "convert", counted)
    return found


def test_a_trial_converts_and_a_confirmation_opens_it(conversions: list[Any]) -> None:
    model = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
    model.eval()
    with Observer() as observer, paddle.no_grad():
        for _ in range(3):
            model(paddle.rand([2, 8]))
    profile = observer.profile()
    (root,) = profile.roots
    candidate = candidates_of(profile, root, Family())[0]
    engine, tolerance = by_name("predictor"), Tolerance()
    with conversions_kept() as kept:
        assert kept.written is not None
        place = kept.written.root
        outcomes = []
        for expected in (1, 2):
            outcome = Trial(
                candidate=candidate,
                engine=engine,
                options={},
                tolerance=tolerance,
                min_gain=1.05,
                measuring_seconds=0.05,
                store=kept.written,
            ).conduct()
            assert isinstance(outcome, Converted)
            outcomes.append(outcome)
            assert len(conversions) == expected, "each trial converts: how long that takes is one of its results"
        chosen = Attempt(
            candidate=candidate,
            engine="predictor",
            options={},
            outcome=outcomes[0],
            measured_on="",
            inputs=outcomes[0].inputs,
        )
        confirmed = Confirmation(
            root=root,
            regions=[region_of(chosen)],
            tolerance=tolerance,
            min_gain=1.05,
            measuring_seconds=0.05,
            store=kept.read,
        ).conduct()
        assert (confirmed.problem, confirmed.idle) == ("", {})
        assert len(conversions) == 2
    assert not Path(place).exists()
