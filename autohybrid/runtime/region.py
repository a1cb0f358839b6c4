"""A region at run time: stands in a Layer's function's place, answers from a proven conversion or from eager."""

from __future__ import annotations

import copy
import functools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import paddle
from paddle.base.dygraph.base import in_to_static_mode
from paddle.base.framework import global_var

from autohybrid.engines import Busy
from autohybrid.engines.paddle_export import CONVERTING, others_convert
from autohybrid.errors import AutohybridError, UsageError
from autohybrid.logs import LOGGER, warn
from autohybrid.runtime import patches, telling
from autohybrid.runtime.changes import WEIGHTS_CHANGED, Snapshot, counter
from autohybrid.runtime.frames import set_reader
from autohybrid.runtime.gradients import GradientRun
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.program import Answer
from autohybrid.runtime.proof import Attempts, Obstacle, Proof
from autohybrid.runtime.rehearsal import one_line
from autohybrid.runtime.released import NOTHING, Released, release
from autohybrid.runtime.shelf import Shelf
from autohybrid.runtime.signature import Shapes, admitted_shapes
from autohybrid.runtime.straight import OtherPath
from autohybrid.runtime.switch import eager_inside, switched_off
from autohybrid.runtime.variant import UNUSUAL, Recipe, State, Variant
from autohybrid.structure import Structure, Tensor, flatten

PERMANENT = frozenset({"state", "effects", "inputs", "random", "broke"})
"""Refusals that no change of weights or attributes takes back; :func:`autohybrid.refresh` does."""

_NO_AMP = paddle.base.core.AmpLevel.O0.value
"""As a number, which is compared in a third of the time."""

_has_grad: Callable[[], bool] = getattr(paddle.base.core, "_has_grad", paddle.is_grad_enabled)
"""What ``paddle.is_grad_enabled`` asks in later Paddles."""

_CALM_AFTER = 2
_MOST_CALM = 8


class _Call(NamedTuple):
    """One call: as it was made, and taken apart."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    structure: Structure
    tensors: Sequence[Tensor]


class Region:
    """Calls of one function of one Layer.

    Args:
        path: the Layer's path in its root, or another name for messages.
        recipe: what converts it.
        admitted: the argument structures to convert, as in a plan; None where there is no plan.
        training_mode: ``"same"`` when nothing inside behaves differently in training mode, ``"eager"`` when calls in
            training mode are to be eager, ``"ask"`` when that is to be found out.
        planned: the plan's region that this one was made from.
        previous: what stood in the Layer's ``__dict__`` in its place.
        policies: what it does where it has a choice.
        repairs: options of the engine's that are tried where the recipe's give a wrong or failing conversion.

    Attributes:
        hybrid_calls: how many calls the conversion answered.
        eager_calls: how many calls eager answered, by reason.
        released: what came of moving the Layer's weights to a file; None before that, and since they have changed.
    """

    def __init__(
        self,
        *,
        path: str,
        recipe: Recipe,
        admitted: Sequence[Any] | None,
        training_mode: str = "eager",
        planned: Any = None,
        previous: Any = None,
        policies: Policies | None = None,
        repairs: Sequence[dict[str, Any]] = (),
    ) -> None:
        functools.update_wrapper(self, recipe.function, updated=())
        self.path = path
        self.recipe = recipe
        self.hybrid_calls = 0
        self.eager_calls: Counter[str] = Counter()
        self.released: Released | None = None
        self.planned = planned
        self.previous = previous
        self.policies = policies or Policies(isolation="none")
        self._admitted = admitted
        self._training_mode = training_mode
        self._trains_alike: bool | None = None
        self._attempts = Attempts(recipe.options, repairs)
        self._shelf = Shelf(recipe, self.policies)
        patches.watch()
        self._unwatch = weakref.finalize(self, patches.unwatch)
        self._snapshot: Snapshot | None = None
        self._stale = ""
        self._refreshes = 0
        self._calm = 0
        self._number = 0
        self._recent: Variant | None = None
        self._counting = threading.Lock()
        self._looking = threading.RLock()

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path or type(self.recipe.layer).__qualname__

    @property
    def variants(self) -> list[Variant]:
        return self._shelf.variants

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # The short way has as few Python functions in it as can be: in a program that does something else in between,
        # each of them costs more than what it does.
        self._number += 1
        # Where the caller was given to paddle.jit.to_static, Paddle reads along in the bytecode of all that is called.
        reader = set_reader(None)
        try:
            recent = self._recent
            if recent is not None and self._nothing_to_consider():
                answer = recent.again(args, kwargs)
                if answer is not UNUSUAL:
                    recent.last_used = self._number
                    with self._counting:
                        self.hybrid_calls += 1
                    return answer
            return self._considered(args, kwargs)
        finally:
            set_reader(reader)

    def _considered(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The answer to a call that may be unlike the last one, or made in other circumstances."""
        reason = self._bypassed()
        if reason:
            return self._eager(reason, args, kwargs)
        recent = self._recent
        alike = recent.takes(args, kwargs) if recent is not None else None
        if recent is not None and alike is not None:
            recent.last_used = self._number
            return self._answered(recent, _Call(args, kwargs, recent.arguments, alike))
        tensors, structure = flatten((args, kwargs))
        variant = self._variant_for(structure, tensors)
        if isinstance(variant, str):
            return self._eager(variant, args, kwargs)
        variant.note_kind(tensors)
        self._recent = variant
        return self._answered(variant, _Call(args, kwargs, structure, tensors))

    def _nothing_to_consider(self) -> bool:
        """The guards, each in its cheapest form: True in the usual call, where none has anything to say.

        With False :meth:`_bypassed` and :meth:`_hybrid` find out what is the matter, and whether it matters.
        """
        snapshot = self._snapshot
        return (
            snapshot is not None
            and not snapshot.training
            and not self._stale
            and not _has_grad()
            and not switched_off()
            and not global_var._in_to_static_mode_
            and global_var._dygraph_tracer_._amp_level.value == _NO_AMP
            and snapshot.looks_unchanged()
        )

    def _answered(self, variant: Variant, call: _Call) -> Any:
        if variant.serves_threads:
            return self._serving(variant, call)
        if not variant.busy.acquire(blocking=False):
            return self._eager("busy in another thread", call.args, call.kwargs)
        try:
            if variant.state is State.SERVING:
                return self._serving(variant, call)
            if variant.state is State.REFUSED:
                return self._eager(variant.reason, call.args, call.kwargs)
            if variant.state is State.NEW and others_convert():
                return self._eager_while_new(variant, CONVERTING, call)
            if variant.state is State.NEW and self._may_go_by_records():
                answered = variant.answered_on_record(call.tensors)
                if answered is not None:
                    return self._answer(variant, *answered, call)
            return self._proving(variant, call)
        finally:
            variant.busy.release()

    def _serving(self, variant: Variant, call: _Call) -> Any:
        if self._asks_about_training():
            return self._asking_about_training(call)
        try:
            return self._hybrid(variant, call)
        except OtherPath:
            following = self._shelf.other_path(variant, call.tensors)
        if following is None:
            return self._eager("its Python code goes more ways than are held", call.args, call.kwargs)
        return self._answered(following, call)

    def __deepcopy__(self, memo: dict[int, Any]) -> Region:
        """A region of its own for the copied Layer, which starts anew."""
        made = Region(
            path=self.path,
            recipe=replace(
                self.recipe,
                layer=copy.deepcopy(self.recipe.layer, memo),
                function=copy.deepcopy(self.recipe.function, memo),
            ),
            admitted=self._admitted,
            training_mode=self._training_mode,
            planned=self.planned,
            previous=copy.deepcopy(self.previous, memo),
            policies=self.policies,
            repairs=self._attempts.repairs,
        )
        memo[id(self)] = made
        return made

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        """What is pickled is the eager function: a conversion belongs to its process."""
        return (_unpickled, (self.recipe.function,))

    def close(self) -> None:
        """Gives back all conversions."""
        self._shelf.clear()
        self._recent = None
        self._unwatch()

    def refresh(self) -> None:
        """Forgets all conversions, also what was refused; the next calls convert and prove anew."""
        self._shelf.clear()
        self._recent = None
        self._snapshot = self.released = None
        self._stale = ""
        self._trains_alike = None
        self._refreshes = self._calm = 0

    def _bypassed(self) -> str:
        """Why this call can't be hybrid whatever its arguments are; empty when it can."""
        off = switched_off()
        if off:
            return off
        if in_to_static_mode():
            return "called while being traced"
        if global_var._dygraph_tracer_._amp_level.value != _NO_AMP:
            return "automatic mixed precision"
        snapshot = self._snapshot
        if snapshot is None:
            snapshot = self._snapshot = Snapshot.of(self.recipe.layer)
        elif not snapshot.looks_unchanged():
            snapshot = self._look_closely(snapshot)
        if self._stale:
            if self.policies.on_weights == "error":
                raise UsageError(
                    f"Region {self.name!r}: {self._stale} since it was converted.",
                    'Call autohybrid.refresh(model), or use on_weights="refresh".',
                )
            return f"{self._stale} since it was converted"
        if snapshot.training and not self._may_train():
            return "training mode: something inside behaves differently in it; call model.eval()"
        return ""

    def _may_train(self) -> bool:
        return self._training_mode == "same" or (self._training_mode == "ask" and self._trains_alike is not False)

    def _asks_about_training(self) -> bool:
        assert self._snapshot is not None, "taken before any call is looked at"
        return self._snapshot.training and self._training_mode == "ask" and self._trains_alike is None

    def _asking_about_training(self, call: _Call) -> Any:
        proof = Proof(self.recipe.layer, call.structure, call.tensors)
        value = self._eager("finding out whether training mode matters", call.args, call.kwargs)
        with eager_inside():
            self._trained_alike(proof, value)
        return value

    def _look_closely(self, snapshot: Snapshot) -> Snapshot:
        with self._looking:
            if snapshot is not self._snapshot:
                # Another thread has looked in the meantime; see whether that is enough for us.
                snapshot = self._snapshot or Snapshot.of(self.recipe.layer)
                if snapshot.looks_unchanged():
                    return snapshot
            if not snapshot.concerns_us():
                self._snapshot = snapshot = replace(snapshot, count=counter.value)
                return snapshot
            variants = self.variants
            if variants and all(variant.refusal in PERMANENT for variant in variants):
                return snapshot
            now = Snapshot.of(self.recipe.layer)
            changed = snapshot.what_changed(now)
            if changed:
                self._changed(changed)
            # Only now: who sees the new snapshot must not find a conversion of the old weights.
            self._snapshot = now
            return now

    def _changed(self, what: str) -> None:
        if what != WEIGHTS_CHANGED:
            # Running statistics change at each training call; what that means is known already.
            self._trains_alike = None
        self.released = None
        converted = [each for each in self.variants if each.state in (State.PROVING, State.SERVING)]
        if converted and self.policies.on_weights != "refresh":
            self._stale = what
        for variant in self.variants:
            if variant.refusal not in PERMANENT:
                variant.forget()
        if converted:
            # In a training loop they will change again: the more often it happens, the longer to wait for calm.
            self._refreshes += 1
            self._calm = min(max(0, self._refreshes - _CALM_AFTER), _MOST_CALM)

    def _variant_for(self, structure: Structure, tensors: Sequence[Tensor]) -> Variant | str:
        key = (structure, tuple([tensor.dtype for tensor in tensors]), tuple([len(tensor.shape) for tensor in tensors]))
        variant = self._shelf.fitting(key, tensors)
        if variant is not None:
            variant.last_used = self._number
            return variant
        if not tensors:
            return "called without Tensors"
        if not all(tensor.size for tensor in tensors):
            return "an empty Tensor among the arguments"
        shapes = self._planned_shapes(structure, tensors)
        if shapes is None and self.policies.on_miss != "convert" and (self._admitted is not None or self.variants):
            missed = "not in the plan" if self._admitted is not None else "another structure, dtype or shape"
            if self.policies.on_miss == "error":
                raise UsageError(f"Region {self.name!r}: no conversion fits this call ({missed}).", _MISS_REMEDY)
            return missed
        made = self._shelf.new(key, tensors, shapes, self._number)
        if isinstance(made, Variant):
            telling.new_kind(self.name, tensors)
        return made

    def _planned_shapes(self, structure: Structure, tensors: Sequence[Tensor]) -> Shapes | None:
        for specification in self._admitted or ():
            shapes = admitted_shapes(specification, structure, tensors)
            if shapes is not None:
                return shapes
        return None

    def passed_by(self, reason: str) -> None:
        """Counts a call that eager answers."""
        with self._counting:
            self.eager_calls[reason] += 1
            first = self.eager_calls[reason] == 1
        if first:
            LOGGER.debug("region %s: a call is eager: %s", self.name, reason)
        self.policies.tell(self.name, reason)

    def _eager(self, reason: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.passed_by(reason)
        return self.recipe.function(*args, **kwargs)

    def _hybrid(self, variant: Variant, call: _Call) -> Any:
        answer = variant.answer
        if answer is None:
            return self._eager("overtaken by a change of weights", call.args, call.kwargs)
        wanted: tuple[bool, ...] = ()
        if paddle.is_grad_enabled():
            flags = self._gradient_flags(call.tensors)
            if flags not in variant.differentiable:
                return self._learning_gradients(variant, flags, call)
            wanted = variant.differentiable[flags]
            if any(wanted) and self.policies.on_grad == "eager":
                return self._eager("its answer has gradients", call.args, call.kwargs)
        try:
            outputs = self._with_gradients(variant, call, wanted) if any(wanted) else variant.run(call.tensors)
        except (AutohybridError, OtherPath):
            raise
        except Busy:
            return self._eager("busy in other threads", call.args, call.kwargs)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises ends this variant, eager answers
            variant.refuse("broke", f"the engine failed: {one_line(error)}")
            self._warn(variant.reason)
            return self._eager(variant.reason, call.args, call.kwargs)
        return self._answer(variant, answer, outputs, call)

    def _answer(self, variant: Variant, answer: Answer, outputs: Sequence[Tensor], call: _Call) -> Any:
        with self._counting:
            self.hybrid_calls += 1
        variant.served = True
        known = self._known(call.tensors) if variant.hands_on_state else call.tensors
        return answer.rebuild(outputs, known)

    def _may_go_by_records(self) -> bool:
        """Whether a proof of another process's may answer for this one. Gradients and training mode are asked of eager,
        and while weights keep changing there is nothing to find."""
        assert self._snapshot is not None, "taken before any call is looked at"
        return not paddle.is_grad_enabled() and not self._snapshot.training and self._calm == 0

    def _known(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What an answer may hand through instead of computing it: the inputs, and the model's own Tensors."""
        assert self._snapshot is not None, "taken before any call is looked at"
        return [*tensors, *self._snapshot.tensors]

    def _gradient_flags(self, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        assert self._snapshot is not None, "taken before any call is looked at"
        trainable = sum([not tensor.stop_gradient for tensor in self._snapshot.tensors])
        return (trainable, *[tensor.stop_gradient for tensor in tensors])

    def _learning_gradients(self, variant: Variant, flags: Any, call: _Call) -> Any:
        value = self._eager("learning which results have gradients", call.args, call.kwargs)
        found, _ = Answer.of(value, self._known(call.tensors))
        assert variant.answer is not None, "a serving variant knows its answer"
        if found.sources == variant.answer.sources:
            variant.differentiable[flags] = tuple(found.computed(found.differentiable))
        return value

    def _with_gradients(self, variant: Variant, call: _Call, wanted: Sequence[bool]) -> list[Tensor]:
        assert self._snapshot is not None, "taken before any call is looked at"
        run = GradientRun(
            name=self.name,
            function=self.recipe.function,
            arguments=call.structure,
            inputs=call.tensors,
            state=self._snapshot.tensors,
            allowed=self.policies.on_grad != "error",
            run=variant.run,
        )
        return run.outputs(wanted)

    def _proving(self, variant: Variant, call: _Call) -> Any:
        """Answers from eager; beside it, converts or compares."""
        assert self._snapshot is not None, "taken before any call is looked at"
        graded = paddle.is_grad_enabled()
        proof = Proof(self.recipe.layer, call.structure, call.tensors)
        with eager_inside(), proof.watching():
            value = self._eager_while_new(variant, variant.state.value, call)
        if self._calm > 0:
            self._calm -= 1
            return value
        with eager_inside(), paddle.no_grad():
            if self._snapshot.training and self._training_mode == "ask" and not self._trained_alike(proof, value):
                return value
            obstacle = proof.obstacle(call.args, call.kwargs, variant, value)
            if obstacle is Obstacle.UNSETTLED:
                return value
            self._snapshot = proof.after
            variant.asks = variant.asks or proof.effects.asked
            if isinstance(obstacle, tuple):
                variant.refuse(*obstacle)
                telling.become(self.name, variant, State.REFUSED)
                self._own_up(variant)
                return value
            if graded:
                self._learn(variant, self._gradient_flags(call.tensors), call.tensors, value)
            before = variant.state
            code = self._attempts.conclude(variant, proof, value, self._known(call.tensors), self._shelf)
        self._own_up(variant)
        if code in ("failed", "failed_running", "crashed", "endless"):
            self._warn(variant.reason)
        else:
            telling.become(self.name, variant, before)
        if self.policies.release_weights and variant.state is State.SERVING and not (self.released or NOTHING).freed:
            self.released = release(self.recipe.layer)
        return value

    def _eager_while_new(self, variant: Variant, reason: str, call: _Call) -> Any:
        """Eager's answer; a new variant for a call that eager refuses is as if it had never been."""
        try:
            return self._eager(reason, call.args, call.kwargs)
        except BaseException:
            self._shelf.drop(variant)
            raise

    def _own_up(self, variant: Variant) -> None:
        """Says so when eager doesn't bear out what another process had proven, and an answer was given by that."""
        if variant.misled:
            self._warn(f"another process had proven it, and one answer was given by that; here {variant.misled}")
            variant.misled = ""

    def _trained_alike(self, proof: Proof, value: Any) -> bool:
        self._trains_alike = not proof.training_matters(self.recipe.function, value)
        return self._trains_alike

    def _learn(self, variant: Variant, flags: Any, tensors: Sequence[Tensor], value: Any) -> None:
        found, _ = Answer.of(value, self._known(tensors))
        variant.differentiable[flags] = tuple(found.computed(found.differentiable))

    def _warn(self, why: str) -> None:
        warn(f"region {self.name!r} stays eager here: {why}", stacklevel=4)


_MISS_REMEDY = 'Use on_miss="convert" to convert it, or on_miss="eager" to answer it eagerly.'


def _unpickled(function: Any) -> Any:
    return function
