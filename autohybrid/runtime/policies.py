"""What a region does where it has a choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autohybrid.errors import UsageError
from autohybrid.logs import warn

MAX_VARIANTS = 8
CONVERSION_SECONDS = 300.0

_CHOICES = {
    "on_miss": ("eager", "convert", "error"),
    "on_weights": ("refresh", "eager", "error"),
    "on_grad": ("hybrid", "eager", "error"),
    "isolation": ("fork", "none"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """A region's policies.

    Attributes:
        on_miss: for a call that no conversion fits: ``"eager"`` answers it eagerly, ``"convert"`` makes a conversion,
            ``"error"`` raises.
        on_weights: when weights, attributes or structure have changed: ``"refresh"`` converts again, ``"eager"`` stays
            eager until :func:`autohybrid.refresh`, ``"error"`` raises.
        on_grad: for calls under gradient mode whose eager answer has gradients: ``"hybrid"`` answers from the
            conversion and recomputes eagerly in ``backward()``, ``"eager"`` answers eagerly, ``"error"`` answers
            from the conversion and raises in ``backward()``.
        on_fallback: is called with the region's name and the reason at each call that eager answers.
        isolation: ``"fork"`` tries a conversion that no trial has tried in a forked child first, where the process
            can be forked; ``"none"`` never does.
        max_variants: argument structures and shapes for which conversions are held at the same time.
        conversion_seconds: how long a conversion in a child may take.
        release_weights: whether the Layer's weights are moved to a file once a conversion answers
            (:mod:`autohybrid.runtime.released`).
    """

    on_miss: str = "eager"
    on_weights: str = "refresh"
    on_grad: str = "hybrid"
    on_fallback: Callable[[str, str], object] | None = None
    isolation: str = "fork"
    max_variants: int = MAX_VARIANTS
    conversion_seconds: float = CONVERSION_SECONDS
    release_weights: bool = False

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                choices = ", ".join(repr(each) for each in known)
                raise UsageError(f"{name} can't be {value!r}.", f"It is one of {choices}.")
        if self.max_variants < 1:
            raise UsageError(f"max_variants can't be {self.max_variants}.", "It is at least 1.")
        if self.on_fallback is not None and not callable(self.on_fallback):
            raise UsageError("on_fallback must be callable: it gets the region's name and the reason.")

    def tell(self, name: str, reason: str) -> None:
        """Calls ``on_fallback``; what it raises becomes a warning, since the user's call must go on."""
        if self.on_fallback is None:
            return
        try:
            self.on_fallback(name, reason)
        except Exception as error:  # noqa: BLE001 - somebody's metrics must not cost an answer
            warn(f"on_fallback failed for {name}: {error!r}")
