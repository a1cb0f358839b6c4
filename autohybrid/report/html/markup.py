"""HTML from values: what isn't made by :func:`element` is text, and is escaped."""

from __future__ import annotations

import html
import json
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


_VOID = frozenset({"input", "meta", "wbr"})


def element(tag: str, *children: str, **attributes: str | bool | None) -> Markup:
    """``<tag attributes>children</tag>``.

    Children that aren't :class:`Markup` are escaped, and so are attributes. ``class_`` stands for ``class``, other
    underscores for hyphens; an attribute that is True has no value, one that is None or False is left out.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items() if value not in (None, False))
    inside = "".join(child if isinstance(child, Markup) else html.escape(child) for child in children)
    return Markup(f"<{tag}{written}>" + ("" if tag in _VOID else f"{inside}</{tag}>"))


def joined(*parts: str) -> Markup:
    """Elements one after another."""
    return Markup("\n".join(part if isinstance(part, Markup) else html.escape(part) for part in parts if part))


def json_script(content: Any) -> str:
    """JSON that may stand inside a ``<script>`` element: no ``<`` that could end it, no line separators."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _attribute(name: str, value: str | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
