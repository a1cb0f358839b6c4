"""Gets the real inputs of a sub-Layer: calls its root again with the kept inputs and listens.

Keeping the inputs of every sub-Layer while the script runs would cost it memory and time; this costs a child a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import paddle

from autohybrid.observe.profile import KeptCall, RootProfile, Spot
from autohybrid.runtime.signature import Shapes, merged
from autohybrid.runtime.sites import Site
from autohybrid.structure import Structure, Tensor, flatten, signature

MOST_INPUTS = 3
"""Different inputs of a sub-Layer that a trial works with."""


@dataclass(slots=True, kw_only=True)
class Heard:
    """The calls of one function of a Layer with one argument structure."""

    arguments: Structure
    shapes: Shapes
    first: Sequence[Tensor]
    calls: int = 0
    inputs: list[KeptCall] = field(default_factory=list)


def listen(root: RootProfile, sites: dict[Spot, Site], keep_for: Spot) -> dict[Spot, list[Heard]]:
    """Replays the root's kept calls.

    Args:
        sites: the functions to listen to, and where they stand.
        keep_for: the one whose inputs are kept; of the others only structures and shapes are.

    Returns:
        For each function what was heard, the most frequent argument structure first.
    """
    heard: dict[Spot, dict[Any, Heard]] = {spot: {} for spot in sites}
    known = [kept for kept in root.kept if set(sites) == {Spot("", kept.function)}]
    if known and not root.layer._forward_pre_hooks:
        # What the root's own functions get is known without a call.
        for kept in known:
            _hear(heard[keep_for], kept.arguments, kept.tensors).inputs.append(kept)
        return _most_frequent_first(heard)
    with _ears(sites, heard, keep_for):
        for kept in root.kept:
            with paddle.set_grad_enabled(kept.gradients):
                kept.answer(root.layer)
    return _most_frequent_first(heard)


def _most_frequent_first(heard: dict[Spot, dict[Any, Heard]]) -> dict[Spot, list[Heard]]:
    return {spot: sorted(kinds.values(), key=lambda each: -each.calls) for spot, kinds in heard.items()}


def _hear(kinds: dict[Any, Heard], structure: Structure, tensors: Sequence[Tensor]) -> Heard:
    key = (structure, signature(tensors))
    found = kinds.get(key)
    if found is None:
        shapes = tuple([tuple(tensor.shape) for tensor in tensors])
        found = kinds[key] = Heard(arguments=structure, shapes=shapes, first=tensors)
    found.calls += 1
    found.shapes = merged(found.shapes, tensors)
    return found


@contextmanager
def _ears(sites: dict[Spot, Site], heard: dict[Spot, dict[Any, Heard]], keep_for: Spot) -> Iterator[None]:
    for spot, site in sites.items():
        site.put(_listening(site.eager, heard[spot], spot == keep_for, site.layer))
    try:
        yield
    finally:
        for site in sites.values():
            site.lift()


def _listening(forward: Any, kinds: dict[Any, Heard], keeps: bool, layer: Any) -> Any:
    def listening(*args: Any, **kwargs: Any) -> Any:
        tensors, structure = flatten((args, kwargs))
        found = _hear(kinds, structure, tensors)
        if keeps and _is_new(found, tensors):
            found.inputs.append(_kept(structure, tensors, layer))
        return forward(*args, **kwargs)

    return listening


def _is_new(found: Heard, tensors: Sequence[Tensor]) -> bool:
    if len(found.inputs) < MOST_INPUTS - 1:
        return True
    # The last place is for other sizes, which are worth more than other values.
    sizes = [tuple(tensor.shape) for tensor in tensors]
    known = [[tuple(tensor.shape) for tensor in each.tensors] for each in found.inputs]
    return len(found.inputs) < MOST_INPUTS and sizes not in known


def _kept(structure: Structure, tensors: Sequence[Tensor], layer: Any) -> KeptCall:
    clones = []
    for tensor in tensors:
        clone = tensor.detach().clone()
        clone.stop_gradient = tensor.stop_gradient
        clones.append(clone)
    return KeptCall(
        arguments=structure,
        tensors=clones,
        gradients=bool(paddle.is_grad_enabled()),
        training=any(sub.training for sub in layer.sublayers(include_self=True)),
    )
