"""Measures an existing plan again, by the search's own confirmation, on what was just observed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from autohybrid import device
from autohybrid import isolation as isolated
from autohybrid.errors import PlanError, ScriptError
from autohybrid.isolation import Finished, Forked, InProcess, Isolation
from autohybrid.observe.profile import Profile, RootProfile
from autohybrid.plan import Confirmation as Proof
from autohybrid.plan import Environment, Model, Plan, Samples
from autohybrid.plan.measurement import Measurement, ModelMeasured
from autohybrid.runtime import attach, threads
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.fingerprint import fingerprint, first_difference, source_hash, structure_lines
from autohybrid.search.confirm import Confirmation, Confirmed
from autohybrid.search.prove import confirmation_limit, shown
from autohybrid.search.search import MEASURING_SECONDS
from autohybrid.search.session import environment

PROCESSES = 2
"""Each model is measured in so many fresh processes: one says nothing about how the next is laid out in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What is measured: ``min_gain`` is the speedup against which there is a verdict."""

    plan: Plan
    profile: Profile
    tolerance: Tolerance
    min_gain: float

    def measured(self) -> Measurement:
        """Every model of the plan that has regions, interleaved with eager.

        Raises:
            PlanError, SetupError: the plan asks for an engine that can't be had here.
            ScriptError: no Layer was called in inference.
        """
        attach.check_engines(self.plan)
        if not self.profile.roots:
            raise ScriptError("No Layer was called in inference.", "Measure what calls the model of the plan.")
        here = environment()
        obstacle = "a GPU is in use" if device.on_gpu() else isolated.obstacle()
        isolation: Isolation = InProcess() if obstacle else Forked()
        notes = [*self.profile.notes, *differences(self.plan.environment, here)]
        fewer = threads.fewer_threads(self.plan)
        if fewer:
            notes.append(fewer)
        if obstacle:
            notes.append(f"Measured in the script's own process, not in fresh ones: {obstacle}.")
        return Measurement(
            min_gain=self.min_gain,
            environment=here,
            models=[self._model(model, root, isolation) for model, root in self._matched()],
            script=None,
            notes=notes,
        )

    def _matched(self) -> Iterator[tuple[Model, RootProfile | None]]:
        """Models and roots of one structure, in their order."""
        free = [(fingerprint(structure_lines(root.layer)), root) for root in self.profile.roots]
        for model in self.plan.models:
            if not model.regions:
                continue
            fitting = [root for digest, root in free if digest == model.fingerprint]
            if len(fitting) > 1:
                free = [each for each in free if each[1] is not fitting[0]]
            yield model, fitting[0] if fitting else None

    def _model(self, model: Model, root: RootProfile | None, isolation: Isolation) -> ModelMeasured:
        found = ModelMeasured(
            id=model.id,
            regions=len(model.regions),
            calls=root.calls if root else 0,
            called=root is not None,
            confirmation=None,
            problem="",
            differs=False,
            changed=[],
            conversion_seconds=sum(region.conversion_seconds for region in model.regions),
        )
        if root is None:
            return msgspec.structs.replace(found, problem=self._why_not(model))
        try:
            changed = list(_changed(model, root))
        except PlanError as error:
            return msgspec.structs.replace(found, problem=error.problem)
        work = Confirmation(
            root=root,
            regions=model.regions,
            tolerance=self.tolerance,
            min_gain=self.min_gain,
            measuring_seconds=MEASURING_SECONDS,
        )
        return self._confirmed(msgspec.structs.replace(found, changed=changed), work, isolation)

    def _confirmed(self, found: ModelMeasured, work: Confirmation, isolation: Isolation) -> ModelMeasured:
        processes: list[Samples] = []
        equality = None
        for _ in range(PROCESSES):
            result = isolation.run(
                work.conduct,
                seconds=confirmation_limit(work.root, work.regions),
                memory=device.available_memory() // 2,
            )
            if not isinstance(result, Finished):
                return msgspec.structs.replace(found, problem=f"it ended with: {shown(result)}")
            once = msgspec.convert(result.value, Confirmed)
            if once.idle:
                name, why = next(iter(once.idle.items()))
                return msgspec.structs.replace(found, problem=f"the region {name} answered from eager: {why}")
            if once.problem:
                return msgspec.structs.replace(found, problem=f"the answers differ: {once.problem}", differs=True)
            processes.append(once.samples)
            if equality is None or once.equality.error > equality.error:
                equality = once.equality
        assert equality is not None
        proof = Proof(processes=processes, equality=equality, min_gain=self.min_gain)
        return msgspec.structs.replace(found, confirmation=proof)

    def _why_not(self, model: Model) -> str:
        alike = next((root for root in self.profile.roots if root.class_name == model.class_name), None)
        if alike is None:
            called = ", ".join(sorted({root.class_name for root in self.profile.roots}))
            return f"it wasn't called; called were: {called}"
        lines = structure_lines(alike.layer)
        if lines == model.structure:
            return "the plan's fingerprint isn't that of its structure: the plan was altered"
        return f"the structure is another: {first_difference(model.structure, lines)}"


def _changed(model: Model, root: RootProfile) -> Iterator[str]:
    """Names of regions whose source isn't the one that was profiled."""
    for region in model.regions:
        owner = attach.layer_at(root.layer, region.path)
        if region.source_hash != source_hash(owner, region.function):
            yield region.name


def differences(then: Environment, now: Environment) -> Sequence[str]:
    """A sentence where the plan was made in another environment."""
    fields = [
        f"{name} {getattr(then, name)!s} -> {getattr(now, name)!s}"
        for name in Environment.__struct_fields__
        if getattr(then, name) != getattr(now, name)
    ]
    return [f"The environment isn't the plan's: {', '.join(fields)}."] if fields else []
