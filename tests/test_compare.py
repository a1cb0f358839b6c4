"""What ``tools/compare`` says of its samples."""

from __future__ import annotations

from typing import Any

import pytest
from verdicts import Results, comparisons, ratio, speeds, verdicts


def _row(name: str, samples: list[float], threads: int = 1, problem: str = "") -> dict[str, Any]:
    return {"row": name, "threads": threads, "samples": samples, "problem": problem}


def _results(*rows: dict[str, Any]) -> Results:
    return {"resnet50": [_row("eager", [0.4, 0.8, 0.4]), *rows]}


def test_a_drift_of_the_machine_does_not_move_a_ratio() -> None:
    assert ratio([0.4, 0.8, 1.6], [0.1, 0.2, 0.4]) == pytest.approx(4.0)


def test_without_extras_the_rows_of_the_extras_are_no_rivals() -> None:
    rows = (
        _row("wrapper, whole", [0.2, 0.4, 0.2]),
        _row("OpenVINO, whole", [0.1, 0.2, 0.1]),
        _row("autohybrid", [0.2, 0.4, 0.2]),
        _row("autohybrid + extras", [0.1, 0.2, 0.1]),
    )
    alone, both = comparisons(_results(*rows))
    assert [alone.best, both.best] == ["wrapper, whole", "OpenVINO, whole"]
    assert [alone.speed, both.speed] == pytest.approx([1.0, 1.0])
    assert [alone.over_eager, both.over_eager] == pytest.approx([2.0, 4.0])


def test_other_threads_and_wrong_answers_are_no_rivals() -> None:
    rows = (
        _row("wrapper, whole", [], problem="wrong: differs by 1 of 1"),
        _row("OpenVINO, whole", [0.01, 0.01, 0.01], threads=2),
        _row("autohybrid + extras", [0.2, 0.4, 0.2]),
    )
    (found,) = comparisons(_results(*rows))
    assert found.best == "eager"
    assert "resnet50, wrapper, whole, 1: wrong: differs by 1 of 1" in speeds(_results(*rows))


@pytest.mark.parametrize(("ours", "level"), [(0.101, True), (0.11, False), (0.10003, True)])
def test_level_is_near_in_ratio_or_in_microseconds(ours: float, level: bool) -> None:
    text = verdicts(_results(_row("wrapper, whole", [0.1] * 3), _row("autohybrid", [ours] * 3)))
    line = next(line for line in text.splitlines() if line.startswith("resnet50"))
    assert line.endswith("yes") == level


def test_what_may_as_well_be_level_is_open() -> None:
    text = verdicts(_results(_row("wrapper, whole", [0.1] * 3), _row("autohybrid", [0.1, 0.11, 0.11])))
    assert next(line for line in text.splitlines() if line.startswith("resnet50")).endswith("open")


def test_a_few_microseconds_behind_a_tiny_call_are_level() -> None:
    text = verdicts(_results(_row("wrapper, whole", [50e-6] * 3), _row("autohybrid", [80e-6] * 3)))
    line = next(line for line in text.splitlines() if line.startswith("resnet50"))
    assert line.endswith("yes")
    assert "over the wrapper, the six: geometric mean 0.62 of 1" in text
