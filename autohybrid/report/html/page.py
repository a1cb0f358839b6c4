"""The page: a summary and tables that stand without a script, and a chart that a script draws."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from autohybrid.plan import Model, Plan
from autohybrid.report import columns, rows
from autohybrid.report.advice import next_steps
from autohybrid.report.columns import RowT, Table, duration, filled, interval, times
from autohybrid.report.html.data import page_data
from autohybrid.report.html.markup import Markup, element, joined, json_script
from autohybrid.sizes import counted

LIBRARIES = ("d3-array", "d3-hierarchy", "d3-selection")
MOST_RANKED = 15


def render(plan: Plan, *, plan_file: str = "plan.json") -> str:
    """One self-contained HTML document; ends with a newline.

    Args:
        plan_file: what the commands that the page suggests call the plan.
    """
    style, script = _style(), _script()
    return Template(_read("page.html")).substitute(
        title=element("title", f"autohybrid: {', '.join(model.id for model in plan.models) or 'nothing found'}"),
        policy=_policy(style, script),
        style=style,
        script=script,
        summary=_summary(plan, plan_file),
        models=joined(*(_model(number, model) for number, model in enumerate(plan.models)), _whole_script(plan)),
        data=json_script(page_data(plan)),
    )


@cache
def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _style() -> str:
    return _read("page.css")


@cache
def _script() -> str:
    """Our script behind the libraries, each with its licence."""
    libraries = [f"/*\n{_read(f'vendor/{name}.LICENSE')}*/\n{_read(f'vendor/{name}.min.js')}" for name in LIBRARIES]
    return "\n".join([*libraries, _read("page.js")])


def _policy(style: str, script: str) -> Markup:
    """Nothing is loaded from anywhere, and nothing runs but the page's own script."""
    content = f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; form-action 'none'"
    return element("meta", http_equiv="Content-Security-Policy", content=content)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _summary(plan: Plan, plan_file: str) -> Markup:
    script = " ".join(plan.script.command) if plan.script else "a callable"
    verdict = "faster" if plan.recommends_change else "unchanged"
    return joined(
        element("p", "autohybrid profile of ", element("code", script), f", {plan.created[:10]}", class_="of"),
        element("h1", rows.headline(plan), class_=verdict),
        element("p", rows.script_sentence(plan)),
        element(
            "div", *(_tile(model) for model in plan.models if model.confirmation and model.regions), class_="tiles"
        ),
        element("div", _next(plan, plan_file), _environment(plan), class_="beside"),
        *(element("p", note, class_="note") for note in plan.notes),
    )


def _tile(model: Model) -> Markup:
    assert model.confirmation is not None
    eager, *_, hybrid = rows.whole_rows(model)
    regions = rows.region_rows(model)
    pays = rows.pays_after(model)
    error = max((row.error / row.scale if row.scale else row.error for row in regions), default=0.0)
    numbers = [
        (times(hybrid.comparison.speedup if hybrid.comparison else 1.0), f"{model.id}, {interval(hybrid.comparison)}"),
        (f"{duration(eager.seconds)} → {duration(hybrid.seconds)}", "for each root call"),
        (counted(len(model.regions), "region"), f"{min(1.0, sum(row.share for row in regions)):.0%} of the time"),
        (counted(pays, "call") if pays else "never", "until conversion has paid"),
        (f"{error:.0e}", "largest relative error"),
    ]
    return joined(
        *(element("div", element("strong", number), element("span", what), class_="tile") for number, what in numbers)
    )


def _next(plan: Plan, plan_file: str) -> Markup:
    listed = [
        element("li", element("span", step.purpose), element("pre", element("code", step.command)))
        for step in next_steps(plan, plan_file, in_browser=True)
    ]
    what = element("ul", *listed, class_="steps") if listed else element("p", "Nothing: the search is complete.")
    return element("section", element("h2", "What to run next"), what)


def _environment(plan: Plan) -> Markup:
    where = plan.environment
    facts = [
        ("processor", where.processor),
        ("device", where.device),
        ("cores", f"{where.cores}, {counted(where.math_threads, 'math thread')}"),
        ("Paddle", where.paddle),
        ("Python", where.python),
        ("platform", where.platform),
        ("search", f"{counted(plan.trials, 'trial')} in {plan.search_seconds:.0f} s"),
        ("tolerance", f"rtol {plan.settings.rtol:g}, atol {plan.settings.atol:g}"),
    ]
    listed = [part for name, value in facts for part in (element("dt", name), element("dd", value))]
    return element("section", element("h2", "Measured on"), element("dl", *listed))


def _model(number: int, model: Model) -> Markup:
    training = f", {counted(model.training_calls, 'training call')} left out" if model.training_calls else ""
    what = (
        f"{model.class_name}: {counted(model.calls, 'call')} of {duration(model.seconds_per_call)}, "
        f"{model.share:.0%} of the inference time{training}"
    )
    return element(
        "section",
        element("h2", model.id),
        element("p", what),
        _chart(number, model),
        _confirmation(model),
        _section("Regions", _table(filled(columns.REGION, rows.region_rows(model))), bool(model.regions)),
        _passed_over(model),
        _ranking(model),
        _trials(model),
        class_="model",
        data_model=str(number),
    )


def _section(title: str, content: Markup, shown: bool = True) -> Markup:
    return element("section", element("h3", title), content) if shown else Markup()


def _chart(number: int, model: Model) -> Markup:
    if not model.ranking:
        return element("p", "The plan ranks no Layers: there is nothing to draw.", class_="note")
    caption = "Width is time. Eager above, hybrid below, on one scale." if model.regions else "Width is time."
    if model.confirmation is not None and model.regions:
        caption += " The whole is as long as it was confirmed; its parts divide it as they were measured."
    return element(
        "section",
        element("h3", "Where the time goes"),
        element(
            "div",
            element("label", "Search ", element("input", type="search", placeholder="path or class  ( / )")),
            element("button", "Whole tree", type="button", class_="whole", disabled=True),
            element("output", "", class_="found"),
            element("span", caption, class_="caption"),
            class_="tools",
        ),
        element("div", class_="chart", data_chart=str(number)),
        class_="where",
    )


def _confirmation(model: Model) -> Markup:
    if model.confirmation is None:
        return Markup()
    table = filled(columns.WHOLE, rows.whole_rows(model))
    drawn = element("div", class_="distribution", data_confirmation=True)
    said = element("p", f"{rows.verdict_line(model.confirmation)}. {rows.threads_note(model)}".strip())
    title = "Confirmed on the whole root" if model.regions else "Tried on the whole root, and not kept"
    return _section(title, joined(_table(table), said, drawn))


def _whole_script(plan: Plan) -> Markup:
    measured = rows.script_rows(plan)
    return _section("The whole script", _table(filled(columns.WHOLE, measured))) if measured else Markup()


def _passed_over(model: Model) -> Markup:
    listed = rows.listed(model)
    others = rows.others_line(model)
    if not listed and not others:
        return Markup()
    parts = [_table(filled(columns.REJECTED, listed))] if listed else []
    return _section("Not converted", joined(*parts, element("p", others, class_="note") if others else ""))


def _ranking(model: Model) -> Markup:
    if not model.ranking:
        return Markup()
    ranking = rows.layers(model)
    more = len(ranking) - MOST_RANKED
    said = f"and {counted(more, 'more Layer')}, see the chart" if more > 0 else ""
    table = _table(filled(columns.RANKED, ranking[:MOST_RANKED]))
    return _folded("The slowest Layers", joined(table, element("p", said, class_="note") if said else ""))


def _trials(model: Model) -> Markup:
    attempts = rows.attempt_rows(model)
    if not attempts:
        return Markup()
    return _folded(f"All that was tried ({len(attempts)})", _table(filled(columns.ATTEMPT, attempts)))


def _folded(title: str, content: Markup) -> Markup:
    return element("details", element("summary", element("h3", title)), content)


def _table(table: Table[RowT]) -> Markup:
    """A table that a script can sort: each cell with the value behind its text."""
    head = [
        element(
            "th",
            element("button", header, type="button", title=column.meaning or None),
            scope="col",
            class_=None if column.quantity == "text" else "number",
        )
        for column, header in zip(table.columns, table.headers, strict=True)
    ]
    body = [_row(table, cells, values) for cells, values in zip(table.cells, table.values, strict=True)]
    whole = element("table", element("thead", element("tr", *head)), element("tbody", *body), class_="sortable")
    return element("div", whole, class_="scroll", tabindex="0", role="group", aria_label="table")


def _path(text: str) -> Markup:
    """A path that may be broken behind its dots."""
    first, *others = text.split(".")
    return element("code", first, *(part for other in others for part in (".", element("wbr"), other)))


def _row(table: Table[RowT], cells: Sequence[str], values: Sequence[Any]) -> Markup:
    made = []
    for column, cell, value in zip(table.columns, cells, values, strict=True):
        kind = "text" if column.quantity == "text" else "number"
        shown: str = _path(cell) if column.key in ("region", "layer") else cell
        if column.key == "source" and cell:
            shown = element("code", cell)
        made.append(
            element(
                "td",
                shown,
                class_=f"{kind} {column.key}",
                data_value="" if value is None else str(value),
            )
        )
    return element("tr", *made)
