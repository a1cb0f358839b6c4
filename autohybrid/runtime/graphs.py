"""Graphs that conversions share: those that this process has traced or read, and those in the store.

Blocks of one structure have the same graph, and so has a Layer whose weights have changed. What is made from a shared
graph is proven like any other conversion; where it is wrong, the program is traced anew.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from autohybrid.engines.graphs import Graph
from autohybrid.errors import SetupError
from autohybrid.runtime.content import digest_of
from autohybrid.store import Key, Store

MOST_GRAPHS = 64
MOST_BYTES = 64 << 20
"""What a process holds of programs; those used longest ago go first."""

_PROGRAM = "infer.json"
_PARAMETERS = "parameters.json"

_held: OrderedDict[str, Graph] = OrderedDict()
_rejected: OrderedDict[str, None] = OrderedDict()
"""Graphs by the digest of their key, and the keys of programs with values of weights in them."""


def forget_all() -> None:
    """Lets go of what this process holds."""
    _held.clear()
    _rejected.clear()


class SharedGraphs:
    """Where one conversion looks for its graph.

    Args:
        key: what the graph depends on but for the parameters' paths, dtypes and shapes. Where it raises, nothing is
            shared.
        store: what other processes have left, or None.
        alone: find nothing: trace, and see whether the graph that was there is the same.

    Attributes:
        reused: whether the conversion was made from a graph that was there.
        confirmed: whether its own trace came to the graph that was there.
    """

    def __init__(self, key: Callable[[], Key], store: Store | None, *, alone: bool = False) -> None:
        self.reused = False
        self.confirmed = False
        self._key_of_program = key
        self._store = store
        self._alone = alone
        self._known: Key | None = None

    def find(self, state: Sequence[str]) -> Graph | None:
        key = self._key(state)
        if key is None or self._alone or key.digest in _rejected:
            return None
        found = self._there(key)
        self.reused = found is not None
        return found

    def known(self, state: Sequence[str]) -> str:
        """The digest of the graph's key where :meth:`find` would find it; else empty."""
        key = self._key(state)
        if key is None or self._alone or key.digest in _rejected or self._there(key) is None:
            return ""
        return key.digest

    def keep(self, state: Sequence[str], graph: Graph) -> None:
        key = self._key(state)
        if key is None or key.digest in _rejected:
            return
        there = self._there(key) if self._alone else None
        if there is not None and not _same(there, graph):
            self.reject(state)
            return
        self.confirmed = there is not None
        if there is None:
            _hold(key, graph)
            self._publish(key, graph)

    def reject(self, state: Sequence[str]) -> None:
        key = self._key(state)
        if key is None:
            return
        _held.pop(key.digest, None)
        _rejected[key.digest] = None
        while len(_rejected) > MOST_GRAPHS:
            _rejected.popitem(last=False)
        stored = self._store.find(key) if self._store is not None else None
        if self._store is not None and stored is not None:
            self._store.discard(stored)

    def _key(self, state: Sequence[str]) -> Key | None:
        if self._known is None:
            try:
                made = self._key_of_program()
            except Exception:  # noqa: BLE001 - users' objects are asked what they hold: they may raise anything
                return None
            self._known = Key(region=made.region, fields={**made.fields, "state": digest_of(list(state))})
        return self._known

    def _there(self, key: Key) -> Graph | None:
        found = _held.get(key.digest)
        if found is not None:
            _held.move_to_end(key.digest)
            return found
        found = self._read(key)
        if found is not None:
            _hold(key, found)
        return found

    def _read(self, key: Key) -> Graph | None:
        stored = self._store.find(key) if self._store is not None else None
        if stored is None:
            return None
        try:
            return Graph(
                program=(stored.directory / _PROGRAM).read_bytes(),
                parameters=json.loads((stored.directory / _PARAMETERS).read_bytes()),
            )
        except OSError:
            return None
        finally:
            stored.close()

    def _publish(self, key: Key, graph: Graph) -> None:
        if self._store is None:
            return
        stage: Path | None = None
        try:
            stage = self._store.stage(key)
            (stage / _PROGRAM).write_bytes(graph.program)
            (stage / _PARAMETERS).write_text(json.dumps(graph.parameters, sort_keys=True))
            stored = self._store.publish(key, stage)
        except (OSError, SetupError):
            stored = None
        if stored is not None:
            stored.close()
        elif stage is not None:
            # Too large for the store, or made twice at once.
            shutil.rmtree(stage, ignore_errors=True)


def _hold(key: Key, graph: Graph) -> None:
    _held[key.digest] = graph
    while len(_held) > MOST_GRAPHS or (len(_held) > 1 and sum(each.size for each in _held.values()) > MOST_BYTES):
        _held.popitem(last=False)


def _same(one: Graph, other: Graph) -> bool:
    """Whether two programs differ in nothing but how they name their parameters."""
    return _with_paths(one) == _with_paths(other)


_TEXT = re.compile(rb'"((?:[^"\\]|\\.)*)"')

_NUMBERED = re.compile(rb'"/[\w/]*/"')
"""Where an operator was called, in the words of Paddle, which numbers the Layers of a process: ``/Linear_2/``."""


def _with_paths(graph: Graph) -> bytes:
    def path(found: re.Match[bytes]) -> bytes:
        name = found[1].decode(errors="replace")
        return f'"{graph.parameters[name]}"'.encode() if name in graph.parameters else found[0]

    return _NUMBERED.sub(b'""', _TEXT.sub(path, graph.program))
