"""What paddle2onnx gets wrong in the models that it makes, and doesn't say: mended, or refused."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from autohybrid.errors import ConversionError

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})

_LARGE_INTEGERS = frozenset({TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64})

_NEW_VALUES = frozenset(
    {"ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "NonZero", "Shape", "Size"}
)
"""Operations whose results aren't their operands any more, only tell something about them."""


def mended(content: bytes, ranks: Sequence[int]) -> bytes:
    """The model with outputs of the ``ranks`` that Paddle gives them.

    Raises:
        ConversionError: integers are computed as float32, which holds them exactly up to 2**24 only.
    """
    model = onnx.load_model_from_string(content)
    rounded = _rounded_integer(model.graph)
    if rounded:
        raise ConversionError(f"paddle2onnx computes integers as float32 ({rounded})")
    scalars = [output for output, rank in zip(model.graph.output, ranks, strict=True) if rank == 0]
    for output in scalars:
        _make_scalar(model.graph, output)
    return model.SerializeToString() if scalars else content


def _rounded_integer(graph: onnx.GraphProto) -> str:
    """The first conversion back to integers of what was made of integers among the inputs; empty when there is none."""
    whole = {each.name for each in graph.input if each.type.tensor_type.elem_type in _LARGE_INTEGERS}
    floating: set[str] = set()
    for node in graph.node:
        if node.op_type in _NEW_VALUES:
            continue
        target = next((each.i for each in node.attribute if each.name == "to"), 0) if node.op_type == "Cast" else 0
        if target in _LARGE_INTEGERS and floating.intersection(node.input):
            return str(node.output[0])
        if floating.intersection(node.input) or (target in _FLOATS and whole.intersection(node.input)):
            floating.update(node.output)
        elif whole.intersection(node.input):
            whole.update(node.output)
    return ""


def _make_scalar(graph: onnx.GraphProto, output: onnx.ValueInfoProto) -> None:
    """Takes the one dimension away that paddle2onnx gives to Tensors without any."""
    for index, node in enumerate(graph.node):
        if output.name not in node.output:
            continue
        inner, shape = f"{output.name}.of_one", f"{output.name}.shape"
        for other in graph.node:
            other.input[:] = [inner if name == output.name else name for name in other.input]
        node.output[:] = [inner if name == output.name else name for name in node.output]
        graph.initializer.append(helper.make_tensor(shape, TensorProto.INT64, [0], []))
        graph.node.insert(index + 1, helper.make_node("Reshape", [inner, shape], [output.name]))
        break
    del output.type.tensor_type.shape.dim[:]
