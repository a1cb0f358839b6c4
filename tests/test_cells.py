"""What a notebook shows: plans, measurements, status, the progress of a search."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import paddle
import plans
import pytest
from fakes import Honest
from recordings import recorded

import autohybrid
from autohybrid import progress
from autohybrid.errors import UsageError
from autohybrid.plan.measurement import Measurement, ModelMeasured
from autohybrid.report.measurement import Checked, gates
from autohybrid.search.progress import Step

MEASUREMENT = Measurement(
    min_gain=1.05,
    environment=plans.ENVIRONMENT,
    models=[
        ModelMeasured(
            id="Net-1",
            regions=1,
            calls=9,
            called=False,
            confirmation=None,
            problem="it was <never> called",
            differs=False,
            changed=[],
            conversion_seconds=0.0,
        )
    ],
    script=None,
    notes=["a note"],
)


class _Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _checked(text: str) -> set[str]:
    """The tags of well-formed HTML without scripts and colours."""
    parser = _Balanced()
    parser.feed(text)
    assert not parser.open
    assert "script" not in parser.seen
    return parser.seen


@pytest.mark.parametrize("name", ["autoencoder", "bad_conversions", "chained", "small"])
def test_a_plan_is_a_cell(name: str) -> None:
    made = recorded(name)
    text = made._repr_html_()
    assert "table" in _checked(text)
    assert "color" not in text
    assert all(model.id in text for model in made.models)


def test_names_of_the_users_are_escaped() -> None:
    entry = plans.model([], id="<script>alert(1)</script>")
    text = plans.whole([entry])._repr_html_()
    assert "&lt;script&gt;" in text
    _checked(text)


def test_a_measurement_and_what_was_checked_are_cells() -> None:
    text = MEASUREMENT._repr_html_()
    _checked(text)
    assert "&lt;never&gt;" in text
    checked = Checked(gates=gates(MEASUREMENT, min_speedup=1.0, objective="steady"), measurement=MEASUREMENT)
    assert "A gate fell" in checked._repr_html_()
    assert "table" in _checked(checked._repr_html_())


def test_a_status_is_a_cell(convert: Any) -> None:
    layer = paddle.nn.Linear(4, 4)
    layer.eval()
    assert "eager" in autohybrid.status(layer)._repr_html_()
    convert(layer, Honest())
    with paddle.no_grad():
        for _ in range(3):
            layer(paddle.ones([2, 4]))
    text = autohybrid.status(layer)._repr_html_()
    assert "table" in _checked(text)
    assert "being proven (1)" in text


@pytest.mark.parametrize("format", ["table", "markdown", "json", "csv", "html"])
def test_everything_that_was_found_comes_in_each_format(format: Any) -> None:
    made = recorded("small")
    assert autohybrid.render(made, format).strip()
    assert autohybrid.render(MEASUREMENT, format).strip()
    if format != "csv":
        assert autohybrid.render(autohybrid.diff(made, made), format).strip()


def test_a_format_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(UsageError, match="'csv'") as caught:
        autohybrid.render(autohybrid.diff(recorded("small"), recorded("small")), "csv")
    assert "'markdown'" in caught.value.remedy


def test_a_measurement_is_a_page_of_its_own() -> None:
    page = autohybrid.render(MEASUREMENT, "html")
    assert page.startswith("<!doctype html>")
    _checked(page)


STEP = Step(stage="trying", what="body (<Block>)", trials=7, spent=12.0, budget=30.0, speedup=2.1)


def test_a_step_says_what_how_long_and_how_far() -> None:
    assert str(STEP) == "trying body (<Block>), 18 s left, about 2.10x so far"
    assert str(Step(stage="checking", what="this")) == "checking this"
    text = progress.bar(STEP)
    assert '<progress value="12.0" max="30.0">' in text
    assert "7 trials" in text
    assert "&lt;Block&gt;" in text


class _Display:
    """As much of ``IPython.display`` as is used."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def HTML(self, text: str) -> str:
        return text

    def display(self, what: str, display_id: bool) -> _Display:
        assert display_id
        self.update(what)
        return self

    def update(self, what: str) -> None:
        self.shown.append(what)


def test_a_notebook_shows_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    display = _Display()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    model = paddle.nn.Sequential(paddle.nn.Linear(8, 8), paddle.nn.ReLU())
    model.eval()
    with paddle.no_grad():
        autohybrid.profile(model, paddle.ones([2, 8]), options=autohybrid.Options(budget=4.0))
    assert "trying" in "".join(display.shown)
    assert display.shown[-1] == ""


@pytest.mark.parametrize("shell", [None, SimpleNamespace()])
def test_ipython_without_a_kernel_shows_no_bar(shell: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    display = _Display()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    with progress.shown() as told:
        told(STEP)
    assert display.shown == []
    assert capfd.readouterr().err == ""
