"""A plan as plain Python code with ``paddle.incubate.jit.inference``, which runs without autohybrid."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from autohybrid.exports import prelude_text
from autohybrid.exports.calls import NotInCode
from autohybrid.exports.region import RegionCode, region_code
from autohybrid.exports.source import foreign_names, method_at, rewritten
from autohybrid.exports.wording import Names, comment, identifier, listed
from autohybrid.plan import Model, Plan, Region
from autohybrid.report.rows import headline, measured_where

_LOST = """\
Eager answers calls that the plan doesn't know (other constants, dtypes, sizes, training mode), and what can't be
converted. What autohybrid guards besides, and this code doesn't:
- First answers aren't compared with eager's. Do that, here and wherever this runs.
- Changed weights, buffers and attributes aren't noticed. Call the convert function again after that.
- copy.deepcopy of a converted model answers with the weights of the original.
- What a static graph computes has no gradients, and backward() through it says nothing.
- Of training flags only the Layer's own is looked at. Automatic mixed precision has no effect inside, and hooks on
  Layers inside aren't called.
- Where a size varies (None), the wrapper converts once more at the first other size. Nothing is kept for the next
  process.
- A conversion while other threads use Paddle can crash: make the first calls, with all sizes, before there are any.
  Later one thread at a time is in a static graph.
- The wrapper prints some lines to stdout at each conversion, and Paddle more to stderr (GLOG_minloglevel=3 is quiet).
To undo it, delete from the Layer's __dict__ what is put there below."""

_FOREIGN_NAMES = "# ruff: noqa: F821  (in what was moved, names mean what they mean in the module it comes from)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A region of the plan that the code is without, and why."""

    model: str
    region: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Exported code, and what it is without."""

    text: str
    left_out: tuple[LeftOut, ...]


def export(plan: Plan) -> str:
    """The choice of a plan as plain code: for each of its models a function that puts static graphs into it.

    Neither Paddle nor the user's modules are imported. The source files that the plan names are read for chains, and
    for the names of arguments. A region that plain code can't do is left out, with a comment that says why.
    """
    return exported(plan).text


def exported(plan: Plan) -> Code:
    """:func:`export`, with what was left out."""
    return _Writer(plan).made()


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._names = Names([*prelude_text.names(), "Any", "layer", "model"])
        self._left_out: list[LeftOut] = []
        self._on_gpu = plan.environment.device.startswith("gpu")

    def made(self) -> Code:
        parts = [self._model(model) for model in self._plan.models if model.regions]
        code = "\n\n\n".join(parts)
        sections = [self._origin()]
        if parts:
            prelude = prelude_text.text(chains="part_of(" in code)
            sections.append(f"{prelude}\n\n\n{code}")
            if foreign_names(sections[-1]):
                sections[0] += f"\n{_FOREIGN_NAMES}"
        return Code(text="\n\n".join(sections) + "\n", left_out=tuple(self._left_out))

    def _origin(self) -> str:
        plan = self._plan
        command = f" of {' '.join(plan.script.command)}" if plan.script else ""
        lines = [
            f"Exported by autohybrid {plan.environment.autohybrid} from a profile{command}, {plan.created[:10]}.",
            headline(plan),
            measured_where(plan),
        ]
        if plan.recommends_change:
            calls = [f"{self._function(model)}(model)" for model in plan.models if model.regions]
            lines += ["", f"Call {', '.join(calls)} before the first inference, in eval mode.", "", *_LOST.splitlines()]
        else:
            lines.append("There is no region in the plan: nothing is to be converted.")
        return "\n".join(comment(line) if line else "#" for line in lines)

    @staticmethod
    def _function(model: Model) -> str:
        return f"convert_{identifier(model.id)}"

    def _model(self, model: Model) -> str:
        functions: list[str] = []
        statements: list[str] = []
        left_out = len(self._left_out)
        for sites in _alike(model):
            made = [self._region(model, [site[number] for site in sites]) for number in range(len(sites[0]))]
            codes = [each for each in made if each is not None]
            if not codes:
                continue
            puts = [f"{each.put}(layer)" for each in codes]
            if any(each.stretch for each in codes):
                try:
                    text, put = self._rewritten(sites[0][0], codes)
                except NotInCode as why:
                    self._leave_out(model, [region for site in sites for region in site], why)
                    continue
                codes.append(RegionCode(functions=text, put="", stretch=None))
                puts.append(put)
            functions += [each.functions for each in codes]
            statements.append(_for_layers([_layer_at(model, site[0].path) for site in sites], puts))
        convert = self._convert(model, statements, self._left_out[left_out:])
        return "\n\n\n".join([*functions, convert])

    def _region(self, model: Model, alike: Sequence[Region]) -> RegionCode | None:
        try:
            return region_code(model, alike, self._names, on_gpu=self._on_gpu)
        except NotInCode as why:
            self._leave_out(model, alike, why)
            return None

    def _leave_out(self, model: Model, regions: Sequence[Region], why: NotInCode) -> None:
        self._left_out += [LeftOut(model=model.id, region=each.name, why=str(why)) for each in regions]

    def _rewritten(self, region: Region, codes: Sequence[RegionCode]) -> tuple[str, str]:
        """The method that holds chains, with calls in their places, and the statement that puts it."""
        name = self._names.free(identifier(f"{region.class_name.rpartition('.')[2]}_{region.function}"))
        method = method_at(region.source, region.function)
        lines = rewritten(method, name, [each.stretch for each in codes if each.stretch is not None])
        where = region.source.function if region.source else region.function
        note = comment(f"{where} with those statements as calls. In the class itself, it wouldn't need in_place_of.")
        put = f'layer.__dict__["{region.function}"] = in_place_of(layer, "{region.function}", {name})'
        return "\n".join([note, *lines]), put

    def _convert(self, model: Model, statements: Sequence[str], left_out: Sequence[LeftOut]) -> str:
        lines = [
            f"def {self._names.free(self._function(model))}(model: Any) -> Any:",
            f'    """Puts static graphs into ``model``, a {model.class_name}, and returns it."""',
        ]
        notes = [comment(f"Left out, {each.region}: {each.why}.") for each in left_out]
        return "\n".join(
            [*lines, *(textwrap.indent(each, "    ") for each in [*notes, *statements]), "    return model"]
        )


def _alike(model: Model) -> list[list[list[Region]]]:
    """The regions of each method of each Layer; those that differ only in the Layer together."""
    sites: dict[tuple[str, str], list[Region]] = {}
    for region in model.regions:
        sites.setdefault((region.path, region.function), []).append(region)
    kinds: dict[Any, list[list[Region]]] = {}
    for site in sites.values():
        kinds.setdefault(msgspec.json.encode([_kind(region) for region in site]), []).append(site)
    return list(kinds.values())


def _kind(region: Region) -> dict[str, Any]:
    """What decides the code of a region."""
    shared = ("kind", "function", "code", "source", "class_name", "engine", "options", "inputs", "outputs")
    found = {name: getattr(region, name) for name in (*shared, "training_mode", "measured_on")}
    return found | ({"members": region.members} if region.kind == "chain" else {})


def _for_layers(layers: Sequence[str], puts: Sequence[str]) -> str:
    if len(layers) > 1:
        return "\n".join([listed("for layer in [", layers, "]:", 0), *(f"    {put}" for put in puts)])
    if len(puts) == 1 and puts[0].endswith("(layer)"):
        return puts[0].replace("(layer)", f"({layers[0]})")
    return "\n".join([f"layer = {layers[0]}", *puts])


def _layer_at(model: Model, path: str) -> str:
    """The expression for a Layer: ``model.blocks[3]``."""
    classes = {line.split(" ")[0]: line.split(" ")[1] for line in model.structure if " " in line}
    made, at = "model", ""
    for name in path.split(".") if path else ():
        kind = classes.get(at or ".", "").rpartition(".")[2]
        if name.isidentifier():
            made += f'["{name}"]' if kind == "LayerDict" else f".{name}"
        elif name.isdigit() and kind in ("LayerList", "Sequential"):
            made += f"[{name}]"
        else:
            made += f'._sub_layers["{name}"]'
        at = f"{at}.{name}" if at else name
    return made
