"""Pieces of HTML for a notebook's cells: without scripts and without colours, to be right on light and dark."""

from __future__ import annotations

from collections.abc import Sequence

from autohybrid.report.columns import Column, RowT, filled
from autohybrid.report.html.markup import Markup, element, joined

_SIDES = {"l": "left", "r": "right"}


def block(*parts: str) -> str:
    """The parts below one another; what isn't :class:`Markup` is a paragraph of text."""
    shown = [part if isinstance(part, Markup) else element("p", part) for part in parts if part]
    return element("div", joined(*shown), class_="autohybrid")


def page(title: str, content: str) -> str:
    """A document of its own around a :func:`block`; ends with a newline."""
    head = joined(element("title", title), element("style", _STYLE))
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8">{head}<body>{content}</body></html>\n'


_STYLE = (
    ":root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif } body { margin: 2rem }"
    " table { border-collapse: collapse } th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid #8886 }"
)


def heading(text: str) -> Markup:
    """The sentence that matters."""
    return element("p", element("strong", text))


def table(columns: Sequence[Column[RowT]], rows: Sequence[RowT]) -> Markup:
    """A table of these rows; nothing where there are none."""
    if not rows:
        return Markup("")
    made = filled(columns, rows)
    return cells(made.headers, made.cells, made.alignment)


def cells(headers: Sequence[str], rows: Sequence[Sequence[str]], alignment: str) -> Markup:
    """A table of texts; ``alignment`` has an ``l`` or ``r`` a column."""

    def line(tag: str, texts: Sequence[str]) -> Markup:
        made = [
            element(tag, text, style=f"text-align: {_SIDES[side]}") for text, side in zip(texts, alignment, strict=True)
        ]
        return element("tr", *made)

    body = element("tbody", *(line("td", row) for row in rows))
    return element("table", element("thead", line("th", headers)), body)
