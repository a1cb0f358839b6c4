"""A proof that another process wrote down answers the first call; where it could be wrong, eager answers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import paddle
import pytest
from engine_regions import STORABLE, Residual, apart, region_of, settled

from autohybrid.engines import Request, by_name
from autohybrid.engines.predictor import PredictorEngine, PredictorExecutable
from autohybrid.runtime.program import Answer
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import State
from autohybrid.store import Store
from autohybrid.structure import describe, described_as, flatten

X = [[0.1 * column * (row + 1) for column in range(16)] for row in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def x() -> Any:
    return paddle.to_tensor(X)


def prove(layer: Any, store: Store, *args: Any, **more: Any) -> None:
    """As an earlier process would: converts, compares, and writes down that it was right."""
    with region_of(layer, store=store, **more) as region:
        assert settled(region, *args).state is State.SERVING, region.variants[-1].reason


def entry_in(store: Store) -> Path:
    """The file of the one conversion that is kept; the graph beside it is another entry."""
    (entry,) = [
        each for each in store.root.glob("*/*/entry.json") if "kind" not in json.loads(each.read_text())["fields"]
    ]
    return entry


def record(store: Store) -> dict[str, Any]:
    entry = entry_in(store)
    found: dict[str, Any] = json.loads(entry.read_text())["verified"]
    return found


def calls(region: Region) -> tuple[int, int]:
    """Hybrid and eager ones."""
    return region.hybrid_calls, sum(region.eager_calls.values())


@contextlib.contextmanager
def later(layer: Any, store: Store, **more: Any) -> Iterator[Region]:
    """A region as a later process would have it."""
    with region_of(layer, store=store, **more) as region:
        yield region


class Two(Residual):
    """Answers in a form of its choice, made of two results and its input."""

    form: Any = staticmethod(lambda y, z, x: y)

    def forward(self, x: Any, unused: Any = None) -> Any:
        y = self.inner(x)
        return type(self).form(y, y.mean(axis=-1), x)


@pytest.mark.parametrize("engine", STORABLE)
def test_the_first_call_is_hybrid_and_the_second_is_compared(engine: str, store: Store) -> None:
    layer = Residual()
    prove(layer, store, x(), engine=engine)
    expected = layer(x())
    with later(layer, store, engine=engine) as region:
        assert apart(region(x()), expected) < 1e-4
        assert calls(region) == (1, 0)
        (variant,) = region.variants
        assert (variant.state, variant.compared, variant.store_note) == (State.PROVING, 0, "from the store")
        assert apart(region(x()), expected) < 1e-4
        assert calls(region) == (1, 1)
        assert (variant.state, variant.compared) == (State.SERVING, 1)
        region(x())
        assert calls(region) == (2, 1)


_SCRIPT = """
import json, sys
import paddle
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engine_regions import Residual, apart, region_of
from autohybrid.store import Store

def refuse(*args, **kwargs):
    raise AssertionError("traced or exported")

paddle.seed(7)
layer = Residual()
x = paddle.linspace(-1, 1, 64).reshape([4, 16])
expected = layer(x)
if "later" in sys.argv:
    paddle.jit.save = paddle.jit.to_static = refuse
    sys.modules["paddle2onnx"] = None
with region_of(layer, sys.argv[3], store=Store(Path(sys.argv[2]))) as region:
    worst = max(apart(region(x), expected) for _ in range(1 if "later" in sys.argv else 3))
    print(json.dumps({"worst": worst, "hybrid": region.hybrid_calls, "eager": sum(region.eager_calls.values())}))
"""


@pytest.mark.parametrize("engine", STORABLE)
def test_another_process_answers_without_tracing_exporting_or_eager(engine: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)

    def told(*words: str) -> dict[str, Any]:
        command = [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path / "cache"), engine, *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stderr
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return found

    assert told()["eager"] == 2
    second = told("later")
    assert (second["hybrid"], second["eager"]) == (1, 0)
    assert second["worst"] < 1e-4


FORMS = {
    "bare": lambda y, z, x: y,
    "list": lambda y, z, x: [y, (z, None)],
    "dict out of order": lambda y, z, x: {"z": z, "a": y, "m": {"k": True, "b": 3}},
    "twice": lambda y, z, x: (y, y, z),
    "handed through": lambda y, z, x: (x, y),
    "constants": lambda y, z, x: [y, 1, 1.5, -0.0, "text", None, False],
}


@pytest.mark.parametrize("name", FORMS)
def test_answers_of_plain_parts_are_put_together_from_the_record(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Two, "form", staticmethod(FORMS[name]))
    layer, given = Two(), x()
    prove(layer, store, given)
    tensors, structure = flatten(layer(given))
    with later(layer, store) as region:
        found, found_structure = flatten(region(given))
        assert calls(region) == (1, 0)
        assert found_structure == structure
        assert max(apart(one, other) for one, other in zip(found, tensors, strict=True)) < 1e-4
        assert [each is given for each in found] == [each is given for each in tensors]


@dataclass
class Output:
    y: Any
    z: Any


class Named(dict):  # type: ignore[type-arg]
    pass


WEIGHT = "the layer's own weight"

EAGER_FORMS = {
    "dataclass": lambda y, z, x: Output(y, z),
    "subclass of dict": lambda y, z, x: Named(y=y),
    "keys that aren't text": lambda y, z, x: {1: y, 2: z},
    "infinity": lambda y, z, x: (y, float("inf")),
    "a type": lambda y, z, x: (y, paddle.float32),
}


@pytest.mark.parametrize("name", EAGER_FORMS)
def test_what_a_record_does_not_tell_is_answered_by_eager_first(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Two, "form", staticmethod(EAGER_FORMS[name]))
    layer = Two()
    prove(layer, store, x())
    assert record(store)["form"] == ""
    with later(layer, store) as region:
        assert flatten(region(x()))[1] == flatten(layer(x()))[1]
        assert calls(region) == (0, 1)
        assert region.variants[0].state is State.SERVING, "one proof is enough, as the record says"


class HandsOnWeight(Residual):
    def forward(self, x: Any, unused: Any = None) -> Any:
        return self.inner(x), self.inner.weight


def test_an_answer_with_the_models_own_tensors_is_eagers(store: Store) -> None:
    layer = HandsOnWeight()
    prove(layer, store, x())
    with later(layer, store) as region:
        assert region(x())[1] is layer.inner.weight
        assert calls(region) == (0, 1)


def test_under_gradients_eager_says_which_results_have_them(store: Store) -> None:
    layer = Residual()
    prove(layer, store, x())
    with later(layer, store) as region, paddle.enable_grad():
        given = x()
        given.stop_gradient = False
        answer = region(given)
        assert calls(region) == (0, 1)
        answer.sum().backward()
        assert given.grad is not None


def test_in_training_mode_eager_is_asked(store: Store) -> None:
    layer = Residual()
    prove(layer, store, x())
    with later(layer, store) as region:
        layer.train()
        region._training_mode = "ask"
        region(x())
        assert calls(region) == (0, 1)


def test_a_size_that_no_record_has_is_proven_first_and_written_down(store: Store) -> None:
    layer = Residual()
    dynamic = ((x(),), ((-1, 16),))
    prove(layer, store, x(), dynamic=dynamic)
    small = paddle.to_tensor(X[:2])
    for expected in ((0, 1), (1, 0)):
        with later(layer, store, dynamic=dynamic) as region:
            assert apart(region(small), layer(small)) < 1e-4
            assert calls(region) == expected
    assert record(store)["sizes"] == [[[4, 16]], [[2, 16]]]


class AsksEnvironment(Residual):
    def forward(self, x: Any, unused: Any = None) -> Any:
        return self.inner(x) * (2.0 if os.environ.get("AUTOHYBRID_TEST_TWICE") else 1.0)


class AsksCommandLine(Residual):
    def forward(self, x: Any, unused: Any = None) -> Any:
        return self.inner(x) * (2.0 if "--twice" in sys.argv else 1.0)


class AsksFile(Residual):
    place = ""

    def forward(self, x: Any, unused: Any = None) -> Any:
        return self.inner(x) * (2.0 if Path(self.place).read_text() else 1.0)


def test_what_depends_on_the_environment_is_compared_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = AsksEnvironment()
    prove(layer, store, x())
    monkeypatch.setenv("AUTOHYBRID_TEST_TWICE", "1")
    with later(layer, store) as region:
        for _ in range(4):
            assert apart(region(x()), layer(x())) < 1e-4
        assert calls(region)[0] < 4


def test_the_command_line_that_a_forward_looks_at_is_part_of_the_key(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = AsksCommandLine()
    prove(layer, store, x())
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--twice"])
    with later(layer, store) as region:
        for _ in range(4):
            assert apart(region(x()), layer(x())) < 1e-4
        assert region.variants[0].store_note == "stored: source differs"


def test_what_depends_on_a_file_is_compared_first(store: Store, tmp_path: Path) -> None:
    layer = AsksFile()
    layer.place = str(tmp_path / "file")
    (tmp_path / "file").write_text("")
    prove(layer, store, x())
    (tmp_path / "file").write_text("other")
    with later(layer, store) as region:
        for _ in range(4):
            assert apart(region(x()), layer(x())) < 1e-4


def test_a_wrong_record_is_found_out_at_the_second_call_and_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Residual()
    prove(layer, store, x())
    original = PredictorExecutable.run
    wrong = iter([True, True])

    def off(self: Any, tensors: Any) -> Any:
        outputs = original(self, tensors)
        return [output + 1.0 for output in outputs] if next(wrong, False) else outputs

    monkeypatch.setattr(PredictorExecutable, "run", off)
    with later(layer, store) as region:
        region(x())
        with pytest.warns(RuntimeWarning, match="another process had proven it, and one answer was given by that"):
            assert apart(region(x()), layer(x())) < 1e-4
        assert calls(region) == (1, 1)
        for _ in range(4):
            assert apart(region(x()), layer(x())) < 1e-4


def test_a_first_run_that_fails_is_answered_by_eager_and_the_entry_made_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Residual()
    prove(layer, store, x())
    original = PredictorExecutable.run
    failing = iter([True])

    def fails(self: Any, tensors: Any) -> Any:
        if next(failing, False):
            raise RuntimeError("no")
        return original(self, tensors)

    monkeypatch.setattr(PredictorExecutable, "run", fails)
    with later(layer, store) as region:
        assert apart(region(x()), layer(x())) < 1e-4
        assert calls(region) == (0, 1)
        assert region.variants[0].store_note.startswith("stored")
        assert settled(region, x()).state is State.SERVING


def _other_bytes(entry: Path) -> None:
    content = bytearray((entry.parent / "infer.pdiparams").read_bytes())
    content[-1] ^= 1
    (entry.parent / "infer.pdiparams").write_bytes(bytes(content))


def _other_form(entry: Path) -> None:
    content = json.loads(entry.read_text())
    content["verified"]["form"] = json.dumps({"list": [{"tensor": {"index": 0, "input": None}}]})
    entry.write_text(json.dumps(content))


def _no_record(entry: Path) -> None:
    content = json.loads(entry.read_text())
    content["verified"] = None
    entry.write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [_other_bytes, _other_form, _no_record])
def test_an_altered_entry_answers_nothing(damage: Any, store: Store) -> None:
    layer = Residual()
    prove(layer, store, x())
    entry = entry_in(store)
    damage(entry)
    with later(layer, store) as region:
        assert apart(region(x()), layer(x())) < 1e-4
        assert calls(region) == (0, 1)
        assert region.variants[0].store_note == "stored: the entry is incomplete or was altered"


class Averages(Residual):
    """Large enough for oneDNN, which names its mean on stdout where its kernel is chosen: in the first run."""

    def forward(self, x: Any, unused: Any = None) -> Any:
        return self.inner(x).mean(axis=-1)


def test_the_first_run_of_what_is_proven_writes_nothing_to_stdout(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    layer, large = Averages(64), paddle.rand([100, 64])
    prove(layer, store, large)
    with later(layer, store) as region:
        region(large)
        assert calls(region) == (1, 0)
    assert capfd.readouterr().out == ""


def test_fewer_proofs_than_asked_for_do_not_count(store: Store) -> None:
    layer = Residual()
    prove(layer, store, x())
    with later(layer, store, proofs=3) as region:
        region(x())
        assert calls(region) == (0, 1)


def test_a_changed_weight_is_another_key(store: Store) -> None:
    layer = Residual()
    prove(layer, store, x())
    layer.inner.weight.set_value(layer.inner.weight.numpy() * 2)
    with later(layer, store) as region:
        assert apart(region(x()), layer(x())) < 1e-4
        assert calls(region) == (0, 1)


def _doubled(self: Any, x: Any) -> Any:
    return paddle.matmul(x, self.weight) * 2.0


def test_a_forward_put_on_a_sub_layer_is_part_of_the_key(store: Store) -> None:
    layer = Residual()
    prove(layer, store, x())
    layer.inner.__dict__["forward"] = MethodType(_doubled, layer.inner)
    with later(layer, store) as region:
        assert apart(region(x()), layer(x())) < 1e-4
        assert calls(region) == (0, 1)
        assert region.variants[0].store_note == "stored: attributes differs"


def test_results_are_the_callers_own_before_it_is_known_whether_they_are(store: Store) -> None:
    """Also where an engine hands out memory of its own, or the caller's."""
    layer = Residual()

    class Sharing(PredictorEngine):
        def open(self, directory: Path, request: Request) -> Any:
            executable = super().open(directory, request)
            run = executable.run
            kept: list[Any] = []

            def shared(tensors: Any) -> Any:
                outputs = run(tensors)
                kept.extend(outputs if not kept else [])
                for mine, output in zip(kept, outputs, strict=True):
                    mine.set_value(output)
                return kept

            executable.run = shared  # type: ignore[method-assign]
            return executable

    prove(layer, store, x())
    with later(layer, store, engine=Sharing()) as region:
        first = region(x())
        kept = first.clone()
        for factor in (2.0, 3.0, 4.0):
            region(x() * factor)
        assert apart(first, kept) == 0.0


def test_without_proofs_asked_for_none_is_made(store: Store) -> None:
    layer = Residual()
    prove(layer, store, x())
    with later(layer, store, proofs=0) as region:
        for _ in range(3):
            assert apart(region(x()), layer(x())) < 1e-4
        assert calls(region) == (3, 0)


def test_a_description_is_read_back() -> None:
    value = {"b": [paddle.ones([1]), (None, 2)], "a": {"c": "text"}}
    _, structure = flatten(value)
    described = json.loads(json.dumps(describe(structure, lambda index: {"index": index})))
    assert described_as(described, lambda tensor: int(tensor["index"])) == structure
    wrong: Any
    for wrong in ({}, [], {"object": {}, "class": "x"}, {"opaque": "x"}, {"tensor": 0, "list": []}):
        with pytest.raises(ValueError, match=r"object|described"):
            described_as(wrong, lambda tensor: 0)
    assert Answer.restored({"tensor": {"index": 0}}) is None


def test_the_engines_open_what_is_proven_without_a_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Residual()
    prove(layer, store, x())
    entry = entry_in(store)
    runs: list[int] = []
    original = PredictorExecutable.run

    def counted(self: Any, given: Any) -> Any:
        runs.append(1)
        return original(self, given)

    monkeypatch.setattr(PredictorExecutable, "run", counted)
    for proven, expected in ((True, []), (False, [1])):
        request = Request(program=None, inputs=[x()], shapes=[[4, 16]], directory=Path(), proven=proven)
        by_name("predictor").open(entry.parent, request).close()  # type: ignore[attr-defined]
        assert runs == expected
