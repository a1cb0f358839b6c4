"""What an engine exported, as files that any user of Paddle Inference can open."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from paddle import inference

from autohybrid.engines.interface import Executable
from autohybrid.errors import ConversionError


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticModel:
    """An exported program beside its parameters.

    Attributes:
        model, parameters: the names of its files.
        inputs: for each input the number of the Tensor that goes there, by the input's name in the model.
        outputs: the names of the outputs, in their order.
        config: what it was run with, in the words of ``paddle.inference.Config``'s methods.
    """

    model: str
    parameters: str
    inputs: dict[str, int]
    outputs: list[str]
    config: dict[str, Any]


@runtime_checkable
class PortableExecutable(Executable, Protocol):
    """An executable whose files are worth something without it."""

    def copy_to(self, directory: Path) -> StaticModel:
        """Copies what Paddle Inference needs into an existing directory."""
        ...


def copied(stem: Path, directory: Path, config: dict[str, Any]) -> StaticModel:
    """Copies ``stem.json`` or ``stem.pdmodel``, and ``stem.pdiparams``, as ``model.*``.

    Raises:
        ConversionError: they aren't there.
    """
    program = next((file for suffix in (".json", ".pdmodel") if (file := stem.with_suffix(suffix)).exists()), None)
    parameters = stem.with_suffix(".pdiparams")
    if program is None:
        raise ConversionError(f"no exported program in {stem.parent}")
    model = directory / f"model{program.suffix}"
    kept = directory / "model.pdiparams"
    shutil.copyfile(program, model)
    if parameters.exists():
        shutil.copyfile(parameters, kept)
    predictor = opened(model, kept, {"ir_optim": False})
    return StaticModel(
        model=model.name,
        parameters=kept.name,
        inputs={name: int(name.rpartition("_")[2]) for name in predictor.get_input_names()},
        outputs=list(predictor.get_output_names()),
        config=config,
    )


def opened(model: Path, parameters: Path, config: dict[str, Any]) -> Any:
    """A ``paddle.inference.Predictor`` for such files, on a CPU, as the manifest describes it."""
    made = inference.Config(str(model), str(parameters))
    made.disable_glog_info()
    made.enable_memory_optim(False)
    made.disable_gpu()
    made.switch_ir_optim(config.get("ir_optim", True))
    if "optimization_level" in config:
        made.set_optimization_level(config["optimization_level"])
    if config.get("onednn", False):
        getattr(made, "enable_onednn" if hasattr(made, "enable_onednn") else "enable_mkldnn")()
    else:
        getattr(made, "disable_onednn" if hasattr(made, "disable_onednn") else "disable_mkldnn")()
    made.set_cpu_math_library_num_threads(config.get("threads", 1))
    for name in config.get("deleted_passes", ()):
        made.delete_pass(name)
    return inference.create_predictor(made)
