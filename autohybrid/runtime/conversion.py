"""Makes an executable, from the store where an equal conversion is kept, else by the engine and into the store."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autohybrid.engines import Busy, Engine, Executable, Request, StorableEngine
from autohybrid.errors import ConversionError, SetupError
from autohybrid.logs import LOGGER
from autohybrid.store import Key, Store, Stored, Verified
from autohybrid.structure import Tensor

FROM_STORE = "from the store"


@dataclass(slots=True, kw_only=True)
class Conversion:
    """An executable and its entry in the store.

    ``note`` says how the store took part: ``FROM_STORE``, or ``"stored"`` or ``"not stored"`` with the reason
    why it wasn't found; empty where no store was asked.
    """

    executable: Executable
    stored: Stored | None = None
    store: Store | None = None
    note: str = ""

    @property
    def verified(self) -> Verified | None:
        """The proof that another process wrote down."""
        return self.stored.entry.verified if self.stored is not None else None

    def record(self, verified: Verified) -> None:
        """Writes a proof down."""
        if self.store is not None and self.stored is not None:
            self.store.record(self.stored, verified)

    def discard(self) -> None:
        """Has the entry forgotten: it proved wrong."""
        if self.store is not None and self.stored is not None:
            self.store.discard(self.stored)

    def run_first(self, inputs: Sequence[Tensor]) -> list[Tensor] | None:
        """Copies of its outputs for calls that nobody has made yet; None, and it is closed, when it doesn't run."""
        try:
            return [output.clone() for output in self.executable.run(inputs)]
        except Busy:
            self.close()
        except Exception:  # noqa: BLE001 - whatever an engine raises: it is made anew
            self.close()
            self.discard()
        return None

    def close(self) -> None:
        self.executable.close()
        if self.stored is not None:
            self.stored.close()


def converted(engine: Engine, request: Request, store: Store | None, key: Callable[[], Key]) -> Conversion:
    """Converts; ``request.directory`` is replaced by one that is made here.

    Raises whatever the engine raises.
    """
    if store is None or not isinstance(engine, StorableEngine):
        return Conversion(executable=_privately(engine, request))
    made = _with_store(engine, request, store, key)
    LOGGER.debug("store: %s", made.note)
    return made


def _with_store(engine: StorableEngine, request: Request, store: Store, key: Callable[[], Key]) -> Conversion:
    stage: Path | None = None
    with contextlib.ExitStack() as held:
        try:
            wanted = key()
        except Exception as error:  # noqa: BLE001 - users' objects are asked what they hold: they may raise anything
            return Conversion(executable=_privately(engine, request), note=f"not stored: {error}")
        LOGGER.debug("store: looking for %s of %s", wanted.digest, wanted.region)
        try:
            found = _found(engine, request, store, wanted)
            if found is None:
                alone = held.enter_context(store.making(wanted))
                # Whoever made it while this process waited has left it there.
                found = _found(engine, request, store, wanted)
            if found is not None:
                return found
            why = store.why_missing(wanted) if alone else "another process is still making it"
            stage = store.stage(wanted) if alone else None
        except (OSError, SetupError) as error:
            why = str(error)
        if stage is not None:
            return _kept(engine, request, store, wanted, stage, why)
    return Conversion(executable=_privately(engine, request), note=f"not stored: {why}")


def opened(
    engine: Engine, request: Request, store: Store, key: Callable[[], Key], trusted: Callable[[Verified], bool]
) -> Conversion | None:
    """What another process has made, and proven as ``trusted`` wants it; None where there is no such thing.

    Nothing is made, and nothing is raised: whatever is the matter shows when it is converted in the usual way.
    """
    if not isinstance(engine, StorableEngine):
        return None
    with contextlib.suppress(Exception):
        wanted = key()
        record = store.verified(wanted)
        found = _found(engine, request, store, wanted) if record is not None and trusted(record) else None
        if found is not None:
            if found.verified == record:
                return found
            found.close()  # written anew in the meantime
    return None


def _found(engine: StorableEngine, request: Request, store: Store, key: Key) -> Conversion | None:
    stored = store.find(key)
    if stored is None:
        return None
    try:
        executable = engine.open(stored.directory, request)
    except ConversionError:
        # Complete and unaltered, and yet of no use: made anew.
        store.discard(stored)
        return None
    return Conversion(executable=executable, stored=stored, store=store, note=FROM_STORE)


def _kept(engine: StorableEngine, request: Request, store: Store, key: Key, stage: Path, why: str) -> Conversion:
    executable: Any = _in(stage, engine, request)
    try:
        stored = store.publish(key, stage)
    except OSError as error:
        return Conversion(executable=executable, note=f"not stored: {error}")
    if stored is None:
        return Conversion(executable=executable, note="not stored: too large for the store, or made twice at once")
    executable.moved(stored.directory)
    return Conversion(executable=executable, stored=stored, store=store, note=f"stored: {why}")


def _privately(engine: Engine, request: Request) -> Executable:
    return _in(Path(tempfile.mkdtemp(prefix="autohybrid-")), engine, request)


def _in(directory: Path, engine: Engine, request: Request) -> Executable:
    try:
        return engine.convert(replace(request, directory=directory))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
