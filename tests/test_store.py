"""The store: what is the same is found, what isn't is named, what is damaged or not ours is never used."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paddle
import pytest
from engine_regions import STORABLE, Residual, apart, region_of, settled
from hypothesis import given
from hypothesis import strategies as st

from autohybrid import plan
from autohybrid.engines.predictor import PredictorEngine
from autohybrid.errors import ConversionError, SetupError
from autohybrid.runtime import attach, identity, patches
from autohybrid.runtime.content import Contents, Unknowable, digest_of, tensor_digest
from autohybrid.runtime.conversion import converted
from autohybrid.runtime.equality import Tolerance
from autohybrid.runtime.signature import recorded
from autohybrid.runtime.variant import State
from autohybrid.store import Key, Store, default
from autohybrid.store.document import Entry
from autohybrid.store.store import _size
from autohybrid.structure import flatten

_SCRIPT = '''
"""Calls a region with the store, and says what it did."""
import json, sys
from pathlib import Path
import paddle
sys.path.insert(0, sys.argv[1])
from engine_regions import Residual, apart, region_of
from autohybrid.store import Store

if "refuse" in sys.argv:
    def refuse(*args, **kwargs):
        raise AssertionError("traced or exported")
    paddle.jit.save = paddle.jit.to_static = refuse
    # Not even found, where an engine needs it to convert.
    sys.modules["paddle2onnx"] = None
paddle.seed(7)
layer = Residual()
x = paddle.linspace(-1, 1, 64).reshape([4, 16])
expected = layer(x)
with region_of(layer, sys.argv[3], store=Store(Path(sys.argv[2]))) as region:
    worst = max(apart(region(x), expected) for _ in range(5))
    variant = region.variants[0]
    print(json.dumps({"note": variant.store_note, "state": variant.state.name, "hybrid": region.hybrid_calls,
                      "compared": variant.compared, "worst": worst, "reason": variant.reason}))
'''


def other_process(root: Path, *words: str, engine: str = "predictor") -> subprocess.Popen[str]:
    script = root.parent / "script.py"
    if not script.exists():
        script.write_text(_SCRIPT)
    tests = str(Path(__file__).parent)
    command = [sys.executable, str(script), tests, str(root), engine, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def entries(store: Store, kind: str = "conversion") -> list[Path]:
    places = [path.parent for path in store.root.glob("*/*/entry.json")]
    return sorted(path for path in places if Entry.read(path).fields.get("kind", "conversion") == kind)


def note(store: Store, layer: Any, *args: Any, **more: Any) -> str:
    """How the store took part in converting ``layer`` for ``args``; the answers are checked as well."""
    with region_of(layer, store=store, **more) as region:
        variant = settled(region, *args)
        assert variant.state is State.SERVING, variant.reason
        assert apart(region(*args), layer(*args)) < 1e-4
        return variant.store_note


X = [[0.1 * column * (row + 1) for column in range(16)] for row in range(4)]


@pytest.mark.parametrize("engine", STORABLE)
def test_a_later_process_neither_traces_nor_exports(engine: str, tmp_path: Path) -> None:
    first = told(other_process(tmp_path / "cache", engine=engine))
    assert first["note"] == "stored: nothing stored yet"
    assert (first["compared"], first["hybrid"]) == (2, 3)
    second = told(other_process(tmp_path / "cache", "refuse", engine=engine))
    assert second["note"] == "from the store"
    assert second["state"] == "SERVING"
    assert second["worst"] < 1e-4
    # Verified before: the answer that eager gives anyway is compared, and no second one.
    assert (second["compared"], second["hybrid"]) == (1, 4)


def test_without_an_entry_the_same_process_would_trace(tmp_path: Path) -> None:
    assert "traced or exported" in told(other_process(tmp_path / "cache", "refuse"))["reason"]


def test_eight_processes_on_an_empty_store_are_all_right_and_one_exports(tmp_path: Path) -> None:
    found = [told(process) for process in [other_process(tmp_path / "cache") for _ in range(8)]]
    assert max(each["worst"] for each in found) < 1e-4
    assert {each["state"] for each in found} == {"SERVING"}
    assert sorted(each["note"] for each in found) == ["from the store"] * 7 + ["stored: nothing stored yet"]
    left = [path for path in (tmp_path / "cache").rglob("*") if path.name.startswith(".") or path.suffix == ".lock"]
    assert left == []


def test_an_entry_can_be_read_by_a_person(store: Store) -> None:
    note(store, Residual(), paddle.to_tensor(X))
    (directory,) = entries(store)
    content = json.loads((directory / "entry.json").read_text())
    assert content["fields"]["engine"] == "predictor"
    assert "float32" in content["fields"]["inputs"]
    assert set(content["files"]) == {"infer.json", "infer.pdiparams"}
    assert content["verified"]["compared"] == 2
    assert content["verified"]["error"] < 1e-4
    assert content["verified"]["answer"] == {"tensor": {"index": 0, "input": None}}
    assert {path.stat().st_mode & 0o777 for path in (store.root.parent, store.root, directory)} == {0o700}
    assert {path.stat().st_mode & 0o077 for path in directory.iterdir() if path.name != "entry.json"} == {0}


def _twin(layer: Any) -> Any:
    made = type(layer)()
    made.set_state_dict(layer.state_dict())
    return made


def _weights(layer: Any) -> dict[str, Any]:
    layer.inner.weight.set_value(layer.inner.weight.numpy() * 2)
    return {}


def _attribute(layer: Any) -> dict[str, Any]:
    layer.times = 3
    return {}


def _structure(layer: Any) -> dict[str, Any]:
    layer.other = paddle.nn.Linear(2, 2)
    return {}


def _options(layer: Any) -> dict[str, Any]:
    return {"options": {"onednn": False}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda layer: {}, "from the store"),
        (_weights, "stored: weights differs"),
        (_attribute, "stored: attributes differs"),
        (_structure, "stored: structure, attributes, weights differ"),
        (_options, "stored: options differs"),
    ],
)
def test_a_miss_names_what_differs(store: Store, change: Callable[[Any], dict[str, Any]], named: str) -> None:
    layer, x = Residual(), paddle.to_tensor(X)
    assert note(store, layer, x) == "stored: nothing stored yet"
    twin = _twin(layer)
    more = change(twin)
    if named.startswith("stored: structure"):
        # A new Layer's own attributes and weights are new as well.
        assert note(store, twin, x, **more).startswith("stored: ")
        return
    assert note(store, twin, x, **more) == named


def test_other_inputs_are_another_entry(store: Store) -> None:
    layer = Residual()
    note(store, layer, paddle.to_tensor(X))
    assert note(store, layer, paddle.to_tensor(X[:3])) == "stored: inputs differs"
    assert note(store, layer, paddle.to_tensor(X)) == "from the store"
    assert len(entries(store)) == 2


def test_every_field_decides_and_is_named(store: Store) -> None:
    fields = {name: name for name in identity_fields()}
    key = Key(region="r", fields=fields)
    publish(store, key)
    for name in fields:
        other = Key(region="r", fields={**fields, name: "another"})
        assert other.digest != key.digest
        assert store.find(other) is None
        assert store.why_missing(other) == f"{name} differs"


def identity_fields() -> list[str]:
    with region_of(Residual()) as region:
        x = paddle.to_tensor(X)
        return list(settled(region, x)._key([x]).fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("autohybrid.__version__", "0.0.0"),
        ("autohybrid.runtime.identity.FORMAT", 99),
        ("autohybrid.device.cpu_model", lambda: "another processor"),
        ("paddle.__version__", "3.0.0"),
        ("platform.python_version", lambda: "3.10.0"),
        ("paddle.get_default_dtype", lambda: "float64"),
    ],
)
def test_versions_device_and_defaults_are_in_the_key(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    with region_of(Residual()) as region:
        x = paddle.to_tensor(X)
        variant = settled(region, x)
        before = variant._key([x])
        monkeypatch.setattr(name, value)
        assert len(before.differing(variant._key([x]).fields)) == 1


def test_what_an_engine_is_made_with_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with region_of(Residual()) as region:
        x = paddle.to_tensor(X)
        variant = settled(region, x)
        before = variant._key([x])
        monkeypatch.setattr(PredictorEngine, "made_with", lambda self: {"library": "2.0"})
        assert before.differing(variant._key([x]).fields) == ["libraries"]


def publish(store: Store, key: Key, size: int = 10) -> None:
    stage = store.stage(key)
    (stage / "infer.json").write_bytes(b"x" * size)
    stored = store.publish(key, stage)
    assert stored is not None
    stored.close()


def _truncated(directory: Path) -> None:
    content = (directory / "entry.json").read_bytes()
    (directory / "entry.json").write_bytes(content[: len(content) // 2])


def _other_verdict(directory: Path) -> None:
    content = json.loads((directory / "entry.json").read_text())
    content["verified"]["compared"] = 1000
    (directory / "entry.json").write_text(json.dumps(content))


def _one_byte(directory: Path) -> None:
    content = bytearray((directory / "infer.pdiparams").read_bytes())
    content[-1] ^= 1
    (directory / "infer.pdiparams").write_bytes(bytes(content))


def _linked(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))
    directory.symlink_to(directory.with_name("elsewhere"))


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        _other_verdict,
        _one_byte,
        lambda directory: (directory / "infer.json").write_text("{}"),
        lambda directory: (directory / "infer.json").unlink(),
        lambda directory: (directory / "entry.json").unlink(),
        lambda directory: (directory / "entry.json").write_text("null"),
        _linked,
    ],
)
def test_a_damaged_entry_is_a_miss_and_is_made_anew(store: Store, damage: Callable[[Path], Any]) -> None:
    layer, x = Residual(), paddle.to_tensor(X)
    note(store, layer, x)
    damage(entries(store)[0])
    assert note(store, layer, x) == "stored: the entry is incomplete or was altered"
    assert note(store, layer, x) == "from the store"


def test_an_entry_that_is_sound_but_does_not_open_is_made_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Residual(), paddle.to_tensor(X)
    note(store, layer, x)
    original = PredictorEngine.open
    failures = iter([True])

    def fails_once(self: Any, directory: Path, request: Any) -> Any:
        if next(failures, False):
            raise ConversionError("not today")
        return original(self, directory, request)

    monkeypatch.setattr(PredictorEngine, "open", fails_once)
    assert note(store, layer, x) == "stored: nothing stored yet"


def test_an_entry_that_answers_wrongly_is_removed_and_never_served(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = Residual(), paddle.to_tensor(X)
    note(store, layer, x)
    content = json.loads((entries(store)[0] / "entry.json").read_text())
    confused = Key(region=content["region"], fields=content["fields"])
    # As if two different models had one key.
    monkeypatch.setattr("autohybrid.runtime.variant.key_of", lambda *args, **kwargs: confused)
    twin = _twin(layer)
    twin.times = 3
    with region_of(twin, store=store) as region:
        assert settled(region, x).state is State.SERVING, "traced anew, without the store"
        assert apart(region(x), twin(x)) < 1e-4
    assert all(json.loads((each / "entry.json").read_text())["verified"] is None for each in entries(store))


def test_a_record_of_fewer_proofs_or_a_wider_tolerance_does_not_count(store: Store) -> None:
    layer, x = Residual(), paddle.to_tensor(X)
    note(store, layer, x)
    with region_of(layer, store=store, proofs=3) as region:
        assert settled(region, x).compared == 3
    with region_of(layer, store=store, proofs=3) as region:
        assert settled(region, x).compared == 1
        region.recipe = replace(region.recipe, tolerance=Tolerance(rtol=1e-4))
        region.variants[0].recipe = region.recipe
        region.variants[0].forget()
        assert settled(region, x).compared == 1 + 3


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_directory_that_others_may_write_is_refused(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "open"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(SetupError, match="Others may write"):
        Store(root)
    monkeypatch.setenv("AUTOHYBRID_CACHE", str(root))
    with pytest.warns(RuntimeWarning, match="nothing is stored: Others may write"):
        assert default() is None
    assert list(root.iterdir()) == []


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(SetupError, match="belongs to another user"):
        Store(tmp_path / "cache")


def test_a_link_or_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(SetupError, match="not a directory"):
            Store(tmp_path / name)


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOHYBRID_CACHE_SIZE", "2M")
    found = default()
    assert found is not None
    assert (found.root, found.limit) == (tmp_path / "store" / "v1", 2 << 20)
    monkeypatch.delenv("AUTOHYBRID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    found = default()
    assert found is not None
    assert found.root == tmp_path / "xdg" / "autohybrid" / "v1"
    monkeypatch.setenv("AUTOHYBRID_CACHE", "off")
    assert default() is None
    with pytest.raises(SetupError, match="AUTOHYBRID_CACHE_SIZE is 'lots'"):
        _size("lots")
    assert [_size(text) for text in ("10", "1.5k", "2GB")] == [10, 1536, 2 << 30]


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", limit=6000)
    keys = [Key(region="r", fields={"n": str(n)}) for n in range(4)]
    for age, key in zip((30, 20, 10), keys, strict=False):
        publish(store, key, 1500)
        used = time.time() - age
        os.utime(store._place(key) / "entry.json", (used, used))
    first = store.find(keys[0])
    assert first is not None
    first.close()
    publish(store, keys[3], 1500)
    kept = [key.fields["n"] for key in keys if store._place(key).exists()]
    assert "1" not in kept
    assert {"0", "3"} <= set(kept)


def test_what_is_open_is_not_evicted(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", limit=4000)
    keys = [Key(region="r", fields={"n": str(n)}) for n in range(3)]
    publish(store, keys[0], 1500)
    opened = store.find(keys[0])
    assert opened is not None
    for key in keys[1:]:
        publish(store, key, 1500)
    assert store._place(keys[0]).exists()
    opened.close()
    publish(store, Key(region="r", fields={"n": "3"}), 1500)
    assert not store._place(keys[0]).exists()


def test_what_is_larger_than_the_store_is_not_stored(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", limit=100)
    assert note(store, Residual(), paddle.to_tensor(X)).startswith("not stored: too large")
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_process_waits_for_another_that_is_making_the_entry(store: Store) -> None:
    key = Key(region="r", fields={"n": "1"})
    with store.making(key) as alone:
        assert alone
        with store.making(key, patience=0.2) as second:
            assert not second
    with store.making(key, patience=0.2) as third:
        assert third


def test_a_disk_that_cannot_be_written_is_no_obstacle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "publish", full)
    assert "No space left" in note(store, Residual(), paddle.to_tensor(X))
    monkeypatch.setattr(fcntl, "flock", full)
    assert "No space left" in note(store, Residual(), paddle.to_tensor(X))


class Opaque(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.handle = (number for number in range(3))


def test_what_cannot_be_known_is_not_stored(store: Store) -> None:
    assert note(store, Opaque(), paddle.to_tensor(X)).endswith("Opaque.handle: a generator")
    assert entries(store) == []


FACTOR = 2.0


def _scaled(x: Any) -> Any:
    return x * FACTOR


def _calls_scaled(x: Any) -> Any:
    return _scaled(x)


def test_what_a_function_names_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def described() -> str:
        return digest_of(Contents(Residual()).of(_calls_scaled))

    before = described()
    assert described() == before
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert described() != before


def test_what_a_function_closes_over_is_part_of_it() -> None:
    def made(factor: float) -> Callable[[Any], Any]:
        return lambda x: x * factor

    assert digest_of(Contents(Residual()).of(made(1.0))) != digest_of(Contents(Residual()).of(made(2.0)))


def test_a_changed_source_is_another_key(tmp_path: Path) -> None:
    def key(body: str) -> Key:
        name = f"module_{abs(hash(body))}"
        (tmp_path / f"{name}.py").write_text(
            textwrap.dedent(f"""
            import paddle
            class Model(paddle.nn.Layer):
                def forward(self, x):
                    # a comment
                    return self.helper(x)
                def helper(self, x):
                    return {body}
            """)
        )
        sys.path.insert(0, str(tmp_path))
        try:
            layer = __import__(name).Model()
        finally:
            sys.path.pop(0)
        x = paddle.to_tensor(X)
        layer.__class__.__module__ = "module"
        with region_of(layer) as region:
            return settled(region, x)._key([x])

    one, other = key("x + 1"), key("x + 2")
    assert one.differing(other.fields) == ["source"]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(_values, _values)
def test_descriptions_differ_exactly_when_values_do(one: Any, other: Any) -> None:
    contents = [digest_of(Contents(paddle.nn.Layer()).of(value)) for value in (one, other)]
    assert (contents[0] == contents[1]) == (repr(one) == repr(other))


def test_a_cycle_is_described_and_an_open_file_is_not(tmp_path: Path) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert Contents(Residual()).of(cycle)
    with (tmp_path / "file").open("w") as file, pytest.raises(Unknowable):
        Contents(Residual()).of([file])


def test_weights_are_hashed_once_until_one_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Residual()
    hashed: list[int] = []

    def counted(tensor: Any) -> str:
        hashed.append(1)
        return tensor_digest(tensor)

    monkeypatch.setattr(identity, "tensor_digest", counted)
    with region_of(layer):
        first = identity.weights_digest(layer)
        assert identity.weights_digest(layer) == first
        assert len(hashed) == 2
        layer.inner.weight.set_value(layer.inner.weight.numpy() + 1)
        assert identity.weights_digest(layer) != first
        assert len(hashed) == 4
    assert not patches.watching()
    identity.weights_digest(layer)
    assert len(hashed) == 6, "without the patches nothing tells that a weight changed"
    with region_of(layer):
        identity.weights_digest(layer)
        assert len(hashed) == 8, "nor whether one did before they came back"


def test_without_a_store_nothing_is_asked() -> None:
    def never() -> Key:
        raise AssertionError

    class Engine(PredictorEngine):
        def convert(self, request: Any) -> Any:
            return request

    from autohybrid.engines import Request

    request = Request(program=None, inputs=[], shapes=[], directory=Path())
    made = converted(Engine(), request, None, never)
    assert made.note == ""
    Path(made.executable.directory).rmdir()  # type: ignore[attr-defined]


def test_apply_uses_the_users_store(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Residual(), paddle.to_tensor(X)
    layer.eval()
    tensors, structure = flatten(((x,), {}))
    planned = SimpleNamespace(
        kind="layer",
        path="",
        function="forward",
        engine="predictor",
        options={},
        inputs=[recorded(structure, tensors, ((4, 16),))],
        training_mode="eager",
    )
    monkeypatch.setattr(attach, "_entries_for", lambda *_: [(layer, SimpleNamespace(regions=[planned]))])
    settings = SimpleNamespace(rtol=1e-3, atol=1e-5)
    content = plan.Plan(
        schema_version=plan.SCHEMA_VERSION,
        created="",
        environment=None,  # type: ignore[arg-type]
        script=None,
        settings=settings,  # type: ignore[arg-type]
        models=[],
        trials=0,
        search_seconds=0.0,
        complete=True,
        notes=[],
        whole_script=None,
    )
    notes = []
    for _ in range(2):
        attach.apply(layer, content)
        (region,) = attach.regions_of(layer)
        with paddle.no_grad():
            for _ in range(3):
                layer(x)
        notes.append(region.variants[0].store_note)
        attach.restore(layer)
    assert notes == ["stored: nothing stored yet", "from the store"]
