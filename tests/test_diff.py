"""What changed between two plans: as values, and in each format."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import plans
import pytest
from commands import autohybrid

import autohybrid as package
from autohybrid import plan
from autohybrid.errors import PlanError
from autohybrid.plan import Model, Plan, Region
from autohybrid.report.difference import PlanDifference, diff
from autohybrid.report.difference_formats import as_html, as_json, as_markdown, as_table

FASTER = plan.Samples(eager=[2e-3] * 12, hybrid=[0.5e-3] * 12)
SNAPSHOTS = Path(__file__).parent / "snapshots"


def _plan(*regions: Region, **changes: object) -> Plan:
    structure = [". Block", *(f"{name} Block" for name in ("body", "head", "tail", "old"))]
    return plans.whole([plans.model(list(regions), structure=structure, **changes)])


def _fates(found: PlanDifference) -> dict[str, str]:
    return {region.name: region.fate for model in found.models for region in model.regions}


def _two() -> tuple[Plan, Plan]:
    before = _plan(
        plans.region("body", "x"),
        plans.region("head", "x"),
        plans.region("old", "x"),
        rejected=[plans.rejected("tail", "wrong"), plans.rejected("stem", "failed")],
    )
    after = _plan(
        plans.region("body", "x", samples=FASTER),
        plans.region("head", "x", engine="predictor", options={"threads": 2}),
        plans.region("tail", "x"),
        rejected=[plans.rejected("stem", "crashed"), plans.rejected("neck", "random")],
        id="Block-7",
    )
    return before, after


def test_a_plan_does_not_differ_from_itself() -> None:
    for made in (plans.example(), _two()[0]):
        found = diff(made, made)
        assert not found.choice_changed
        assert found.environment == found.settings == ()
        assert all(model.fate == "same" and not model.gain for model in found.models)
        assert "The same choice" in str(found)


def test_regions_come_go_and_change() -> None:
    found = diff(*_two())
    assert _fates(found) == {"body": "same", "head": "changed", "tail": "came", "old": "went"}
    assert found.choice_changed
    (model,) = found.models
    assert [region.gain for region in model.regions] == ["up", "", "", ""]
    changed = {change.name: (change.before, change.after) for change in model.regions[1].changes}
    assert changed == {"engine": ("incubate", "predictor"), "options": ("", "threads=2")}


def test_rejections_come_go_and_get_another_reason() -> None:
    (model,) = diff(*_two()).models
    assert {row.name: (row.fate, row.before, row.after) for row in model.rejections} == {
        "tail": ("went", "wrong", ""),
        "stem": ("changed", "failed", "crashed"),
        "neck": ("came", "", "random"),
    }


def test_a_layer_that_became_a_chain_is_one_region_of_another_kind() -> None:
    chain = plans.region("body", "x", kind="chain", members=["body.0", "body.1"])
    (model,) = diff(_plan(plans.region("body", "x")), _plan(chain)).models
    assert [region.fate for region in model.regions] == ["changed"]
    assert "kind" in {change.name for change in model.regions[0].changes}


def test_models_are_matched_by_structure_whatever_their_ids_and_order() -> None:
    one, other = (
        plans.model([plans.region("body", "x")], id="A-1", fingerprint="a" * 32),
        plans.model([plans.region("body", "x")], id="B-2", fingerprint="b" * 32),
    )
    renamed = _renamed(one, "A-9")
    found = diff(plans.whole([one, other]), plans.whole([other, renamed]))
    assert [(model.before_id, model.after_id) for model in found.models] == [("B-2", "B-2"), ("A-1", "A-9")]


def _renamed(model: Model, name: str) -> Model:
    return plans.model(model.regions, id=name, fingerprint=model.fingerprint)


def test_a_model_with_another_structure_is_compared_and_the_first_difference_told() -> None:
    before = plans.model([plans.region("body", "x")], fingerprint="a" * 32, structure=[". Block", "body Old"])
    after = plans.model([plans.region("body", "x")], fingerprint="b" * 32, structure=[". Block", "body New"])
    (model,) = diff(plans.whole([before]), plans.whole([after])).models
    assert model.structure == "body Old → body New"
    assert [region.fate for region in model.regions] == ["same"]


def test_models_in_one_plan_only_are_told_as_such() -> None:
    found = diff(plans.whole([]), plans.example())
    assert [model.fate for model in found.models] == ["came"]
    assert "only in the second plan" in str(found)
    assert "only in the first plan" in str(diff(plans.example(), plans.whole([])))
    assert diff(plans.whole([]), plans.whole([])).headline() == "Neither plan has a region."


def test_another_machine_is_told_with_what_differs() -> None:
    elsewhere = msgspec.structs.replace(plans.ENVIRONMENT, cores=4, paddle="3.0.0")
    found = diff(plans.example(), plans.whole(plans.example().models, environment=elsewhere))
    assert {field.name: (field.before, field.after) for field in found.environment} == {
        "paddle": ("3.3.1", "3.0.0"),
        "cores": ("2", "4"),
    }
    assert "Speedups can be compared" in as_table(found)


def test_the_table_is_as_it_was_agreed_and_fits_its_width() -> None:
    found = diff(*_two())
    assert as_table(found) + "\n" == (SNAPSHOTS / "diff-table.txt").read_text()
    for width in (60, 80, 160):
        assert max(map(len, as_table(found, width=width).splitlines())) <= width


def test_markdown_and_html_escape_what_a_name_might_hold() -> None:
    before = _plan(plans.region("body", "x", engine="<b>|"))
    found = diff(before, _plan(plans.region("body", "x", engine="a")))
    assert "\\<b>\\|" in as_markdown(found)
    assert "<b>" not in as_html(found)
    assert "&lt;b&gt;|" in as_html(found)


def test_json_has_the_numbers_and_no_infinity() -> None:
    few = plan.Samples(eager=[1.0], hybrid=[0.5])
    content = json.loads(as_json(diff(_plan(plans.region("body", "x", samples=few)), plans.example())))
    (region,) = content["models"][0]["regions"]
    assert region["before"]["comparison"]["high"] is None
    assert region["before"]["comparison"]["speedup"] == 2.0
    assert content["choice_changed"] is True


def test_the_command_compares_two_files_in_each_format(tmp_path: Path) -> None:
    before, after = _two()
    plan.save(before, tmp_path / "old.json")
    plan.save(after, tmp_path / "new.json")
    found = autohybrid("diff", "old.json", "new.json", cwd=tmp_path)
    assert found.code == 0
    assert (
        found.out
        == str(package.diff(before, after)).replace("the first plan → the second plan", "old.json → new.json") + "\n"
    )
    assert autohybrid("diff", "old.json", "new.json", "--format", "markdown", cwd=tmp_path).out.startswith("# ")
    assert json.loads(autohybrid("diff", "old.json", "new.json", "--format", "json", cwd=tmp_path).out)["models"]


def test_a_plan_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    plan.save(plans.example(), tmp_path / "old.json")
    found = autohybrid("diff", "old.json", "none.json", cwd=tmp_path)
    assert found.code == 4
    assert "none.json can't be read" in found.err
    with pytest.raises(PlanError, match="can't be read"):
        diff(tmp_path / "old.json", tmp_path / "none.json")
