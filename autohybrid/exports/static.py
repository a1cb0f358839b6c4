"""The regions of a running model as static models on disk, with a manifest, for Paddle Inference anywhere."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from autohybrid import __version__
from autohybrid.engines.static_model import PortableExecutable, StaticModel, opened
from autohybrid.errors import ScriptError
from autohybrid.exports.wording import Names, identifier
from autohybrid.runtime.attach import regions_of, unplaced_in
from autohybrid.runtime.region import Region
from autohybrid.runtime.upkeep import warmup
from autohybrid.runtime.variant import State, Variant
from autohybrid.structure import Constant, Record, Sequence_, Slot, Structure, describe

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written, and what wasn't: ``left_out`` holds a region's name and why for each."""

    directories: list[str]
    left_out: list[tuple[str, str]]


def export_static(models: Any, directory: Path | str) -> Written:
    """Writes the converted regions of one model, or of several, as static models.

    Each region has a directory of its own below ``directory``; ``manifest.json`` describes them. Regions that haven't
    been called yet are converted now, with made inputs.

    Args:
        models: Layers to which a plan has been applied; one, or a list of them.
        directory: an empty one, or one that isn't there yet.

    Raises:
        ScriptError: not one region can be written; the message says why of each.
    """
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    left_out: list[tuple[str, str]] = []
    names = Names([MANIFEST])
    for model in models if isinstance(models, (list, tuple)) else [models]:
        left_out += [(each.planned.name, each.why) for each in unplaced_in(model)]
        _convert_what_waits(model)
        for region in regions_of(model):
            before = len(entries)
            for variant in region.variants:
                if variant.state is State.SERVING and isinstance(variant.executable, PortableExecutable):
                    name = names.free(identifier(f"{type(model).__name__}.{_short(region)}"))
                    entries.append(_written(region, variant, type(model).__qualname__, place / name))
            if len(entries) == before:
                left_out.append((region.name, _why_not(region)))
    if not entries:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out) or "the model has none"
        raise ScriptError(f"No region of the plan could be written ({reasons}).", "See what 'autohybrid run' says.")
    content = {
        "version": MANIFEST_VERSION,
        "autohybrid": __version__,
        "paddle": paddle.__version__,
        "regions": entries,
        "left_out": [{"region": name, "why": why} for name, why in left_out],
    }
    (place / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return Written(directories=[each["directory"] for each in entries], left_out=left_out)


def _convert_what_waits(model: Any) -> None:
    if any(not _serving(region) for region in regions_of(model)):
        warmup(model)


def _serving(region: Region) -> bool:
    return any(variant.state is State.SERVING for variant in region.variants)


def _short(region: Region) -> str:
    planned = region.planned
    if planned is not None and planned.kind == "chain":
        return f"line_{planned.source.line}" if planned.source else "chain"
    return region.path or "root"


def _why_not(region: Region) -> str:
    if _serving(region):
        return f"the engine {region.recipe.engine.name} has no files for Paddle Inference"
    if any(variant.state is State.PROVING for variant in region.variants):
        return "its conversions were still being compared with eager"
    refused = [variant.reason for variant in region.variants if variant.reason]
    return refused[0] if refused else "it wasn't called in a way that the plan knows"


def _written(region: Region, variant: Variant, model: str, place: Path) -> dict[str, Any]:
    """Writes one static model, and describes it."""
    place.mkdir()
    executable, answer = variant.executable, variant.answer
    assert isinstance(executable, PortableExecutable), "asked before"
    assert answer is not None, "what serves has answered"
    made = executable.copy_to(place)
    names = {index: name for name, index in made.inputs.items()}
    computed = made.outputs[: len(made.outputs) - len(variant.outcomes)]
    remaining = iter(computed)
    sources = [{"output": next(remaining)} if each is None else {"input": names.get(each)} for each in answer.sources]
    arguments = list(_leaves(region, variant.arguments))
    labels = {leaf.index: label for label, leaf in reversed(arguments) if isinstance(leaf, Slot)}
    return {
        "region": region.name,
        "model": model,
        "kind": region.planned.kind,
        "path": region.planned.path,
        "function": region.planned.function,
        "directory": place.name,
        "files": {"model": made.model, "parameters": made.parameters},
        "engine": region.recipe.engine.name,
        "config": made.config,
        "inputs": [
            {"name": names.get(index), "argument": labels[index], "dtype": _name(dtype), "shape": list(shape)}
            for index, (dtype, shape) in enumerate(variant.kind)
        ],
        "constants": {
            label: describe(leaf, lambda index: index) for label, leaf in arguments if isinstance(leaf, Constant)
        },
        "outputs": [
            {"name": name, **kind} for name, kind in zip(computed, _output_kinds(variant, made, place), strict=True)
        ],
        "answer": describe(answer.structure, sources.__getitem__),
        "guards": [
            {"name": name, "value": outcome}
            for name, outcome in zip(made.outputs[len(computed) :], variant.outcomes, strict=True)
        ],
        "error": {
            "largest": variant.worst.error,
            "scale": variant.worst.scale,
            "inputs_compared": variant.compared,
            "rtol": variant.recipe.tolerance.rtol,
            "atol": variant.recipe.tolerance.atol,
        },
    }


def _name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def _leaves(region: Region, arguments: Any) -> Iterator[tuple[str, Structure]]:
    """The Tensors and constants of a call, each with the argument that it is in: ``mask``, ``states[0]``."""
    args, kwargs = arguments.parts
    parameters = [
        each.name
        for each in inspect.signature(region.recipe.function).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    names = [*parameters, *(f"args[{number}]" for number in range(len(args.parts) - len(parameters)))]
    for name, part in zip(names, args.parts):  # noqa: B905 - what isn't passed has its default
        yield from _leaves_in(name, part)
    for name, part in zip(kwargs.keys, kwargs.parts, strict=True):
        yield from _leaves_in(name, part)


def _leaves_in(label: str, part: Any) -> Iterator[tuple[str, Structure]]:
    if isinstance(part, (Slot, Constant)):
        yield label, part
        return
    keys: Sequence[Any] = range(len(part.parts)) if isinstance(part, Sequence_) else part.keys
    for key, inner in zip(keys, part.parts, strict=True):
        yield from _leaves_in(f"{label}.{key}" if isinstance(part, Record) else f"{label}[{key!r}]", inner)


def _output_kinds(variant: Variant, made: StaticModel, place: Path) -> list[dict[str, Any]]:
    """Dtype and shape of each output, found out by running the model on made inputs of two sizes.

    None for both where it doesn't run with such.
    """
    predictor = opened(place / made.model, place / made.parameters, made.config)
    found: list[list[Any]] = []
    for size in _MADE_SIZES:
        inputs = [_made(dtype, [size if each == -1 else each for each in shape]) for dtype, shape in variant.kind]
        try:
            outputs = predictor.run([inputs[index] for index in made.inputs.values()])
        except Exception:  # noqa: BLE001 - sizes that we made up may be ones that the model can't take
            return [{"dtype": None, "shape": None} for _ in made.outputs[len(variant.outcomes) :]]
        found.append(outputs[: len(outputs) - len(variant.outcomes)])
    return [
        {"dtype": _name(one.dtype), "shape": [a if a == b else -1 for a, b in zip(one.shape, other.shape, strict=True)]}
        for one, other in zip(*found, strict=True)
    ]


_MADE_SIZES = (8, 16)
"""The sizes that made inputs have in the dimensions that vary."""


def _made(dtype: Any, shape: list[int]) -> Any:
    return paddle.rand(shape).cast(dtype) if _name(dtype) != "bool" else paddle.ones(shape, dtype=dtype)
