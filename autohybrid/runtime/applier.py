"""Applies a plan to the roots of a running script, each at its first call."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import paddle
from paddle.base.dygraph.base import in_to_static_mode

from autohybrid.errors import PlanError
from autohybrid.plan import Plan
from autohybrid.runtime import attach
from autohybrid.runtime.status import status


class Applier:
    """Between ``__enter__`` and ``__exit__``, every Layer called from outside any Layer gets the plan's regions.

    A root that the plan doesn't know stays as it is.

    Raises:
        PlanError, SetupError: the plan asks for an engine that can't be had here; told before anything is called.
    """

    def __init__(self, plan: Plan) -> None:
        attach.check_engines(plan)
        self._plan = plan
        self._seen: dict[int, Any] = {}
        self._unknown: dict[str, str] = {}
        self._local = threading.local()
        self._original: Callable[..., Any] | None = None
        self._patched: Callable[..., Any] | None = None

    def __enter__(self) -> Applier:
        self._original = original = paddle.nn.Layer.__call__
        local, seen = self._local, self._seen

        @functools.wraps(original)
        def applying(layer: Any, *inputs: Any, **kwargs: Any) -> Any:
            if getattr(local, "inside", False) or in_to_static_mode() or isinstance(layer, paddle.DataParallel):
                return original(layer, *inputs, **kwargs)
            if id(layer) not in seen:
                self._apply(layer)
            local.inside = True
            try:
                return original(layer, *inputs, **kwargs)
            finally:
                local.inside = False

        self._patched = applying
        paddle.nn.Layer.__call__ = applying
        return self

    def __exit__(self, *_: object) -> None:
        if paddle.nn.Layer.__call__ is self._patched:
            paddle.nn.Layer.__call__ = self._original

    def _apply(self, layer: Any) -> None:
        self._seen[id(layer)] = layer
        if attach.regions_of(layer):
            return
        try:
            attach.apply(layer, self._plan)
        except PlanError as error:
            self._unknown[type(layer).__qualname__] = str(error)

    def summary(self) -> str:
        """What ran hybrid, what fell back, and why."""
        lines = []
        for layer in self._seen.values():
            done = status(layer)
            if done.regions:
                lines.append(f"{type(layer).__qualname__}:\n{done}")
        if not lines:
            lines.append("autohybrid: no region of the plan was used.")
        if not any(attach.regions_of(layer) for layer in self._seen.values()):
            lines += [f"{name}: {why}" for name, why in self._unknown.items()]
        return "\n".join(lines)
