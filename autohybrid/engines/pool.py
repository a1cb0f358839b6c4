"""Something costly for each thread that asks, up to a bound; threads beyond it share what is idle."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from autohybrid.engines.interface import Busy

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class _Slot(Generic[ItemT]):
    def __init__(self, item: ItemT) -> None:
        self.item = item
        self.lock = threading.Lock()


class _Presence:
    """Lives in a thread's local storage and ends with the thread."""

    __slots__ = ("__weakref__",)


class _Local(threading.local):
    presence: _Presence | None = None
    slot: _Slot[Any] | None = None


class Pool(Generic[ItemT]):
    """Items of which each is used by one thread at a time.

    A thread keeps the item that was made for it until the thread ends. When there are ``limit`` items already, when
    another thread is just making one, or when making one failed, a thread borrows an idle item of another's.

    Args:
        make: makes an item; called with ``making`` held, never with a lock that :meth:`use` waits for.
        limit: how many items there may be.
        making: taken without waiting while an item is made.
    """

    def __init__(self, make: Callable[[], ItemT], *, limit: int, making: threading.RLock) -> None:
        self._make = make
        self._limit = limit
        self._making = making
        self._slots: dict[int, _Slot[ItemT]] = {}
        self._local = _Local()
        self._closed = False
        self._can_make = True

    def __len__(self) -> int:
        return len(self._slots)

    def use(self, work: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """``work(item, *arguments)`` with an item that no other thread has meanwhile.

        Raises:
            Busy: every item is in use, or the pool was closed.
        """
        slot = self._local.slot or self._made_or_none()
        if slot is None or not slot.lock.acquire(blocking=False):
            slot = self._borrowed()
        try:
            return work(slot.item, *arguments)
        finally:
            slot.lock.release()

    def _borrowed(self) -> _Slot[ItemT]:
        for slot in list(self._slots.values()):
            if slot.lock.acquire(blocking=False):
                return slot
        raise Busy("closed" if self._closed else "all predictors are in use")

    def close(self) -> None:
        """Gives up all items; those in use go when their call ends."""
        self._closed = True
        self._slots.clear()
        self._local = _Local()

    def _made_or_none(self) -> _Slot[ItemT] | None:
        if self._closed or (self._slots and not self._can_make) or len(self._slots) >= self._limit:
            return None
        if not self._making.acquire(blocking=False):
            return None
        try:
            # Looked at again: the count may have changed before this thread came to make one.
            return None if self._closed or len(self._slots) >= self._limit else self._made()
        finally:
            self._making.release()

    def _made(self) -> _Slot[ItemT] | None:
        try:
            slot = _Slot(self._make())
        except Exception:
            if self._closed:
                return None  # what it would have been made from may be gone already
            if not self._slots:
                raise
            self._can_make = False
            return None
        presence = _Presence()
        self._slots[id(presence)] = slot
        self._local.presence, self._local.slot = presence, slot
        # Both are single operations of a dict: a thread may end, or be collected, while another one looks.
        weakref.finalize(presence, self._slots.pop, id(presence), None).atexit = False
        if self._closed:
            self.close()
        return slot
