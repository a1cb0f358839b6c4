"""The rule by which a converted answer is called equal to eager's, and the measurement of eager's own noise.

Elementwise ``|hybrid - eager| <= atol * scale + rtol * |eager|`` with ``scale`` the largest ``|eager|`` of that
Tensor; integers, booleans, shapes and dtypes exactly; NaN and infinities in the same places. What exceeds this is
still equal when it stays within ``NOISE_FACTOR`` times the noise of eager itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from autohybrid.structure import Tensor, dtype_name

DEFAULT_RTOL = 1e-3
DEFAULT_ATOL = 1e-5
NOISE_FACTOR = 4.0

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """``rtol`` relative to each element, ``atol`` relative to the largest element of its Tensor."""

    rtol: float = DEFAULT_RTOL
    atol: float = DEFAULT_ATOL

    def at(self, precision: str) -> Tolerance:
        """What holds for a computation in a lower precision: this, or what is allowed there if that is more."""
        allowed = LOWER_PRECISIONS.get(precision, self)
        return Tolerance(rtol=max(self.rtol, allowed.rtol), atol=max(self.atol, allowed.atol))


LOWER_PRECISIONS = {"float16": Tolerance(rtol=1e-2, atol=5e-3), "bfloat16": Tolerance(rtol=5e-2, atol=3e-2)}
"""The tolerance of what is computed in a lower precision: some ten rounding steps of it (2^-11, 2^-8) at each element,
and as much of the scale as sums over a few dozen layers lose."""


def tolerance_for(tolerance: Tolerance, options: dict[str, Any]) -> Tolerance:
    """What holds for a conversion with these options: their ``precision``, in whichever engine, decides."""
    return tolerance.at(str(options.get("precision", "float32")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far two lists of Tensors are apart.

    ``problem`` is empty when they are equal; else it says what differs. The numbers are those of the element that
    exceeds its limit most, or comes nearest to it.
    """

    problem: str = ""
    error: float = 0.0
    limit: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    out_of_tolerance: bool = False

    @property
    def equal(self) -> bool:
        return not self.problem


def difference(eager: Sequence[Tensor], hybrid: Sequence[Tensor], tolerance: Tolerance) -> Difference:
    """Compares two lists of Tensors by the rule above, without the part about noise."""
    if len(eager) != len(hybrid):
        return Difference(problem=f"{len(hybrid)} Tensors instead of {len(eager)}")
    worst = Difference()
    for index, (one, other) in enumerate(zip(eager, hybrid, strict=True)):
        found = _compare_tensors(one, other, tolerance)
        if found.problem:
            return replace(found, problem=f"Tensor {index} of the answer: {found.problem}")
        worst = max(worst, found, key=_severity)
    return worst


def _severity(found: Difference) -> float:
    return found.error / found.limit if found.limit > 0.0 else found.error


def _compare_tensors(eager: Tensor, hybrid: Tensor, tolerance: Tolerance) -> Difference:
    if eager.dtype != hybrid.dtype:
        return Difference(problem=f"dtype {dtype_name(hybrid)} instead of {dtype_name(eager)}")
    if list(eager.shape) != list(hybrid.shape):
        return Difference(problem=f"shape {list(hybrid.shape)} instead of {list(eager.shape)}")
    expected, got = as_array(eager), as_array(hybrid)
    if expected.size == 0:
        return Difference()
    if not np.issubdtype(expected.dtype, np.inexact):
        unequal = int(np.count_nonzero(expected != got))
        return Difference(problem=f"{unequal} of {expected.size} values differ" if unequal else "")
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(got)) or not np.array_equal(
        expected[~finite], got[~finite], equal_nan=True
    ):
        return Difference(problem="NaN or infinity in other places than eager's")
    if not finite.any():
        return Difference()
    expected, got = expected[finite], got[finite]
    magnitude = np.abs(expected)
    scale = float(magnitude.max())
    error = np.abs(np.subtract(got, expected))
    limit = tolerance.atol * scale + tolerance.rtol * magnitude
    # An eager answer of zeros has a limit of zero: then only zeros are equal.
    with np.errstate(over="ignore"):
        excess = np.where(error > 0.0, error / np.where(limit > 0.0, limit, np.finfo(np.float64).tiny), 0.0)
    place = int(np.argmax(excess))
    found = Difference(error=float(error.max()), limit=float(limit[place]), scale=scale)
    if float(excess[place]) <= 1.0:
        return found
    return replace(
        found,
        problem=f"differs by {float(error[place]):.3g} where {float(limit[place]):.3g} is allowed (scale {scale:.3g})",
        out_of_tolerance=True,
    )


def as_array(tensor: Tensor) -> Array:
    """The values as a NumPy array in double precision (complex for complex), integers and booleans as they are."""
    if dtype_name(tensor) in ("bfloat16", "float16", "float32", "float64") or "float8" in dtype_name(tensor):
        values: Array = tensor.detach().cast("float32" if dtype_name(tensor) != "float64" else "float64").numpy()
        return values.astype(np.float64)
    plain: Array = tensor.detach().numpy()
    return plain


def nudged(tensors: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """The same Tensors, floating ones moved by one rounding step up or down at random: x (1 +- eps)."""
    made = []
    generator = np.random.default_rng(seed)
    for tensor in tensors:
        if not paddle.is_floating_point(tensor):
            made.append(tensor.clone())
            continue
        step = float(paddle.finfo(tensor.dtype).eps) / 2.0
        signs = generator.choice([-1.0, 1.0], size=tuple(tensor.shape))
        wide = tensor.detach().cast("float64")
        made.append((wide * paddle.to_tensor(1.0 + step * signs, dtype="float64")).cast(tensor.dtype))
    return made


def noise_of(
    eager: Callable[[Sequence[Tensor]], Sequence[Tensor]], inputs: Sequence[Tensor], answer: Sequence[Tensor]
) -> float:
    """How far eager's answer moves, at most, when its inputs move by one rounding step (in units of the answer).

    NaN when the nudged answer can't be compared, or when eager answers otherwise to the very same inputs: that is
    randomness, not rounding.
    """
    if not difference(answer, eager([tensor.clone() for tensor in inputs]), Tolerance(rtol=0.0, atol=0.0)).equal:
        return math.nan
    moved = eager(nudged(inputs))
    if len(moved) != len(answer):
        return math.nan
    largest = 0.0
    for one, other in zip(answer, moved, strict=True):
        if not paddle.is_floating_point(one) or list(one.shape) != list(other.shape):
            continue
        gap = np.abs(as_array(one).astype(np.float64) - as_array(other).astype(np.float64))
        largest = max(largest, float(np.nanmax(gap)) if gap.size else 0.0)
    return largest


def judged_with_noise(found: Difference, noise: float) -> Difference:
    """``found``, called equal after all when its error is within ``NOISE_FACTOR`` times eager's own noise."""
    found = replace(found, noise=0.0 if math.isnan(noise) else noise)
    if found.out_of_tolerance and found.error <= NOISE_FACTOR * noise:
        return replace(found, problem="")
    return found
