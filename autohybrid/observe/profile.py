"""What was seen of a run: the roots, their inference calls, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from autohybrid.plan import Place
from autohybrid.roots import FORWARD
from autohybrid.structure import Structure, Tensor, rebuild


class Spot(NamedTuple):
    """A function of the Layer at a path: its ``forward``, or another method."""

    path: str
    function: str = FORWARD


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCall:
    """One real call of a Layer, its Tensors cloned before the call. ``weight`` is how many calls it stands for."""

    arguments: Structure
    tensors: Sequence[Tensor]
    gradients: bool
    training: bool
    weight: float = 1.0
    function: str = FORWARD

    def fresh_arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments again, with clones of the Tensors, so that a call may change them."""
        copies = []
        for tensor in self.tensors:
            copy = tensor.detach().clone()
            copy.stop_gradient = tensor.stop_gradient
            copies.append(copy)
        args, kwargs = rebuild(self.arguments, copies)
        return args, kwargs

    def answer(self, layer: Any) -> Any:
        """Makes the call again, on fresh arguments, as the script makes it."""
        args, kwargs = self.fresh_arguments()
        return self.callable_of(layer)(*args, **kwargs)

    def callable_of(self, layer: Any) -> Any:
        """What the script calls: the Layer, or a method of it."""
        return layer if self.function == FORWARD else getattr(layer, self.function)

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(int(tensor.size) * int(tensor.element_size()) for tensor in self.tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """The time of one function of one Layer, over all inference calls of its root.

    ``calls`` is per root call. Seconds are those of the script as it runs without hooks. ``called_from`` are the timed
    functions that it was called in directly.
    """

    path: str
    aliases: tuple[str, ...]
    layer: Any
    calls: float
    inclusive: float
    own: float
    function: str = FORWARD
    called_from: frozenset[Spot] = frozenset()

    @property
    def spot(self) -> Spot:
        return Spot(self.path, self.function)


@dataclass(frozen=True, slots=True, kw_only=True)
class RootProfile:
    """One root: a Layer that was called, or of which a method was called, from outside any Layer.

    ``durations`` are the seconds of its inference calls, without those in which hooks were in place. ``layers`` starts
    with the root's own functions, path ``""``. ``sampled`` is in how many calls the sub-Layers were timed.
    """

    layer: Any
    places: tuple[Place, ...]
    calls: int
    training_calls: int
    seconds: float
    durations: tuple[float, ...]
    layers: tuple[LayerTime, ...]
    kept: tuple[KeptCall, ...]
    sampled: int

    @property
    def class_name(self) -> str:
        return type(self.layer).__qualname__


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """All roots of a run, in the order of their first calls."""

    roots: tuple[RootProfile, ...]
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds spent in inference calls of roots."""
        return sum(root.seconds for root in self.roots)
