"""A conversion tried in a forked child first, where a crash or a hang of Paddle's costs nothing but time."""

from __future__ import annotations

import ast
import faulthandler
import functools
import inspect
import textwrap
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from autohybrid.device import available_memory, on_gpu
from autohybrid.isolation import Died, Finished, Forked, Raised, Stopped, obstacle
from autohybrid.runtime.equality import difference
from autohybrid.runtime.program import Answer
from autohybrid.runtime.reach import reach
from autohybrid.runtime.signature import Shapes
from autohybrid.runtime.variant import State, Variant
from autohybrid.structure import Tensor, rebuild

TRIVIAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a rehearsal ended. ``code`` is empty when the conversion is right; else that of a refusal, with why;
    ``shared`` whether it was made from a graph that was traced with other weights."""

    code: str = ""
    reason: str = ""
    shared: bool = False


def possible() -> bool:
    """Whether this process can be forked now."""
    return not on_gpu() and not obstacle() and forks_work()


def rehearse(
    variant: Variant, answer: Answer, inputs: Sequence[Tensor], expected: Sequence[Tensor], seconds: float
) -> Verdict:
    """Converts and proves ``variant`` in a child; where it has dynamic dimensions, at other sizes too.

    Args:
        variant: not converted yet; it stays so here.
        answer: the structure of eager's answer.
        inputs: a call's Tensors.
        expected: what eager computed from them.
        seconds: how long the child may take.
    """

    def work() -> dict[str, Any]:
        # A crash here is expected, and nobody's business.
        faulthandler.disable()
        try:
            variant.convert(answer, inputs)
            with paddle.no_grad():
                variant.prove(inputs, expected)
                if variant.state is not State.REFUSED:
                    _prove_other_sizes(variant, inputs)
        except Exception as error:  # noqa: BLE001 - what a conversion raises is its result
            code = "failed_running" if getattr(error, "exported", False) else "failed"
            return {"code": code, "reason": one_line(error), "shared": variant.shares_graph}
        return {"code": variant.refusal, "reason": variant.reason, "shared": variant.shares_graph}

    result = Forked().run(work, seconds=seconds, memory=available_memory() // 2)
    if isinstance(result, Finished):
        return Verdict(**result.value)
    if isinstance(result, Raised):
        return Verdict(code="failed", reason=result.error.strip().splitlines()[-1])
    if isinstance(result, Stopped):
        return Verdict(code="endless", reason=f"converting it was stopped after {result.limit}")
    assert isinstance(result, Died)
    return Verdict(code="crashed", reason=f"Paddle dies while converting it ({result.how})")


MOST_REHEARSED = 256

_rehearsed: OrderedDict[tuple[str, str, str], None] = OrderedDict()
"""Graphs, engines and options that were rehearsed, and then converted here; the latest."""


def forget_all() -> None:
    """Has everything rehearsed again."""
    _rehearsed.clear()


def spared(variant: Variant, answer: Answer, inputs: Sequence[Tensor]) -> bool:
    """Whether another conversion's rehearsal stands for this one's: one from the same graph, by the same engine with
    the same options, which then went well here.

    What kills or hangs a conversion is in the graph, and the weights aren't: blocks alike, and changed weights, need
    one rehearsal. Answers are compared with eager's in any case.
    """
    return _likeness(variant, answer, inputs) in _rehearsed


def went_well(variant: Variant, answer: Answer, inputs: Sequence[Tensor]) -> None:
    """Takes note that a conversion that was rehearsed, or spared it, was right in this process too."""
    like = _likeness(variant, answer, inputs)
    if like is None:
        return
    _rehearsed[like] = None
    _rehearsed.move_to_end(like)
    while len(_rehearsed) > MOST_REHEARSED:
        _rehearsed.popitem(last=False)


def _likeness(variant: Variant, answer: Answer, inputs: Sequence[Tensor]) -> tuple[str, str, str] | None:
    # Where dimensions vary, a rehearsal also compares answers for other sizes, and those have the weights in them.
    if any(-1 in shape for shape in variant.shapes):
        return None
    graph = variant.known_graph(answer, inputs)
    return (graph, variant.recipe.engine.name, repr(sorted(variant.options.items()))) if graph else None


@functools.cache
def forks_work() -> bool:
    """Whether a trivial graph can be made in a child of this process; tried once."""

    def work() -> bool:
        # Where warnings are errors, Paddle's own ones would say that it can't be done.
        warnings.simplefilter("ignore")
        layer = paddle.nn.Linear(2, 2)
        converted = paddle.jit.to_static(layer, input_spec=[paddle.static.InputSpec([2, 2])], full_graph=True)
        return list(converted(paddle.ones([2, 2])).shape) == [2, 2]

    result = Forked().run(work, seconds=TRIVIAL_SECONDS, memory=available_memory() // 2)
    return isinstance(result, Finished) and bool(result.value)


def one_line(error: BaseException) -> str:
    """An error in one line: of Paddle's long ones, the line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if "Error:" in line or "Error]" in line] or lines[-1:]
    return f"{type(error).__name__}: {useful[-1] if useful else ''}"[:300]


_OTHER_SIZES: tuple[Callable[[int], int], ...] = (
    lambda size: 1,
    lambda size: 2,
    lambda size: size + 1,
    lambda size: 2 * size + 1,
    lambda size: size + 13,
)


def _prove_other_sizes(variant: Variant, inputs: Sequence[Tensor]) -> None:
    """Compares with eager where the dynamic dimensions have sizes that no call had yet; refuses what differs.

    A size that Python code looked at while tracing is the unknown ``-1``: it goes a way that no size goes.
    """
    if not any(-1 in shape for shape in variant.shapes):
        return
    for other in _OTHER_SIZES:
        made = _resized(inputs, variant.shapes, other)
        args, kwargs = rebuild(variant.arguments, made)
        try:
            answer, expected = Answer.of(variant.recipe.function(*args, **kwargs), made)
        except Exception:  # noqa: BLE001 - a size that eager refuses needs no graph
            continue
        if not all(tensor.size for tensor in expected):
            continue
        assert variant.answer is not None, "a converted variant knows its answer"
        if answer.structure != variant.answer.structure:
            variant.refuse("structure", "the answer's structure depends on a size")
            return
        found = difference(expected, variant.run(made), variant.recipe.tolerance)
        if not found.equal and not (found.out_of_tolerance and found.error <= found.limit * 10.0):
            sizes = [list(tensor.shape) for tensor in made]
            variant.refuse("wrong", f"answers differ for shapes {sizes}: {found.problem}")
            return


def _resized(inputs: Sequence[Tensor], shapes: Shapes, other: Callable[[int], int]) -> list[Tensor]:
    made = []
    for tensor, shape in zip(inputs, shapes, strict=True):
        resized = tensor
        for axis, want in enumerate(shape):
            if want == -1:
                size = tensor.shape[axis]
                chosen = paddle.arange(other(size)) % size
                resized = paddle.index_select(resized, chosen, axis=axis)
        made.append(resized)
    return made


def loops_over_a_size(layer: Any) -> bool:
    """Whether code of the Layer's has a comprehension over a range: with a dynamic size, Paddle never ends on it."""
    return any(_has_comprehension_over_range(function) for kind in _kinds(layer) for function in _functions(kind))


def _kinds(layer: Any) -> set[type]:
    kinds = {kind for sub in reach(layer).layers for kind in type(sub).__mro__}
    return {kind for kind in kinds if kind.__module__.split(".")[0] not in ("paddle", "builtins")}


def _functions(kind: type) -> Iterator[Callable[..., Any]]:
    return (value for value in vars(kind).values() if inspect.isfunction(value))


@functools.lru_cache(maxsize=4096)
def _has_comprehension_over_range(function: Callable[..., Any]) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    iterated = [node.iter for node in ast.walk(tree) if isinstance(node, ast.comprehension)]
    return any(
        isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "range" for each in iterated
    )
