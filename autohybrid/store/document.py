"""What stands in an entry's ``entry.json``: the key in readable fields, the files, and the proof; no pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

FORMAT = 1
"""The layout of an entry; another number is another place in the store."""

ENTRY = "entry.json"

MOST_SIZES = 64
"""Kinds of calls that a record of one conversion names."""

KIND = "kind"
"""The field that tells what an entry is; where there is none, a conversion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Everything that an artifact depends on.

    Attributes:
        region: the class and function that were converted; entries of one region are compared with one another.
        fields: each a short text or a digest, by name.
    """

    region: str
    fields: Mapping[str, str]

    @property
    def kind(self) -> str:
        return self.fields.get(KIND, "conversion")

    @property
    def digest(self) -> str:
        return _digest({"region": self.region, **self.fields})

    def differing(self, other: Mapping[str, str]) -> list[str]:
        """The names of the fields in which an entry with the fields ``other`` differs."""
        return [name for name in {**self.fields, **other} if self.fields.get(name) != other.get(name)]


class Verified(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the artifact answered as eager did.

    ``rtol`` and ``atol`` are the tolerance, ``compared`` the number of answers, ``error``, ``limit``, ``scale`` and
    ``noise`` those of the worst one, ``answer`` the structure of eager's answer. ``form`` is the same as text, in its
    own order, where that is all there is to know of an answer, else empty; ``sizes`` has the shapes of the Tensors of
    each call.
    """

    rtol: float
    atol: float
    compared: int
    error: float
    limit: float
    scale: float
    noise: float
    answer: Any
    form: str = ""
    sizes: list[list[list[int]]] = []

    def covering(self, sizes: Sequence[list[list[int]]]) -> Verified | None:
        """The record with the sizes of more calls; None where it has them, or has no room."""
        more = [each for each in sizes if each not in self.sizes]
        if not more or len(self.sizes) >= MOST_SIZES:
            return None
        return msgspec.structs.replace(self, sizes=[*self.sizes, *more][:MOST_SIZES])


class StoredFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size in bytes and SHA-256 of one exported file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> StoredFile:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return cls(size=path.stat().st_size, sha256=digest.hexdigest())


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry; ``seal`` is a digest of all the rest."""

    format: int
    region: str
    fields: dict[str, str]
    files: dict[str, StoredFile]
    verified: Verified | None
    seal: str = ""

    @property
    def size(self) -> int:
        """Bytes of the exported files."""
        return sum(file.size for file in self.files.values())

    def encoded(self) -> bytes:
        sealed = msgspec.structs.replace(self, seal=self._seal())
        return msgspec.json.format(msgspec.json.encode(sealed, order="sorted"), indent=2) + b"\n"

    @classmethod
    def read(cls, directory: Path) -> Entry:
        """Raises ``OSError``, ``msgspec.MsgspecError`` or ``ValueError`` when it isn't what :meth:`encoded` wrote."""
        entry = msgspec.json.decode((directory / ENTRY).read_bytes(), type=cls)
        if entry.format != FORMAT or entry.seal != entry._seal():
            raise ValueError("entry.json was altered")
        return entry

    def _seal(self) -> str:
        return _digest(msgspec.to_builtins(msgspec.structs.replace(self, seal="")))


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
