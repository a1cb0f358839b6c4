"""One attempt to convert a candidate: purity, conversion, numbers, and only then time. Runs in a child."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import paddle

from autohybrid.device import held_memory
from autohybrid.engines import Engine
from autohybrid.observe.profile import KeptCall
from autohybrid.plan import Equality, Samples
from autohybrid.runtime.changes import Snapshot
from autohybrid.runtime.equality import Difference, Tolerance, as_array, difference, tolerance_for
from autohybrid.runtime.program import Answer
from autohybrid.runtime.reach import reach
from autohybrid.runtime.region import Region
from autohybrid.runtime.signature import Shapes, recorded
from autohybrid.runtime.variant import Recipe, State, Variant
from autohybrid.search.candidates import Candidate
from autohybrid.search.outcomes import Converted, Failed, Outcome, Unfit, Wrong
from autohybrid.search.replay import Heard, listen
from autohybrid.search.sampling import have_threads, in_turn
from autohybrid.stats import Comparison
from autohybrid.store import Store
from autohybrid.structure import flatten

CHECKING_SHARE = 0.25
"""Of the time for measuring a candidate, what the check on a twin may take."""

AGREEMENT = 1.1
"""Twins agree when their gains' intervals overlap, or miss it by no more than this factor: memory lies differently."""

MOST_APART = 2.0
"""On a busy machine an interval may hold anything: the gains themselves lie within this factor of one another too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried: a candidate, an engine, its options; ``static`` for a conversion of one size only; ``store`` for
    where its conversions are left, or found."""

    candidate: Candidate
    engine: Engine
    options: dict[str, Any]
    tolerance: Tolerance
    min_gain: float
    measuring_seconds: float
    patience: float = 0.0
    twins: Sequence[Candidate] = ()
    static: bool = False
    store: Store | None = None

    def conduct(self) -> Outcome:
        """Does the trial in this process, which may crash, hang, or be left with a changed Paddle."""
        candidate = self.candidate
        sites = {each.spot: each.site for each in (candidate, *self.twins)}
        heard = listen(candidate.root, sites, keep_for=candidate.spot)
        calls = heard[candidate.spot]
        if not calls:
            return Unfit(reason="not_replayed", detail="the kept inputs of the root don't lead to this Layer")
        main, others = (calls[0], []) if not self.static else _of_one_size(calls[0])
        inputs = _specification(main)
        # First of all: dropout would pass for random numbers, running statistics for state.
        training_mode = _training_mode(candidate, main)
        if training_mode == "differs":
            return Unfit(
                reason="training_mode",
                detail="behaves differently in training mode, and the model was called in it",
            )
        unfit = self._unfit(main)
        if unfit is not None:
            return unfit
        outcome = self._converted(candidate, _different_inputs(main.inputs, candidate.eager), inputs, training_mode)
        if not isinstance(outcome, Converted):
            return outcome
        like = [each for each in self.twins if heard[each.spot] and _specification(heard[each.spot][0]) == inputs]
        outcome = msgspec.structs.replace(outcome, other_sizes=others, twins=[each.name for each in like])
        gains = outcome.samples.comparison().verdict(self.min_gain) == "faster"
        if not gains or not like:
            return outcome
        # Of no gain one measurement is enough: nothing is planned on it.
        twin = self._most_unlike(like)
        agrees = self._agrees(outcome, twin, heard[twin.spot][0], main.inputs[0], training_mode)
        return msgspec.structs.replace(outcome, checked_on=twin.name, twins=outcome.twins if agrees else [])

    def _most_unlike(self, twins: Sequence[Candidate]) -> Candidate:
        """The twin whose time for a call differs most from the candidate's."""
        own = _seconds_per_call(self.candidate)
        return max(twins, key=lambda each: abs(_seconds_per_call(each) - own))

    def _agrees(self, found: Converted, twin: Candidate, heard: Heard, like: KeptCall, training_mode: str) -> bool:
        """Whether a short measurement of a twin shows the same: right, and a gain that isn't clearly another."""
        call = replace(like, arguments=heard.arguments, tensors=heard.first)
        short = replace(self, measuring_seconds=CHECKING_SHARE * self.measuring_seconds, patience=0.0)
        other = short._converted(twin, _different_inputs([call], twin.eager), found.inputs, training_mode)
        if not isinstance(other, Converted):
            return False
        return agree(found.samples.comparison(), other.samples.comparison())

    def _unfit(self, main: Heard) -> Unfit | None:
        layer, call = self.candidate.layer, main.inputs[0]
        if not call.tensors:
            return Unfit(reason="no_tensors", detail="it is called without Tensors")
        before = Snapshot.of(layer)
        first, given = self._eager(call)
        settled = Snapshot.of(layer)
        second, _ = self._eager(call)
        if not Answer.of(first, given)[1]:
            return Unfit(reason="no_tensors", detail="its answer holds no Tensor that it computed")
        # A cache that is filled once and then left alone is no obstacle.
        changed = before.what_changed(settled) and settled.what_changed(Snapshot.of(layer))
        if changed:
            return Unfit(reason="state", detail=f"forward changes its own state: {changed}")
        if not difference(call.tensors, given, Tolerance(rtol=0.0, atol=0.0)).equal:
            return Unfit(reason="mutates_inputs", detail="forward changes its inputs")
        repeated = difference(flatten(first)[0], flatten(second)[0], self.tolerance)
        if not repeated.equal:
            return Unfit(reason="random", detail=f"eager answers differently to the same input ({repeated.problem})")
        return None

    def _eager(self, call: KeptCall) -> tuple[Any, list[Any]]:
        args, kwargs = call.fresh_arguments()
        with paddle.set_grad_enabled(call.gradients):
            answer = self.candidate.eager(*args, **kwargs)
        return answer, flatten((args, kwargs))[0]

    def different_inputs(self) -> list[KeptCall]:
        """Calls of the candidate with different values, all of the argument structure that it is tried with."""
        main = listen(self.candidate.root, {self.candidate.spot: self.candidate.site}, keep_for=self.candidate.spot)
        calls = main[self.candidate.spot][0]
        return _different_inputs((_of_one_size(calls)[0] if self.static else calls).inputs, self.candidate.eager)

    def region(self, candidate: Candidate, different: Sequence[KeptCall], inputs: Any, training_mode: str) -> Region:
        """A region for a candidate by this trial's engine and options, which is proven on ``different`` calls."""
        return Region(
            path=candidate.name,
            recipe=Recipe(
                layer=candidate.layer,
                function=candidate.eager,
                engine=self.engine,
                options=self.options,
                tolerance=tolerance_for(self.tolerance, self.options),
                proofs=max(2, len(different)),
                store=self.store,
            ),
            admitted=[inputs],
            training_mode=training_mode,
        )

    def _converted(
        self, candidate: Candidate, different: Sequence[KeptCall], inputs: Any, training_mode: str
    ) -> Outcome:
        region = self.region(candidate, different, inputs, training_mode)
        try:
            return self._judged(region, different, inputs, training_mode)
        finally:
            region.close()

    def _judged(self, region: Region, different: Sequence[KeptCall], inputs: Any, training_mode: str) -> Outcome:
        memory = held_memory()
        variant = proven(region, different)
        if isinstance(variant, str):
            return Failed(detail=variant, evidence="", inputs=inputs, exported=False)
        if variant.state is not State.SERVING:
            return _refused(variant, inputs)
        # Memory before measuring: eager's own buffers are not the conversion's.
        extra = max(0, held_memory() - memory)
        samples = self._measured(region, different[0])
        return Converted(
            inputs=inputs,
            outputs=_answer_specification(region.recipe.function, different[0]),
            training_mode="same" if training_mode == "same" else "eager",
            equality=equality_of(variant.worst, variant.compared),
            samples=samples,
            conversion_seconds=variant.conversion_seconds,
            extra_memory=extra,
            twins=[],
            guarded=variant.straight,
        )

    def _measured(self, region: Region, call: KeptCall) -> Samples:
        args, kwargs = call.fresh_arguments()
        function = region.recipe.function

        def eager() -> Any:
            return function(*args, **kwargs)

        def hybrid() -> Any:
            return region(*args, **kwargs)

        with paddle.set_grad_enabled(call.gradients):
            return in_turn(
                eager,
                hybrid,
                min_gain=self.min_gain,
                seconds=self.measuring_seconds,
                patience=self.patience,
                wall_clock=have_threads([self.options]),
            )


def agree(one: Comparison, other: Comparison) -> bool:
    """Whether two measurements bear out the same gain: near to one another, as far as the samples can tell.

    Where they can't, for want of pairs or because other work disturbed them, the answer is no: it costs a trial more.
    """
    told = one.low > 0.0 and other.low > 0.0
    overlap = other.high * AGREEMENT >= one.low and one.high * AGREEMENT >= other.low
    return told and overlap and 1.0 / MOST_APART <= one.speedup / other.speedup <= MOST_APART


def _seconds_per_call(candidate: Candidate) -> float:
    return candidate.timed.inclusive / (candidate.timed.calls or 1.0)


def proven(region: Region, different: Sequence[KeptCall]) -> Variant | str:
    """Calls the region with each input until its variant serves or is refused; a string when neither comes."""
    for attempt in range(3 * max(2, len(different))):
        call = different[attempt % len(different)]
        args, kwargs = call.fresh_arguments()
        with paddle.set_grad_enabled(call.gradients):
            region(*args, **kwargs)
        ended = [each for each in region.variants if each.state in (State.SERVING, State.REFUSED)]
        if ended:
            return ended[0]
    return "the region stayed eager: " + ", ".join(region.eager_calls)


_UNFIT = {
    "state": "state",
    "effects": "effects",
    "inputs": "mutates_inputs",
    "structure": "structure",
    "no_tensors": "no_tensors",
}


def _refused(variant: Variant, inputs: Any) -> Outcome:
    if variant.refusal == "wrong":
        return Wrong(
            detail=variant.reason,
            equality=equality_of(variant.worst, variant.compared),
            inputs=inputs,
        )
    if variant.refusal in _UNFIT:
        return Unfit(reason=_UNFIT[variant.refusal], detail=variant.reason)
    exported = variant.refusal == "failed_running"
    return Failed(detail=variant.reason, evidence="", inputs=inputs, exported=exported)


def equality_of(found: Difference, compared: int) -> Equality:
    """The numbers of a difference as the plan keeps them."""
    return Equality(
        error=found.error, limit=found.limit, noise=found.noise, scale=found.scale, inputs_compared=compared
    )


def _different_inputs(calls: Sequence[KeptCall], function: Callable[..., Any]) -> list[KeptCall]:
    """The kept calls whose values differ; with one only, another made from it, see :func:`_moved`."""
    different: list[KeptCall] = []
    for call in calls:
        if not any(_same_values(call, other) for other in different):
            different.append(call)
    if len(different) == 1:
        moved = _moved(different[0])
        if _eager_answers(function, moved):
            different.append(moved)
    return different


def _same_values(one: KeptCall, other: KeptCall) -> bool:
    return all(
        list(a.shape) == list(b.shape) and np.array_equal(as_array(a), as_array(b), equal_nan=True)
        for a, b in zip(one.tensors, other.tensors, strict=True)
    )


def _moved(call: KeptCall) -> KeptCall:
    """Each float moved by about 5 %; where there is none, integers in the opposite order, which may be indices."""
    generator = np.random.default_rng(0)
    has_floats = any(paddle.is_floating_point(tensor) for tensor in call.tensors)
    tensors = []
    for tensor in call.tensors:
        made = tensor
        if not has_floats and paddle.is_integer(tensor):
            made = paddle.flip(tensor.detach().reshape([-1]), axis=[0]).reshape(tensor.shape)
        elif paddle.is_floating_point(tensor):
            factor = 1.0 + 0.05 * generator.standard_normal(tuple(tensor.shape))
            made = (tensor.detach().cast("float64") * paddle.to_tensor(factor, dtype="float64")).cast(tensor.dtype)
            made.stop_gradient = tensor.stop_gradient
        tensors.append(made)
    return KeptCall(arguments=call.arguments, tensors=tensors, gradients=call.gradients, training=call.training)


def _eager_answers(function: Callable[..., Any], call: KeptCall) -> bool:
    args, kwargs = call.fresh_arguments()
    try:
        with paddle.no_grad():
            value = function(*args, **kwargs)
    except Exception:  # noqa: BLE001 - an input that we made up may be one that the model refuses
        return False
    return all(bool(np.isfinite(as_array(t)).all()) for t in flatten(value)[0] if paddle.is_floating_point(t))


def _training_mode(candidate: Candidate, main: Heard) -> str:
    """``eager`` when the calls came in evaluation mode; else whether that makes a difference: ``same``, ``differs``."""
    layer, function = candidate.layer, candidate.eager
    family = reach(layer).layers
    flags = [sub.training for sub in family]
    if not any(flags):
        return "eager"
    call = main.inputs[0]
    before = Snapshot.of(layer)
    with _seeded():
        trained = _answered(function, call)
    touched = before.what_changed(Snapshot.of(layer))
    for sub in family:
        sub.__dict__["training"] = False
    with _seeded():
        evaluated = _answered(function, call)
    for sub, flag in zip(family, flags, strict=True):
        sub.__dict__["training"] = flag
    same = difference(flatten(trained)[0], flatten(evaluated)[0], Tolerance(rtol=0.0, atol=0.0)).equal
    return "same" if same and not touched else "differs"


def _answered(function: Callable[..., Any], call: KeptCall) -> Any:
    args, kwargs = call.fresh_arguments()
    with paddle.no_grad():
        return function(*args, **kwargs)


@contextmanager
def _seeded() -> Iterator[None]:
    before = (paddle.get_rng_state(), np.random.get_state(), random.getstate())
    paddle.seed(0)
    np.random.seed(0)
    random.seed(0)
    try:
        yield
    finally:
        paddle.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def inputs_of(candidate: Candidate) -> Any:
    """The argument structure that a candidate is mostly called with, None when the replay doesn't reach it."""
    heard = listen(candidate.root, {candidate.spot: candidate.site}, keep_for=candidate.spot)[candidate.spot]
    return _specification(heard[0]) if heard else None


def _of_one_size(heard: Heard) -> tuple[Heard, list[Any]]:
    """The calls of the first size that came, and the argument structures of the other sizes."""
    sizes: dict[Shapes, list[KeptCall]] = {}
    for call in heard.inputs:
        sizes.setdefault(tuple([tuple(tensor.shape) for tensor in call.tensors]), []).append(call)
    (shapes, calls), *others = sizes.items()
    rest = [recorded(heard.arguments, calls[0].tensors, shapes) for shapes, calls in others]
    return replace(heard, shapes=shapes, inputs=calls), rest


def _specification(heard: Heard) -> Any:
    return recorded(heard.arguments, heard.first, heard.shapes)


def _answer_specification(function: Callable[..., Any], call: KeptCall) -> Any:
    tensors, structure = flatten(_answered(function, call))
    shapes: Shapes = tuple([tuple(tensor.shape) for tensor in tensors])
    return recorded(structure, tensors, shapes)
