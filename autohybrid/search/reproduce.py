"""Writes a script that shows one failed trial alone, with Paddle only: for the user, and for a report to Paddle.

It gets the Layer by running the user's script up to the root's first call, and its inputs from shapes and dtypes: no
value of the user's leaves their machine.
"""

from __future__ import annotations

from typing import Any

from autohybrid.observe.profile import RootProfile
from autohybrid.plan import Script
from autohybrid.roots import FORWARD
from autohybrid.search.findings import Attempt

_TEMPLATE = '''"""{path} ({class_name}) with paddle.incubate.jit.inference: {reason}.

{detail}

Run it from the directory in which the script was profiled; it uses random inputs of the recorded shapes.
"""

import runpy
import sys
import tempfile

import paddle
from paddle.jit.dy2static import Call

SCRIPT, ARGUMENTS, IS_MODULE = {script!r}, {arguments!r}, {is_module!r}
ROOT_CLASS, PATH, FUNCTION = {root_class!r}, {path_value!r}, {function!r}
SHAPES = {shapes!r}  # [dtype, first shape, another shape where a dimension varied]
METHODS = {methods!r}  # of the root, which the script calls
OPTIONS = {options!r}


class RootFound(BaseException):
    pass


def find_root():
    """Runs the script until a Layer of the root's class is called, or its method."""
    original = paddle.nn.Layer.__call__
    original_init = paddle.nn.Layer.__init__

    def watching(layer, *args, **kwargs):
        if type(layer).__qualname__ == ROOT_CLASS:
            for name in METHODS:
                layer.__dict__.pop(name, None)
            raise RootFound(layer)
        return original(layer, *args, **kwargs)

    def initialized(layer, *args, **kwargs):
        original_init(layer, *args, **kwargs)
        if type(layer).__qualname__ == ROOT_CLASS:
            for name in METHODS:
                layer.__dict__[name] = lambda *args, **kwargs: watching(layer, *args, **kwargs)

    paddle.nn.Layer.__call__ = watching
    paddle.nn.Layer.__init__ = initialized
    sys.argv = [SCRIPT, *ARGUMENTS]
    try:
        if IS_MODULE:
            runpy.run_module(SCRIPT, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(SCRIPT, run_name="__main__")
    except RootFound as found:
        return found.args[0]
    finally:
        paddle.nn.Layer.__call__ = original
        paddle.nn.Layer.__init__ = original_init
    raise SystemExit(f"{{SCRIPT}} calls no Layer of class {{ROOT_CLASS}}")


def inputs(which):
    made = []
    for dtype, *shapes in SHAPES:
        shape = shapes[min(which, len(shapes) - 1)]
        if dtype.startswith(("float", "bfloat")):
            made.append(paddle.randn(shape).cast(dtype))
        else:
            made.append(paddle.ones(shape).cast(dtype))
    return made


class Flat(paddle.nn.Layer):
    """The Layer behind one list of Tensors, which is what the wrapper takes."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, tensors):
        return self.called(tensors)

    @paddle.jit.not_to_static
    def called(self, tensors):
        args, kwargs = {call}
        return leaves(Call(getattr(self.layer, FUNCTION))(*args, **kwargs))


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in leaves(part)]
    if hasattr(value, "__dataclass_fields__"):
        return [leaf for name in value.__dataclass_fields__ for leaf in leaves(getattr(value, name))]
    return [value] if hasattr(value, "stop_gradient") else []


def reproduce(root):
    layer = root
    for name in PATH.split(".") if PATH else []:
        layer = layer._sub_layers[name]
    flat = Flat(layer)
    flat.eval()
    first, second = inputs(0), inputs(1)
    with paddle.no_grad():
        expected = [flat(first), flat(second)]
        flat = paddle.incubate.jit.inference(flat, save_model_dir=tempfile.mkdtemp(), **OPTIONS)
        for eager, given in zip(expected, [first, second]):
            got = flat(given)
            for one, other in zip(eager, got if isinstance(got, list) else [got]):
                error = float((one - other).abs().max())
                print(f"largest difference {{error:.3g}} on a scale of {{float(one.abs().max()):.3g}}")


if __name__ == "__main__":
    reproduce(find_root())
'''


def reproduction(attempt: Attempt, root: RootProfile, script: Script | None, reason: str) -> str:
    """The text of the script. Without a script (a notebook) its last line has to be changed to use the live model."""
    candidate = attempt.candidate
    outcome = attempt.outcome
    tensors: dict[int, list[Any]] = {}
    call = _expression(attempt.inputs, tensors) if attempt.inputs is not None else "(tensors, {})"
    command = script.command if script is not None else ["<the script>"]
    is_module = command[0] == "-m"
    target, *arguments = command[1:] if is_module else command
    passes = attempt.options.get("deleted_passes")
    return _TEMPLATE.format(
        path=candidate.name,
        function=candidate.function,
        path_value=candidate.path,
        class_name=candidate.class_name,
        root_class=root.class_name,
        reason=reason.replace("_", " "),
        detail=str(getattr(outcome, "detail", "")).replace("\\", "/").replace('"""', "'''"),
        script=target,
        arguments=arguments,
        is_module=is_module,
        shapes=[tensors[index] for index in sorted(tensors)],
        options={"delete_pass_lists": passes} if passes else {},
        methods=sorted({kept.function for kept in root.kept} - {FORWARD}),
        call=call,
    )


def _expression(part: Any, tensors: dict[int, list[Any]]) -> str:
    """Python source that builds one part of the arguments from ``tensors``."""
    ((kind, value), *more) = part.items()
    if kind == "tensor":
        tensors[value["index"]] = [value["dtype"], *_two_shapes(value["shape"])]
        return f"tensors[{value['index']}]"
    if kind == "constant":
        return repr(value)
    if kind == "list":
        return "[" + ", ".join(_expression(each, tensors) for each in value) + "]"
    if kind == "tuple":
        return "(" + "".join(_expression(each, tensors) + ", " for each in value) + ")"
    if kind == "dict" or (kind == "object" and more):
        return "{" + ", ".join(f"{key!r}: {_expression(each, tensors)}" for key, each in value.items()) + "}"
    return "None"  # an object that a plan doesn't hold


def _two_shapes(shape: list[Any]) -> list[list[int]]:
    if "dyn" not in shape:
        return [shape]
    return [[size if size != "dyn" else made for size in shape] for made in (4, 6)]
