"""What the reports say: of plans that real profiles made, and of any plan."""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import plans
import pytest
from commands import AUTOHYBRID, CHANGES, autohybrid, run_in_terminal
from hypothesis import assume, given
from hypothesis import strategies as st
from recordings import NAMES, RECORDED, recorded, reports

from autohybrid import plan
from autohybrid.report import columns, comma_separated, data, html, markdown, rows, table
from autohybrid.report.advice import next_steps
from autohybrid.report.columns import duration, filled, significant
from autohybrid.report.signatures import signature_text, varying
from autohybrid.report.tree import eager_boxes, hybrid_boxes, totals


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shown", ["80.txt", "160.txt", "md", "csv"])
def test_the_report_of_a_real_profile_is_as_it_was_looked_at(name: str, shown: str) -> None:
    snapshot = RECORDED / f"{name}.{shown}"
    with snapshot.open(newline="") as file:
        assert reports(recorded(name))[shown] + "\n" == file.read(), "if this is wanted: tools/record_plans.py"


def test_the_recorded_plans_have_regions_rejections_and_fallbacks() -> None:
    made = [model for name in NAMES for model in recorded(name).models]
    assert {row.reason for model in made for row in model.rejected} >= {"crashed", "timed_out", "not_faster", "wrong"}
    assert any(model.regions for model in made)
    assert any(not model.regions for model in made)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_no_line_but_a_command_is_wider_than_the_terminal(name: str, width: int) -> None:
    text = table.render(recorded(name), width=width)
    assert [line for line in text.splitlines() if len(line) > width and "autohybrid " not in line] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_wider_terminal_shows_more_columns(name: str) -> None:
    narrow, wide = (table.render(recorded(name), width=width) for width in (80, 160))
    widest = [max(map(len, text.splitlines())) for text in (narrow, wide)]
    assert widest[0] <= widest[1]


def test_columns_go_by_rank_when_there_is_no_room() -> None:
    shown = [rows.region_row(plans.region("encoder.layers.0", None))]
    kept = [[each.key for each in table.fitting(columns.REGION, shown, width)] for width in (60, 80, 110, 200)]
    assert all(set(fewer) < set(more) for fewer, more in pairwise(kept))
    assert {"region", "eager_seconds", "hybrid_seconds", "speedup"} <= set(kept[0])
    assert {each.key for each in columns.REGION} - set(kept[-1]) <= {"extra_memory_bytes"}


def test_colour_is_only_there_when_wanted() -> None:
    made = recorded("bad_conversions")
    plain = table.render(made)
    coloured = table.render(made, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


@pytest.mark.parametrize("variable", ["", "NO_COLOR"])
def test_a_terminal_gets_colour_unless_it_is_unwanted(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.save(plans.example(), tmp_path / "p.json")
    monkeypatch.setitem(CHANGES, "TERM", "xterm")
    if variable:
        monkeypatch.setitem(CHANGES, variable, "1")
    written = run_in_terminal([*AUTOHYBRID, "report", "p.json"], tmp_path)
    assert (b"\x1b[" in written) == (not variable)


def test_a_gain_that_eager_could_have_too_is_a_row_of_its_own_in_every_format() -> None:
    threads = plan.EagerThreads(threads=2, set_by="paddle.set_num_threads", samples=plans.SAMPLES)
    made = plans.whole([plans.model([plans.region("body", None)], eager_threads=threads)])
    for text in (table.render(made), markdown.render(made), html.render(made)):
        assert "eager, 2 threads" in text
        assert "OMP_NUM_THREADS=2" in text


def test_a_name_can_neither_break_a_line_nor_command_the_terminal() -> None:
    name = "a\nb\x1b[31m\x9b31m"
    rejected = [plans.rejected(name, "wrong", class_name=name, detail=name, hint=name, share=0.5)]
    text = table.render(plans.whole([plans.model([], rejected=rejected, id=name)], notes=[name]))
    assert "a b\ufffd[31m\ufffd31m" in text
    assert "\x1b" not in text


# What mending would unlock.


def test_what_was_passed_over_is_sorted_by_what_mending_it_would_unlock() -> None:
    rejected = [
        plans.rejected("a", "not_faster", share=0.9, hint="nothing to do: eager is as fast"),
        plans.rejected("b", "failed", share=0.2, hint="mend it"),
        plans.rejected("c", "random", share=0.4, hint="mend it", class_name="Other"),
    ]
    shown = rows.listed(plans.model([], rejected=rejected, confirmation=None))
    assert [(row.name, row.unlocks) for row in shown] == [("c", 0.4), ("b", 0.2), ("a", 0.0)]


def test_what_is_converted_inside_is_not_unlocked_again() -> None:
    rejected = [plans.rejected("", "failed", share=1.0, hint="mend it")]
    model = plans.model([plans.region("body", None, share=0.7)], rejected=rejected)
    (row,) = rows.listed(model)
    assert row.unlocks == pytest.approx(0.3)


def test_of_a_chain_only_what_its_members_leave_is_unlocked() -> None:
    chain = plans.rejected("", "failed", share=0.8, hint="mend it", members=["a", "b"])
    regions = [plans.region("a.part", None, share=0.3), plans.region("elsewhere", None, share=0.1)]
    (row,) = rows.listed(plans.model(regions, rejected=[chain]))
    assert row.unlocks == pytest.approx(0.5)


def test_what_converts_with_other_options_is_not_unlocked() -> None:
    rejected = [
        plans.rejected("a", "crashed", hint="mend it"),
        plans.rejected("a", "not_faster", hint="nothing to do: eager is as fast"),
    ]
    assert [row.unlocks for row in rows.listed(plans.model([], rejected=rejected))] == [0.0, 0.0]


# What to run next.


def _commands(made: plan.Plan, plan_file: str | None = "my plan.json") -> list[str]:
    return [step.command for step in next_steps(made, plan_file)]


def test_the_next_commands_name_the_plan_and_the_script() -> None:
    made = plans.whole(
        plans.example().models, script=plan.Script(command=["a b.py", "--n", "1"], seconds=1.0, exit_code=0)
    )
    assert _commands(made) == [
        "autohybrid run --plan 'my plan.json' 'a b.py' --n 1",
        "autohybrid.apply(model, plan='my plan.json')",
        "autohybrid report 'my plan.json' --format html -o 'my plan.html'",
    ]


def test_a_search_that_ended_early_is_told_how_to_go_on() -> None:
    again = _commands(plans.whole(plans.example().models, complete=False))[2]
    assert again == "autohybrid profile --budget 60 --force -o 'my plan.json' infer.py"


def test_nothing_is_suggested_that_needs_a_plan_which_was_not_written() -> None:
    assert _commands(plans.example(), None) == []
    dry = plans.whole([plans.model([], confirmation=None)], trials=0)
    assert _commands(dry, None) == ["autohybrid profile infer.py"]


# Formats.


def _has_samples(made: plan.Plan) -> bool:
    """Whether all that a search would have measured is there: Hypothesis makes plans without."""
    series = [region.samples for model in made.models for region in model.regions]
    for model in made.models:
        if model.regions and model.confirmation is None:
            return False
        if model.confirmation is not None:
            if not model.confirmation.processes:
                return False
            series += model.confirmation.processes
        if model.eager_threads is not None:
            series.append(model.eager_threads.samples)
    return all(
        each.eager and len(each.eager) == len(each.hybrid) and min(each.eager + each.hybrid) > 1e-9 for each in series
    )


@given(plans.PLANS)
def test_every_plan_has_a_report_in_every_format(made: plan.Plan) -> None:
    assume(_has_samples(made))
    for render in (table.render, markdown.render, data.render, comma_separated.render, html.render):
        assert render(made)


def test_the_csv_holds_plain_values() -> None:
    lines = list(csv.DictReader(io.StringIO(comma_separated.render(recorded("bad_conversions")))))
    kept = [line for line in lines if line["outcome"] == "converted"]
    assert kept
    for line in kept:
        assert float(line["eager_seconds"]) / float(line["hybrid_seconds"]) == pytest.approx(
            float(line["speedup"]), rel=0.2
        )
        assert 0.0 <= float(line["share"]) <= 1.0


def test_a_report_is_written_to_a_file_but_never_over_its_plan(tmp_path: Path) -> None:
    plan.save(plans.example(), tmp_path / "p.json")
    before = (tmp_path / "p.json").read_bytes()
    found = autohybrid("report", "p.json", "--format", "html", "-o", "r.html", cwd=tmp_path)
    assert (found.code, found.out) == (0, "")
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    for place, part in (("./p.json", "the plan itself"), ("no/such/r.html", "can't be written")):
        found = autohybrid("report", "p.json", "-o", place, cwd=tmp_path)
        assert found.code == 2
        assert part in found.err
    assert (tmp_path / "p.json").read_bytes() == before


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 us"), (5e-7, "0.500 us"), (1.5e-3, "1.50 ms"), (0.25, "250 ms"), (12.0, "12.0 s")]
)
def test_a_duration_has_a_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(1e-3, 1e6))
def test_a_number_for_people_is_right_to_three_digits(value: float) -> None:
    assert float(significant(value)) == pytest.approx(value, rel=6e-3, abs=6e-4)


def test_times_of_one_table_share_a_unit() -> None:
    shown = [
        rows.region_row(plans.region(path, None, samples=plan.Samples(eager=[eager] * 9, hybrid=[1e-5] * 9)))
        for path, eager in (("a", 2e-5), ("b", 3e-2))
    ]
    made = filled(columns.REGION, shown)
    assert {"eager ms", "hybrid ms"} <= set(made.headers)
    assert [line[made.headers.index("eager ms")] for line in made.cells] == ["0.020", "30.0"]


TENSOR = {"tensor": {"index": 0, "dtype": "float32", "shape": [1, "dyn", 256]}}


def test_a_signature_reads_like_a_call() -> None:
    structure = {"tuple": [{"tuple": [TENSOR, {"list": [TENSOR]}]}, {"dict": {"mode": {"constant": "full"}}}]}
    assert signature_text(structure) == "(float32[1, dyn, 256], [float32[1, dyn, 256]], mode='full')"
    assert varying(structure) == ["dimension 1 of float32[1, dyn, 256]"] * 2
    assert signature_text({"object": {"sample": TENSOR}, "class": "Output"}) == "Output(sample=float32[1, dyn, 256])"
    assert signature_text({"something": "new"}) == "{'something': 'new'}"


def test_names_are_no_markup_in_markdown() -> None:
    name = "main.<locals>.Net|`*[a](b)&amp;"
    text = markdown.render(plans.whole([plans.model([plans.region("body", None, class_name=name)], id=name)]))
    assert r"main.\<locals>.Net\|\`\*\[a](b)&amp;amp;" in text
    assert not re.search(r"(?<!\\)<", text)


# The tree.


def _tree(**changes: Any) -> plan.Model:
    ranking = [
        plans.ranked("", inclusive_seconds=1.0, self_seconds=0.1),
        plans.ranked("b", inclusive_seconds=0.5, self_seconds=0.2),
        plans.ranked("a", inclusive_seconds=0.4, self_seconds=0.4),
        plans.ranked("b.list.0", inclusive_seconds=0.3, self_seconds=0.3),
    ]
    structure = [". Root", "a A", "b B", "b.list LayerList", "b.list.0 C"]
    return plans.model(**{"regions": [], "ranking": ranking, "structure": structure, "calls": 10, **changes})


def test_boxes_lie_in_those_of_the_layers_around_them_in_the_models_order() -> None:
    boxes = eager_boxes(_tree())
    assert [(box.name, box.parent) for box in boxes] == [("(root)", None), ("a", 0), ("b", 0), ("b.list.0", 2)]
    assert totals(boxes) == pytest.approx([2e-3, 8e-4, 1e-3, 6e-4]), "shares of the confirmed 2 ms"


def test_a_region_is_one_box_of_its_own_time_and_the_whole_is_as_confirmed() -> None:
    model = _tree(regions=[plans.region("b", None)])
    eager = eager_boxes(model)
    assert [box.mark for box in eager] == ["eager", "eager", "region", "inside"]
    hybrid = hybrid_boxes(model, eager)
    assert [box.name for box in hybrid] == ["(root)", "a", "b"]
    # Parts of 10, 40 and 50 / 2 percent of 2 ms, adjusted to the 1 ms that was confirmed.
    assert totals(hybrid) == pytest.approx([1e-3, 1e-3 * 40 / 75, 1e-3 * 25 / 75])


def test_methods_of_a_root_have_the_layers_that_they_call() -> None:
    ranking = [
        plans.ranked("", function="encode", inclusive_seconds=0.3),
        plans.ranked("", function="decode", inclusive_seconds=0.2),
        plans.ranked("down", called_in=["encode()"]),
        plans.ranked("up", called_in=["decode()"]),
    ]
    boxes = eager_boxes(plans.model([], functions=["decode", "encode"], ranking=ranking))
    around = {box.label: None if box.parent is None else boxes[box.parent].label for box in boxes}
    assert (around["down"], around["up"]) == ("encode()", "decode()")


def test_what_was_tried_and_lost_has_its_times() -> None:
    lost = plans.rejected("a", "not_chosen", engine="predictor", samples=plans.SAMPLES)
    row = rows.attempt_rows(plans.model([plans.region("a", None)], rejected=[lost]))[-1]
    assert row.engine == "predictor"
    assert row.comparison == plans.SAMPLES.comparison()


def test_the_members_of_a_chain_are_one_box() -> None:
    chain = plans.region("", None, kind="chain", members=["a", "b"])
    model = _tree(regions=[chain])
    ranking = [*model.ranking, plans.ranked("", self_seconds=0.9, members=["a", "b"])]
    model = _tree(regions=[chain], ranking=ranking)
    eager = eager_boxes(model)
    assert [box.mark for box in eager] == ["eager", "region", "region", "inside"]
    assert [box.label for box in hybrid_boxes(model, eager)] == ["(root)", "chain of 2"]


def test_methods_of_the_root_stand_beside_each_other_and_inner_ones_inside() -> None:
    ranking = [
        plans.ranked("", function="encode", inclusive_seconds=0.4),
        plans.ranked("", function="decode", inclusive_seconds=0.6),
        plans.ranked("a", inclusive_seconds=0.5),
        plans.ranked("a", function="func", inclusive_seconds=0.2),
    ]
    model = _tree(ranking=ranking, functions=["decode", "encode"])
    boxes = eager_boxes(model)
    around = {box.name: boxes[box.parent].name for box in boxes if box.parent is not None}
    assert around == {"encode()": model.id, "decode()": model.id, "a": "decode()", "a.func()": "a"}
