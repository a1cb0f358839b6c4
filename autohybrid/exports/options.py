"""What a region's engine and options come to with ``paddle.incubate.jit.inference``, as far as that has parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from autohybrid.exports.calls import NotInCode
from autohybrid.plan import Region

_WRAPPER = "incubate"
_PADDLE_INFERENCE = (_WRAPPER, "predictor")

_PARAMETERS = {
    "cinn": "enable_cinn",
    "cutlass": "exp_enable_use_cutlass",
    "memory_pool_mb": "memory_pool_init_size_mb",
    "tensorrt": "with_trt",
}
"""Options of the engine ``predictor``, and what the wrapper calls them."""

_RIGHTNESS = ("onednn", "ir_optim", "optimization_level")
"""Options that the wrapper lacks, and that a plan may have because the answers are wrong otherwise."""


@dataclass(slots=True)
class Wrapping:
    """Parameters for the wrapper, as code, and what they leave out, in words."""

    parameters: dict[str, str] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)


def wrapping_of(region: Region, on_gpu: bool) -> Wrapping:
    """How a region is wrapped by hand.

    Raises:
        NotInCode: without an option that the wrapper doesn't have the region's answers may be wrong.
    """
    made = Wrapping()
    deleted = [] if region.engine == _WRAPPER else ["inplace_pass"]
    for name, value in region.options.items():
        if name == "deleted_passes":
            deleted += [each for each in value if each not in deleted]
        elif name in _RIGHTNESS and region.engine in _PADDLE_INFERENCE:
            raise NotInCode(
                f"{name}={value!r} may be what makes its answers right, and the wrapper has no such parameter"
            )
        elif region.engine == _WRAPPER:
            made.parameters[name] = repr(value)
        elif name == "precision" and on_gpu:
            made.parameters["precision_mode"] = repr(value)
        elif name in _PARAMETERS and region.engine in _PADDLE_INFERENCE:
            made.parameters[_PARAMETERS[name]] = repr(value)
        else:
            made.without.append(f"{name}={value!r}")
    if deleted:
        made.parameters["delete_pass_lists"] = f"[*DELETED_PASSES, {', '.join(map(_quoted, deleted))}]"
    return made


def _quoted(value: Any) -> str:
    return f'"{value}"'


def measured_with(region: Region, wrapping: Wrapping) -> str:
    """A sentence where the gain was measured otherwise than with the wrapper; else empty."""
    if region.engine == _WRAPPER:
        return ""
    options = "".join(f", {name}={value!r}" for name, value in region.options.items())
    told = f"Measured with the engine {region.engine}{options}, not with the wrapper: the gain here may be another one."
    if wrapping.without:
        told += f" The wrapper can't be told {', '.join(wrapping.without)}."
    return told
