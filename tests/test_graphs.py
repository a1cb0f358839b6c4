"""Graphs that serve again: what is traced once, what is traced anew, and that nothing of other weights is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import paddle
import pytest
from engine_regions import STORABLE, apart, region_of, settled
from paddle.nn import functional as F

from autohybrid.engines import Request
from autohybrid.engines.graphs import Blank, Graph, bytes_of, places_in, random_like
from autohybrid.engines.paddle_export import export
from autohybrid.runtime import graphs, rehearsal
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import State
from autohybrid.store import Store
from autohybrid.store.contents import contents

X = paddle.linspace(-1, 1, 32).reshape([4, 8])


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts traces and exports in this process."""
    found: Counter[str] = Counter()
    for name in ("to_static", "save"):
        original = getattr(paddle.jit, name)

        def counting(*args: Any, _name: str = name, _original: Any = original, **more: Any) -> Any:
            found[_name] += 1
            return _original(*args, **more)

        monkeypatch.setattr(paddle.jit, name, counting)
    return found


def randomized(layer: Any) -> Any:
    """The Layer with values of its own in all parameters and buffers."""
    for tensor in [*layer.parameters(), *layer.buffers()]:
        tensor.set_value(paddle.rand(tensor.shape).astype(tensor.dtype) + 0.5)
    return layer


class Block(paddle.nn.Layer):  # type: ignore[misc]
    """Has a parameter twice, running statistics, a buffer that isn't saved, and a Tensor that Paddle doesn't know."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.one = paddle.nn.Linear(8, 8)
        self.two = paddle.nn.Linear(8, 8)
        if tied:
            self.two.weight = self.one.weight
        self.norm = paddle.nn.BatchNorm1D(8)
        self.register_buffer("shift", paddle.zeros([8]), persistable=False)
        self.tables = [paddle.rand([8])]

    def forward(self, x: Any) -> Any:
        return F.silu(self.norm(self.two(self.one(x)))) * self.tables[0] + self.shift


@paddle.jit.not_to_static  # type: ignore[untyped-decorator]
def first_value(tensors: Any) -> float:
    return float(tensors[0].numpy()[0])


class Baked(paddle.nn.Layer):  # type: ignore[misc]
    """Has a Tensor in a tuple, whose value is looked at while it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = paddle.nn.Linear(8, 8)
        self.limits = (paddle.ones([1]),)

    def forward(self, x: Any) -> Any:
        return paddle.clip(self.inner(x), max=first_value(self.limits))


@pytest.mark.parametrize("engine", STORABLE)
def test_blocks_of_one_structure_are_traced_once(engine: str, done: Counter[str], tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    for _ in range(4):
        block = randomized(Block())
        with region_of(block, engine, store=store) as region:
            assert settled(region, X).state is State.SERVING, region.variants[0].reason
            assert apart(region(X), block(X)) < 1e-4
    assert done == {"to_static": 1, "save": 1}


@pytest.mark.parametrize("engine", STORABLE)
def test_changed_weights_are_converted_without_a_trace(engine: str, done: Counter[str]) -> None:
    block = randomized(Block())
    with region_of(block, engine) as region:
        settled(region, X)
        before = region(X)
        for _ in range(2):
            randomized(block)
            block.tables[0].set_value(paddle.rand([8]) + 1.0)
            assert settled(region, X).state is State.SERVING
            assert apart(region(X), before) > 1e-2
            assert apart(region(X), block(X)) < 1e-4
    assert done == {"to_static": 1, "save": 1}


def test_another_pattern_of_tied_weights_is_another_graph(done: Counter[str]) -> None:
    for tied in (True, False, True, False):
        block = randomized(Block(tied))
        with region_of(block) as region:
            assert settled(region, X).state is State.SERVING
            assert apart(region(X), block(X)) < 1e-4
    assert done["save"] == 2


def test_another_attribute_is_another_graph(done: Counter[str]) -> None:
    for slope in (0.1, 0.2):
        block = paddle.nn.Sequential(paddle.nn.Linear(8, 8), paddle.nn.LeakyReLU(slope))
        with region_of(block) as region:
            settled(region, X)
            assert apart(region(X), block(X)) < 1e-5
    assert done["save"] == 2


def limited(limit: float) -> Baked:
    layer = Baked()
    layer.limits[0].set_value(paddle.full([1], limit))
    return layer


def test_a_graph_with_a_weights_value_in_it_is_never_shared(done: Counter[str], tmp_path: Path) -> None:
    """Also where the inputs of the proof don't show it: at 5.5 and 6.0 both give the same for small inputs."""
    store = Store(tmp_path / "cache")
    for limit in (5.5, 6.0):
        layer = limited(limit)
        with region_of(layer, store=store) as region:
            assert settled(region, X).state is State.SERVING
            assert apart(region(100.0 * X), layer(100.0 * X)) < 1e-4
    assert done["save"] == 2
    assert [each.kind for each in contents(tmp_path / "cache")] == ["conversion", "conversion"]


def overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the trace not notice that values are read."""
    monkeypatch.setattr("autohybrid.engines.graphs._READERS", ())


def test_what_a_shared_graph_gets_wrong_is_traced_anew_before_any_repair(
    done: Counter[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overlooked(monkeypatch)
    store = Store(tmp_path / "cache")
    for limit, saves in ((0.2, 1), (0.1, 2), (0.3, 3)):
        layer = limited(limit)
        with region_of(layer, store=store) as region:
            variant = settled(region, X)
            assert variant.state is State.SERVING, variant.reason
            assert (variant.options, variant.straight) == ({}, False)
            assert apart(region(X), layer(X)) < 1e-5
        assert done["save"] == saves
    # Not there for others any more.
    assert all(each.kind == "conversion" for each in contents(tmp_path / "cache"))


def test_without_that_another_way_of_tracing_would_be_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    overlooked(monkeypatch)
    monkeypatch.setattr("autohybrid.runtime.variant.Variant.shares_graph", False)
    straight = []
    for limit in (0.2, 0.1):
        with region_of(limited(limit)) as region:
            straight.append(settled(region, X).straight)
    assert straight == [False, True]


def test_a_rehearsal_in_a_child_comes_to_a_trace_of_its_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    if not rehearsal.possible():
        pytest.skip("this process can't be forked")
    overlooked(monkeypatch)
    for limit in (0.2, 0.1):
        layer = limited(limit)
        with region_of(layer) as plain:
            recipe = plain.recipe
        region = Region(path="", recipe=recipe, admitted=None, policies=Policies(on_miss="convert"))
        with paddle.no_grad():
            variant = settled(region, X)
            assert variant.state is State.SERVING, variant.reason
            assert apart(region(X), layer(X)) < 1e-5
        region.close()


def test_a_graph_that_an_own_trace_confirms_stays_and_repairs_are_tried_with_it(
    done: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong by the engine's fault, not by the graph's: one trace more, and no other for each repair."""
    from autohybrid.engines.predictor import PredictorExecutable

    original = PredictorExecutable.run

    def wrong_with_onednn(self: Any, tensors: Any) -> Any:
        found = original(self, tensors)
        return found if self._options.get("onednn") is False else [each + 1.0 for each in found]

    with region_of(Block(), options={"onednn": False}) as region:
        settled(region, X)
    monkeypatch.setattr(PredictorExecutable, "run", wrong_with_onednn)
    with region_of(randomized(Block())) as plain:
        recipe = plain.recipe
    repairs: list[dict[str, Any]] = [{"optimization_level": 0}, {"onednn": False}]
    policies = Policies(on_miss="convert", isolation="none")
    region = Region(path="", recipe=recipe, admitted=None, policies=policies, repairs=repairs)
    with paddle.no_grad():
        assert settled(region, X).state is State.SERVING
    region.close()
    assert done["save"] == 2


def test_a_region_serves_again_after_a_refresh() -> None:
    with region_of(Block()) as region:
        settled(region, X)
        region.refresh()
        settled(region, X)
        region(X)
        assert region.hybrid_calls == 1


_LATER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import paddle
saved = []
original = paddle.jit.save
paddle.jit.save = lambda *args, **more: (saved.append(1), original(*args, **more))
from engine_regions import apart, region_of, settled
from test_graphs import X, Block, randomized
from autohybrid.store import Store
from autohybrid.store.contents import contents

paddle.seed(int(sys.argv[4]))
block = randomized(Block())
with region_of(block, sys.argv[3], store=Store(Path(sys.argv[2]))) as region:
    variant = settled(region, X)
    print(json.dumps([len(saved), variant.state.name, variant.store_note, apart(region(X), block(X))]))
"""


@pytest.mark.parametrize("engine", STORABLE)
def test_a_later_process_with_other_weights_finds_the_graph(engine: str, tmp_path: Path) -> None:
    found = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", _LATER, str(Path(__file__).parent), str(tmp_path / "cache"), engine, seed]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr[-2000:]
        found.append(json.loads(ended.stdout.splitlines()[-1]))
    assert [(saves, state) for saves, state, _, _ in found] == [(1, "SERVING"), (0, "SERVING")]
    # Not the conversion itself: that is of other weights, one of which stands in a list.
    assert found[1][2] == "stored: attributes, weights differ"
    assert found[1][3] < 1e-4


def test_a_damaged_graph_in_the_store_is_a_miss(done: Counter[str], tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    for _ in range(2):
        with region_of(randomized(Block()), store=store) as region:
            assert settled(region, X).state is State.SERVING
        (kept,) = [each for each in contents(tmp_path / "cache") if each.kind == "graph"]
        (kept.place / "infer.json").write_text("{}")
        graphs.forget_all()
    assert done["save"] == 2


def test_parameters_are_written_as_paddle_writes_them(tmp_path: Path) -> None:
    class Kept:
        graph: Graph | None = None

        def find(self, state: Any) -> Graph | None:
            return self.graph

        def keep(self, state: Any, graph: Graph) -> None:
            self.graph = graph

        def reject(self, state: Any) -> None:
            raise AssertionError("nothing was read")

    class Flat(Block):
        def forward(self, tensors: Any) -> Any:
            return [super().forward(tensors[0])]

    flat, kept = randomized(Flat()), Kept()
    flat._buffers["hidden"] = flat.tables[0]
    flat.eval()
    written = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        export(Request(program=flat, inputs=[X], shapes=[(4, 8)], directory=tmp_path / name, graphs=kept))
        written.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert set(written[0]) == {"infer.json", "infer.pdiparams"}
    assert written[0] == written[1]


ONES = {"w": b"abcdefgh", "b": b"xy"}
OTHERS = {"w": b"ABCDEFGH", "b": b"XY"}


def _file(values: dict[str, bytes]) -> bytes:
    return b"<" + values["b"] + b"|" + values["w"] + b"|" + values["b"] + b">"


def test_a_file_is_filled_where_its_parameters_stand() -> None:
    places = places_in(_file(ONES), ONES, _file(OTHERS), OTHERS)
    assert places is not None
    new = {"w": b"12345678", "b": b"90"}
    named = {name: paddle.to_tensor(list(value), "uint8") for name, value in new.items()}
    assert b"".join(Blank.cut(_file(ONES), places).filled(named)) == _file(new)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_file(ONES) + b"a", _file(OTHERS) + b"A"),  # made of a parameter
        (_file(ONES), _file(OTHERS) + b"longer"),
        (_file(ONES), _file({**OTHERS, "b": b"Xy"})),
    ],
)
def test_a_file_in_which_something_else_depends_on_the_parameters_has_no_places(one: bytes, other: bytes) -> None:
    assert places_in(one, ONES, other, OTHERS) is None


def test_parameters_that_look_alike_have_no_places() -> None:
    alike = {"w": b"12345678", "b": b"XY", "c": b"XY"}
    assert places_in(_file(ONES), {**ONES, "c": b"xz"}, _file(alike), alike) is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "int8", "bool"])
def test_random_parameters_differ_from_the_real_ones(dtype: str) -> None:
    for tensor in (paddle.zeros([16], dtype), paddle.ones([4, 4], dtype)):
        made = random_like({"": tensor})[""]
        assert (made.dtype, made.shape) == (tensor.dtype, tensor.shape)
        assert bytes_of(made) != bytes_of(tensor)


def test_random_parameters_leave_the_users_random_numbers_alone() -> None:
    paddle.seed(1)
    expected = paddle.rand([4])
    paddle.seed(1)
    random_like({"w": X})
    assert paddle.equal_all(paddle.rand([4]), expected)


def onnx_runs(engine: str, blocks: Iterable[Block]) -> list[bool]:
    """For each run of paddle2onnx while the blocks are converted in turn, whether it looks where parameters stand."""
    pytest.importorskip(engine)
    pytest.importorskip("paddle2onnx")
    from autohybrid.engines import onnx_export

    aside = mock.Mock(side_effect=onnx_export._converted_aside)
    with mock.patch.object(onnx_export, "_converted_aside", aside):
        for block in blocks:
            with region_of(block, engine) as region:
                assert settled(region, X).state is State.SERVING, region.variants[0].reason
                assert apart(region(X), block(X)) < 1e-4
    return [call.kwargs["seeking"] for call in aside.mock_calls]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_onnx_models_are_made_twice_and_filled_from_then_on(engine: str) -> None:
    assert onnx_runs(engine, [randomized(Block()) for _ in range(4)]) == [False, False]


def test_of_a_graph_in_the_store_nothing_is_sought_until_it_serves_twice(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    with region_of(randomized(Encoder()), "openvino", store=store) as region:
        settled(region, XS)
    graphs.forget_all()
    assert openvino_compilations([randomized(Encoder()) for _ in range(3)], XS, store) == [1, 2, 0]


def test_where_the_first_blocks_weights_are_others_by_now_the_second_is_made_with_its_own_too() -> None:
    def changing() -> Iterator[Block]:
        first = randomized(Block())
        yield first
        randomized(first)
        yield from (randomized(Block()) for _ in range(2))

    assert onnx_runs("onnxruntime", changing()) == [False, False, True]


def openvino_compilations(blocks: Iterable[Any], x: Any, store: Store | None = None) -> list[int]:
    """How many models OpenVINO compiles for each block."""
    pytest.importorskip("openvino")
    pytest.importorskip("paddle2onnx")
    from autohybrid.engines import openvino

    counts = []
    with mock.patch.object(openvino, "_compiled", mock.Mock(side_effect=openvino._compiled)) as compiled:
        for block in blocks:
            before = compiled.call_count
            with region_of(block, "openvino", store=store) as region:
                assert settled(region, x).state is State.SERVING, region.variants[0].reason
                assert apart(region(x), block(x)) < 1e-4
            counts.append(compiled.call_count - before)
    return counts


XS = paddle.linspace(-1, 1, 96).reshape([2, 3, 16])


class Encoder(paddle.nn.TransformerEncoderLayer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(16, 2, 32)


@pytest.mark.parametrize("weights", ["as they come", "random"])
def test_of_alike_blocks_openvino_compiles_one_and_two_with_random_weights(weights: str) -> None:
    """As they come, biases are zero: in a model that is compiled with these they are left out."""
    blocks = [Encoder() if weights == "as they come" else randomized(Encoder()) for _ in range(4)]
    assert openvino_compilations(blocks, XS) == [1, 2, 0, 0]


def test_where_openvino_does_not_keep_weights_as_they_are_it_compiles_each() -> None:
    """It works the statistics of a normalisation into what stands before it."""
    assert openvino_compilations([randomized(Block()) for _ in range(3)], X) == [1, 3, 1]


def test_a_model_that_openvino_has_made_unreadable_is_made_anew(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("paddle2onnx")
    from autohybrid.engines import openvino

    store, block = Store(tmp_path / "cache"), randomized(Block())
    for written in ({}, openvino._PLAIN):
        with mock.patch.object(openvino, "_PLAIN", written), region_of(block, "openvino", store=store) as region:
            assert settled(region, X).state is State.SERVING, region.variants[0].reason
            assert apart(region(X), block(X)) < 1e-4


def test_what_openvino_writes_is_compared_but_for_numbers_in_names() -> None:
    pytest.importorskip("openvino")
    from autohybrid.engines import openvino

    def written(text: bytes) -> Any:
        whole = b'<?xml version="1.0"?>' + text
        return openvino._lasting([b"sizes " + len(whole).to_bytes(8, sys.byteorder), b"constants" + whole])

    text = b'name="MVN_99" fused="Add_7, MVN_99" offset="16"'
    assert written(text) == written(b'name="MVN_1001" fused="Add_8, MVN_1001" offset="16"')
    for other in (
        b'name="MVN_99" fused="Add_7, MVN_99" offset="17"',
        b'name="MVN_99" fused="Add_7, MVN_98" offset="16"',
        b'name="MVN_99" fused="Sub_7, MVN_99" offset="16"',
    ):
        assert written(text) != written(other)


def test_graphs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    for width in (3, 4, 5):
        with region_of(paddle.nn.Linear(width, 2)) as region:
            settled(region, paddle.randn([2, width]))
    assert len(graphs._held) == 2
