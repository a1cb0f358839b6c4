"""The artifacts on disk: keyed by everything that they depend on, written aside and renamed, private to the user."""

from __future__ import annotations

from autohybrid.store.contents import JOURNALS
from autohybrid.store.document import FORMAT, KIND, MOST_SIZES, Key, Verified
from autohybrid.store.store import Store, Stored, check, default, directory, place

__all__ = [
    "FORMAT",
    "JOURNALS",
    "KIND",
    "MOST_SIZES",
    "Key",
    "Store",
    "Stored",
    "Verified",
    "check",
    "default",
    "directory",
    "place",
]
