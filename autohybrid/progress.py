"""Shows how a search goes on: a bar in a notebook, a line on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autohybrid.report.html.markup import element, joined
from autohybrid.search.progress import Progress, Step
from autohybrid.sizes import counted


@contextmanager
def shown() -> Iterator[Progress]:
    """Within it, what the given function is told is shown; afterwards it is gone."""
    display = _display_of_notebook()
    if display is not None:
        handle = display.display(display.HTML(""), display_id=True)
        try:
            yield lambda step: handle.update(display.HTML(bar(step)))
        finally:
            handle.update(display.HTML(""))
    elif sys.stderr.isatty():
        try:
            yield _write_line
        finally:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    else:
        yield lambda _step: None


def bar(step: Step) -> str:
    """One step as HTML: the budget as a bar, what is being done beside it."""
    told = f"{step}; {counted(step.trials, 'trial')}" if step.trials else str(step)
    drawn = element("progress", "", value=f"{min(step.spent, step.budget):.1f}", max=f"{step.budget or 1.0:.1f}")
    return element("div", joined(drawn, element("span", f" {told}")), class_="autohybrid")


def _write_line(step: Step) -> None:
    width = os.get_terminal_size(sys.stderr.fileno()).columns
    print(f"\r\x1b[K{str(step)[: max(10, width - 1)]}", end="", file=sys.stderr, flush=True)


def _display_of_notebook() -> Any:
    """``IPython.display`` where this process is a notebook's kernel; IPython itself is never imported."""
    ipython, display = sys.modules.get("IPython"), sys.modules.get("IPython.display")
    if ipython is None or display is None:
        return None
    shell = ipython.get_ipython()
    return display if getattr(shell, "kernel", None) is not None else None
