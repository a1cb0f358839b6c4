"""One region of a plan as plain code: functions, and the name of the one that puts it into its Layer."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from autohybrid.exports.calls import Answer, Arguments, NotInCode, answer_of, arguments_of
from autohybrid.exports.options import measured_with, wrapping_of
from autohybrid.exports.source import Stretch, parameters_at, stretch_at
from autohybrid.exports.wording import WIDTH, Names, comment, identifier, listed
from autohybrid.plan import Model, Region
from autohybrid.report.columns import duration, times
from autohybrid.report.rows import place

LONGEST_NAME = 30
"""Letters that the name of a chain may have, if it is to be made of its members' paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionCode:
    """A region in code.

    Attributes:
        functions: their text.
        put: the name of the function that puts it into a Layer.
        stretch: of a chain, its statements, and the name of the method that they become.
    """

    functions: str
    put: str
    stretch: tuple[Stretch, str] | None


def region_code(model: Model, alike: Sequence[Region], names: Names, *, on_gpu: bool) -> RegionCode:
    """Code for regions of a model that differ only in which Layer of a kind they are.

    Raises:
        NotInCode: plain code can't do what they do.
    """
    return _Writer(model, alike, names, on_gpu).made()


class _Writer:
    def __init__(self, model: Model, alike: Sequence[Region], names: Names, on_gpu: bool) -> None:
        region = alike[0]
        self._alike = alike
        self._region = region
        self._wrapping = wrapping_of(region, on_gpu)
        self._answer: Answer = answer_of(region.outputs)
        self._stretch = stretch_at(region.source, region.function, region.code) if region.kind == "chain" else None
        if self._stretch is not None:
            _check_outputs(self._stretch, region)
        self._forms = self._all_arguments()
        self._looks = next((each.looks for each in model.ranking if each.name == region.name), "clean")
        self._names = names
        self._name = names.free(self._wanted_name())
        self._eager = f"eager_{region.function if self._stretch is None else self._name}"

    def _wanted_name(self) -> str:
        region = self._region
        kind = region.class_name.rpartition(".")[2]
        if region.kind != "chain":
            return identifier(kind if region.function == "forward" else f"{kind}.{region.function}")
        ends = [member.replace(".", "_") for member in (region.members[0], region.members[-1])]
        name = identifier("_to_".join(dict.fromkeys(ends)))
        line = region.source.line if region.source else 0
        return name if len(name) <= LONGEST_NAME else identifier(f"{kind}_line_{line}")

    def _all_arguments(self) -> list[list[Arguments]]:
        """The structures of arguments, those of one form together."""
        region, stretch = self._region, self._stretch
        known = parameters_at(region.source, region.function) if stretch is None else stretch.inputs
        forms = [
            arguments_of(each if stretch is None else _first(each, len(stretch.inputs)), known)
            for each in region.inputs
        ]
        if not all(form.tensors for form in forms):
            raise NotInCode("it takes no Tensors but those of the model")
        forms.sort(key=lambda each: each.patterns)
        return [list(group) for _, group in groupby(forms, key=lambda each: each.patterns)]

    def made(self) -> RegionCode:
        """All of it."""
        functions = []
        if self._stretch is not None:
            functions.append("\n".join(self._stretch.as_method(self._name)))
        several = len(self._forms) > 1
        computing = [
            self._names.free(f"compute_{self._name}{f'_{number}' if several else ''}")
            for number in range(1, len(self._forms) + 1)
        ]
        functions += [self._compute(name, forms[0]) for name, forms in zip(computing, self._forms, strict=True)]
        put = self._names.free(f"put_{self._name}")
        functions.append(self._put(put, computing))
        stretch = (self._stretch, self._name) if self._stretch is not None else None
        return RegionCode(functions=f"{self._about()}\n" + "\n\n\n".join(functions), put=put, stretch=stretch)

    def _about(self) -> str:
        region = self._region
        eager, hybrid = median(region.samples.eager), median(region.samples.hybrid)
        whose = ", ".join(each.name for each in self._alike)
        what = {"layer": "forward", "method": "method", "chain": "statements in the forward"}[region.kind]
        lines = [
            f"{whose}: {what} of {region.class_name}, {place(region.source)}",
            f"{sum(each.share for each in self._alike):.0%} of the model's time. Measured alone"
            f"{'' if region.measured_on == region.name else f' on {region.measured_on}'}: {duration(eager)} in eager, "
            f"{duration(hybrid)} converted, {times(region.samples.comparison().speedup)} as fast; largest error "
            f"{region.equality.error:.1g} in answers of up to {region.equality.scale:.3g}.",
            measured_with(region, self._wrapping),
            self._not_watched(),
        ]
        return "\n".join(comment(line) for line in lines if line)

    def _not_watched(self) -> str:
        if self._looks != "clean":
            return (
                f"Its source looks hard to convert ({self._looks}). autohybrid may have traced it as it stands, with "
                "guards, which the wrapper can't. Where it fails, this warns and stays eager."
            )
        return (
            "Attributes that these statements read, and members replaced later, are built in." if self._stretch else ""
        )

    def _compute(self, name: str, form: Arguments) -> str:
        head = f"def {name}(layer: Any, {', '.join(f'{each}: Any' for each in form.tensors)}) -> list[Any]:"
        if len(head) > 120:
            head = listed(f"def {name}(", ["layer: Any", *(f"{each}: Any" for each in form.tensors)], ") -> list[Any]:")
        # A bound method by its name: Paddle takes a function of a class for one that was converted before.
        called = f"layer.{self._eager}("
        if self._answer.taken == ("answer",):
            return f"{head}\n{listed(f'return [{called}', form.passed, ')]', 4)}"
        taken = listed("return [", self._answer.taken, "]", 4)
        return f"{head}\n{listed(f'answer = {called}', form.passed, ')', 4)}\n{taken}"

    def _put(self, name: str, computing: Sequence[str]) -> str:
        region = self._region
        function = region.function if self._stretch is None else self._name
        suffixes = [f"_{number}" if len(self._forms) > 1 else "" for number in range(1, len(self._forms) + 1)]
        lines = [f"def {name}(layer: Any) -> None:"]
        if self._stretch is None:
            lines.append(f"    eager = MethodType(type(layer).{function}, layer)")
        else:
            lines.append(f'    eager = part_of(layer, "{region.function}", {self._name})')
        lines.append(f'    layer.__dict__["{self._eager}"] = eager')
        if self._answer.modules:
            lines[1:1] = [*(f"    import {module}" for module in self._answer.modules), ""]
        for suffix, compute, forms in zip(suffixes, computing, self._forms, strict=True):
            lines.append(self._graphs(f"graphs{suffix}", compute, forms))
        inner = function if self._stretch is None else "statements"
        lines += ["", f"    def {inner}(*args: Any, **kwargs: Any) -> Any:", "        match args, kwargs:"]
        lines += [self._case(f"graphs{suffix}", forms[0]) for suffix, forms in zip(suffixes, self._forms, strict=True)]
        lines += ["        return eager(*args, **kwargs)", "", f'    layer.__dict__["{function}"] = {inner}']
        return "\n".join(lines)

    def _graphs(self, name: str, compute: str, forms: Sequence[Arguments]) -> str:
        sizes = list(dict.fromkeys(listed("[", form.sizes, "]", width=WIDTH - 13) for form in forms))
        options = [f"{key}={value}" for key, value in self._wrapping.parameters.items()]
        given = ["layer", compute, listed("[", sizes, "]", width=WIDTH - 9), *options]
        return listed(f"{name} = StaticGraphs(", given, ")", 4)

    def _case(self, graphs: str, form: Arguments) -> str:
        conditions = [*form.conditions]
        if self._region.training_mode == "eager":
            conditions.append("not layer.training")
        given = ", ".join(form.tensors)
        pattern = f"case {form.patterns[0]}, {form.patterns[1]} if {' and '.join(conditions)}:"
        if len(pattern) > 108:
            pattern = f"case (\n    {form.patterns[0]},\n    {form.patterns[1]},\n) if {' and '.join(conditions)}:"
        if self._answer.rebuilt == "y0":
            answered = "return answer[0]"
        else:
            answered = f"[{', '.join(self._answer.names)}] = answer\nreturn {self._answer.rebuilt}"
        body = f"answer = {graphs}({given})\nif answer is not None:\n{textwrap.indent(answered, '    ')}"
        return textwrap.indent(f"{pattern}\n{textwrap.indent(body, '    ')}", " " * 12)


def _first(structure: object, count: int) -> object:
    """The structure of a chain's call without the attributes that it reads: the statements read them themselves."""
    match structure:
        case {"tuple": [{"tuple": list(args)}, kwargs]} if len(args) >= count:
            return {"tuple": [{"tuple": args[:count]}, kwargs]}
    raise NotInCode("its statements need other values than the plan's")


def _check_outputs(stretch: Stretch, region: Region) -> None:
    count = len(stretch.outputs)
    if count < 2:
        return
    match region.outputs:
        case {"tuple": list(parts)} if len(parts) == count:
            return
    raise NotInCode("its statements bind other values than the plan's")
