"""Applies a plan to the roots of a running script, each at its first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autohybrid.errors import PlanError
from autohybrid.plan import Plan
from autohybrid.report.table import WIDTH
from autohybrid.roots import FORWARD, RootCalls
from autohybrid.runtime import attach, released, threads
from autohybrid.runtime.status import status
from autohybrid.runtime.summary import summary


class Applier:
    """Between ``__enter__`` and ``__exit__``, every Layer called from outside any Layer gets the plan's regions, also
    when it is a method that is called.

    A root that the plan doesn't know stays as it is.

    Args:
        after_call: is called after each call of a root.
        release_weights: as of :func:`autohybrid.apply`.

    Raises:
        PlanError, SetupError: the plan asks for an engine that can't be had here; told before anything is called.
        UsageError: there is no place for weights.
    """

    def __init__(
        self, plan: Plan, after_call: Callable[[], None] = lambda: None, *, release_weights: bool = False
    ) -> None:
        attach.check_engines(plan)
        threads.untold(threads.notes(plan))  # the summary tells them, not a warning in the script's output
        if release_weights:
            released.folder()
        self._plan = plan
        self._release_weights = release_weights
        self._after_call = after_call
        self._seen: dict[int, Any] = {}
        self._unknown: dict[str, str] = {}
        methods = {name for model in plan.models for name in model.functions if name != FORWARD}
        self._seeing = RootCalls(self._root_call, methods=methods)

    def __enter__(self) -> Applier:
        self._seeing.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._seeing.__exit__()

    def _root_call(
        self, layer: Any, function: str, original: Callable[..., Any], inputs: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if id(layer) not in self._seen:
            self._apply(layer)
            if function != FORWARD and function in layer.__dict__:
                original = _of_instance(function)
        answer = original(layer, *inputs, **kwargs)
        self._after_call()
        return answer

    def _apply(self, layer: Any) -> None:
        self._seen[id(layer)] = layer
        if attach.regions_of(layer):
            return
        try:
            attach.apply(layer, self._plan, release_weights=self._release_weights)
        except PlanError as error:
            self._unknown[type(layer).__qualname__] = str(error)

    @property
    def layers(self) -> list[Any]:
        """The roots that were called, in the order of their first calls."""
        return list(self._seen.values())

    @property
    def models(self) -> list[Any]:
        """The roots that were called and that the plan knows."""
        return [layer for layer in self._seen.values() if attach.regions_of(layer)]

    def summary(self, *, width: int = WIDTH) -> str:
        """What ran hybrid, what fell back, and why; in so many columns."""
        done = [(type(layer).__qualname__, status(layer)) for layer in self._seen.values()]
        return summary(done, self._unknown, planned=self._plan.recommends_change, width=width)


def _of_instance(name: str) -> Callable[..., Any]:
    return lambda layer, *args, **kwargs: layer.__dict__[name](*args, **kwargs)
