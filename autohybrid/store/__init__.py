"""The artifacts on disk: keyed by everything that they depend on, written aside and renamed, private to the user."""

from __future__ import annotations

from autohybrid.store.document import FORMAT, Key, Verified
from autohybrid.store.store import Store, Stored, default, directory

__all__ = ["FORMAT", "Key", "Store", "Stored", "Verified", "default", "directory"]
