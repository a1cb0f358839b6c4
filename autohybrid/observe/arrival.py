"""Waits for a script to import a module, and begins something at that very moment.

What a script puts into the environment before it imports Paddle (``OMP_NUM_THREADS``, ``CUDA_VISIBLE_DEVICES``,
``FLAGS_*``) is read at the import: had it been imported for the script beforehand, all that would come too late.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Generic, TypeVar

from autohybrid.device import clock
from autohybrid.errors import AutohybridError

BegunT = TypeVar("BegunT")


class Arrival(MetaPathFinder, Generic[BegunT]):
    """Within it, ``begin()`` is entered as soon as ``module`` has been imported; at once where it has been already.

    An error of ours in ``begin`` ends the script there, as a request to exit, and is raised at the end of the block.

    Args:
        module: the name of a top-level module.
        begin: makes what is entered then, and left with the block.
        ahead: called right before the import.

    Attributes:
        begun: what entering gave; None where the module was never imported.
        seconds: what the import took, and the beginning.
    """

    def __init__(
        self,
        module: str,
        begin: Callable[[], AbstractContextManager[BegunT]],
        ahead: Callable[[], None] = lambda: None,
    ) -> None:
        self.begun: BegunT | None = None
        self.seconds = 0.0
        self._module = module
        self._begin = begin
        self._ahead = ahead
        self._context: AbstractContextManager[BegunT] | None = None
        self._error: AutohybridError | None = None

    def __enter__(self) -> Arrival[BegunT]:
        if self._module in sys.modules:
            self._has_come()
        else:
            sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_waiting()
        if self._context is not None:
            self._context.__exit__(None, None, None)
        if self._error is not None:
            raise self._error

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        self._stop_waiting()
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Announcing(spec.loader, self._imported)
        return spec

    def _imported(self, module: ModuleType, loader: Loader) -> None:
        started = clock()
        try:
            self._ahead()
            loader.exec_module(module)
            self._has_come()
        finally:
            self.seconds = clock() - started

    def _has_come(self) -> None:
        try:
            context = self._begin()
            self.begun = context.__enter__()
            self._context = context
        except AutohybridError as error:
            self._error = error
            # Unlike an error, this is caught by no script that can do without the module.
            raise SystemExit(int(error.exit_code)) from None

    def _stop_waiting(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)


class _Announcing(Loader):
    """Loads as another loader does, which the module then says was its own."""

    def __init__(self, loader: Loader, execute: Callable[[ModuleType, Loader], None]) -> None:
        self._loader = loader
        self._execute = execute

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._execute(module, self._loader)
