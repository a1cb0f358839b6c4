"""Puts a plan's regions into a live model, takes them out again, and says how they are doing."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from autohybrid import device, engines, store
from autohybrid.errors import ConversionError, PlanError, SetupError, UsageError
from autohybrid.logs import LOGGER, warn
from autohybrid.plan import Model, Plan, load
from autohybrid.plan import Region as PlannedRegion
from autohybrid.runtime import released, threads
from autohybrid.runtime.chain import Rewritten
from autohybrid.runtime.chain_finder import Chain
from autohybrid.runtime.chain_source import Refused
from autohybrid.runtime.equality import Tolerance, tolerance_for
from autohybrid.runtime.fingerprint import fingerprint, first_difference, structure_lines
from autohybrid.runtime.policies import MAX_VARIANTS, Policies
from autohybrid.runtime.region import Region
from autohybrid.runtime.sites import ChainSite, site_of
from autohybrid.runtime.variant import Recipe

ModelT = TypeVar("ModelT")

DEFAULT_PROOFS = 2


def apply(
    model: ModelT,
    plan: str | os.PathLike[str] | Plan = "plan.json",
    *,
    entry: str | None = None,
    verify: int = DEFAULT_PROOFS,
    on_miss: str = "eager",
    on_weights: str = "refresh",
    on_grad: str = "hybrid",
    on_fallback: Callable[[str, str], object] | None = None,
    max_variants: int = MAX_VARIANTS,
    release_weights: bool = False,
) -> ModelT:
    """Puts the regions of a plan into ``model`` and returns ``model``.

    Each region is converted at its first calls, proven against eager on ``verify`` of them, and answers from then on.
    Applying a plan again replaces the regions of the one before; the same plan again changes nothing.

    Args:
        model: a ``paddle.nn.Layer`` with the structure that was profiled, or one that contains it.
        plan: a file, or a plan that was loaded.
        entry: the ``id`` of the plan's model, where several fit.
        verify: calls whose answers are compared with eager's before a conversion takes over (at least 0).
        on_miss: ``"eager"``, ``"convert"`` or ``"error"``, for a call that the plan has no region for.
        on_weights: ``"refresh"``, ``"eager"`` or ``"error"``, when weights, attributes or structure have changed.
        on_grad: ``"hybrid"``, ``"eager"`` or ``"error"``, for results with gradients.
        on_fallback: is called with the region's path and the reason at each call that eager answers.
        max_variants: structures and shapes for which a region holds conversions at once.
        release_weights: move the weights below a region to a file in the user's cache once its conversion answers;
            eager, ``state_dict`` and writes get them back page by page (on a CPU, and while no other thread runs;
            :func:`autohybrid.warmup` is a good moment).

    Raises:
        PlanError: the plan can't be read, or is for another structure; the message names the first difference.
        UsageError: ``model`` isn't a Layer, or there is no place for its weights.
        SetupError: no Paddle, or a plan's engine isn't usable here.
    """
    paddle = device.require_paddle()
    if not isinstance(model, paddle.nn.Layer):
        raise UsageError(f"autohybrid.apply needs a paddle.nn.Layer, got {type(model).__name__}.")
    if release_weights:
        released.folder()
    content = plan if isinstance(plan, Plan) else load(plan)
    check_engines(content)
    chosen = _entries_for(model, content, entry)
    tolerance = Tolerance(rtol=content.settings.rtol, atol=content.settings.atol)
    wanted = [(layer_at(root, region.path), region) for root, found in chosen for region in found.regions]
    policies = Policies(
        on_miss=on_miss,
        on_weights=on_weights,
        on_grad=on_grad,
        on_fallback=on_fallback,
        max_variants=max_variants,
        release_weights=release_weights,
    )
    present = [(place.owner, place.region.planned, place.region.policies) for place in placed_in(model)]
    if present == [(layer, region, policies) for layer, region in wanted]:
        return model
    restore(model)
    kept = store.default()
    try:
        for layer, region in wanted:
            try:
                _place(layer, region, tolerance, verify, policies, kept)
            except Refused as why:
                _unplaced.setdefault(model, []).append(Unplaced(planned=region, why=str(why)))
                warn(f"the plan's region {region.name!r} stays eager: {why}", stacklevel=2)
    except BaseException:
        restore(model)  # a plan is applied whole or not at all
        raise
    _notes[model] = threads.notes(content)
    for note in threads.untold(_notes[model]):
        warn(note, stacklevel=2)
    return model


def check_engines(plan: Plan) -> None:
    """Looks whether what the plan's regions ask for can be had here.

    Raises:
        PlanError: there is no such engine, or it has no such option.
        SetupError: the engine can't be used here.
    """
    for region in [region for model in plan.models for region in model.regions]:
        try:
            engine = engines.by_name(region.engine)
            engine.check_options(region.options)
        except (UsageError, ConversionError) as error:
            problem = error.problem.rstrip(".")
            raise PlanError(f"The plan's region {region.path!r} can't be had: {problem}.", error.remedy) from error
        why = engine.unavailable()
        if why is not None:
            raise SetupError(f"The plan's region {region.path!r} needs the engine {region.engine}: {why}.", _PROFILE)


_PROFILE = "Profile here, to get a plan for what is here."


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A plan's region whose place isn't there any more, and why."""

    planned: PlannedRegion
    why: str


_unplaced: weakref.WeakKeyDictionary[Any, list[Unplaced]] = weakref.WeakKeyDictionary()


_notes: weakref.WeakKeyDictionary[Any, tuple[str, ...]] = weakref.WeakKeyDictionary()


def notes_on(model: Any) -> tuple[str, ...]:
    """What must be known of how the plan that was applied to ``model`` runs in this process."""
    return _notes.get(model, ()) if hasattr(model, "sublayers") else ()


def unplaced_in(model: Any) -> Sequence[Unplaced]:
    """The regions of the plan that was applied to ``model`` which found no place."""
    return tuple(_unplaced.get(model, ())) if hasattr(model, "sublayers") else ()


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A region in its place: in an attribute of ``owner``, or at a chain in one."""

    owner: Any
    name: str
    region: Region
    chain: Chain | None = None

    def put(self) -> None:
        """Puts it back where it was lifted from."""
        if self.chain is not None:
            ChainSite(self.owner, self.name, self.chain, self.region.recipe.layer).put(self.region)
        elif self.name:
            self.owner.__dict__[self.name] = self.region

    def lift(self) -> None:
        """Takes it out, so that the model is as it was before."""
        if self.chain is not None:
            ChainSite(self.owner, self.name, self.chain, self.region.recipe.layer).lift()
        elif self.region.previous is not None:
            self.owner.__dict__[self.name] = self.region.previous
        elif self.name:
            self.owner.__dict__.pop(self.name, None)


def place(
    root: Any, planned: PlannedRegion, tolerance: Tolerance, verify: int, kept: store.Store | None = None
) -> Placed:
    """Puts one region of a plan into the Layer at its path in ``root``.

    Raises:
        Refused: the statements of a chain aren't there any more.
    """
    return _place(layer_at(root, planned.path), planned, tolerance, verify, Policies(), kept)


def regions_of(model: Any) -> list[Region]:
    """The regions that are in place in ``model``, in the order of its Layers; a region is its own."""
    return [place.region for place in placed_in(model)]


def placed_in(model: Any) -> list[Placed]:
    """The regions of :func:`regions_of` with their places."""
    if isinstance(model, Region):
        owner = model.recipe.layer
        held = [Placed(owner, name, model) for name, each in owner.__dict__.items() if each is model]
        return held or [Placed(owner, "", model)]
    if not hasattr(model, "sublayers"):
        raise UsageError(f"That is no Layer and no region: {type(model).__name__}.")
    found = []
    for layer in model.sublayers(include_self=True):
        for name, value in layer.__dict__.items():
            if isinstance(value, Region):
                found.append(Placed(layer, name, value))
            elif isinstance(value, Rewritten):
                for chain, call in value.calls.items():
                    if isinstance(call.callee, Region):
                        found.append(Placed(layer, name, call.callee, chain))
    return found


def _entries_for(model: Any, plan: Plan, entry: str | None) -> list[tuple[Any, Model]]:
    """The plan's entries for ``model`` itself, or else for Layers below it that the profile saw as roots."""
    candidates = [each for each in plan.models if entry is None or each.id == entry]
    if not candidates:
        known = ", ".join(each.id for each in plan.models) or "none"
        raise PlanError(f"The plan has no model {entry!r}.", f"It has: {known}.")
    own_lines = structure_lines(model)
    own = fingerprint(own_lines)
    fitting = [each for each in candidates if each.fingerprint == own]
    if fitting:
        return [(model, _the_one(fitting))]
    below = []
    names = {each.class_name for each in candidates}
    for sub in model.sublayers():
        if type(sub).__qualname__ not in names:
            continue
        digest = fingerprint(structure_lines(sub))
        fitting = [each for each in candidates if each.fingerprint == digest]
        if fitting:
            below.append((sub, _the_one(fitting)))
    if below:
        return below
    nearest = next((each for each in candidates if each.class_name == type(model).__qualname__), candidates[0])
    raise PlanError(
        f"The plan is for another structure: in {nearest.id}, {first_difference(nearest.structure, own_lines)}.",
        "Profile this model, or apply the plan to the model it was made for.",
    )


def _the_one(fitting: Sequence[Model]) -> Model:
    if any(each.regions != fitting[0].regions for each in fitting[1:]):
        names = ", ".join(each.id for each in fitting)
        raise PlanError(f"Several models of the plan have this structure: {names}.", "Name one with entry=...")
    return fitting[0]


def layer_at(root: Any, path: str) -> Any:
    layer = root
    for name in path.split(".") if path else ():
        children = layer._sub_layers
        if name not in children:
            raise PlanError(f"The plan names the path {path!r}, which the model doesn't have.", "Profile it again.")
        layer = children[name]
    return layer


def _place(
    layer: Any,
    planned: PlannedRegion,
    tolerance: Tolerance,
    verify: int,
    policies: Policies,
    kept: store.Store | None = None,
) -> Placed:
    site = site_of(layer, planned)
    engine = engines.by_name(planned.engine)
    engine.check_options(planned.options)
    recipe = Recipe(
        layer=site.layer,
        function=site.eager,
        engine=engine,
        options=planned.options,
        tolerance=tolerance_for(tolerance, planned.options),
        proofs=verify,
        store=kept,
    )
    region = Region(
        path=planned.path if planned.kind == "layer" else planned.name,
        recipe=recipe,
        admitted=planned.inputs,
        training_mode=planned.training_mode,
        planned=planned,
        previous=layer.__dict__.get(planned.function),
        policies=policies,
        repairs=engines.attempts(engine, engines.this_machine()),
    )
    site.put(region)
    LOGGER.info("region %s: placed, for %s", region.name, engine.name)
    return Placed(layer, planned.function, region, site.chain if isinstance(site, ChainSite) else None)


def restore(model: ModelT) -> ModelT:
    """Takes every region out of ``model``, the planned ones and those put by hand. Returns ``model``.

    Afterwards it is as it was before :func:`apply`; decorated methods stay eager in this instance. Weights that were
    moved to a file stay there, and come back into memory as they are used: other threads may be using them now.
    """
    for place in placed_in(model):
        place.lift()
        place.region.close()
    if hasattr(model, "sublayers"):
        _unplaced.pop(model, None)
        _notes.pop(model, None)
    return model


@contextmanager
def applied(
    model: ModelT, plan: str | os.PathLike[str] | Plan = "plan.json", *, entry: str | None = None
) -> Iterator[ModelT]:
    """:func:`apply` for the length of a ``with`` block."""
    try:
        yield apply(model, plan, entry=entry)
    finally:
        restore(model)
