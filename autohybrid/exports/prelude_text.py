"""``prelude.py`` as text: what of it a piece of exported code needs."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

_OUR_CHECKS = re.compile(r"  # type: ignore\[[^\]]*\]")
_FOR_CHAINS = ("part_of", "in_place_of")
"""They stand at the end."""


@cache
def _source() -> str:
    return _OUR_CHECKS.sub("", Path(__file__).with_name("prelude.py").read_text(encoding="utf-8"))


def names() -> set[str]:
    """The names that it binds."""
    return {name for node in ast.parse(_source()).body for name in _bound(node)}


def text(*, chains: bool) -> str:
    """From the first import to the last function.

    Args:
        chains: whether it is for code with chains; without them two functions less are needed.
    """
    lines = _source().splitlines()
    _, first, *others = ast.parse(_source()).body  # the docstring speaks of this file
    for_chains = [node for node in others if isinstance(node, ast.FunctionDef) and node.name in _FOR_CHAINS]
    end = len(lines) if chains else for_chains[0].lineno - 1
    made = "\n".join(lines[first.lineno - 1 : end]).strip()
    if not chains:
        made = made.replace("import FunctionType, MethodType", "import MethodType")
    return made


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in node.names}
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
