"""``autohybrid cache``: what is kept can be seen, checked, removed, and made ahead."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
from pathlib import Path

import plans
import pytest
from commands import SCRIPTS, Run, autohybrid

from autohybrid import cache, plan, store
from autohybrid.errors import PlanError, SetupError
from autohybrid.store import Key

INPUTS = {"tuple": [{"tuple": [{"tensor": {"index": 0, "dtype": "float32", "shape": ["dyn", 4]}}]}, {"dict": {}}]}
STRUCTURE = [". Block", "body Inner weight:float32[2]", "body.0 Leaf", "bodyguard Inner"]
BODY = "\n".join([". Inner weight:float32[2]", "0 Leaf"])


def _key(region: str = "Inner.forward", **fields: str) -> Key:
    structure = hashlib.sha256(BODY.encode()).hexdigest()[:32]
    inputs = json.dumps(INPUTS, sort_keys=True, separators=(",", ":"))
    return Key(region=region, fields={"engine": "predictor", "structure": structure, "inputs": inputs, **fields})


def _put(key: Key, text: str = "graph") -> Path:
    kept = store.default()
    assert kept is not None
    stage = kept.stage(key)
    (stage / "infer.json").write_text(text)
    stored = kept.publish(key, stage)
    assert stored is not None
    directory = stored.directory
    stored.close()
    return directory


def _journal(text: str = "{}\n") -> Path:
    folder = store.directory(store.JOURNALS)
    assert folder is not None
    (folder / "abc.jsonl").write_text(text)
    return folder / "abc.jsonl"


def _aged(path: Path, days: float) -> None:
    then = time.time() - days * cache.DAY
    os.utime(path, (then, then))


def _run(*words: str | Path, cwd: Path, stdin: str = "") -> Run:
    return autohybrid("cache", *words, cwd=cwd, stdin=stdin)


def test_an_empty_cache_is_said_to_be_empty_and_not_made(tmp_path: Path) -> None:
    for words in (["list"], ["verify"], ["clear", "--yes"]):
        found = _run(*words, cwd=tmp_path)
        assert found.code == 0
        assert found.out.startswith("Nothing")
    assert not (tmp_path / "store").exists()


def test_what_is_kept_is_listed_with_what_it_is(tmp_path: Path) -> None:
    _put(_key())
    _put(_key("Other.decode"))
    _journal()
    assert [(each.kind, each.region) for each in cache.entries()] in (
        [("conversion", "Inner.forward"), ("conversion", "Other.decode"), ("journal", "")],
        [("conversion", "Other.decode"), ("conversion", "Inner.forward"), ("journal", "")],
    )
    found = _run("list", cwd=tmp_path)
    assert max(map(len, found.out.splitlines()[:-1])) <= 80
    assert "Inner " in found.out
    assert "Other.decode" in found.out
    assert "(float32[dyn, 4])" in found.out
    assert "2 conversions and 1 journal" in found.out
    (first, *_) = json.loads(_run("list", "--format", "json", cwd=tmp_path).out)
    assert first["key"]["engine"] == "predictor"
    assert first["size"] > 0


def test_a_complete_store_verifies(tmp_path: Path) -> None:
    _put(_key())
    found = _run("verify", cwd=tmp_path)
    assert (found.code, found.out) == (0, f"1 conversion, {_size()}: all complete and unaltered.\n")


def _size() -> str:
    return f"{sum(each.size for each in cache.entries())} B"


@pytest.mark.parametrize(
    ("name", "told"), [("infer.json", "infer.json was altered"), ("entry.json", "entry.json was altered")]
)
def test_what_was_altered_is_named_and_fails(name: str, told: str, tmp_path: Path) -> None:
    directory = _put(_key())
    _put(_key("Other.forward"))
    content = (directory / name).read_text()
    (directory / name).write_text(content.replace("graph", "grapH").replace("predictor", "predictoR"))
    found = _run("verify", cwd=tmp_path)
    assert found.code == 1
    assert told in found.out
    assert directory.name[:8] in found.out
    assert "1 of 2 entries" in found.out


@pytest.mark.parametrize("name", ["infer.json", "entry.json"])
def test_what_is_missing_is_named(name: str) -> None:
    directory = _put(_key())
    (directory / name).unlink()
    assert [each.problem for each in cache.verify()] == [f"{name} is missing"]


def test_a_file_that_was_replaced_by_a_link_is_not_taken_for_it(tmp_path: Path) -> None:
    directory = _put(_key())
    shutil.move(directory / "infer.json", tmp_path / "elsewhere")
    (directory / "infer.json").symlink_to(tmp_path / "elsewhere")
    assert [each.problem for each in cache.verify()] == ["infer.json is missing"]


def test_clear_removes_all_and_says_how_much(tmp_path: Path) -> None:
    _put(_key())
    _journal()
    freed = sum(each.size for each in cache.entries())
    found = _run("clear", "--yes", cwd=tmp_path)
    assert (found.code, found.out) == (0, f"Removed 1 conversion and 1 journal, {freed} B.\n")
    assert cache.entries() == []


def test_clear_asks_and_without_an_answer_removes_nothing(tmp_path: Path) -> None:
    _put(_key())
    found = _run("clear", cwd=tmp_path, stdin="y\n")
    assert found.code == 2
    assert "--yes" in found.err
    assert len(cache.entries()) == 1


def test_clear_keeps_what_is_younger(tmp_path: Path) -> None:
    old, new = _put(_key()), _put(_key("Other.forward"))
    _aged(old / "entry.json", days=3)
    found = _run("clear", "--older-than", "2", "--yes", cwd=tmp_path)
    assert found.code == 0
    assert (old.exists(), new.exists()) == (False, True)
    assert _run("clear", "--older-than", "-1", "--yes", cwd=tmp_path).code == 2
    assert new.exists()


def _plan_of(path: str, **changes: object) -> plan.Plan:
    return plans.whole([plans.model([plans.region(path, INPUTS, **changes)], structure=STRUCTURE)])


def test_clear_for_a_plan_removes_its_regions_only(tmp_path: Path) -> None:
    own, other = _put(_key()), _put(_key(structure="another"))
    chain = _put(_key("autohybrid.runtime.chain.ChainLayers.forward_chain", structure="of the chain"))
    plan.save(_plan_of("body"), tmp_path / "p.json")
    assert _run("clear", "--plan", "p.json", "--yes", cwd=tmp_path).code == 0
    assert [each.exists() for each in (own, other, chain)] == [False, True, True]
    plan.save(_plan_of("", kind="chain", members=["body", "bodyguard"]), tmp_path / "p.json")
    assert _run("clear", "--plan", "p.json", "--yes", cwd=tmp_path).code == 0
    assert [each.exists() for each in (other, chain)] == [True, False]
    with pytest.raises(PlanError, match="can't be read"):
        cache.of_plan(cache.entries(), tmp_path / "none.json")


def test_what_a_process_has_open_is_kept() -> None:
    directory = _put(_key())
    kept = store.default()
    assert kept is not None
    opened = kept.find(_key())
    assert opened is not None
    done = cache.clear()
    assert [each.place for each in done.kept] == [directory]
    assert done.removed == ()
    opened.close()
    assert cache.clear().freed > 0


def test_leftovers_are_removed_but_not_what_a_process_may_be_making() -> None:
    directory = _put(_key())
    old, new = directory.parent / ".making-old", directory.parent / ".making-new"
    for each in (old, new):
        each.mkdir()
    _aged(old, days=1)
    assert [each.place for each in cache.entries() if each.kind == "leftover"] == [old]
    cache.clear()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_cache_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    _put(_key())
    root = store.place()
    assert root is not None
    root.chmod(stat.S_IMODE(root.stat().st_mode) | 0o022)
    with pytest.raises(SetupError, match="Others may write"):
        cache.entries()
    assert _run("clear", "--yes", cwd=tmp_path).code == 5
    assert list(root.rglob("infer.json"))


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a script that converts well was profiled."""
    place = tmp_path_factory.mktemp("profiled")
    shutil.copy(SCRIPTS / "healthy.py", place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOHYBRID_CACHE", "off")
        assert autohybrid("profile", "--budget", "8", "--engine", "predictor", "healthy.py", cwd=place).code == 0
    return place


def test_warm_fills_the_store_and_ends_the_script(profiled: Path) -> None:
    first = _run("warm", "healthy.py", cwd=profiled)
    assert first.code == 0, first.err
    assert "stored" in first.out
    assert "[" not in first.out, "what the script prints is dropped"
    (entry,) = [each for each in cache.entries() if each.kind == "conversion"]
    assert entry.verified
    planned = cache.of_plan(cache.entries(), profiled / "plan.json")
    assert [each.name for each in planned if each.kind == "conversion"] == [entry.name]
    again = _run("warm", "healthy.py", cwd=profiled)
    assert again.code == 0
    assert "was there already" in again.out
    assert len([each for each in cache.entries() if each.kind == "conversion"]) == 1


def test_warm_says_what_it_could_not_keep(profiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = plans.whole([plans.model([plans.region("body", INPUTS)])])
    plan.save(other, profiled / "other.json")
    found = _run("warm", "--plan", "other.json", "healthy.py", cwd=profiled)
    assert found.code == 1
    assert "not called by the script" in found.out
    monkeypatch.setenv("AUTOHYBRID_CACHE", "off")
    refused = _run("warm", "healthy.py", cwd=profiled)
    assert refused.code == 5
    assert "no store to fill" in refused.err
    assert _run("warm", "--plan", "none.json", "healthy.py", cwd=profiled).code == 4
