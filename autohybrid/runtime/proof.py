"""What stands between an eager call and a conversion that may answer in its place."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import paddle

from autohybrid.engines import Busy
from autohybrid.runtime import purity
from autohybrid.runtime.changes import Snapshot, assignments
from autohybrid.runtime.effects import Effects
from autohybrid.runtime.equality import Tolerance, difference
from autohybrid.runtime.program import Answer
from autohybrid.runtime.reach import of_paddle, reach
from autohybrid.runtime.rehearsal import Verdict, one_line, rehearse, spared, went_well
from autohybrid.runtime.shelf import Shelf
from autohybrid.runtime.straight import OtherPath
from autohybrid.runtime.undisturbed import undisturbed
from autohybrid.runtime.variant import Overtaken, State, Variant
from autohybrid.structure import Structure, Tensor, flatten, rebuild


class Obstacle(enum.Enum):
    """Something that may be gone at the next call."""

    UNSETTLED = "forward changed its own state, or something outside"


class Proof:
    """One eager call, watched from before it is made.

    Attributes:
        kept: the call's Tensors as they were before it.
        effects: sees what is done outside the Layer.
        witness: sees random numbers and hooks with effects.
        after: the Layer's state behind the call.
    """

    def __init__(self, layer: Any, structure: Structure, tensors: Sequence[Tensor]) -> None:
        self.kept = [tensor.detach().clone() for tensor in tensors]
        self.witness = purity.Witness(layer)
        self.effects = Effects(layer)
        self._layer = layer
        self._structure = structure
        self._tensors = tensors
        self._before = Snapshot.of(layer)
        self._assigned: Sequence[Any] = ()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around the call."""
        with self.effects.watching(), assignments.heard() as assigned, self.witness.watching():
            yield
        self._assigned = assigned

    @property
    def after(self) -> Snapshot:
        return Snapshot.of(self._layer)

    def training_matters(self, function: Callable[..., Any], value: Any) -> bool:
        """Whether evaluation mode would have answered otherwise than ``value``."""
        return purity.training_matters(self._layer, function, self._structure, self.kept, value)

    def obstacle(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], variant: Variant, value: Any
    ) -> tuple[str, str] | Obstacle | None:
        """Why no conversion of what was called, and answered ``value``, can be right: a refusal's code and words."""
        unchanged = flatten((args, kwargs))[1] == self._structure
        if not unchanged or not difference(self.kept, self._tensors, Tolerance(rtol=0.0, atol=0.0)).equal:
            return ("inputs", "forward changes its inputs")
        if self.witness.drew and not self._drawn_by_others(variant, value):
            return ("random", f"forward draws random numbers ({self.witness.drew})")
        if self.witness.effects:
            return ("hooks", f"a hook inside has effects ({self.witness.effects})")
        changed = self._before.what_changed(self.after)
        if (changed or self.effects.seen) and variant.state_changed_by_itself():
            if changed:
                return ("state", f"forward changes its own state ({changed})")
            return ("effects", f"forward does more than compute: it {self.effects.seen}")
        if changed or self.effects.seen:
            return Obstacle.UNSETTLED
        if self._may_keep_something() and self._keeps_what_it_computes(variant):
            return ("state", "forward keeps on its Layer what it computes")
        return None

    def _may_keep_something(self) -> bool:
        """Whether the call wrote to a Layer of the user's, or could have written to a list or dict there."""
        found = reach(self._layer)
        users = {id(each) for each in found.layers if not of_paddle(each)}
        return bool(found.containers) or any(id(each) in users for each in self._assigned)

    def _keeps_what_it_computes(self, variant: Variant) -> bool:
        """Whether other values leave another state behind. The same inputs twice, as in a benchmark, don't show it."""
        if variant.keeps_nothing:
            return False
        before = self.after
        args, kwargs = rebuild(self._structure, purity.other_values(self.kept))
        with undisturbed(self._layer), purity.randomness_kept():
            try:
                variant.recipe.function(*args, **kwargs)
            except Exception:  # noqa: BLE001 - values that we made up may be ones that the model refuses
                return False
            left_behind = self.after
        variant.keeps_nothing = not before.what_changed(left_behind)
        return not variant.keeps_nothing

    def _drawn_by_others(self, variant: Variant, value: Any) -> bool:
        """Whether other threads may have drawn the random numbers: this call answers the same without the same ones."""
        if threading.active_count() == 1:
            return False
        args, kwargs = rebuild(self._structure, [tensor.clone() for tensor in self.kept])
        again = variant.recipe.function(*args, **kwargs)
        return difference(flatten(value)[0], flatten(again)[0], Tolerance(rtol=0.0, atol=0.0)).equal


_CURABLE = frozenset({"wrong", "failed_running", "crashed"})
"""What other options of an engine may mend: the graph was made, what came of it was bad."""


OTHER_PATH = "other_path"
OVERTAKEN = "overtaken"


class Attempts:
    """The options that a region tries, one after the other, until a conversion is right.

    Args:
        first: the recipe's.
        repairs: what the engine knows to cure a wrong or failing conversion, on top of them.
    """

    def __init__(self, first: dict[str, Any], repairs: Sequence[dict[str, Any]]) -> None:
        self.repairs = repairs
        all_options = [first]
        for repair in repairs:
            options = {**first, **repair}
            if options not in all_options:
                all_options.append(options)
        self._ways = [(options, as_it_stands) for as_it_stands in (False, True) for options in all_options]

    def conclude(self, variant: Variant, proof: Proof, value: Any, tensors: Sequence[Tensor], shelf: Shelf) -> str:
        """Converts or compares until the variant has done one more step, or is refused; the code of the refusal.

        Args:
            variant: new, or being proven.
            proof: the watched call.
            value: eager's answer to it.
            tensors: those that may stand in the answer by identity: the call's, and the model's.
            shelf: where the variant is.
        """
        answer, expected = Answer.of(value, tensors)
        if not expected:
            variant.refuse("no_tensors", "its answer holds nothing that it computed")
        elif variant.answer is not None and variant.answer.structure != answer.structure:
            variant.refuse("structure", "the structure of its answer changes from call to call")
        else:
            self._conclude(variant, answer, proof.kept, expected, shelf)
        return variant.refusal

    def _conclude(
        self,
        variant: Variant,
        answer: Answer,
        inputs: Sequence[Tensor],
        expected: Sequence[Tensor],
        shelf: Shelf,
    ) -> None:
        while True:
            verdict = self._step(variant, answer, inputs, expected, shelf.rehearses(variant))
            if not verdict.code:
                return
            dynamic = any(-1 in shape for shape in variant.shapes)
            if verdict.code == OVERTAKEN:
                return
            if verdict.code == OTHER_PATH:
                following = shelf.other_path(variant, inputs)
                if following is None or following.state in (State.SERVING, State.REFUSED):
                    return
                variant = following
            elif verdict.shared:
                # What was wrong may be a value of other weights: before anything else, a graph of its own.
                variant.trace_alone()
            elif dynamic and not variant.tried:
                shelf.make_static(variant, inputs)
            else:
                way = self._after((variant.options, variant.straight), verdict.code)
                if way is None or (dynamic and way[1]):
                    break
                variant.retry(*way)
        if verdict.code == "wrong" and self._answers_otherwise(variant, inputs, expected):
            verdict = Verdict(code="random", reason="eager answers differently to the same inputs")
        variant.refuse(verdict.code, verdict.reason)

    def _step(
        self, variant: Variant, answer: Answer, inputs: Sequence[Tensor], expected: Sequence[Tensor], rehearsing: bool
    ) -> Verdict:
        try:
            if variant.state is State.NEW:
                if rehearsing and not spared(variant, answer, inputs):
                    verdict = rehearse(variant, answer, inputs, expected, variant.patience)
                    if verdict.code:
                        return verdict
                variant.convert(answer, inputs)
            with paddle.no_grad():
                variant.prove(inputs, expected)
            if rehearsing and variant.state is not State.REFUSED:
                went_well(variant, answer, inputs)
        except OtherPath:
            return Verdict(code=OTHER_PATH)
        except (Overtaken, Busy):
            return Verdict(code=OVERTAKEN)
        except Exception as error:  # noqa: BLE001 - a failed conversion is data: the reason is kept, eager goes on
            code = "failed_running" if getattr(error, "exported", False) else "failed"
            reason = f"can't be converted: {one_line(error)}"
            return Verdict(code=code, reason=reason, shared=variant.shares_graph)
        return Verdict(code=variant.refusal, reason=variant.reason, shared=variant.shares_graph)

    def _after(self, way: tuple[dict[str, Any], bool], code: str) -> tuple[dict[str, Any], bool] | None:
        """The way to try after one that ended with ``code``."""
        rest = self._ways[self._ways.index(way) + 1 :]
        if code not in _CURABLE:
            # Other options don't help; another way of tracing may.
            rest = [(options, as_it_stands) for options, as_it_stands in rest if as_it_stands and not way[1]]
        return rest[0] if rest else None

    def _answers_otherwise(self, variant: Variant, inputs: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
        args, kwargs = rebuild(variant.arguments, [tensor.clone() for tensor in inputs])
        with purity.randomness_kept():
            again = flatten(variant.recipe.function(*args, **kwargs))[0]
        first = [tensor for tensor in again if not any(tensor is each for each in inputs)]
        return not difference(expected, first[: len(expected)], variant.recipe.tolerance).equal
