"""Reads the source of forwards for what usually gets in the way of a static graph. A hint only: trials decide."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from autohybrid.plan import Place
from autohybrid.roots import FORWARD


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something in a forward, by its code, where it stands, and what would help."""

    code: str
    place: Place
    hint: str


_HINTS = {
    "numpy": "move the NumPy work out of forward, or into a sub-Layer's caller",
    "value": "reading a Tensor's value in Python ties the graph to one input; compute with Tensors instead",
    "mode": "this branches on dynamic mode and takes the other branch when converted",
    "state": "forward writes to self; hand the value on as an argument and a result instead",
    "random": "random numbers are drawn anew by eager, but not by a static graph",
    "try": "try/except isn't followed by Paddle's converter",
    "generator": "generators aren't followed by Paddle's converter",
}

_READS_VALUE = {"item", "tolist"}
_RANDOM = {"rand", "randn", "randint", "normal", "uniform", "bernoulli", "multinomial", "gumbel_softmax", "poisson"}


@lru_cache(maxsize=4096)
def findings(function: Callable[..., Any]) -> tuple[Finding, ...]:
    """What is found in one function's own source; nothing where it can't be read."""
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return ()
    code = getattr(function, "__code__", None)
    file = getattr(code, "co_filename", "")
    name = getattr(function, "__qualname__", "")
    found: dict[tuple[str, int], Finding] = {}
    for node in ast.walk(tree):
        kind = _kind(node)
        if kind:
            line = first + getattr(node, "lineno", 1) - 1
            found.setdefault(
                (kind, line),
                Finding(code=kind, place=Place(file=file, line=line, function=name), hint=_HINTS[kind]),
            )
    return tuple(found.values())


def _kind(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        return _kind_of_call(node)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id in ("np", "numpy"):
            return "numpy"
        if node.value.id == "self" and isinstance(node.ctx, ast.Store):
            return "state"
    if isinstance(node, ast.Try):
        return "try"
    return "generator" if isinstance(node, (ast.Yield, ast.YieldFrom)) else ""


def _kind_of_call(node: ast.Call) -> str:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "numpy":
        return "numpy"
    if name in _READS_VALUE:
        return "value"
    if name in ("in_dynamic_mode", "in_dygraph_mode"):
        return "mode"
    return "random" if name in _RANDOM else ""


def place_of(layer: Any, function: str = FORWARD) -> Place | None:
    """Where a function of the Layer stands, None where that can't be known."""
    found = inspect.unwrap(getattr(type(layer), function))
    code = getattr(found, "__code__", None)
    if code is None:
        return None
    return Place(file=code.co_filename, line=code.co_firstlineno, function=found.__qualname__)
