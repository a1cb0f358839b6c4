"""Where a region can stand: in the place of a Layer's method, or of a chain in one."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, Protocol

from autohybrid.plan import Region as PlannedRegion
from autohybrid.runtime.chain import ChainCall, ChainLayers, Rewritten, chain_function
from autohybrid.runtime.chain_finder import Chain, find_again
from autohybrid.runtime.chain_source import Refused

Callee = Callable[..., Any]


class Site(Protocol):
    """A place in a model.

    Attributes:
        layer: the Layer whose weights, attributes and structure decide what is computed there.
        eager: what is called there when nothing is put.
    """

    layer: Any
    eager: Callee

    def put(self, callee: Callee) -> None:
        """Has ``callee`` called there instead, with the same arguments."""
        ...

    def lift(self) -> None:
        """Makes it as it was."""
        ...


class MethodSite:
    """A method of a Layer, ``forward`` or another: replaced in the instance's ``__dict__``."""

    def __init__(self, layer: Any, function: str) -> None:
        self.layer = layer
        self.function = function
        self.eager: Callee = getattr(layer, function)
        self._before = layer.__dict__.get(function)

    def put(self, callee: Callee) -> None:
        # Not by setattr: some models replace what is assigned to forward.
        self.layer.__dict__[self.function] = callee

    def lift(self) -> None:
        if self._before is not None:
            self.layer.__dict__[self.function] = self._before
        else:
            self.layer.__dict__.pop(self.function, None)


class ChainSite:
    """A chain in a method of a Layer: the method is replaced by one that calls what was put.

    Raises:
        Refused: the method is already replaced, by somebody else.
    """

    def __init__(self, parent: Any, function: str, chain: Chain, layers: ChainLayers | None = None) -> None:
        present = parent.__dict__.get(function)
        if present is not None and not isinstance(present, Rewritten):
            raise Refused("another function stands in its place")
        self.parent = parent
        self.function = function
        self.chain = chain
        self.layer = layers or ChainLayers(parent, chain)
        self.eager: Callee = MethodType(chain_function(parent, function, chain), self.layer)

    def put(self, callee: Callee) -> None:
        present = self.parent.__dict__.get(self.function)
        if not isinstance(present, Rewritten):
            present = Rewritten(self.parent, self.function)
        present.put(self.chain, ChainCall(self.chain, self.layer, self.eager, callee))
        self.parent.__dict__[self.function] = present

    def lift(self) -> None:
        present = self.parent.__dict__.get(self.function)
        if isinstance(present, Rewritten):
            present.lift(self.chain)
            if not present.calls:
                del self.parent.__dict__[self.function]


def site_of(layer: Any, planned: PlannedRegion) -> Site:
    """Where a planned region belongs in the Layer at its path.

    Raises:
        Refused: the chain's statements aren't there any more, or can't be replaced.
    """
    if planned.kind != "chain":
        return MethodSite(layer, planned.function)
    chain = find_again(layer, planned.function, planned.code, planned.source.line if planned.source else 0)
    if chain is None:
        raise Refused("the chain's statements aren't in the source any more")
    return ChainSite(layer, planned.function, chain)
