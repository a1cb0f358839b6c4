"""The plan document: round-trips, refusals, its published schema, its place on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import plans
import pytest
from hypothesis import HealthCheck, given, settings

from autohybrid import plan
from autohybrid.errors import ExitCode, PlanError
from autohybrid.plan import files

SCHEMA = json.loads((Path(plan.__file__).parent / "schema.json").read_text())


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(plans.PLANS)
def test_a_plan_comes_back_as_it_was_written(made: plan.Plan) -> None:
    assert plan.parse(plan.dump(made)) == made


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(plans.PLANS)
def test_every_plan_that_is_written_fits_the_published_schema(made: plan.Plan) -> None:
    jsonschema.validate(json.loads(plan.dump(made)), SCHEMA)


def test_the_published_schema_is_in_step_with_the_classes() -> None:
    assert plan.json_schema() == SCHEMA, "run: python tools/write_schema.py"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


Change = Callable[[dict[str, Any]], object]

BREAKS: dict[str, tuple[Change, str]] = {
    "an unknown field": (lambda it: it.update(colour="red"), "colour"),
    "an unknown field deep inside": (lambda it: it["models"][0]["regions"][0].update(colour="red"), "colour"),
    "a missing field": (lambda it: it.pop("models"), "models"),
    "a missing field deep inside": (lambda it: it["models"][0]["regions"][0].pop("engine"), "engine"),
    "a number as text": (lambda it: it.update(trials="3"), "trials"),
    "a negative count": (lambda it: it.update(trials=-1), "trials"),
    "a share above one": (lambda it: it["models"][0].update(share=1.5), "share"),
    "an unknown kind of region": (lambda it: it["models"][0]["regions"][0].update(kind="chain!"), "kind"),
    "a list for an object": (lambda it: it.update(environment=[]), "environment"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_field_is_refused_by_its_name(name: str) -> None:
    change, field = BREAKS[name]
    content = json.loads(plan.dump(plans.example()))
    change(content)
    with pytest.raises(PlanError) as caught:
        plan.parse(json.dumps(content), "p.json")
    assert field in caught.value.problem
    assert "p.json" in caught.value.problem
    assert caught.value.remedy
    assert int(caught.value.exit_code) == 4


@pytest.mark.parametrize("name", BREAKS)
def test_the_published_schema_refuses_what_the_reader_refuses(name: str) -> None:
    content = json.loads(plan.dump(plans.example()))
    jsonschema.validate(content, SCHEMA)
    BREAKS[name][0](content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "isn't JSON"),
        (b"{", "isn't JSON"),
        (b"\xff\xfe\x00", "isn't JSON"),
        (b"[]", "isn't a JSON object"),
        (b"{}", "no schema_version"),
        (b'{"schema_version": "1"}', "no schema_version"),
        (b'{"schema_version": true}', "no schema_version"),
        (b'{"schema_version": 0}', "schema_version 0"),
        (b'{"schema_version": 999}', "schema_version 999"),
    ],
)
def test_what_is_no_plan_of_this_version_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(PlanError, match=problem) as caught:
        plan.parse(text)
    assert caught.value.remedy
    assert caught.value.exit_code == ExitCode.PLAN


def test_an_older_version_is_migrated_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(plan.dump(plans.example()))
    content["schema_version"] = -1
    monkeypatch.setitem(files._MIGRATIONS, -1, lambda it: {**it, "schema_version": 0, "notes": ["from -1"]})
    monkeypatch.setitem(files._MIGRATIONS, 0, lambda it: {**it, "schema_version": 1})
    assert plan.parse(json.dumps(content)).notes == ["from -1"]


def test_a_region_at_a_path_that_the_plans_own_structure_lacks_is_refused() -> None:
    content = json.loads(plan.dump(plans.example()))
    content["models"][0]["regions"][0]["path"] = "no.such"
    with pytest.raises(PlanError, match=r"no\.such") as caught:
        plan.parse(json.dumps(content))
    assert caught.value.remedy


def test_a_missing_file_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"none\.json") as caught:
        plan.load(tmp_path / "none.json")
    assert "autohybrid profile" in caught.value.remedy


def test_a_saved_plan_is_whole_readable_and_alone(tmp_path: Path) -> None:
    place = tmp_path / "plan.json"
    before = os.umask(0o022)
    try:
        plan.save(plans.example(), place)
    finally:
        os.umask(before)
    assert plan.load(place) == plans.example()
    assert place.read_bytes().endswith(b"}\n")
    assert place.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["plan.json"]


def test_a_save_that_fails_leaves_the_old_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "plan.json"
    place.write_text("the old one")

    def broken(_made: plan.Plan) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(files, "dump", broken)
    with pytest.raises(OSError, match="disk full"):
        plan.save(plans.example(), place)
    assert place.read_text() == "the old one"
    assert os.listdir(tmp_path) == ["plan.json"]


def test_a_place_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="can't be written") as caught:
        plan.save(plans.example(), tmp_path / "missing" / "plan.json")
    assert caught.value.remedy
