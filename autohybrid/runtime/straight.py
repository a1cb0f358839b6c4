"""Tracing a forward as it stands, for what Paddle's converter of source code refuses or gets wrong.

The forward runs as plain Python on the values of a static program. Where Python looks at one (``if x.sum() > 0``,
``int(x)``, a ``break``), it sees what eager saw in the same place for the same inputs, and the value becomes one more
output of the program: a guard. An answer counts only where the guards say that eager would have gone the same way.
Sizes are plain numbers here, so that such a program has no dynamic dimensions.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, TypeAlias

import paddle

from autohybrid.errors import ConversionError
from autohybrid.runtime.reach import reach
from autohybrid.runtime.stand_ins import items_standing_in, standing_in

Outcome: TypeAlias = "bool | int | float"

_LOOKS = {"__bool__": bool, "__int__": int, "__float__": float, "__index__": int, "item": None}
"""Methods through which Python sees a value, and what they give; ``item`` gives what the dtype says."""

_Value: Any = paddle.pir.Value
_Tensor: Any = paddle.Tensor


class OtherPath(Exception):
    """For these inputs eager goes another way than the program does."""


@contextmanager
def recorded() -> Iterator[list[Outcome]]:
    """Within it, what Python sees of eager Tensors, in its order."""
    outcomes: list[Outcome] = []
    depth = [0]

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def note(*args: Any, **kwargs: Any) -> Any:
            # One of them may be made of another.
            depth[0] += 1
            try:
                seen = original(*args, **kwargs)
            finally:
                depth[0] -= 1
            if not depth[0]:
                outcomes.append(seen)
            return seen

        return note

    with ExitStack() as stack:
        for name in _LOOKS:
            if hasattr(_Tensor, name):
                stack.enter_context(standing_in(_Tensor, name, noting(getattr(_Tensor, name))))
        yield outcomes


class Guards:
    """The values of one trace that Python looked at, and what it saw.

    Args:
        outcomes: what eager saw.
    """

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        self.values: list[Any] = []

    @contextmanager
    def replayed(self, layer: Any) -> Iterator[None]:
        """Around the trace of ``layer``: its code sees what eager saw, and takes the values for Tensors."""
        self.values = []
        with ExitStack() as stack:
            for name in _LOOKS:
                stack.enter_context(standing_in(_Value, name, self._look()))
            for name in dir(_Value):
                if _is_in_place(name, _Value):
                    stack.enter_context(standing_in(_Value, name, _in_place(getattr(_Value, name[:-1]))))
            for names, changes in _seen_by(layer):
                stack.enter_context(items_standing_in(names, changes))
            yield

    def _look(self) -> Callable[..., Outcome]:
        def look(value: Any, *indices: Any) -> Outcome:
            if len(self.values) >= len(self.outcomes):
                raise ConversionError("Python looks at a value here that it doesn't look at in eager mode")
            self.values.append(value[indices] if indices else value)
            return self.outcomes[len(self.values) - 1]

        return look


def check(outcomes: list[Outcome], guards: list[Any]) -> None:
    """Raises :class:`OtherPath` unless the guards of a run say what eager saw when it was traced."""
    for outcome, guard in zip(outcomes, guards, strict=True):
        if type(outcome)(guard.item()) != outcome:
            raise OtherPath


def _is_in_place(name: str, owner: Any) -> bool:
    return name.endswith("_") and not name.startswith("_") and callable(getattr(owner, name[:-1], None))


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """What Paddle leaves out of static graphs: the result is written into the first argument."""

    @functools.wraps(function)
    def written(value: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(value, *args, **kwargs)
        paddle.assign(result, output=value)
        return value

    return written


class _AnyTensor(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, (_Tensor, _Value))

    def __getattr__(cls, name: str) -> Any:
        return getattr(_Tensor, name)


class _TensorOrValue(metaclass=_AnyTensor):
    """Stands for ``paddle.Tensor`` in the user's code while it is traced."""


class _Seen(ModuleType):
    """A module of Paddle's as the user's code is to see it while it is traced."""

    def __init__(self, module: ModuleType, changes: dict[str, Any]) -> None:
        super().__init__(module.__name__)
        self.__dict__["_module"] = module
        self.__dict__.update(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)


def _seen_by(layer: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The global names of the user's modules that are to be others while tracing, and what they are to be."""
    functional = _Seen(paddle.nn.functional, _in_place_functions(paddle.nn.functional))
    network = _Seen(paddle.nn, {"functional": functional})
    stand_ins: dict[int, Any] = {
        id(paddle): _Seen(
            paddle,
            {
                **_in_place_functions(paddle),
                "Tensor": _TensorOrValue,
                "in_dynamic_mode": _yes,
                "nn": network,
            },
        ),
        id(paddle.nn): network,
        id(paddle.nn.functional): functional,
        id(_Tensor): _TensorOrValue,
        id(paddle.in_dynamic_mode): _yes,
    }
    for names in _global_names(layer):
        yield names, {name: stand_ins[id(value)] for name, value in names.items() if id(value) in stand_ins}


def _yes() -> bool:
    return True


def _in_place_functions(module: ModuleType) -> dict[str, Any]:
    return {name: _in_place(getattr(module, name[:-1])) for name in dir(module) if _is_in_place(name, module)}


def _global_names(layer: Any) -> Iterator[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for sub in reach(layer).layers:
        for kind in type(sub).__mro__:
            if kind.__module__.split(".")[0] in ("paddle", "builtins", "autohybrid"):
                continue
            module = sys.modules.get(kind.__module__)
            for names in (vars(module) if module else {}, getattr(vars(kind).get("forward"), "__globals__", {})):
                found[id(names)] = names
    yield from found.values()
