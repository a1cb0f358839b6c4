"""Python text: names, lists that break over lines, comments."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Sequence

WIDTH = 120


def listed(before: str, parts: Sequence[str], after: str, indent: int = 0, width: int = WIDTH) -> str:
    """``before``, the parts with commas between, ``after``: on one line where that fits, else a part a line.

    Args:
        width: of the longest line.
    """
    one_line = f"{' ' * indent}{before}{', '.join(parts)}{after}"
    if not parts or ("\n" not in one_line and len(one_line) <= width):
        return one_line
    inner = [textwrap.indent(f"{part},", " " * (indent + 4)) for part in parts]
    return "\n".join([f"{' ' * indent}{before}", *inner, f"{' ' * indent}{after}"])


def comment(text: str) -> str:
    """Lines of a comment; what is indented in ``text`` stays on lines of its own."""
    made = []
    for line in text.splitlines():
        start = re.match(r"[\s-]*", line)
        rest = " " * (len(start[0]) if start else 0)
        made += textwrap.wrap(
            line,
            WIDTH,
            initial_indent="# ",
            subsequent_indent=f"# {rest}",
            break_long_words=False,
            drop_whitespace=True,
        ) or ["#"]
    return "\n".join(each.rstrip() for each in made)


def identifier(text: str) -> str:
    """``text`` as a name: ``Autoencoder-1`` is ``autoencoder_1``."""
    made = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    made = re.sub(r"\W+", "_", made.lower(), flags=re.ASCII).strip("_") or "model"
    return f"{made}_" if keyword.iskeyword(made) or made[0].isdigit() else made


class Names:
    """Names that are given once each."""

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self._taken = set(taken)

    def free(self, wanted: str) -> str:
        """``wanted``, with a number behind it where that is taken."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
