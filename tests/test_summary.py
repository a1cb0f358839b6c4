"""What ``run`` tells at the end."""

from __future__ import annotations

from typing import Any

from autohybrid.runtime.status import RegionStatus, Status
from autohybrid.runtime.summary import summary


def _region(path: str, hybrid: int, **reasons: Any) -> RegionStatus:
    told = {name.replace("_", " "): count for name, count in reasons.items()}
    return RegionStatus(
        path=path,
        engine="predictor",
        state="hybrid",
        hybrid_calls=hybrid,
        eager_calls=sum(told.values()),
        reasons=told,
        conversions=1,
        predictors=1,
        weight_bytes=0,
        store=(),
    )


def _model(*regions: RegionStatus) -> tuple[str, Status]:
    return ("Net", Status(regions))


def test_a_run_without_fallbacks_is_a_sentence_and_a_row() -> None:
    text = summary([_model(_region("", 48, not_converted_yet=1, being_proven=1))], {})
    assert text == (
        "autohybrid: 48 of 50 calls of 1 region were hybrid.\n"
        "region  engine     hybrid  eager  why eager\n"
        "------  ---------  ------  -----  --------------------------\n"
        "Net     predictor      48      2  converting and proving (2)"
    )


def test_regions_that_fell_back_stand_first_and_are_counted() -> None:
    text = summary([_model(_region("a", 5, being_proven=2), _region("b", 0, not_in_the_plan=7))], {"Linear": "other"})
    assert text.startswith("autohybrid: 5 of 14 calls of 2 regions were hybrid; 1 region never was.")
    assert text.index("Net.b") < text.index("Net.a")
    assert "not in the plan (7)" in text
    assert text.endswith("Not in the plan, so eager: Linear.")


def test_models_of_one_class_are_one_row() -> None:
    text = summary([_model(_region("a", 5)), _model(_region("a", 3))], {})
    assert "8 of 8 calls of 1 region" in text
    assert "Net.a and 1 alike" in text


def test_it_fits_the_terminal_whatever_the_reasons_are() -> None:
    long = {"the_engine_failed:_" + "a_rather_long_reason_with_many_words_" * 6: 3, "busy_in_another_thread": 1}
    regions = [_region(f"encoder.layers.{number}.self_attention", number, **long) for number in range(20)]
    for width in (66, 80, 120):
        text = summary([_model(*regions)], {}, width=width)
        assert max(map(len, text.splitlines())) <= width
    assert "and 8 more regions" in text


def test_a_script_that_uses_nothing_of_the_plan_is_told_why() -> None:
    assert "no Layer was called" in summary([], {})
    assert "no region, the script ran as it is" in summary([], {}, planned=False)
    told = summary([("Linear", Status(()))], {"Linear": "another structure: in Net-1 ..."})
    assert "all calls were eager" in told
    assert "Linear: another structure" in told
