"""What measuring again with an existing plan found, as typed values. Sees no Paddle."""

from __future__ import annotations

from importlib import import_module

from autohybrid import stats
from autohybrid.plan.document import Confirmation, Count, Document, Environment, Samples, Seconds


class ModelMeasured(Document, frozen=True):
    """One model of the plan, measured again.

    ``problem`` says why there is no confirmation, empty where there is one: the model wasn't called, a region found no
    place, answered from eager, or gave other answers (then ``differs``). ``changed`` are the regions whose source isn't
    what it was when the plan was made. ``calls`` are those that the script makes.
    """

    id: str
    regions: Count
    calls: Count
    called: bool
    confirmation: Confirmation | None
    problem: str
    differs: bool
    changed: list[str]
    conversion_seconds: Seconds

    def pays_after(self) -> int | None:
        """Calls after which the conversions have paid; None when they never do, or nobody knows."""
        if self.confirmation is None:
            return None
        gain = stats.median(self.confirmation.eager_samples()) - stats.median(self.confirmation.hybrid_samples())
        return int(self.conversion_seconds / gain) + 1 if gain > 0.0 else None


class ScriptMeasured(Document, frozen=True):
    """Whole processes, plain and with the plan: ``cold`` converts, ``warm`` finds its conversions in the store."""

    warm: Samples | None
    cold: Samples | None


class Measurement(Document, frozen=True):
    """The two verdicts: *steady* (``models``) and *this script* (``script``, None where that wasn't run)."""

    min_gain: float
    environment: Environment
    models: list[ModelMeasured]
    script: ScriptMeasured | None
    notes: list[str]

    def _repr_html_(self) -> str:
        # A notebook asks the value itself; who draws it lies above this part.
        drawn: str = import_module("autohybrid.report.measurement").as_html(self)
        return drawn
