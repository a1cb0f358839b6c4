"""What trials showed outlives the process, and only for the same models, inputs, environment and settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import paddle
import plans
import pytest
from paddle import nn

from autohybrid import plan
from autohybrid.observe.observer import Observer
from autohybrid.observe.profile import Profile
from autohybrid.runtime.fingerprint import normalized_source
from autohybrid.search import memory
from autohybrid.search.journal import Journal, ended
from autohybrid.search.options import Options
from autohybrid.search.outcomes import Crashed, Outcome, Raced, TimedOut, Wrong

WRONG = Wrong(detail="differs", equality=plans.EQUALITY, inputs={})
LATE = TimedOut(detail="stopped after 8 seconds", evidence="")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "memory.jsonl"


# The file.


def test_a_later_search_knows_what_ended_and_says_so(place: Path) -> None:
    Journal(memory=place).end("a", WRONG)
    later = Journal(memory=place)
    assert later.recalled == ""
    assert later.recall("a") == WRONG
    assert later.recall("a") == WRONG
    assert later.recall("b") is None
    assert later.recalled.startswith("1 trial was known from an earlier search")


def test_what_this_search_found_itself_is_not_called_known(place: Path) -> None:
    journal = Journal(memory=place)
    journal.end("a", WRONG)
    assert journal.recall("a") == WRONG
    assert journal.recalled == ""


def test_a_trial_that_was_running_when_the_whole_search_was_killed_is_tried_again(place: Path, tmp_path: Path) -> None:
    Journal(tmp_path / "run", place).begin("a")
    later = Journal(tmp_path / "another run", place)
    assert not later.was_fatal("a")
    assert later.recall("a") is None
    assert Journal(tmp_path / "run", place).was_fatal("a"), "where only the trial's process died"


@pytest.mark.parametrize("early", [LATE, Raced(runners=[], detail="stopped")])
def test_what_ended_for_want_of_time_counts_where_it_had_enough(early: Outcome | Raced, place: Path) -> None:
    Journal(memory=place).end("a", early, limit=10.0)
    assert Journal(memory=place).recall("a", limit=20.0) is None
    assert Journal(memory=place).recall("a", limit=10.5) == early
    assert Journal(memory=place).recall("a", limit=5.0) == early


def test_an_answer_counts_whatever_time_there_was(place: Path) -> None:
    Journal(memory=place).end("a", WRONG, limit=1.0)
    assert Journal(memory=place).recall("a", limit=100.0) == WRONG


def test_what_is_not_lasting_is_of_this_search_only(place: Path, tmp_path: Path) -> None:
    crashed = Crashed(detail="the process died in an earlier run", evidence="")
    journal = Journal(tmp_path / "run", place)
    journal.end("a", crashed, lasting=False)
    assert journal.recall("a") == crashed
    assert Journal(tmp_path / "run", place).recall("a") == crashed
    assert Journal(memory=place).recall("a") is None


def test_half_a_line_costs_that_line_only(place: Path) -> None:
    Journal(memory=place).end("a", WRONG)
    with place.open("ab") as file:
        file.write(b'\n{"key": "b", "outc')
    Journal(memory=place).end("c", WRONG)
    assert set(ended(place)) == {"a", "c"}


def test_a_journal_does_not_grow_for_ever(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autohybrid.search.journal.LARGEST_MEMORY", 1)
    journal = Journal(memory=place)
    journal.end("a", WRONG)
    journal.end("b", WRONG)
    assert set(ended(place)) == {"a"}
    assert journal.recall("b") == WRONG


# Whose file it is.


class Scaled(nn.Layer):  # type: ignore[misc]
    def __init__(self, width: int = 4, factor: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.factor = factor

    def forward(self, x: Any, flag: bool = False) -> Any:
        return self.fc(x) * (self.factor if flag else 1.0)


class Rescaled(Scaled):
    def forward(self, x: Any, flag: bool = False) -> Any:
        return self.fc(x) + self.factor


def _seen(
    kind: Callable[..., Any] = Scaled, rows: int = 2, dtype: str = "float32", flag: bool = False, **kw: Any
) -> Profile:
    layer = kind(**kw)
    layer.eval()
    layer.to(dtype=dtype)
    with Observer() as observer, paddle.no_grad():
        for _ in range(4):
            layer(paddle.rand([rows, layer.fc.weight.shape[0]]).astype(dtype), flag=flag)
    return observer.profile()


def _identity(seen: Profile | None = None, options: Options | None = None, **environment: Any) -> str:
    changed = msgspec.structs.replace(plans.ENVIRONMENT, **environment)
    return memory.identity(seen or _seen(), options or Options(), changed)


def test_other_values_of_weights_and_inputs_are_the_same() -> None:
    assert _identity() == _identity()


CHANGES: dict[str, dict[str, Any]] = {
    "source": {"kind": Rescaled},
    "structure": {"width": 5},
    "attribute": {"factor": 2.0},
    "shape": {"rows": 3},
    "dtype": {"dtype": "float64"},
    "constant": {"flag": True},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_model_or_input_has_another_file(change: dict[str, Any]) -> None:
    assert _identity(_seen(**change)) != _identity()


@pytest.mark.parametrize(
    "change",
    [{"rtol": 1e-2}, {"atol": 1e-2}, {"min_gain": 2.0}, {"precisions": ("bfloat16",)}, {"threads": 7}],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_have_another_file(change: dict[str, Any]) -> None:
    assert _identity(options=Options(**change)) != _identity()


def test_what_only_bounds_a_search_keeps_the_file() -> None:
    assert _identity(options=Options(budget=3.0, fresh=True, include=("x",))) == _identity()


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(plan.Environment)])
def test_another_environment_has_another_file(name: str) -> None:
    other: Any = 99 if isinstance(getattr(plans.ENVIRONMENT, name), int) else "another"
    assert _identity(**{name: other}) != _identity()


def test_another_flag_of_paddle_or_another_autohybrid_has_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _identity()
    monkeypatch.setenv("FLAGS_use_cinn", "1")
    assert _identity() != before
    monkeypatch.undo()
    monkeypatch.setattr(memory, "_own_code", lambda: "another")
    assert _identity() != before


def _place(**options: Any) -> Path:
    found = memory.place(_seen(), Options(**options), plans.ENVIRONMENT)
    assert found is not None
    return found


def test_the_file_lies_in_a_private_directory_beside_the_store(tmp_path: Path) -> None:
    place = _place()
    assert place.parent == tmp_path / "store" / "journals"
    assert place.parent.stat().st_mode & 0o777 == 0o700
    Journal(memory=place).end("a", WRONG)
    assert place.stat().st_mode & 0o777 == 0o600


def test_fresh_starts_anew() -> None:
    Journal(memory=_place()).end("a", WRONG)
    assert Journal(memory=_place()).recall("a") == WRONG
    assert Journal(memory=_place(fresh=True)).recall("a") is None
    assert Journal(memory=_place()).recall("a") is None


def test_without_a_cache_there_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOHYBRID_CACHE", "off")
    assert memory.place(_seen(), Options(), plans.ENVIRONMENT) is None


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "store" / "journals").mkdir(parents=True, mode=0o700)
    os.chmod(tmp_path / "store" / "journals", 0o777)
    with pytest.warns(RuntimeWarning, match="Others may write"):
        assert memory.place(_seen(), Options(), plans.ENVIRONMENT) is None


def test_code_that_can_not_be_read_is_never_taken_for_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _seen()
    monkeypatch.setattr("autohybrid.search.memory.source_hash", lambda layer: "")
    assert memory.place(seen, Options(), plans.ENVIRONMENT) is None


def test_old_files_and_too_many_of_them_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    place = _place()
    place.touch()
    now = place.stat().st_mtime
    for number in range(6):
        (place.parent / f"{number}.jsonl").touch()
        os.utime(place.parent / f"{number}.jsonl", (now - number - 1,) * 2)
    os.utime(place.parent / "2.jsonl", (now - 2 * memory.LONGEST_UNUSED,) * 2)
    monkeypatch.setattr(memory, "MOST_FILES", 4)
    _place()
    assert {path.name for path in place.parent.iterdir()} == {place.name, "0.jsonl", "1.jsonl", "3.jsonl"}


def test_functions_behind_wrappers_of_one_make_have_sources_of_their_own() -> None:
    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    def one(x: int) -> int:
        return x + 1

    def other(x: int) -> int:
        return x + 2

    assert normalized_source(wrapped(one)) != normalized_source(wrapped(other))
