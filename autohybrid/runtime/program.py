"""A call of a Layer as a program of flat Tensors: what the engines convert.

``FlatProgram`` rebuilds the user's arguments from the flat list, calls the user's function, and gives back the Tensors
of its answer. ``Answer`` remembers the structure of eager's answer and puts it together again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import paddle
from paddle.framework import use_pir_api
from paddle.jit.dy2static import Call
from paddle.nn.layer import rnn
from paddle.pir.core import _convert_into_value

from autohybrid.errors import ConversionError
from autohybrid.runtime.reach import put_back, reach, saved
from autohybrid.runtime.stand_ins import standing_in
from autohybrid.runtime.straight import Guards
from autohybrid.structure import (
    Constant,
    Mapping,
    Record,
    Sequence_,
    Slot,
    Structure,
    Tensor,
    describe,
    described_as,
    flatten,
    rebuild,
    row_kind,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The structure of an answer of eager's.

    ``sources`` tells for each distinct Tensor of the answer where it comes from: ``None`` for an output of the
    program, or the index of the input that was handed through.
    """

    structure: Structure
    sources: tuple[int | None, ...]
    differentiable: tuple[bool, ...]
    _row: type | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        computed = self.sources == (None,) * len(self.sources)
        object.__setattr__(self, "_row", row_kind(self.structure) if computed else None)

    @classmethod
    def of(cls, value: Any, inputs: Sequence[Tensor]) -> tuple[Answer, list[Tensor]]:
        """Takes an answer apart; ``inputs`` are the Tensors that the call got.

        Returns:
            The structure, and the Tensors that a program must compute.
        """
        tensors, structure = flatten(value)
        given = {id(tensor): index for index, tensor in enumerate(inputs)}
        sources = tuple([given.get(id(tensor)) for tensor in tensors])
        answer = cls(
            structure=structure,
            sources=sources,
            differentiable=tuple([not tensor.stop_gradient for tensor in tensors]),
        )
        return answer, answer.computed(tensors)

    def described(self) -> Any:
        """The structure as JSON values, each Tensor with where it comes from."""
        return describe(self.structure, lambda index: {"index": index, "input": self.sources[index]})

    @classmethod
    def restored(cls, described: Any) -> Answer | None:
        """The answer that :meth:`described` describes so; None where there are objects in it. Which of its Tensors have
        gradients isn't known."""
        sources: dict[int, int | None] = {}

        def slot(tensor: Any) -> int:
            sources[tensor["index"]] = tensor["input"]
            return int(tensor["index"])

        try:
            structure = described_as(described, slot)
        except (ValueError, KeyError, TypeError):
            return None
        return cls(structure=structure, sources=tuple([sources[index] for index in sorted(sources)]), differentiable=())

    def computed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor for tensor, source in zip(tensors, self.sources, strict=True) if source is None]

    def hands_on_state(self, inputs: int) -> bool:
        """Whether the answer holds one of the model's own Tensors, which come behind the ``inputs`` of the call."""
        return any(source is not None and source >= inputs for source in self.sources)

    def rebuild(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Any:
        """The answer with the program's outputs in their places."""
        row = self._row
        if row is not None:
            # The usual answers: one Tensor, a list or a tuple of them.
            return outputs[0] if row is Slot else row(outputs)
        remaining = iter(outputs)
        tensors = [next(remaining) if source is None else inputs[source] for source in self.sources]
        return rebuild(self.structure, tensors)


class FlatProgram(paddle.nn.Layer):  # type: ignore[misc]
    """The Layer that engines trace: ``forward`` takes a list of Tensors and returns the program's outputs as a list.

    Args:
        layer: the Layer whose parameters the program uses.
        function: what is called, a bound method of ``layer``.
        arguments: the structure of ``(args, kwargs)``.
        answer: the structure of eager's answer to such a call.
        guards: for a trace of the function as it stands; None to have its source converted by Paddle.
    """

    def __init__(
        self,
        layer: Any,
        function: Callable[..., Any],
        arguments: Structure,
        answer: Answer,
        guards: Guards | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        found = reach(layer)
        # Paddle saves the parameters of Layers that it knows, and no others.
        self.hidden_layers = paddle.nn.LayerList(found.hidden_layers)
        for index, tensor in enumerate(found.hidden_tensors):
            self._buffers[f"hidden_{index}"] = tensor
        self._function = function
        self._arguments = arguments
        self._answer = answer
        self._guards = guards

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = self.called(tensors)
        return outputs

    # Paddle rewrites the source of what it traces. Ours needs none of that; the user's function does, so that it
    # is handed to Paddle's converter by name.
    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def called(self, tensors: list[Tensor]) -> list[Tensor]:
        args, kwargs = rebuild(self._arguments, tensors)
        with _hidden_as_values(self.layer), _unrolled_rnns():
            if self._guards is None:
                return self._computed(Call(self._function)(*args, **kwargs))
            with self._guards.replayed(self.layer):
                return self._computed(self._function(*args, **kwargs)) + self._guards.values

    def _computed(self, value: Any) -> list[Tensor]:
        found: dict[int, Any] = {}
        _collect(self._answer.structure, value, found)
        computed = self._answer.computed([found[index] for index in range(len(self._answer.sources))])
        return [paddle.assign(each) if _may_be_lost(each) else each for each in computed]


def _may_be_lost(value: Any) -> bool:
    # Paddle Inference 3.3 hands out the input where an output is an input times one plus a constant.
    if isinstance(value, paddle.Tensor):  # which also counts as the older programs' kind of variable
        return False
    if isinstance(value, paddle.static.Variable):
        return value.op is None or value.op.type == "scale"
    if not isinstance(value, paddle.pir.Value) or value.get_defining_op().name() != "pd_op.scale":
        return False
    factor = value.get_defining_op().operand_source(1).get_defining_op()
    return factor is None or factor.name() != "pd_op.full" or factor.attrs().get("value", 1.0) == 1.0


def _unrolled_rnns() -> AbstractContextManager[Any]:
    """Has ``nn.RNN`` trace its cell step by step; the loop that Paddle makes of it takes minutes to convert."""
    return standing_in(rnn, "_rnn_static_graph", rnn._rnn_dynamic_graph)


@contextmanager
def _hidden_as_values(layer: Any) -> Iterator[None]:
    """Puts values of the traced program in the places of Tensors in the lists and dicts that ``layer`` keeps.

    Of parameters and buffers Paddle does it by itself.
    """
    holding = [each for each in reach(layer).containers if isinstance(each, (list, dict)) and _holds_tensors(each)]
    if holding and not use_pir_api():
        raise ConversionError("Paddle's older program format takes no Tensors that are kept in a list or a dict")
    kept = [(container, saved(container)) for container in holding]
    for container in holding:
        places = container.items() if isinstance(container, dict) else enumerate(container)
        for place, value in list(places):
            if isinstance(value, paddle.Tensor):
                container[place] = _convert_into_value(value)
    try:
        yield
    finally:
        for container, before in kept:
            put_back(container, before)


def _holds_tensors(container: Any) -> bool:
    values = container.values() if isinstance(container, dict) else container
    return any(isinstance(value, paddle.Tensor) for value in values)


def _collect(structure: Structure, value: Any, found: dict[int, Any]) -> None:
    """Takes what stands in the slots of ``structure`` out of a traced answer, which must have the same structure."""
    if isinstance(structure, Slot):
        found.setdefault(structure.index, value)
        return
    if isinstance(structure, Constant):
        if isinstance(value, (paddle.pir.Value, paddle.static.Variable)):
            raise ConversionError("a value in the answer that isn't a Tensor depends on the inputs")
        return
    for part, inner in zip(structure.parts, _parts_of(structure, value), strict=True):
        _collect(part, inner, found)


def _parts_of(structure: Sequence_ | Mapping | Record, value: Any) -> list[Any]:
    try:
        if isinstance(structure, Sequence_):
            parts = list(value)
        elif isinstance(structure, Mapping):
            parts = [value[key] for key in structure.keys]
        else:
            parts = [getattr(value, key) for key in structure.keys]
    except (TypeError, KeyError, AttributeError) as error:
        raise ConversionError(f"the traced answer has another structure than eager's ({error})") from error
    if len(parts) != len(structure.parts):
        raise ConversionError("the traced answer has another length than eager's")
    return parts
