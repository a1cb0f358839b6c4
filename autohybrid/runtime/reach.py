"""Everything that a forward can reach through its Layer: other Layers, Tensors, and what may change in place.

Sub-Layers, parameters and buffers are known to Paddle. Layers and Tensors in a Python list, a dict or an object kept as
an attribute aren't; they are found by looking, in Layers of the user's own classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import numpy as np
import paddle

from autohybrid.structure import SMALL_ARRAY, Tensor, parts_of

_OF_LAYERS = frozenset(paddle.nn.Layer().__dict__) | {"forward", "_helper"}

DEPTH = 4
MOST_OBJECTS = 4096
"""Objects that are looked at in one model; what lies behind more isn't seen."""


@dataclass(slots=True)
class Reach:
    """What a Layer reaches.

    Attributes:
        layers: the Layer, its sub-Layers, and Layers hidden in attributes.
        tensors: their parameters, buffers, and Tensors hidden in attributes, each once.
        hidden_layers: those of ``layers`` that Paddle doesn't know as sub-Layers.
        hidden_tensors: those of ``tensors`` that are no parameter and no buffer.
        containers: lists, dicts, sets, small arrays and objects' attributes that may be changed in place.
    """

    layers: list[Any] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    hidden_layers: list[Any] = field(default_factory=list)
    hidden_tensors: list[Tensor] = field(default_factory=list)
    containers: list[Any] = field(default_factory=list)


def reach(layer: Any) -> Reach:
    """What can be reached from ``layer``."""
    found = Reach()
    seen: set[int] = set()
    waiting = [(each, False) for each in layer.sublayers(include_self=True)]
    while waiting:
        each, hidden = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        found.layers.append(each)
        if hidden:
            found.hidden_layers.append(each)
        for tensor in _registered(each):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                found.tensors.append(tensor)
        for inner in _looked_into(each, found, seen):
            waiting += [(below, True) for below in inner.sublayers(include_self=True)]
    found.tensors += found.hidden_tensors
    return found


def _registered(layer: Any) -> Iterator[Tensor]:
    yield from [tensor for tensor in layer._parameters.values() if tensor is not None]
    yield from [tensor for tensor in layer._buffers.values() if tensor is not None]


def of_paddle(layer: Any) -> bool:
    """Whether a Layer is one of Paddle's own."""
    return type(layer).__module__.split(".")[0] == "paddle"


def own_attributes(layer: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that the user's code gave to a Layer."""
    pairs = layer.__dict__.items()
    return ((name, value) for name, value in pairs if name not in _OF_LAYERS and not _is_ours(value))


def _is_ours(value: Any) -> bool:
    return type(value).__module__.startswith("autohybrid.")


def _looked_into(layer: Any, found: Reach, seen: set[int]) -> list[Any]:
    """Notes Tensors and containers in the attributes of ``layer``; returns the Layers found there."""
    if of_paddle(layer):
        return []
    layers: list[Any] = []
    waiting = [(value, DEPTH) for _, value in own_attributes(layer)]
    while waiting and len(seen) < MOST_OBJECTS:
        value, depth = waiting.pop()
        if isinstance(value, paddle.nn.Layer):
            layers.append(value)
        elif isinstance(value, paddle.Tensor):
            if id(value) not in seen:
                seen.add(id(value))
                found.hidden_tensors.append(value)
        elif isinstance(value, np.ndarray):
            if value.dtype != object and value.nbytes <= SMALL_ARRAY:
                found.containers.append(value)
        elif depth and id(value) not in seen:
            parts = parts_of(value)
            if parts is None:
                continue
            seen.add(id(value))
            if not isinstance(value, (tuple, frozenset)):
                found.containers.append(value if isinstance(value, (list, dict, set)) else value.__dict__)
            waiting += [(part, depth - 1) for part in parts]
    return layers


def saved(container: Any) -> Any:
    """What is in a container now, to be compared later by :func:`still`."""
    if isinstance(container, dict):
        return (tuple(container), tuple(container.values()))
    if isinstance(container, list):
        return tuple(container)
    return container.tobytes() if isinstance(container, np.ndarray) else frozenset(container)


def still(container: Any, kept: Any) -> bool:
    """Whether a container holds the very objects that it held when ``kept`` was saved."""
    if isinstance(container, dict):
        names, values = kept
        return len(container) == len(names) and all(map(is_, container.values(), values)) and tuple(container) == names
    if isinstance(container, list):
        return len(container) == len(kept) and all(map(is_, container, kept))
    return bool((container.tobytes() if isinstance(container, np.ndarray) else container) == kept)


def put_back(container: Any, kept: Any) -> None:
    """Gives a container the contents that it had when ``kept`` was saved."""
    if still(container, kept):
        return
    if isinstance(container, dict):
        # Other threads may be reading it: never empty in between.
        names = set(kept[0])
        for name in [name for name in container if name not in names]:
            del container[name]
        for name, value in zip(*kept, strict=True):
            if name not in container or container[name] is not value:
                container[name] = value
    elif isinstance(container, list):
        container[:] = kept
    elif isinstance(container, set):
        container.clear()
        container.update(kept)
    else:
        container[...] = np.frombuffer(kept, dtype=container.dtype).reshape(container.shape)
