"""What tells one model's structure from another's: class names, tree, parameters' shapes and dtypes; no weights."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autohybrid.structure import dtype_name, qualified_name


def structure_lines(layer: Any) -> list[str]:
    """One line for each Layer below and including ``layer``: its path, class, own parameters and buffers."""
    return [own_line(path, sub) for path, sub in layer.named_sublayers(include_self=True, remove_duplicate=False)]


def own_line(path: str, layer: Any) -> str:
    """What one Layer is without those below it: its path, class, own parameters and buffers.

    A Tensor that a forward keeps on its Layer becomes a buffer that isn't persistable: such ones come with the first
    calls, and tell nothing of the structure.
    """
    lasting = [each for each in layer._buffers.items() if each[0] not in layer._non_persistable_buffer_names_set]
    own = [*layer._parameters.items(), *lasting]
    parts = [f"{name}:{dtype_name(t)}{list(t.shape)}" for name, t in own if t is not None]
    return " ".join([path or ".", qualified_name(type(layer)), *parts])


def fingerprint(lines: Sequence[str]) -> str:
    """A digest of :func:`structure_lines`."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def first_difference(recorded: Sequence[str], live: Sequence[str]) -> str:
    """The first line in which two structures differ, in words."""
    for one, other in zip(recorded, live, strict=False):
        if one != other:
            return f"the plan has '{one}', the model '{other}'"
    if len(recorded) > len(live):
        return f"the plan has '{recorded[len(live)]}', which the model lacks"
    return f"the model has '{live[len(recorded)]}', which the plan lacks"


def source_hash(layer: Any, function: str = "forward") -> str:
    """A digest of the source of a function of ``layer`` and of ``forward`` of every Layer below it, comments and layout
    left out.

    Empty where a source can't be read.
    """
    return source_digest([(type(layer), function), *((type(sub), "forward") for sub in layer.sublayers())])


def source_digest(functions: Iterable[tuple[Any, str]]) -> str:
    """A digest of the source of functions, each given by its class and name, in whatever order.

    Empty where a source can't be read.
    """
    digests = set()
    for kind, name in set(functions):
        text = normalized_source(getattr(kind, name))
        if not text:
            return ""
        digests.add(f"{qualified_name(kind)}\n{text}")
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:32]


_normalized: dict[Any, str] = {}


def normalized_source(function: Callable[..., Any]) -> str:
    """The function's source as its syntax tree prints it; empty where it can't be read."""
    function = inspect.unwrap(function)  # wrappers made in one place share their code, and nothing else
    code = getattr(function, "__code__", function)
    if code not in _normalized:
        try:
            _normalized[code] = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
        except (OSError, TypeError, SyntaxError):
            _normalized[code] = ""
    return _normalized[code]
