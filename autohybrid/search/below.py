"""What lies below each Layer, found once for all of them: to walk each one's tree anew is quadratic in a deep model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from autohybrid.runtime.fingerprint import own_line, source_digest
from autohybrid.search.source import Finding, findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """A Layer with all that lies below it.

    ``classes`` has each class once, the Layer's own first; ``structure`` is a digest of classes, names, parameters'
    shapes and dtypes; ``hooked`` says whether any of these Layers has a hook.
    """

    classes: tuple[Any, ...]
    structure: str
    hooked: bool


class Family:
    """Layers that live as long as this object, and what lies below each."""

    def __init__(self) -> None:
        self._below: dict[int, Below] = {}
        self._sources: dict[tuple[Any, ...], str] = {}

    def below(self, layer: Any) -> Below:
        """``layer`` with all that lies below it."""
        known = self._below.get(id(layer))
        if known is None:
            known = self._below[id(layer)] = self._found(layer)
        return known

    def _found(self, layer: Any) -> Below:
        members = [(name, self.below(sub)) for name, sub in layer._sub_layers.items() if sub is not None]
        lines = [own_line("", layer), *[f"{name} {member.structure}" for name, member in members]]
        return Below(
            classes=tuple(dict.fromkeys([type(layer), *[kind for _, member in members for kind in member.classes]])),
            structure=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            hooked=bool(layer._forward_pre_hooks or layer._forward_post_hooks) or any(m.hooked for _, m in members),
        )

    def likeness(self, layer: Any) -> tuple[str, str]:
        """Equal for Layers of the same class, source and structure."""
        below = self.below(layer)
        if below.classes not in self._sources:
            self._sources[below.classes] = source_digest(below.classes)
        return below.structure, self._sources[below.classes]

    def findings(self, layer: Any) -> tuple[Finding, ...]:
        """What in the source of ``layer`` and of the Layers below it may stand against a conversion, its own first."""
        kinds = [kind for kind in self.below(layer).classes if kind.__module__.partition(".")[0] != "paddle"]
        return tuple([finding for kind in kinds for finding in findings(kind.forward)])

    def has_hooks_inside(self, layer: Any) -> bool:
        """Whether a Layer below ``layer`` has a hook."""
        return any(self.below(sub).hooked for sub in layer._sub_layers.values() if sub is not None)
