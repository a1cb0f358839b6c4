"""Values described by what they hold, so that two processes can tell whether theirs are the same.

Functions are described by their source, by what they close over, and by the functions and values of other modules that
they name; objects by their class and their attributes.
"""

from __future__ import annotations

import ctypes
import dis
import enum
import functools
import hashlib
import json
import logging
import math
import struct
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import paddle

from autohybrid.runtime.fingerprint import normalized_source
from autohybrid.structure import dtype_name, qualified_name

DEEPEST = 64
"""Levels of nesting that are followed, a function that a function names being one."""

_PLAIN = (bool, int, float, complex, str, type(None), type(Ellipsis), range, slice)


_PLAIN_KINDS = frozenset(_PLAIN)
_BARE = frozenset({dict, list, tuple, set, frozenset})
"""Containers that hold their parts and nothing else: no attributes."""


class Unknowable(Exception):
    """A value can't be told by its content."""


def digest_of(description: Any) -> str:
    """A digest of JSON values."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]


def tensor_digest(tensor: Any) -> str:
    """A digest of a Tensor's dtype, shape and bytes."""
    if not tensor._is_initialized():
        return f"{dtype_name(tensor)}{list(tensor.shape)} nothing"
    return f"{dtype_name(tensor)}{list(tensor.shape)} {hashlib.sha256(_bytes_of(tensor)).hexdigest()}"


def _bytes_of(tensor: Any) -> Any:
    """A Tensor's bytes in the order of its elements: where they lie, if they lie so."""
    elements = math.prod(tensor.shape)
    if not elements:
        return b""
    if tensor.place.is_cpu_place() and tensor.is_dense() and tensor.is_contiguous():
        return (ctypes.c_char * (elements * tensor.element_size())).from_address(tensor.data_ptr())
    return np.ascontiguousarray(tensor.detach().numpy()).data.cast("B")


class Contents:
    """Describes values that belong to ``layer``, as JSON values; a value that is met again is named by its number."""

    def __init__(self, layer: Any) -> None:
        self._layers = {id(sub): path for path, sub in layer.named_sublayers(include_self=True)}
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []
        self._depth = 0

    def of(self, value: Any) -> Any:
        """The description of ``value``.

        Raises:
            Unknowable: it holds something that has no content to describe, an open file for example.
        """
        kind = type(value)
        if kind in _PLAIN_KINDS or isinstance(value, _PLAIN):
            return [qualified_name(kind), repr(value)]
        if id(value) in self._layers:
            return ["layer", self._layers[id(value)]]
        if isinstance(value, type):
            return self.of_class(value)
        if id(value) in self._numbers:
            return ["again", self._numbers[id(value)]]
        self._numbers[id(value)] = len(self._numbers)
        # Kept alive: another object at the same address would be taken for it.
        self._kept.append(value)
        self._depth += 1
        try:
            if self._depth > DEEPEST:
                raise Unknowable(f"nested too deeply at {type(value).__name__}")
            holds_more = kind not in _BARE and isinstance(value, (Mapping, list, tuple, set))
            held = vars(value) if holds_more and hasattr(value, "__dict__") else {}
            described = self._described(value)
            return [described, self.of(dict(held))] if held else described
        finally:
            self._depth -= 1

    def _described(self, value: Any) -> Any:
        kind = type(value)
        if kind in _BARE:
            return self._of_container(value)
        if isinstance(value, paddle.Tensor):
            return ["tensor", tensor_digest(value)]
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return ["array", str(value.dtype), list(value.shape), digest]
        if isinstance(value, (bytes, bytearray)):
            return ["bytes", hashlib.sha256(value).hexdigest()]
        if isinstance(value, (np.generic, np.dtype, paddle.dtype, enum.Enum)):
            return [qualified_name(kind), str(value)]
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._of_container(value)
        return self._of_code(value)

    def _of_container(self, value: Any) -> Any:
        name = qualified_name(type(value))
        if isinstance(value, (list, tuple)):
            return [name, [self.of(part) for part in value]]
        if isinstance(value, (set, frozenset)):
            return [name, sorted(json.dumps(self.of(part)) for part in value)]
        return [name, [[self.of(key), self.of(part)] for key, part in value.items()]]

    def _of_code(self, value: Any) -> Any:
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        if isinstance(value, types.MethodType):
            return ["method", self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, functools.partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if isinstance(value, (staticmethod, classmethod)):
            return [type(value).__name__, self.of(value.__func__)]
        if isinstance(value, property):
            return ["property", *[self.of(each) for each in (value.fget, value.fset) if each is not None]]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, logging.Logger):
            return ["logger", value.name]
        if isinstance(value, (types.BuiltinFunctionType, np.ufunc)) or hasattr(value, "__wrapped__"):
            wrapped = getattr(value, "__wrapped__", None)
            return ["builtin", getattr(value, "__name__", "")] if wrapped is None else ["wraps", self.of(wrapped)]
        return self._of_object(value)

    def _of_object(self, value: Any) -> Any:
        kind: Any = type(value)
        slots = _slots(kind)
        if _has_hidden_state(kind, len(slots)):
            raise Unknowable(f"a {qualified_name(kind)}")
        held = dict(getattr(value, "__dict__", {}))
        held |= {name: getattr(value, name) for name in slots if hasattr(value, name)}
        held = {name: part for name, part in held.items() if name not in _UNNAMED}
        return ["object", self.of_class(kind), [[name, self.of(part)] for name, part in sorted(held.items())]]

    def of_class(self, kind: type) -> Any:
        """The class's name, and the functions and values in it and its bases, as far as they aren't a library's."""
        return [qualified_name(kind), [self._own_of(base) for base in kind.__mro__ if not is_library(base.__module__)]]

    def _own_of(self, base: type) -> Any:
        if id(base) in self._numbers:
            return ["again", self._numbers[id(base)]]
        self._numbers[id(base)] = len(self._numbers)
        self._kept.append(base)
        members = []
        for name, member in sorted(vars(base).items()):
            if name.startswith("__") and not isinstance(member, types.FunctionType):
                continue
            try:
                members.append([name, self.of(member)])
            except Unknowable:
                # A descriptor, a slot, a compiled member: the class's name and its source stand for it.
                members.append([name, qualified_name(type(member))])
        return [qualified_name(base), members]

    def _of_function(self, function: types.FunctionType) -> Any:
        name = f"{function.__module__}.{function.__qualname__}"
        if is_library(function.__module__ or ""):
            return ["function", name]
        source = normalized_source(function)
        if not source:
            raise Unknowable(f"the source of {name} can't be read")
        closed = [self.of(cell.cell_contents) for cell in function.__closure__ or () if is_filled(cell)]
        defaults = [self.of(function.__defaults__), self.of(function.__kwdefaults__)]
        named = [[what, self.of(value)] for what, value in named_by(function)]
        return ["function", function.__qualname__, source, closed, defaults, named]


@functools.lru_cache(maxsize=1024)
def _slots(kind: Any) -> tuple[str, ...]:
    return tuple([name for base in kind.__mro__ for name in _slots_of(base)])


def _slots_of(base: type) -> list[str]:
    slots = vars(base).get("__slots__", ())
    return [slots] if isinstance(slots, str) else list(slots)


def _has_hidden_state(kind: type, slots: int) -> bool:
    """Whether instances hold more than attributes and slots, in a part that only compiled code sees."""
    # An address each for __dict__ and for __weakref__, where they aren't kept in front of the object.
    return kind.__basicsize__ > object.__basicsize__ + struct.calcsize("P") * (2 + slots)


_UNNAMED = frozenset({"_full_name", "_helper"})
"""Attributes of Paddle's that number the objects of a process."""


def is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def is_library(module: str) -> bool:
    """Whether a module belongs to Python, Paddle, NumPy or to us: then its version stands for its source."""
    root = module.partition(".")[0]
    return root in ("paddle", "numpy", "autohybrid") or (root != "__main__" and root in sys.stdlib_module_names)


def named_by(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """The module-level names that a function reads, with their values; through modules that aren't a library's.

    Of those only the command line is told, which is each process's own.
    """
    found: dict[str, Any] = {}
    for code in _codes(function.__code__):
        current: Any = None
        name = ""
        for instruction in dis.get_instructions(code):
            step = str(instruction.argval)
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                name, current = step, function.__globals__.get(step, function)
            elif instruction.opname == "IMPORT_NAME":
                name, current = step, sys.modules.get(step, function)
            elif (
                instruction.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM")
                and isinstance(current, types.ModuleType)
                and (not is_library(current.__name__) or (current is sys and step == "argv"))
            ):
                name, current = f"{name}.{step}", getattr(current, step, function)
            elif instruction.opname not in ("PRECALL", "CACHE", "EXTENDED_ARG", "PUSH_NULL"):
                current = function
            # A name of the builtins, or one that isn't there yet.
            if current is not None and current is not function:
                found[name] = current
    yield from sorted(found.items())


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)
