"""Where later searches for the same find what this one learns: one file in the user's cache for each set of models,
inputs, environment and settings that decide how trials end.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import autohybrid
from autohybrid import store
from autohybrid.observe.profile import KeptCall, Profile, RootProfile
from autohybrid.plan import Environment
from autohybrid.runtime.fingerprint import source_hash
from autohybrid.runtime.reach import own_attributes
from autohybrid.search.below import Family
from autohybrid.search.options import Options
from autohybrid.structure import describe, dtype_name

FORMAT = 1
MOST_FILES = 64
LONGEST_UNUSED = 30 * 86400.0
"""Seconds after which a file that no search has opened is removed."""

_PLAIN = (bool, int, float, str, type(None))


def place(profile: Profile, options: Options, environment: Environment) -> Path | None:
    """The file for what is profiled, emptied if everything is to be tried anew.

    None where the user has no cache, or the source of a forward can't be read: then nobody knows whether it changed.
    """
    folder = store.directory(store.JOURNALS)
    if folder is None or not all(_is_readable(root) for root in profile.roots):
        return None
    found = folder / f"{identity(profile, options, environment)}.jsonl"
    _clear_old(folder, but=found)
    if options.fresh:
        found.unlink(missing_ok=True)
    elif found.exists():
        os.utime(found)
    return found


def identity(profile: Profile, options: Options, environment: Environment) -> str:
    """A digest of all that decides how trials end, but for the values of weights and inputs."""
    parts = {
        "format": FORMAT,
        "roots": [_root(root) for root in profile.roots],
        "environment": environment,
        "numpy": np.__version__,
        "flags": {name: value for name, value in os.environ.items() if name.startswith("FLAGS_")},
        "code": _own_code(),
        "settings": [options.rtol, options.atol, options.min_gain, options.precisions, options.most_threads],
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


def _is_readable(root: RootProfile) -> bool:
    return bool(source_hash(root.layer))


def _root(root: RootProfile) -> dict[str, Any]:
    family = Family()
    functions = sorted({layer.function for layer in root.layers} | {call.function for call in root.kept})
    inside = {(layer.path, layer.function): family.likeness(layer.layer, layer.function) for layer in root.layers}
    return {
        "whole": [family.likeness(root.layer, name) for name in functions if hasattr(root.layer, name)],
        "inside": sorted([*spot, *likeness] for spot, likeness in inside.items()),
        "attributes": [_attributes(layer) for layer in root.layer.sublayers(include_self=True)],
        "inputs": sorted({msgspec.json.encode(_inputs(call), order="deterministic").decode() for call in root.kept}),
    }


def _attributes(layer: Any) -> list[tuple[str, str]]:
    """The plain values that a forward may read from its Layer: two models may differ in nothing else."""
    own = [("training", layer.training), *own_attributes(layer)]
    return sorted((name, repr(value)) for name, value in own if isinstance(value, _PLAIN))


def _inputs(call: KeptCall) -> dict[str, Any]:
    def tensor(index: int) -> Any:
        return [dtype_name(call.tensors[index]), list(call.tensors[index].shape)]

    return {
        "function": call.function,
        "arguments": describe(call.arguments, tensor),
        "gradients": call.gradients,
        "training": call.training,
    }


def _own_code() -> str:
    """A digest of autohybrid itself: a version under development doesn't change its number with every line."""
    folder = Path(autohybrid.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _clear_old(folder: Path, but: Path) -> None:
    """Removes files that were long unused, and those above ``MOST_FILES`` that were used longest ago."""
    used = []
    for path in folder.glob("*.jsonl"):
        with contextlib.suppress(OSError):
            used.append((path.stat().st_mtime, path))
    newest_first = [(when, path) for when, path in sorted(used, reverse=True) if path != but]
    for index, (when, path) in enumerate(newest_first):
        if index >= MOST_FILES - 1 or time.time() - when > LONGEST_UNUSED:
            path.unlink(missing_ok=True)
