"""The parameters of ``paddle.incubate.jit.inference``: which can be had here, and how an engine is told."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import paddle

from autohybrid.device import on_gpu
from autohybrid.errors import UsageError

WRAPPER_DELETED_PASSES = ("trt_prompt_tuning_embedding_eltwise_layernorm_fuse_pass", "add_support_int8_pass")
"""What Paddle's wrapper deletes when it is told nothing; not every build has them."""

PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """As the wrapper's document names them; the directory and the cache aren't an engine's business."""

    memory_pool_init_size_mb: int = 1000
    precision_mode: str = "float32"
    switch_ir_optim: bool = True
    switch_ir_debug: bool = False
    enable_cinn: bool = False
    with_trt: bool = False
    trt_precision_mode: str = "float32"
    trt_use_static: bool = False
    collect_shape: bool = False
    enable_new_ir: bool = False
    exp_enable_use_cutlass: bool = False
    delete_pass_lists: list[str] | None = None
    skip_prune_program: bool = False

    def options(self) -> dict[str, Any]:
        """What the user asked for, as an engine's options: nothing for what is left at its default."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen = {field.name: named[field.name] for field in fields(self) if named[field.name] != field.default}
        deleted = list(chosen.pop("delete_pass_lists", None) or ())
        # The new IR is what Paddle 3 exports; nothing in a region is ever pruned.
        chosen.pop("enable_new_ir", None)
        chosen.pop("skip_prune_program", None)
        if not chosen.pop("switch_ir_optim", True):
            # For a CPU the switch itself changes nothing in Paddle 3; not running the passes does what it says.
            deleted += [name for name in optimising_passes() if name not in deleted]
            chosen["switch_ir_optim"] = False
        return {**chosen, "deleted_passes": deleted} if deleted else chosen

    def check(self) -> None:
        """Raises ``UsageError`` for the first parameter that can't be had here, saying why."""
        for name in ("precision_mode", "trt_precision_mode"):
            value = getattr(self, name)
            if value not in PRECISIONS:
                raise UsageError(f"{name} can't be {value!r}.", f"It is one of {', '.join(PRECISIONS)}.")
        for name, needed in self._unavailable():
            raise UsageError(f"{name} can't be had here: {needed}.", "Leave it at its default.")
        for name in self.delete_pass_lists or ():
            if name not in WRAPPER_DELETED_PASSES and not _is_a_pass(name):
                raise UsageError(f"delete_pass_lists names {name!r}, which is no pass of this Paddle.")

    def _unavailable(self) -> list[tuple[str, str]]:
        found = []
        if not on_gpu():
            where = "Paddle runs on a CPU"
            if self.memory_pool_init_size_mb != 1000:
                found.append(("memory_pool_init_size_mb", f"{where}, which has no memory pool"))
            if self.precision_mode != "float32":
                found.append(("precision_mode", f"{where}, where a graph keeps its own precision"))
            if self.exp_enable_use_cutlass:
                found.append(("exp_enable_use_cutlass", f"{where}, and CUTLASS is for GPUs"))
        if self.with_trt and not _has_tensorrt():
            found.append(("with_trt", "this Paddle is built without TensorRT"))
        if self.enable_cinn and not paddle.is_compiled_with_cinn():
            found.append(("enable_cinn", "this Paddle is built without CINN"))
        if self.enable_new_ir and not paddle.framework.in_pir_mode() and not paddle.base.framework.use_pir_api():
            found.append(("enable_new_ir", "the new IR is switched off (FLAGS_enable_pir_api)"))
        if not self.with_trt:
            for name in ("trt_use_static", "collect_shape"):
                if getattr(self, name):
                    found.append((name, "it is for TensorRT, and with_trt is off"))
            if self.trt_precision_mode != "float32":
                found.append(("trt_precision_mode", "it is for TensorRT, and with_trt is off"))
        return found


def _has_tensorrt() -> bool:
    return paddle.is_compiled_with_cuda() and any(paddle.inference.get_trt_compile_version())


def _is_a_pass(name: str) -> bool:
    try:
        paddle.base.libpaddle.pir.PassManager().add_pass(name, {})
        return True
    except Exception:  # noqa: BLE001 - Paddle has no way to ask; it raises an error of its own for unknown names
        pass
    try:
        paddle.base.core.get_pass(name)
        return True
    except Exception:  # noqa: BLE001 - as above, for the passes of the older IR
        return False


def optimising_passes() -> list[str]:
    """The passes that Paddle Inference runs on a graph for the current device."""
    config = paddle.inference.Config()
    if on_gpu():
        config.enable_use_gpu(100, 0)
    return [str(name) for name in config.pass_builder().all_passes()] + list(_CPU_PASSES)


_CPU_PASSES = (
    "onednn_placement_pass",
    "inplace_pass",
    "constant_folding_pass",
    "common_subexpression_elimination_pass",
    "dead_code_elimination_pass",
)
