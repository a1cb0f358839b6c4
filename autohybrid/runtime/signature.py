"""The argument structures that a plan admits, as JSON values with ``"dyn"`` dimensions, matched against live calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autohybrid.structure import Structure, Tensor, describe, dtype_name

DYNAMIC = "dyn"

Shapes = tuple[tuple[int, ...], ...]
"""One shape for each Tensor of a call, -1 where any size fits."""


def recorded(structure: Structure, tensors: Sequence[Tensor], shapes: Shapes) -> Any:
    """A call's structure for the plan; ``shapes`` with -1 where a dimension varied."""

    def of_tensor(index: int) -> dict[str, Any]:
        shape = [DYNAMIC if size == -1 else size for size in shapes[index]]
        return {"index": index, "dtype": dtype_name(tensors[index]), "shape": shape}

    return describe(structure, of_tensor)


def admitted_shapes(specification: Any, structure: Structure, tensors: Sequence[Tensor]) -> Shapes | None:
    """The shapes to convert for when a live call is the recorded one, None when it isn't.

    Dtypes, ranks, fixed dimensions, constants and nesting must be equal.
    """
    plain = recorded(structure, tensors, tuple([tuple(tensor.shape) for tensor in tensors]))
    shapes: dict[int, tuple[int, ...]] = {}
    if not _matches(specification, plain, shapes):
        return None
    return tuple([shapes[index] for index in range(len(tensors))])


def _matches(specification: Any, live: Any, shapes: dict[int, tuple[int, ...]]) -> bool:
    if isinstance(specification, dict) and isinstance(live, dict):
        if specification.keys() != live.keys():
            return False
        if set(specification) == {"index", "dtype", "shape"}:
            return _tensor_matches(specification, live, shapes)
        return all(_matches(specification[key], live[key], shapes) for key in specification)
    if isinstance(specification, list) and isinstance(live, list):
        return len(specification) == len(live) and all(
            _matches(one, other, shapes) for one, other in zip(specification, live, strict=True)
        )
    return type(specification) is type(live) and bool(specification == live)


def _tensor_matches(specification: dict[str, Any], live: dict[str, Any], shapes: dict[int, tuple[int, ...]]) -> bool:
    if specification["index"] != live["index"] or specification["dtype"] != live["dtype"]:
        return False
    wanted, sizes = specification["shape"], live["shape"]
    if len(wanted) != len(sizes):
        return False
    if any(want not in (DYNAMIC, size) for want, size in zip(wanted, sizes, strict=True)):
        return False
    shapes[live["index"]] = tuple([-1 if want == DYNAMIC else want for want in wanted])
    return True


def fits(shapes: Shapes, tensors: Sequence[Tensor]) -> bool:
    """Whether Tensors of the right ranks have the sizes of ``shapes``; an empty Tensor never fits."""
    for shape, tensor in zip(shapes, tensors, strict=True):
        if shape == tuple(tensor.shape) and 0 not in shape:
            continue
        for want, size in zip(shape, tensor.shape, strict=True):
            if size == 0 or (want != size and want != -1):
                return False
    return True


def merged(shapes: Shapes, tensors: Sequence[Tensor]) -> Shapes:
    """``shapes`` with -1 in the dimensions where ``tensors`` have other sizes."""
    return tuple(
        [
            tuple([want if want == size else -1 for want, size in zip(shape, tensor.shape, strict=True)])
            for shape, tensor in zip(shapes, tensors, strict=True)
        ]
    )
