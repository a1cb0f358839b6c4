"""Everyday Paddle code through ``autohybrid.inference``: the same as eager, and hybrid where it can be."""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import random
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import hazards.answers
import hazards.arguments
import hazards.changing
import hazards.control
import hazards.state  # noqa: F401
import numpy as np
import paddle
import pytest
from engine_regions import ENGINES
from hazards import ROWS, Row, Step

import autohybrid
from autohybrid import plan
from autohybrid.isolation import Finished, Forked
from autohybrid.observe.observer import Observer
from autohybrid.runtime import attach
from autohybrid.runtime.equality import Tolerance
from autohybrid.search.findings import Budget
from autohybrid.search.journal import Journal
from autohybrid.search.options import Options
from autohybrid.search.prove import region_of
from autohybrid.search.search import Search

CHILD_SECONDS = 240.0

ENDLESS_SECONDS = 80.0
"""Of a search in which a trial may come to no end; it gets nearly half of them."""

PLANNED = [row for row in ROWS if row.wrap is None]

UNPLANNED = {
    "gradients": "its calls are training",
    "gradients of the input only": "its calls are training",
    "gradients, then frozen": "its calls are training",
    "changed: to(dtype)": "the inputs that were seen don't fit the model as it is at the end",
}
"""Rows that are hybrid by hand, and for which no plan is made, with the reason."""


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_region_answers_as_eager_does(row: Row) -> None:
    if row.child:
        result = Forked().run(lambda: _examined(row), seconds=CHILD_SECONDS, memory=8 << 30)
        assert isinstance(result, Finished), result
        problem = result.value
    else:
        problem = _examined(row)
    assert not problem, problem


OTHER_ENGINES = [each for each in ENGINES if each.values[0] not in ("predictor", "incubate")]


@pytest.mark.slow
@pytest.mark.parametrize("engine", OTHER_ENGINES)
@pytest.mark.parametrize("row", PLANNED, ids=[row.name for row in PLANNED])
def test_another_engine_answers_as_eager_does_where_it_answers(row: Row, engine: str) -> None:
    """The same rows: an engine may be able to do less, which is no fault, but what it answers is right."""

    def examined() -> str:
        return _examined(row, functools.partial(autohybrid.inference, engine=engine), may_be_eager=True)

    if row.child:
        result = Forked().run(examined, seconds=CHILD_SECONDS, memory=8 << 30)
        assert isinstance(result, Finished), result
        problem = result.value
    else:
        problem = examined()
    assert not problem, problem


@pytest.mark.parametrize("row", PLANNED, ids=[row.name for row in PLANNED])
def test_a_planned_region_answers_as_eager_does(row: Row) -> None:
    """The same rows through observation, a trial, and the region that a plan would put in place."""
    planned, ended = _tried(row)
    if planned is None:
        assert row.comes == "eager" or row.name in UNPLANNED, ended
        return
    assert row.comes != "eager"
    counted: dict[str, Any] = {}

    def place(model: Any) -> Any:
        attach.place(model, planned, Tolerance(), 2)
        return model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = _outcomes(row, lambda model: model, {})
        got = _outcomes(row, place, counted)
    for number, (one, other) in enumerate(zip(expected, got, strict=True)):
        assert not _difference(one, other), f"step {number}; {counted['status']}"
    assert counted["hybrid"], counted["status"]


def _tried(row: Row) -> tuple[plan.Region | None, str]:
    """The region that a search proposes for the whole model, or why there is none."""
    paddle.seed(0)
    np.random.seed(0)
    model = row.make()
    model.train() if row.training else model.eval()
    with Observer() as observer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in row.steps:
            _outcome(step, model)
    seen = observer.profile()
    if not seen.roots:
        return None, "no inference was seen"
    search = Search(
        seen,
        Options(min_gain=1.0),
        isolation=Forked(),
        budget=Budget(ENDLESS_SECONDS if row.child else CHILD_SECONDS),
        memory=4 << 30,
        journal=Journal(),
        progress=lambda line: None,
    )
    root = next(each for each in search.rank().candidates if each.path == "" and each.root is seen.roots[0])
    search.findings.passed.clear()
    search.consider(root)
    attempt = search.findings.best_attempt(root)
    return (region_of(attempt), "") if attempt else (None, str(search.findings.attempts[-1].outcome))


def test_the_rows_have_names_of_their_own() -> None:
    assert not [name for name, count in Counter(row.name for row in ROWS).items() if count > 1]


def _examined(row: Row, wrap: Callable[[Any], Any] = autohybrid.inference, *, may_be_eager: bool = False) -> str:
    """What is wrong with a row, or empty."""
    counted: dict[str, Any] = {}
    with warnings.catch_warnings():
        # Paddle's own too: an error made of one would be the same on both sides, and hide what comes after it.
        warnings.simplefilter("ignore")
        expected = _outcomes(row, lambda model: model, {})
        got = _outcomes(row, row.wrap or wrap, counted)
    for number, (one, other) in enumerate(zip(expected, got, strict=True)):
        problem = _difference(one, other)
        if problem:
            return f"step {number}: {problem}; {counted['status']}"
    hybrid, last, reasons = counted["hybrid"], counted["last"], counted["reasons"]
    if row.comes == "eager":
        return "" if not hybrid and any(row.why in reason for reason in reasons) else f"{counted['status']}"
    if may_be_eager:
        return ""
    if not hybrid or (row.last_is_hybrid and not last):
        return f"not hybrid: {counted['status']}"
    return ""


def _outcomes(row: Row, wrap: Callable[[Any], Any], counted: dict[str, Any]) -> list[Any]:
    paddle.seed(0)
    np.random.seed(0)
    model = row.make()
    model.train() if row.training else model.eval()
    model = wrap(model)
    outcomes = []
    before = 0
    for number, step in enumerate(row.steps):
        paddle.seed(number)
        np.random.seed(number)
        random.seed(number)
        before = _hybrid_calls(model)
        outcomes.append(_outcome(step, model))
    status = autohybrid.status(model)
    counted["status"] = str(status)
    counted["hybrid"] = sum(region.hybrid_calls for region in status.regions)
    counted["last"] = counted["hybrid"] > before
    counted["reasons"] = ["", *(reason for region in status.regions for reason in region.reasons)]
    autohybrid.restore(model)
    gc.collect()
    return outcomes


def _hybrid_calls(model: Any) -> int:
    return sum(region.hybrid_calls for region in autohybrid.status(model).regions)


def _outcome(step: Step, model: Any) -> Any:
    try:
        return copy.copy(step(model))
    except Exception as error:  # noqa: BLE001 - eager's exceptions are part of its answer
        return error


def _difference(expected: Any, got: Any) -> str:
    """How two outcomes differ, in words; empty when they don't."""
    if type(expected) is not type(got):
        return f"{type(got).__name__} instead of {type(expected).__name__}: {got!r}"
    if isinstance(expected, paddle.Tensor):
        return _tensor_difference(expected, got)
    if isinstance(expected, BaseException):
        same = str(expected).splitlines()[-1:] == str(got).splitlines()[-1:]
        return "" if same else f"{got!r} instead of {expected!r}"
    if isinstance(expected, dict):
        if list(expected) != list(got):
            return f"keys {list(got)} instead of {list(expected)}"
        expected, got = list(expected.values()), list(got.values())
    if dataclasses.is_dataclass(expected) and not isinstance(expected, type):
        expected, got = list(vars(expected).values()), list(vars(got).values())
    if isinstance(expected, (list, tuple)):
        if len(expected) != len(got):
            return f"{len(got)} parts instead of {len(expected)}"
        found = (_difference(one, other) for one, other in zip(expected, got, strict=True))
        return next((problem for problem in found if problem), "")
    return "" if expected == got else f"{got!r} instead of {expected!r}"


def _tensor_difference(expected: Any, got: Any) -> str:
    if expected.dtype != got.dtype or list(expected.shape) != list(got.shape):
        return f"{got.dtype} {got.shape} instead of {expected.dtype} {expected.shape}"
    if expected.stop_gradient != got.stop_gradient:
        return f"stop_gradient {got.stop_gradient} instead of {expected.stop_gradient}"
    one, other = (each.detach().cast("float64").numpy() for each in (expected, got))
    scale = np.abs(one).max() if one.size else 0.0
    close = np.allclose(one, other, rtol=1e-3, atol=1e-5 * scale, equal_nan=True)
    return "" if close else f"differs by {np.abs(one - other).max()} on a scale of {scale}"
