"""Everything that a conversion depends on, by content: what makes the key of a stored artifact.

Two processes that build the same model from the same source get the same fields; what differs in any of them, or
can't be told by its content, is never taken for the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import paddle

import autohybrid
from autohybrid import device
from autohybrid.engines import Engine, StorableEngine
from autohybrid.runtime import changes, patches
from autohybrid.runtime.content import Contents, Unknowable, digest_of, tensor_digest
from autohybrid.runtime.fingerprint import fingerprint, structure_lines
from autohybrid.runtime.reach import reach
from autohybrid.runtime.signature import Shapes, recorded
from autohybrid.store import FORMAT, KIND, Key
from autohybrid.structure import Structure, Tensor, constants, dtype_name, qualified_name


def key_of(
    layer: Any,
    function: Callable[..., Any],
    arguments: Structure,
    shapes: Shapes,
    inputs: Sequence[Tensor],
    *,
    engine: Engine,
    options: dict[str, Any],
) -> Key:
    """The key of one conversion of ``function``, a bound method of ``layer``.

    Raises:
        Unknowable: something that the conversion depends on can't be told by its content.
    """
    fields = {
        **_of_program(layer, function, arguments, shapes, inputs),
        "attributes": _attributes(layer, Contents(layer)),
        "weights": weights_digest(layer),
        "engine": engine.name,
        "libraries": _compact(engine.made_with() if isinstance(engine, StorableEngine) else {}),
        "options": _compact(options),
    }
    return Key(region=name_of(layer, function), fields=fields)


def graph_key_of(
    layer: Any, function: Callable[..., Any], arguments: Structure, shapes: Shapes, inputs: Sequence[Tensor]
) -> Key:
    """What a traced program depends on whatever the values of the weights are, and whoever converts it.

    Raises:
        Unknowable: see :func:`key_of`.
    """
    fields = {
        KIND: "graph",
        **_of_program(layer, function, arguments, shapes, inputs),
        "attributes": _attributes(layer, _WithoutWeights(layer)),
    }
    return Key(region=name_of(layer, function), fields=fields)


def _of_program(
    layer: Any, function: Callable[..., Any], arguments: Structure, shapes: Shapes, inputs: Sequence[Tensor]
) -> dict[str, str]:
    return {
        "source": _source(layer, getattr(function, "__func__", function)),
        "structure": fingerprint(structure_lines(layer)),
        "inputs": _compact(recorded(arguments, inputs, shapes)),
        "constants": digest_of([Contents(layer).of(value) for value in constants(arguments)]),
        "device": _device(),
        "default dtype": str(paddle.get_default_dtype()),
        "paddle": f"{paddle.__version__} {paddle.version.commit}",
        "python": platform.python_version(),
        "autohybrid": autohybrid.__version__,
        "format": str(FORMAT),
    }


def name_of(layer: Any, function: Callable[..., Any]) -> str:
    """What is converted, as its entries in the store are filed: class and function."""
    return f"{qualified_name(type(layer))}.{getattr(function, '__name__', 'forward')}"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _device() -> str:
    place = str(paddle.device.get_device())
    if place.startswith("gpu"):
        return f"gpu {paddle.device.cuda.get_device_name()}"
    return f"{place} {device.cpu_model()}"


def _source(layer: Any, function: Callable[..., Any]) -> str:
    """A digest of the function, of the classes of all Layers, and of what their functions name."""
    contents = Contents(layer)
    kinds = {type(sub) for sub in layer.sublayers(include_self=True)}
    found = [contents.of_class(kind) for kind in sorted(kinds, key=qualified_name)]
    return digest_of([contents.of(function), *found])


class _WithoutWeights(Contents):
    """Of Tensors that a program has as parameters it tells the kind only, also where a list or a dict holds them."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self._weights = {id(tensor) for tensor in reach(layer).tensors}

    def _described(self, value: Any) -> Any:
        if id(value) in self._weights:
            return ["weight", dtype_name(value), list(value.shape)]
        return super()._described(value)


def _attributes(layer: Any, contents: Contents) -> str:
    """A digest of what stands on the Layers besides parameters, buffers and sub-Layers."""
    found = hashlib.sha256()
    for path, sub in _paths(layer):
        # One Layer after the other: so many lists at once would have Python's collector walk through all of Paddle.
        found.update(digest_of([path, list(_attributes_of(layer, sub, contents))]).encode())
    return found.hexdigest()[:32]


_NOT_STATE = frozenset({"_parameters", "_buffers", "training", "_full_name", "_helper"})
"""What stands on a Layer beside the attributes that a program depends on."""


def _attributes_of(root: Any, sub: Any, contents: Contents) -> Iterator[Any]:
    for name, value in sorted(sub.__dict__.items()):
        if name in _NOT_STATE or name == "_sub_layers":
            continue
        # Hooks on the Layer itself are called around its forward, not in it; what is called is told as the source.
        if sub is root and name in ("_forward_pre_hooks", "_forward_post_hooks", "forward"):
            continue
        try:
            yield [name, contents.of(value)]
        except Unknowable as error:
            raise Unknowable(f"{qualified_name(type(sub))}.{name}: {error}") from error


def _paths(layer: Any) -> Iterator[tuple[str, Any]]:
    yield from layer.named_sublayers(include_self=True, remove_duplicate=False)


_LARGE = 1 << 16
"""Elements from which on a Tensor is hashed beside others."""

_WORTH_THREADS = 1 << 22
"""Elements of large Tensors from which on threads are started for them; starting takes longer than hashing fewer."""

_weights: weakref.WeakKeyDictionary[Any, tuple[int, changes.Snapshot, str]] = weakref.WeakKeyDictionary()


def weights_digest(layer: Any) -> str:
    """A digest of the bytes of all parameters and buffers, remembered until one of them changes."""
    period, now = patches.period(), changes.Snapshot.of(layer)
    seen, before, digest = _weights.get(layer, (0, now, ""))
    if seen and seen == period and not before.what_changed(now):
        return digest
    named = [
        (f"{path}.{name}", tensor)
        for path, sub in _paths(layer)
        for name, tensor in (*sub._parameters.items(), *sub._buffers.items())
        if tensor is not None
    ]
    tensors = [tensor for _, tensor in named]
    sizes = [math.prod(tensor.shape) for tensor in tensors]
    large = [index for index, size in enumerate(sizes) if size >= _LARGE]
    if sum(sizes[index] for index in large) < _WORTH_THREADS:
        large = []
    # Hashing leaves Python's interpreter lock to others; with small Tensors, handing them over would cost more.
    with ThreadPoolExecutor(device.usable_cores()) as threads:
        hashed = threads.map(tensor_digest, [tensors[index] for index in large])
        digests = {index: tensor_digest(tensors[index]) for index in set(range(len(tensors))).difference(large)}
    digests |= dict(zip(large, hashed, strict=True))
    found = hashlib.sha256()
    for index, (name, _) in enumerate(named):
        found.update(f"{name} {digests[index]}\n".encode())
    _weights[layer] = (period, now, found.hexdigest())
    return found.hexdigest()
