"""One conversion of a region: made for one argument structure, proven against eager before it may answer."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from autohybrid.device import clock
from autohybrid.engines import Busy, Engine, Executable, Request
from autohybrid.engines.graphs import described, state_of
from autohybrid.engines.paddle_export import converting
from autohybrid.runtime import record as record_of
from autohybrid.runtime import straight
from autohybrid.runtime.conversion import Conversion, converted, opened
from autohybrid.runtime.equality import Difference, Tolerance, difference, judged_with_noise, noise_of
from autohybrid.runtime.graphs import SharedGraphs
from autohybrid.runtime.identity import graph_key_of, key_of, name_of
from autohybrid.runtime.program import Answer, FlatProgram
from autohybrid.runtime.signature import Shapes
from autohybrid.runtime.undisturbed import undisturbed
from autohybrid.store import Key, Store, Verified
from autohybrid.structure import Structure, Tensor, call_reader, flatten, rebuild

# Of a Tensor, without a function of Python's: these are called for each Tensor of each call.
_shape = paddle.Tensor.shape.__get__
_dtype = paddle.Tensor.dtype.__get__
_is_contiguous = paddle.Tensor.is_contiguous


class Overtaken(Exception):
    """Weights or attributes changed while a variant was being converted or proven: what came of it isn't used."""


class State(enum.Enum):
    NEW = "not converted yet"
    PROVING = "being proven"
    SERVING = "hybrid"
    REFUSED = "eager"


_SERVING = State.SERVING
"""Read at every call, where an enumeration's attribute would cost more than what is asked."""

UNUSUAL: Any = object()
"""Stands for the answer of :meth:`Variant.again` where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a region is converted and judged: everything but the call itself.

    Attributes:
        store: where converted programs are kept for later processes, or None.
    """

    layer: Any
    function: Callable[..., Any]
    engine: Engine
    options: dict[str, Any]
    tolerance: Tolerance
    proofs: int
    store: Store | None = None


class Variant:
    """A conversion and the state of its proof.

    Attributes:
        state: what it may do now.
        refusal: the code of why it is refused (``wrong``, ``failed``, ``failed_running``, ``state``,
            ``effects``, ``inputs``, ``structure``, ``no_tensors``), or empty.
        reason: the same in words.
        worst: the largest difference seen while proving.
        compared: how many answers were compared.
        conversion_seconds: what the last conversion took.
        options: the engine's options that it is converted with: the recipe's, or a repair of them.
        patience: seconds that a conversion in a child may take.
        tried: whether a trial has converted just this; otherwise a child of this process does first.
        served: whether it has answered a call.
        keeps_nothing: whether eager leaves its Layer as it is whatever the values of its inputs are; found out once.
        asks: whether eager, in a call that was watched, looked at something that no key can tell.
        on_record: whether it answers because another process has proven it, and isn't proven here yet.
        misled: why that was wrong, once it is known; empty otherwise.
        differentiable: for each combination of what the caller wants gradients of, which outputs have them.
        hands_on_state: whether the answer holds one of the model's own Tensors.
        straight: whether the function is traced as it stands, with guards.
        last_used: the number of the region's call that it last served.
    """

    def __init__(self, recipe: Recipe, arguments: Structure, shapes: Shapes) -> None:
        self.recipe = recipe
        self.arguments = arguments
        self.shapes = shapes
        self.state = State.NEW
        self.refusal = ""
        self.reason = ""
        self.worst = Difference()
        self.compared = 0
        self.conversion_seconds = 0.0
        self.options = recipe.options
        self.straight = False
        self.last_used = 0
        self.served = False
        self.patience = 0.0
        self.tried = False
        self.keeps_nothing = False
        self.asks = False
        self.on_record = False
        self.misled = ""
        self.differentiable: dict[Any, tuple[bool, ...]] = {}
        self.answer: Answer | None = None
        self.hands_on_state = False
        self.busy = threading.Lock()
        self._conversion: Conversion | None = None
        self._generation = 0
        self._graphs: SharedGraphs | None = None
        self._alone = False
        self._own_graph = False
        self._copies = False
        self._read = call_reader(arguments)
        self._last_shapes: list[list[int]] = []
        self._last_dtypes: list[Any] = []
        self._proofs_left = recipe.proofs
        self._unsettled = 0
        self._outcomes: list[straight.Outcome] = []
        self._compared_sizes: list[list[list[int]]] = []

    def takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor] | None:
        """The Tensors of a call when it is like the last one that this variant was chosen for, else None.

        Cheaper than taking the call apart; None doesn't mean that it can't answer.
        """
        if self.state is not _SERVING or self.straight:
            return None  # which of straight ones answers is decided by what the call computes
        tensors = self._read(args, kwargs)
        if tensors is None or [*map(_shape, tensors)] != self._last_shapes:
            return None
        return tensors if [*map(_dtype, tensors)] == self._last_dtypes else None

    def note_kind(self, tensors: Sequence[Tensor]) -> None:
        """Remembers what the Tensors of a call that it serves look like, for :meth:`takes`."""
        self._last_shapes, self._last_dtypes = [*map(_shape, tensors)], [*map(_dtype, tensors)]

    def again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The answer to a call that it :meth:`takes`; :data:`UNUSUAL` when the region must decide about it.

        What is left out here is what such a call has in common with the last one, for which it was done: finding the
        variant by the call's structure, dtypes and shapes. Errors are left out too: run again, they come again.
        """
        tensors = self.takes(args, kwargs)
        made, answer = self._conversion, self.answer
        if tensors is None or made is None or answer is None or self.hands_on_state:
            return UNUSUAL
        alone = not made.executable.concurrent
        if alone and not self.busy.acquire(blocking=False):
            return UNUSUAL
        try:
            if self.state is not _SERVING:
                return UNUSUAL  # ended by another thread
            outputs = self.run(tensors)
        except Exception:  # noqa: BLE001 - the region knows what to do about each
            return UNUSUAL
        finally:
            if alone:
                self.busy.release()
        self.served = True
        return answer.rebuild(outputs, tensors)

    @property
    def serving(self) -> bool:
        """Whether it is hybrid and holds what answers."""
        return self.state is State.SERVING and self._conversion is not None

    @property
    def kind(self) -> list[tuple[Any, tuple[int, ...]]]:
        """Dtype of each Tensor of the calls it is for, and its shape, with -1 in dimensions that vary."""
        return [*zip(self._last_dtypes, self.shapes, strict=True)]

    @property
    def outcomes(self) -> Sequence[straight.Outcome]:
        """What the outputs behind the answer's must be for the answer to count."""
        return tuple(self._outcomes)

    @property
    def serves_threads(self) -> bool:
        """Whether it is hybrid, and threads may call it without waiting for one another."""
        made = self._conversion
        return self.state is State.SERVING and made is not None and made.executable.concurrent

    @property
    def executable(self) -> Executable | None:
        """What serves, or is being proven."""
        made = self._conversion
        return made.executable if made is not None else None

    @property
    def store_note(self) -> str:
        """How the store took part in the conversion, see :class:`Conversion`."""
        made = self._conversion
        return made.note if made is not None else ""

    def convert(self, answer: Answer, inputs: Sequence[Tensor]) -> None:
        """Makes the executable for calls that eager answers in the structure of ``answer``.

        Raises whatever the engine raises, and ``Busy`` where another thread is converting something.
        """
        generation = self._generation
        given = contiguous(inputs)
        guards = straight.Guards(self._seen_by_eager(inputs)) if self.straight else None
        program = FlatProgram(self.recipe.layer, self.recipe.function, self.arguments, answer, guards)
        # What guards a forward that was traced as it stands is only known to who traced it.
        kept = None if self.straight else self.recipe.store
        graphs = None if self.straight else self._shared_graphs(given)
        request = Request(
            program=program,
            inputs=given,
            shapes=self.shapes,
            options=self.options,
            directory=Path(),
            graphs=graphs,
        )
        self._graphs, self._alone = graphs, False
        started = clock()
        with converting(), undisturbed(self.recipe.layer), paddle.no_grad():
            program.eval()
            made = converted(self.recipe.engine, request, kept, lambda: self._key(given))
        self.conversion_seconds = clock() - started
        if generation != self._generation:
            made.close()
            raise Overtaken
        self._conversion = made
        self._outcomes = guards.outcomes[: len(guards.values)] if guards else []
        self.hands_on_state = answer.hands_on_state(len(inputs))
        self.answer = answer
        if self._was_verified(made.verified, answer):
            # In another process. This call's answer is compared all the same, since eager gave it anyway.
            self._proofs_left = min(self._proofs_left, 1)
        if self.shares_graph:
            self._proofs_left = max(self._proofs_left, 1)
        self.state = State.PROVING if self._proofs_left > 0 else State.SERVING

    def known_graph(self, answer: Answer, inputs: Sequence[Tensor]) -> str:
        """What names the graph that it would be converted from without a trace; empty where there is none."""
        if self.straight:
            return ""
        program = FlatProgram(self.recipe.layer, self.recipe.function, self.arguments, answer)
        return self._shared_graphs(contiguous(inputs)).known(described(state_of(program)))

    def answered_on_record(self, inputs: Sequence[Tensor]) -> tuple[Answer, list[Tensor]] | None:
        """Answer and outputs for a first call, by a conversion that another process has proven for just such calls;
        None where the store has none, or another thread is converting something.

        From then on it is being proven here: the next answer is compared with eager's.
        """
        recipe, generation = self.recipe, self._generation
        if recipe.store is None or self.straight or not recipe.store.knows(name_of(recipe.layer, recipe.function)):
            return None
        # Whether outputs have memory of their own isn't known yet: nothing of the caller's goes in, copies come out.
        given = [tensor.clone() for tensor in inputs]
        request = Request(
            program=None, inputs=given, shapes=self.shapes, options=self.options, directory=Path(), proven=True
        )
        started = clock()
        try:
            with converting(), paddle.no_grad():
                made = opened(
                    recipe.engine, request, recipe.store, lambda: self._key(given), lambda it: self._trusts(it, inputs)
                )
                outputs = made.run_first(given) if made is not None else None
        except Busy:
            return None
        if made is None or made.verified is None or outputs is None:
            return None
        answer = record_of.answer_of(made.verified, inputs)
        if generation != self._generation or answer is None or len(outputs) != answer.sources.count(None):
            made.close()
            return None
        self.conversion_seconds = clock() - started
        self._conversion, self.answer, self.on_record = made, answer, True
        self.hands_on_state = False  # no record tells such an answer
        self._proofs_left = min(self._proofs_left, 1)
        self.state = State.PROVING if self._proofs_left > 0 else State.SERVING
        return answer, outputs

    def _trusts(self, record: Verified, inputs: Sequence[Tensor]) -> bool:
        told = record_of.answer_of(record, inputs) is not None
        return told and record_of.counts(record, self.recipe.tolerance, self.recipe.proofs)

    def _key(self, inputs: Sequence[Tensor]) -> Key:
        recipe = self.recipe
        return key_of(
            recipe.layer,
            recipe.function,
            self.arguments,
            self.shapes,
            inputs,
            engine=recipe.engine,
            options=self.options,
        )

    def _graph_key(self, inputs: Sequence[Tensor]) -> Key:
        recipe = self.recipe
        return graph_key_of(recipe.layer, recipe.function, self.arguments, self.shapes, inputs)

    def _shared_graphs(self, inputs: Sequence[Tensor]) -> SharedGraphs:
        return SharedGraphs(lambda: self._graph_key(inputs), self.recipe.store, alone=self._alone)

    @property
    def shares_graph(self) -> bool:
        """Whether it was last converted from a graph that was traced with other weights, and that nobody has found to
        be the same with these."""
        return self._graphs is not None and self._graphs.reused and not self._own_graph

    def _was_verified(self, record: Verified | None, answer: Answer) -> bool:
        if not record_of.counts(record, self.recipe.tolerance, self.recipe.proofs):
            return False
        return record is not None and record.answer == answer.described()

    def _write_down(self) -> None:
        """Notes in the store that this conversion was proven."""
        made, answer = self._conversion, self.answer
        if made is None or answer is None:
            return
        record: Verified | None = made.verified
        if record is not None and self._was_verified(record, answer):
            record = record.covering(self._compared_sizes)
        else:
            record = record_of.written(
                tolerance=self.recipe.tolerance,
                compared=self.compared,
                worst=self.worst,
                answer=answer,
                sizes=self._compared_sizes,
                inputs=len(self.shapes),
                asks=self.asks,
            )
        if record is not None:
            made.record(record)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The program's outputs for one call; results are the caller's own.

        Raises:
            Busy: the executable has no room for this call, or another thread has just ended it.
        """
        made = self._conversion
        if made is None:
            raise Busy("being converted again")
        outputs = made.executable.run(contiguous(inputs))
        if self._outcomes:
            outputs = self._guarded(outputs)
        return [output.clone() for output in outputs] if self._copies or self.on_record else outputs

    def _guarded(self, outputs: list[Tensor]) -> list[Tensor]:
        """The answer's part of the outputs, when the guards behind it say that eager goes this way."""
        if not self._outcomes:
            return outputs
        answers = len(outputs) - len(self._outcomes)
        straight.check(self._outcomes, outputs[answers:])
        return outputs[:answers]

    def _seen_by_eager(self, inputs: Sequence[Tensor]) -> list[straight.Outcome]:
        args, kwargs = rebuild(self.arguments, [tensor.clone() for tensor in inputs])
        with straight.recorded() as outcomes, paddle.no_grad():
            self.recipe.function(*args, **kwargs)
        return outcomes

    def prove(self, inputs: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
        """Compares the executable with eager's ``expected`` on the same inputs, twice, and moves the state on.

        The first results are overwritten before the second run, so that a program that writes nothing, or hands out
        its own buffers, is found out. ``inputs`` aren't touched.
        """
        generation, executable = self._generation, self.executable
        if executable is None:
            raise Overtaken
        given = [tensor.clone() for tensor in inputs]
        first = self._guarded(executable.run(given))
        found = self._judged(inputs, expected, first)
        if found.equal:
            first_places = {output.data_ptr() for output in first}
            for output in first:
                _poison(output)
            second = self._guarded(executable.run(given))
            given_places = {tensor.data_ptr() for tensor in given}
            self._copies = self._copies or any(
                output.data_ptr() in first_places or output.data_ptr() in given_places for output in second
            )
            found = self._judged(inputs, expected, second)
        touched = difference(inputs, given, Tolerance(rtol=0.0, atol=0.0))
        if generation != self._generation:
            raise Overtaken
        self.compared += 1
        if (sizes := record_of.sizes_of(inputs)) not in self._compared_sizes:
            self._compared_sizes.append(sizes)
        self.worst = max(self.worst, found, key=lambda each: (not each.equal, each.error))
        if not found.equal:
            self.refuse("wrong", f"answers differ: {found.problem}")
        elif not touched.equal and not self._copies:
            self.refuse("wrong", "the converted code changes its inputs")
        else:
            self.on_record = False
            self._proofs_left -= 1
            if self._proofs_left <= 0:
                self.state = State.SERVING
                self._write_down()

    def _judged(self, inputs: Sequence[Tensor], expected: Sequence[Tensor], outputs: Sequence[Tensor]) -> Difference:
        found = difference(expected, outputs, self.recipe.tolerance)
        if found.out_of_tolerance:
            return judged_with_noise(found, noise_of(self.eager_outputs, inputs, expected))
        return found

    def eager_outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What eager computes for the same arguments with other Tensors: the outputs a program would have."""
        args, kwargs = rebuild(self.arguments, inputs)
        with paddle.no_grad():
            value = self.recipe.function(*args, **kwargs)
        assert self.answer is not None, "eager has answered before"
        tensors, _ = flatten(value)
        return self.answer.computed(tensors) if len(tensors) == len(self.answer.sources) else tensors

    def state_changed_by_itself(self, patience: int = 3) -> bool:
        """Counts calls in which forward changed its own state; True when that isn't settling down."""
        self._unsettled += 1
        return self._unsettled >= patience

    def trace_alone(self) -> None:
        """Back to before the conversion, to be made by a trace of its own."""
        self.forget()
        self._alone = True

    def retry(self, options: dict[str, Any], as_it_stands: bool) -> None:
        """Back to before the conversion, to be made with other options or by another way of tracing."""
        own = self._own_graph or (self._graphs is not None and self._graphs.confirmed)
        self.forget()
        self._own_graph = own
        self.options = options
        self.straight = as_it_stands

    def refuse(self, code: str, reason: str) -> None:
        """Ends this variant: from now on eager answers."""
        if self.on_record:
            self.misled = reason
        if (code == "wrong" or self.on_record) and self._conversion is not None:
            self._conversion.discard()
        self.release()
        self.state = State.REFUSED
        self.refusal = code
        self.reason = reason

    def forget(self) -> None:
        """Back to the beginning, after a change of weights or attributes; a conversion or a proof that is going on in
        another thread comes to nothing (:class:`Overtaken`)."""
        self._generation += 1
        self.release()
        self.state = State.NEW
        self.refusal = self.reason = ""
        self.answer = None
        self.differentiable = {}
        self._copies = self.on_record = self._own_graph = False
        self._compared_sizes = []
        self._proofs_left = self.recipe.proofs

    def release(self) -> None:
        """Gives back the executable."""
        made, self._conversion = self._conversion, None
        if made is not None:
            made.close()


def contiguous(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The Tensors in a layout that Paddle Inference reads rightly.

    Not through ``Tensor.contiguous``, which changes the caller's Tensor in place and cuts it off its base.
    """
    if all(map(_is_contiguous, tensors)):
        return tensors if type(tensors) is list else list(tensors)
    return [tensor if tensor.is_contiguous() else tensor.clone() for tensor in tensors]


_POISON = 12345.0
"""Overwrites results between two runs; ``Tensor.fill_`` refuses NaN, and float16 ends at 65504."""


def _poison(tensor: Tensor) -> None:
    if tensor.dtype != paddle.bool and tensor.size:
        tensor.fill_(_POISON if paddle.is_floating_point(tensor) else 77)
