"""Weights of a Layer whose calls a conversion answers, moved to a file: eager's copy needs no memory until it is used.

The file is mapped, privately and writably, and each parameter and buffer shares its part of the mapping. The Tensors
stay the objects they were, with their names and flags. What reads them gets their pages back from the file, which the
kernel may drop again, since it can read them again; what writes them gets pages of its own. So eager, ``state_dict``,
``set_value`` and optimizers work as before, at any time, and nothing has to be brought back first.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paddle.utils import dlpack

from autohybrid import device, store
from autohybrid.errors import UsageError
from autohybrid.isolation import obstacle
from autohybrid.runtime.changes import addresses
from autohybrid.runtime.reach import reach
from autohybrid.structure import Tensor

FOLDER = "weights"
"""In the user's cache. The file in it has no name, so that it goes with the process."""

ALIGNMENT = 64
"""Bytes: what Paddle's own allocations are aligned to, for the widest vector instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What came of moving a Layer's weights to a file.

    Attributes:
        freed: bytes that lie in the file now.
        kept: bytes that stay in memory, by the reason in words.
    """

    freed: int = 0
    kept: Mapping[str, int] = field(default_factory=dict)


NOTHING = Released()


def folder() -> Path:
    """Where files of weights are put.

    Raises:
        UsageError: there is no such place, or one that lies in memory itself.
    """
    found = store.directory(FOLDER)
    if found is None:
        raise UsageError("release_weights needs a cache, to put the weights there.", _REMEDY)
    if device.lies_in_memory(found):
        raise UsageError(f"release_weights can't free memory: {found} lies in memory itself.", _REMEDY)
    return found


_REMEDY = "Set AUTOHYBRID_CACHE to a directory of your own on a disk."


def release(layer: Any) -> Released:
    """Moves the parameters and buffers below ``layer`` to a file.

    Only while no other Python thread runs, which might be computing with them. What can't be moved stays in memory,
    with the reason; the values are the same.
    """
    found = reach(layer)
    hidden = {id(tensor) for tensor in found.hidden_tensors}
    shared = _sharing(found.tensors)
    kept: Counter[str] = Counter()
    chosen = []
    for tensor in found.tensors:
        why = "hidden in an attribute" if id(tensor) in hidden else _why_kept(tensor, shared)
        if why:
            kept[why] += _bytes_of(tensor)
        elif _bytes_of(tensor):
            chosen.append(tensor)
    moved = sum(map(_bytes_of, chosen))
    why = obstacle() or _moved(chosen) if chosen else ""
    if why:
        kept[why] += moved
        moved = 0
    return Released(freed=moved, kept=dict(+kept))


def _bytes_of(tensor: Tensor) -> int:
    return int(tensor.size) * int(tensor.element_size()) if tensor._is_initialized() else 0


def _why_kept(tensor: Tensor, shared: set[int]) -> str:
    if not _bytes_of(tensor):
        return ""
    if not tensor.place.is_cpu_place():
        return f"on {tensor.place}, where files can't be mapped"
    if not tensor.is_dense() or not tensor.is_contiguous():
        return "not in one piece"
    return "shares its memory with another Tensor" if id(tensor) in shared else ""


def _sharing(tensors: Sequence[Tensor]) -> set[int]:
    """The ids of Tensors whose memory overlaps another's: moved apart, they would not see each other's changes."""
    spans = sorted(
        (each.data_ptr(), each.data_ptr() + _bytes_of(each), id(each)) for each in tensors if _bytes_of(each)
    )
    found: set[int] = set()
    end, last = 0, 0
    for start, stop, number in spans:
        if start < end:
            found |= {number, last}
        if stop > end:
            end, last = stop, number
    return found


def _moved(tensors: Sequence[Tensor]) -> str:
    """Moves the Tensors to one file; why not in words, and then nothing is changed."""
    try:
        arrays = _mapped(tensors)
        views = [_tensor_in(array, tensor.dtype) for array, tensor in zip(arrays, tensors, strict=True)]
    except UsageError as error:
        return error.problem.rstrip(".")
    except OSError as error:
        return f"their file can't be written ({error.strerror})"
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        return f"this Paddle can't use a mapped file ({type(error).__name__})"
    pairs = list(zip(tensors, arrays, views, strict=True))
    for tensor, array, view in pairs:
        if view.dtype != tensor.dtype or view.data_ptr() != array.ctypes.data:
            return f"this Paddle can't use mapped {tensor.dtype}"
    addresses.moved({view.data_ptr(): tensor.data_ptr() for tensor, _, view in pairs}, holder=arrays[0].base)
    for tensor, _, view in pairs:
        tensor.get_tensor()._share_data_with(view.get_tensor())
    device.trim_memory()
    return ""


def _tensor_in(array: np.ndarray[Any, Any], dtype: Any) -> Tensor:
    """A Tensor in the array's own memory."""
    made = dlpack.from_dlpack(array)
    if made.dtype == dtype:
        return made
    # What NumPy has no dtype for, as bfloat16, Paddle gives it as integers of that size.
    return dlpack.from_dlpack(array.view(f"i{array.itemsize}")).view(dtype)


def _mapped(tensors: Sequence[Tensor]) -> list[np.ndarray[Any, Any]]:
    """Arrays with the Tensors' values in a mapping of a new file without a name.

    Raises:
        UsageError, OSError: there is no place for it.
    """
    kinds, ends = [], [0]
    for tensor in tensors:
        ends.append(ends[-1] - (-_bytes_of(tensor) // ALIGNMENT) * ALIGNMENT)
    with tempfile.TemporaryFile(dir=folder()) as file:
        # A full disk is told here, not by a signal when a page is read.
        os.posix_fallocate(file.fileno(), 0, ends[-1])
        for tensor, place in zip(tensors, ends, strict=False):
            values = tensor.detach().numpy()
            file.seek(place)
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            kinds.append(values.dtype)
        file.flush()
        # Only what the disk has can be dropped from memory.
        os.fdatasync(file.fileno())
        mapping = mmap.mmap(file.fileno(), ends[-1], flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    bytes_of_all = np.frombuffer(mapping, np.uint8)
    return [
        bytes_of_all[place : place + _bytes_of(tensor)].view(kind).reshape(tensor.shape)
        for tensor, kind, place in zip(tensors, kinds, ends, strict=False)
    ]
