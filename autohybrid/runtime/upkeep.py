"""What is done with regions between calls: warming them up, and telling them that something has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import paddle

from autohybrid.engines.paddle_export import conversion_lock
from autohybrid.runtime.attach import regions_of
from autohybrid.runtime.region import Region
from autohybrid.runtime.signature import DYNAMIC
from autohybrid.runtime.status import Status, status
from autohybrid.runtime.variant import State
from autohybrid.structure import flatten

ModelT = TypeVar("ModelT")

MADE_SIZE = 8
"""The size that made inputs have in a dynamic dimension."""


def refresh(model: ModelT) -> ModelT:
    """Tells the regions in ``model`` that something changed which nothing can see. Returns ``model``.

    Writes through DLPack or raw pointers, module globals, what lies deep inside objects: afterwards every conversion is
    made and proven again, also what was refused before.
    """
    for region in regions_of(model):
        region.refresh()
    return model


def warmup(model: Any) -> Status:
    """Converts and proves the planned regions of ``model`` now, with made inputs, so that no call pays for it.

    Inputs are made from the structures in the plan: random numbers for floating Tensors, zeros for others. A structure
    that can't be made from a plan (an object of the user's in it), or that eager refuses, stays for the first call.

    Returns:
        The regions' status afterwards.
    """
    for region in regions_of(model):
        for specification in getattr(region.planned, "inputs", None) or ():
            # Where another thread is converting, a call would be left to eager.
            with conversion_lock:
                _warm(region, specification)
    return status(model)


def _warm(region: Region, specification: Any) -> None:
    generator = np.random.default_rng(0)
    for _ in range(region.recipe.proofs + 1):
        try:
            args, kwargs = _made(specification, generator, {})
        except _NotMade:
            return
        before = {id(variant) for variant in region.variants if variant.state is State.SERVING}
        with paddle.no_grad():
            try:
                region(*args, **kwargs)
            except Exception:  # noqa: BLE001 - inputs that we made up may be ones that the model refuses
                return
        if any(variant.state is State.SERVING and id(variant) not in before for variant in region.variants):
            _learn_gradients(region, args, kwargs)
            return


def _learn_gradients(region: Region, args: Any, kwargs: Any) -> None:
    """Has the region find out which results have gradients, for callers that didn't say ``no_grad``."""
    for wanted in (False, True):
        for tensor in flatten((args, kwargs))[0]:
            tensor.stop_gradient = not (wanted and paddle.is_floating_point(tensor))
        with paddle.enable_grad():
            region(*args, **kwargs)


class _NotMade(Exception):
    """The plan doesn't say enough to make this value."""


def _made(specification: Any, generator: np.random.Generator, tensors: dict[int, Any]) -> Any:
    """A value of the structure that a plan describes."""
    if "tensor" in specification:
        found = specification["tensor"]
        return tensors.setdefault(found["index"], _tensor(found, generator))
    if "constant" in specification:
        return specification["constant"]
    for name, kind in (("list", list), ("tuple", tuple)):
        if name in specification:
            return kind(_parts(specification[name], generator, tensors))
    if "dict" in specification:
        return {key: _made(part, generator, tensors) for key, part in specification["dict"].items()}
    raise _NotMade


def _parts(parts: Any, generator: np.random.Generator, tensors: dict[int, Any]) -> Iterator[Any]:
    return (_made(part, generator, tensors) for part in parts)


def _tensor(found: Any, generator: np.random.Generator) -> Any:
    shape = [MADE_SIZE if size == DYNAMIC else size for size in found["shape"]]
    if "float" in found["dtype"]:
        return paddle.to_tensor(generator.standard_normal(shape), dtype="float32").cast(found["dtype"])
    return paddle.zeros(shape, dtype=found["dtype"])
