"""What every engine must do: right answers, results of the caller's own, nothing left behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from engine_regions import ENGINES, STORABLE, apart, region_of, settled
from paddle.nn import functional as F

from autohybrid import device, engines
from autohybrid.engines import Request, StorableEngine
from autohybrid.engines.dimensions import this_machine
from autohybrid.errors import ConversionError
from autohybrid.isolation import Finished, Forked
from autohybrid.runtime.program import Answer, FlatProgram
from autohybrid.runtime.variant import State
from autohybrid.structure import flatten

pytestmark = pytest.mark.parametrize("engine", ENGINES)


class Computing(paddle.nn.Layer):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Any) -> Any:
        return self.function(*tensors)


def executable_for(engine: str, function: Callable[..., Any], inputs: list[Any], directory: Path) -> Any:
    """A conversion of a function of Tensors, without a region around it."""
    layer = Computing(function)
    tensors, arguments = flatten((tuple(inputs), {}))
    answer, _ = Answer.of(layer(*inputs), tensors)
    program = FlatProgram(layer, layer.forward, arguments, answer)
    program.eval()
    shapes = [tuple(tensor.shape) for tensor in inputs]
    request = Request(program=program, inputs=inputs, shapes=shapes, directory=directory)
    with paddle.no_grad():
        return engines.by_name(engine).convert(request)


def numbered(*shape: int, dtype: str = "float32") -> Any:
    return paddle.arange(int(np.prod(shape))).reshape(shape).cast(dtype)


RIGHT: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "bool": (lambda x: (paddle.logical_not(x), paddle.where(x, 1.0, 2.0)), [paddle.to_tensor([True, False])]),
    "int64 picked": (lambda x, i: x[i], [numbered(9), paddle.to_tensor([3, 1])]),
    "argmax": (lambda x: x.argmax(-1), [numbered(3, 4)]),
    "no dimensions": (lambda x: paddle.tanh(x), [paddle.to_tensor(1.5)]),
    "a sum": (lambda x: (x.sum(), x * 2), [numbered(3)]),
    "no elements": (lambda x: x[:, 4:] * 2, [numbered(3, 4)]),
    "inputs among outputs": (lambda x, y: (x, y * 2, x), [numbered(2), numbered(3)]),
    "a view": (lambda x: x.reshape([-1]), [numbered(2, 3)]),
    "uint8": (lambda x: x.cast("float32") / 255, [numbered(2, 3, dtype="uint8")]),
    "a constant": (lambda x: (paddle.ones([3]), x + 1.0), [numbered(2)]),
    "large": (lambda x: paddle.tanh(x) * 2, [numbered(300, 300)]),
    "sizes that depend on values": (lambda x: paddle.nonzero(x > 2), [numbered(9)]),
    "float64": (lambda x: x * 2 + 0.1, [numbered(3, dtype="float64")]),
    "float16": (lambda x: x * 2, [numbered(3, dtype="float16")]),
    "int64 made of large floats": (lambda x: (x * 1e10).cast("int64"), [numbered(3)]),
    "int64 beyond 32 bits": (lambda x: x + 1, [paddle.to_tensor([3_000_000_000, 2])]),
    "int64 beyond 24 bits": (lambda x: x * 3, [paddle.to_tensor([20_000_001, 2])]),
}

REFUSED = {
    ("incubate", "a constant"): "answers differ",
    ("onnxruntime", "int64 beyond 32 bits"): "integers as float32",
    ("onnxruntime", "int64 beyond 24 bits"): "integers as float32",
    ("openvino", "float64"): "float64",
    ("openvino", "int64 made of large floats"): "needs 64",
    ("openvino", "int64 beyond 32 bits"): "integers as float32",
    ("openvino", "int64 beyond 24 bits"): "integers as float32",
}
"""What an engine can't do, and says."""


@pytest.mark.parametrize("what", RIGHT)
def test_an_answer_is_right_or_refused_at_conversion(engine: str, what: str) -> None:
    function, inputs = RIGHT[what]
    layer = Computing(function)
    with region_of(layer, engine) as region:
        variant = settled(region, *inputs)
        refused = REFUSED.get((engine, what))
        if refused is not None:
            assert variant.state is State.REFUSED
            assert refused in variant.reason
            return
        assert variant.state is State.SERVING, variant.reason
        expected, got = flatten(layer(*inputs))[0], flatten(region(*inputs))[0]
        assert region.hybrid_calls == 1
    for one, other in zip(expected, got, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert np.allclose(one.numpy(), other.numpy(), rtol=1e-5)


def test_results_stay_as_they_are_when_the_next_call_is_made_and_after_the_end(engine: str, tmp_path: Path) -> None:
    if engine == "incubate":
        pytest.skip("it says that its results may be overwritten")

    def function(x: Any, y: Any) -> Any:
        return paddle.tanh(x), F.relu(y), paddle.tanh(y).reshape([-1])

    small, large = paddle.randn([2, 3]), paddle.randn([300, 300])
    executable = executable_for(engine, function, [small, large], tmp_path)
    assert executable.concurrent
    expected = [each.numpy() for each in function(small, large)]
    results = executable.run([small, large])
    executable.run([small + 1, large + 1])
    small.fill_(7.0)
    large.fill_(7.0)
    executable.close()
    del executable
    gc.collect()
    for one, other in zip(expected, results, strict=True):
        assert np.allclose(one, other.numpy(), atol=1e-6)


def test_many_inputs_find_their_places(engine: str) -> None:
    layer = Computing(lambda *tensors: [tensor * (index + 2) for index, tensor in enumerate(tensors) if index != 5])
    tensors = [paddle.randn([2]) for _ in range(12)]
    with region_of(layer, engine) as region:
        settled(region, *tensors)
        tensors = [paddle.randn([2]) for _ in range(12)]
        got = region(*tensors)
        assert region.hybrid_calls == 1
    assert max(apart(one, other) for one, other in zip(layer(*tensors), got, strict=True)) < 1e-5


def test_a_dimension_that_varies_needs_one_conversion(engine: str) -> None:
    # incubate compiles another graph for a residual that has one.
    layer = Computing(lambda x: F.softmax(x * 2, axis=-1))
    with region_of(layer, engine, dynamic=((paddle.randn([4, 16]),), ((-1, 16),))) as region:
        settled(region, paddle.randn([4, 16]))
        for size in (1, 7, 3, 2000):
            x = paddle.randn([size, 16])
            assert apart(region(x), layer(x)) < 1e-5
        assert len(region.variants) == 1
        assert region.hybrid_calls == 4


def test_no_rows_where_rows_vary(engine: str) -> None:
    layer = Computing(lambda x: paddle.tanh(x))
    with region_of(layer, engine, dynamic=((paddle.randn([4, 16]),), ((-1, 16),))) as region:
        settled(region, paddle.randn([4, 16]))
        assert region(paddle.zeros([0, 16])).shape == [0, 16]


def test_a_tensor_that_is_not_contiguous_is_read_rightly(engine: str) -> None:
    layer = Computing(lambda x: paddle.tanh(x) * 2)
    with region_of(layer, engine) as region:
        settled(region, paddle.randn([16, 4]).t())
        x = paddle.randn([16, 4]).t()
        assert not x.is_contiguous()
        assert apart(region(x), layer(x)) < 1e-5
        assert region.hybrid_calls == 1
        assert not x.is_contiguous(), "the caller's Tensor was changed"


def test_inputs_that_want_gradients_are_taken(engine: str) -> None:
    layer = paddle.nn.Linear(200, 200)
    x = paddle.randn([200, 200])
    x.stop_gradient = False
    with region_of(layer, engine) as region:
        settled(region, x)
        assert apart(region(x), layer(x)) < 1e-4
        assert region.hybrid_calls == 1


def test_nothing_is_printed(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    with region_of(Computing(lambda x, unused: paddle.tanh(x)), engine) as region:
        settled(region, paddle.randn([4, 16]), paddle.ones([2]))
    out, err = capfd.readouterr()
    assert out == ""
    # Paddle's tracer says this once in a process, and can't be told not to.
    assert [line for line in err.splitlines() if "not support input out tensor" not in line] == []


@pytest.mark.parametrize("threads", [1, 2])
def test_a_region_that_was_warmed_in_the_parent_serves_in_forked_children(engine: str, threads: int) -> None:
    layer, x = paddle.nn.Linear(512, 512), paddle.randn([64, 512])
    options = {} if engine == "incubate" else {"threads": threads}
    expected = layer(x)

    def serve() -> list[float]:
        before = region.hybrid_calls
        errors = [apart(region(x), expected) for _ in range(5)]
        return [max(errors), region.hybrid_calls - before]

    with region_of(layer, engine, options=options) as region:
        settled(region, x)
        for _ in range(3):
            result = Forked().run(serve, seconds=60.0, memory=2 << 30)
            assert isinstance(result, Finished), result
            assert result.value[0] < 1e-3
            assert result.value[1] == 5
        assert apart(region(x), expected) < 1e-3


def test_an_engine_can_be_used_in_a_child_after_its_parent_has_used_it(engine: str) -> None:
    layer, x = paddle.nn.Linear(512, 512), paddle.randn([64, 512])
    options = {} if engine == "incubate" else {"threads": 2}

    def convert() -> str:
        with region_of(layer, engine, options=options) as region:
            return settled(region, paddle.concat([x, x])).state.name

    with region_of(layer, engine, options=options) as region:
        settled(region, x)
        with region_of(layer, engine, options=options) as other:
            settled(other, x)
        assert Forked().run(convert, seconds=60.0, memory=2 << 30) == Finished(value="SERVING")
    assert Forked().run(convert, seconds=60.0, memory=2 << 30) == Finished(value="SERVING")


_ENDS_IN_A_CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
import paddle
from engine_regions import region_of, settled

engine, when = sys.argv[2:]
layer, x = paddle.nn.Linear(64, 64), paddle.randn([8, 64])
with region_of(layer, engine, options={} if engine == "incubate" else {"threads": 2}) as region:
    settled(region, x)
    region(x)
    child = os.fork()
    if child == 0 and when == "dropped":
        region.close()
    if child == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("when", ["dropped", "ended"])
def test_a_child_can_drop_what_it_inherits_and_end(engine: str, when: str) -> None:
    """As a process of the script's own does, which isn't ended by force as a trial's child is."""
    command = [sys.executable, "-c", _ENDS_IN_A_CHILD, str(Path(__file__).parent), engine, when]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout == "7\n", ended.stderr


@pytest.mark.skipif(device.most_math_threads() < 2, reason="needs two cores")
def test_as_many_threads_work_as_it_was_told(engine: str) -> None:
    # Not how long it takes, which depends on the neighbours, but whether a second thread of the process works at all.
    if engine == "incubate":
        pytest.skip("it has no option for it")
    layer, x = paddle.nn.Linear(1024, 1024), paddle.randn([512, 1024])

    def threads_at_work(threads: int) -> int:
        with region_of(layer, engine, options={"threads": threads}) as region:
            settled(region, x)
            before = _processor_ticks()
            for _ in range(60):
                region(x)
            after = _processor_ticks()
        return sum(after[thread] - before.get(thread, 0) > 2 for thread in after)

    assert threads_at_work(1) == 1
    assert threads_at_work(2) == 2


def _processor_ticks() -> dict[str, int]:
    """For each thread of this process, how long it has run, in hundredths of a second."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[task.name] = int(fields[11]) + int(fields[12])
    return found


@pytest.mark.parametrize("options", [{"thread": 2}, {"threads": 0}, {"threads": True}, {"threads": "2"}])
def test_what_an_option_cannot_be_is_said(engine: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match="thread"):
        engines.by_name(engine).check_options(options)


def test_all_that_it_offers_to_try_are_options_that_it_has(engine: str) -> None:
    found = engines.by_name(engine)
    machine = this_machine(threads=2, precisions=("bfloat16",))
    for dimension in found.dimensions:
        for alternative in dimension.alternatives(machine):
            found.check_options(alternative.options)


def test_a_failed_conversion_leaves_no_files_and_harms_no_later_one(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with region_of(Computing(lambda x: paddle.to_tensor(x.numpy() * 2) + x), engine) as region:
        assert settled(region, paddle.randn([4, 16])).refusal == "failed"
    with region_of(Computing(lambda x: paddle.tanh(x)), engine) as region:
        assert settled(region, paddle.randn([4, 16])).state is State.SERVING
        assert len(list(tmp_path.glob("autohybrid-*"))) == 1
    assert list(tmp_path.glob("autohybrid-*")) == []


def test_conversions_that_are_dropped_give_their_memory_back(engine: str) -> None:
    layer = paddle.nn.Sequential(paddle.nn.Linear(512, 512), paddle.nn.ReLU(), paddle.nn.Linear(512, 512))
    sizes = []
    for rows in range(1, 14):
        with region_of(layer, engine) as region:
            settled(region, paddle.randn([rows, 512]))
        gc.collect()
        sizes.append(device.resident_memory())
    weights = 4 * 2 * 512 * 512
    # Six that stayed would add six copies of the weights, or more.
    assert sizes[12] - sizes[6] < 5 * weights


def test_what_is_kept_is_opened_without_tracing(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = engines.by_name(engine)
    if not isinstance(found, StorableEngine):
        assert engine not in [each.values[0] for each in STORABLE]
        pytest.skip("its conversions can't be kept")
    x = paddle.randn([4, 16])
    layer = paddle.nn.Linear(16, 16)
    expected = layer(x)
    made: Any = executable_for(engine, layer, [x], tmp_path)
    made.moved(tmp_path)
    made.close()
    assert list(tmp_path.iterdir())
    monkeypatch.setattr(paddle.jit, "to_static", None)
    monkeypatch.setattr(os, "fork", None)
    opened = found.open(tmp_path, Request(program=None, inputs=[x], shapes=[(4, 16)], directory=Path()))
    assert apart(opened.run([x])[0], expected) < 1e-5
    opened.close()
    assert list(tmp_path.iterdir()), "files that belong to somebody else were removed"


def test_what_its_files_depend_on_is_known(engine: str) -> None:
    found = engines.by_name(engine)
    if isinstance(found, StorableEngine):
        assert all(found.made_with().values())
