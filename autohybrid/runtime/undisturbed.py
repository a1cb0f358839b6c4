"""Keeps the live model as it is while Paddle traces it."""

from __future__ import annotations

from typing import Any

from autohybrid.runtime.reach import put_back, reach, saved


class undisturbed:
    """Puts attributes, lists and dicts back as they were.

    Some versions of Paddle put a converted ``forward`` on every Layer that they trace, and a failed trace leaves some
    that raise for ever. A forward that keeps something on ``self`` would keep a value of the traced program, and
    whoever touches it later dies.
    """

    def __init__(self, layer: Any) -> None:
        found = reach(layer)
        self._containers = [(each, saved(each)) for each in found.containers]
        for sub in found.layers:
            for each in (sub.__dict__, sub._parameters, sub._buffers, sub._sub_layers):
                self._containers.append((each, saved(each)))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for container, kept in self._containers:
            put_back(container, kept)
