"""What lies below each Layer, found once for all of them: to walk each one's tree anew is quadratic in a deep model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from autohybrid.roots import FORWARD
from autohybrid.runtime.fingerprint import own_line, source_digest
from autohybrid.search.source import Finding, findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """A Layer with all that lies below it.

    ``classes`` has each class of those below once; ``structure`` is a digest of classes, names, parameters' shapes and
    dtypes; ``hooked`` says whether the Layer or any below it has a hook.
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
        members = [(name, sub, self.below(sub)) for name, sub in layer._sub_layers.items() if sub is not None]
        lines = [own_line("", layer), *[f"{name} {member.structure}" for name, _, member in members]]
        return Below(
            classes=tuple(dict.fromkeys([kind for _, sub, member in members for kind in (type(sub), *member.classes)])),
            structure=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            hooked=bool(layer._forward_pre_hooks or layer._forward_post_hooks)
            or any(member.hooked for _, _, member in members),
        )

    def _functions(self, layer: Any, function: str) -> tuple[tuple[Any, str], ...]:
        """A function of ``layer`` and the forwards of the Layers below it, by class and name, each once."""
        inner = [(kind, FORWARD) for kind in self.below(layer).classes]
        return tuple(dict.fromkeys([(type(layer), function), *inner]))

    def likeness(self, layer: Any, function: str = FORWARD) -> tuple[str, ...]:
        """Equal for the same function of Layers of the same class, source and structure."""
        functions = self._functions(layer, function)
        if functions not in self._sources:
            self._sources[functions] = source_digest(functions)
        return function, self.below(layer).structure, self._sources[functions]

    def findings(self, layer: Any, function: str = FORWARD) -> tuple[Finding, ...]:
        """What in the source of a function of ``layer`` and of the Layers below it may stand against a conversion, its
        own first."""
        own = [each for each in self._functions(layer, function) if each[0].__module__.partition(".")[0] != "paddle"]
        return tuple([finding for kind, name in own for finding in findings(getattr(kind, name))])

    def has_hooks_inside(self, layer: Any) -> bool:
        """Whether a Layer below ``layer`` has a hook."""
        return any(self.below(sub).hooked for sub in layer._sub_layers.values() if sub is not None)
