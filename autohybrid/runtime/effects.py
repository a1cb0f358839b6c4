"""Sees what a forward does outside its Layer: what it prints, logs or writes, and what it changes in its module.

A converted forward does none of that any more. Looked at are the globals, closures, defaults and class attributes that
the code of the Layers names, and of the functions that it calls, as far as they aren't a library's.
"""

from __future__ import annotations

import builtins
import functools
import io
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType
from typing import Any

from autohybrid.runtime.content import is_filled, is_library, named_by
from autohybrid.runtime.reach import reach
from autohybrid.runtime.stand_ins import standing_in
from autohybrid.structure import content

MOST_FUNCTIONS = 1024
"""Functions whose names are followed; what only further ones reach isn't seen."""


class Effects:
    """Watches one eager call of a Layer's function.

    Attributes:
        seen: what the call did besides answering, in words; empty when it did nothing.
        asked: whether the call looked at an environment variable or a file, which may be others in another process.
    """

    def __init__(self, layer: Any) -> None:
        self.seen = ""
        self.asked = False
        self._layer = layer
        self._thread = threading.get_ident()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around the call."""
        before = dict(_surroundings(self._layer))
        with ExitStack() as stack:
            for owner, name, words in (
                (builtins, "print", "prints"),
                (builtins, "open", "writes a file"),
                (io, "open", "writes a file"),
                (logging.Logger, "callHandlers", "logs"),
            ):
                stack.enter_context(standing_in(owner, name, self._noting(getattr(owner, name), words)))
            kind = type(os.environ)
            stack.enter_context(standing_in(kind, "__getitem__", self._noting_what_asks(kind.__getitem__)))
            yield
        after = dict(_surroundings(self._layer))
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if changed and not self.seen:
            self.seen = f"changes {', '.join(changed[:3])}"

    def _noting(self, original: Callable[..., Any], words: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def noting(*args: Any, **kwargs: Any) -> Any:
            mine = threading.get_ident() == self._thread
            if mine and _only_reads(original, args, kwargs):
                self.asked = True
            elif mine and not _is_of_the_machinery(args):
                self.seen = words
            return original(*args, **kwargs)

        return noting

    def _noting_what_asks(self, original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def noting(environment: Any, name: Any) -> Any:
            if threading.get_ident() == self._thread:
                self.asked = True
            return original(environment, name)

        return noting


_reading = open


def _only_reads(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    mode = kwargs.get("mode", args[1] if len(args) > 1 else "r")
    return original is _reading and isinstance(mode, str) and not set(mode) & set("wax+")


def _is_of_the_machinery(args: tuple[Any, ...]) -> bool:
    """Whether it is a record of Paddle's, or of a region inside."""
    own = ("paddle", "autohybrid")
    return bool(args) and isinstance(args[0], logging.Logger) and args[0].name.partition(".")[0] in own


def _surroundings(layer: Any) -> Iterator[tuple[str, Any]]:
    """What the code of a Layer and of those below could change outside them: its name, and what it holds."""
    waiting: deque[Any] = deque()
    for sub in reach(layer).layers:
        waiting.extend(kind for kind in type(sub).__mro__ if not is_library(kind.__module__))
    seen: set[int] = set()
    while waiting and len(seen) < MOST_FUNCTIONS:
        each = waiting.popleft()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, type):
            found = [(f"{each.__qualname__}.{name}", value) for name, value in vars(each).items() if name[:2] != "__"]
        else:
            found = list(_held_by(each))
        for name, value in found:
            code = _code_of(value)
            if code is not None:
                waiting.append(code)
            else:
                yield name, (len(value) if isinstance(value, Sized) else None, content(value))


def _held_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    yield from named_by(function)
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        if name != "__class__" and is_filled(cell):
            yield name, cell.cell_contents
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield f"a default of {function.__qualname__}", value


def _code_of(value: Any) -> Any:
    """The function or class that a value is, or stands for, when it is the user's; None for other values."""
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        value = value.__func__
    is_code = isinstance(value, (FunctionType, type)) and not is_library(getattr(value, "__module__", None) or "")
    return value if is_code else None
