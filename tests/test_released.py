"""Weights that are moved to a file: the same Tensors with the same values, that eager and everybody else can use."""

from __future__ import annotations

import copy
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from conftest import Convert
from fakes import Honest, Liar

import autohybrid
from autohybrid import device
from autohybrid.errors import UsageError
from autohybrid.runtime import released
from autohybrid.runtime.changes import Snapshot
from autohybrid.runtime.policies import Policies
from autohybrid.runtime.released import release

RELEASING = Policies(on_miss="convert", isolation="none", release_weights=True)

X = np.linspace(-1.0, 1.0, 32, dtype=np.float32).reshape(2, 16)


@pytest.fixture(autouse=True)
def _on_a_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wherever the tests' directory lies."""
    monkeypatch.setattr(device, "lies_in_memory", lambda path: False)
    with paddle.no_grad():
        yield


class Model(paddle.nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first = paddle.nn.Linear(16, 16)
        self.norm = paddle.nn.BatchNorm1D(16)
        self.second = paddle.nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        return self.second(self.norm(self.first(x)))


def _model() -> Model:
    paddle.seed(7)
    model = Model()
    model.eval()
    return model


def _weight_bytes(layer: Any) -> int:
    return sum(tensor.size * tensor.element_size() for tensor in layer.state_dict().values())


def _served(region: Any, model: Any, calls: int = 4) -> Any:
    for _ in range(calls):
        answer = model(paddle.to_tensor(X))
    assert region.hybrid_calls >= 1
    return answer


def test_the_weights_are_the_same_tensors_with_the_same_values_elsewhere() -> None:
    model = _model()
    before = {name: (id(each), each.numpy().copy(), each.data_ptr()) for name, each in model.state_dict().items()}
    flags = [(each.name, each.stop_gradient, each.trainable) for each in model.parameters()]
    expected = model(paddle.to_tensor(X)).numpy()
    assert release(model) == released.Released(freed=_weight_bytes(model), kept={})
    for name, tensor in model.state_dict().items():
        number, values, address = before[name]
        assert id(tensor) == number
        assert tensor.data_ptr() != address
        assert np.array_equal(tensor.numpy(), values)
    assert [(each.name, each.stop_gradient, each.trainable) for each in model.parameters()] == flags
    assert np.array_equal(model(paddle.to_tensor(X)).numpy(), expected)


def _anonymous_bytes(address: int) -> int:
    """Bytes without a file behind them in the mapping at an address, as the kernel counts them."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            start, end = (int(part, 16) for part in words[0].split("-"))
            inside = start <= address < end
        elif inside and words[0] == "Anonymous:":
            return int(words[1]) * 1024
    raise AssertionError("nothing is mapped there")


def test_what_is_read_stays_the_files_and_what_is_written_becomes_memory() -> None:
    layer = paddle.nn.Linear(512, 512)
    assert release(layer).freed
    address = layer.weight.data_ptr()
    float(layer.weight.sum())
    assert _anonymous_bytes(address) == 0
    layer.weight.set_value(layer.weight + 1.0)
    assert _anonymous_bytes(address) >= 512 * 512 * 4


def test_memory_is_given_back() -> None:
    layer = paddle.nn.Linear(2048, 2048)
    device.trim_memory()
    before = device.private_memory()
    freed = release(layer).freed
    assert before - device.private_memory() > 0.8 * freed


@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        "float16",
        "bfloat16",
        "float64",
        "int64",
        "int32",
        "int8",
        "uint8",
        "bool",
        "complex64",
        "float8_e4m3fn",
    ],
)
def test_every_dtype_keeps_its_values(dtype: str) -> None:
    layer = paddle.nn.Layer()
    values = paddle.to_tensor([[0.0, 1.0, 2.5], [3.0, 4.0, 5.0]]).cast(dtype)
    layer.register_buffer("held", values)
    before, shown = values.numpy(), repr(values)
    assert release(layer).freed == 6 * values.element_size()
    assert layer.held.dtype == values.dtype
    assert repr(layer.held) == shown
    assert list(layer.held.shape) == [2, 3]
    assert np.array_equal(layer.held.numpy(), before)


def test_scalars_and_empty_tensors_are_no_obstacle() -> None:
    layer = paddle.nn.Layer()
    layer.register_buffer("scalar", paddle.to_tensor(3.5))
    layer.register_buffer("empty", paddle.zeros([0, 4]))
    assert release(layer) == released.Released(freed=4, kept={})
    assert layer.scalar.shape == []
    assert float(layer.scalar) == 3.5
    assert list(layer.empty.shape) == [0, 4]


def test_a_layer_without_weights_has_nothing_to_release() -> None:
    assert release(paddle.nn.ReLU()) == released.Released()


def test_a_tied_parameter_is_moved_once() -> None:
    class Tied(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.one = paddle.nn.Linear(8, 8)
            self.two = paddle.nn.Linear(8, 8)
            self.two.weight = self.one.weight

    layer = Tied()
    assert release(layer).freed == (8 * 8 + 8 + 8) * 4
    layer.one.weight.set_value(paddle.ones([8, 8]))
    assert float(layer.two.weight.sum()) == 64.0


def test_tensors_that_share_memory_stay_together() -> None:
    layer = paddle.nn.Linear(8, 8)
    layer.register_buffer("view", layer.weight.detach())
    found = release(layer)
    assert found.kept == {"shares its memory with another Tensor": 2 * 8 * 8 * 4}
    assert found.freed == 8 * 4
    layer.weight.set_value(paddle.ones([8, 8]))
    assert float(layer.view.sum()) == 64.0


def test_tensors_in_attributes_stay_in_memory() -> None:
    class Holding(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = [paddle.ones([4])]

    assert release(Holding()).kept == {"hidden in an attribute": 16}


def test_a_tensor_on_a_gpu_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Place:
        def is_cpu_place(self) -> bool:
            return False

        def __str__(self) -> str:
            return "Place(gpu:0)"

    layer = paddle.nn.Linear(4, 4)
    monkeypatch.setattr(paddle.Tensor, "place", Place())
    found = release(layer)
    assert found.freed == 0
    assert found.kept == {"on Place(gpu:0), where files can't be mapped": 80}


def test_nothing_is_moved_while_other_threads_may_compute() -> None:
    layer, done = paddle.nn.Linear(4, 4), threading.Event()
    address = layer.weight.data_ptr()
    thread = threading.Thread(target=done.wait, name="serving")
    thread.start()
    try:
        assert release(layer) == released.Released(kept={"other threads are running (serving)": 80})
    finally:
        done.set()
        thread.join()
    assert layer.weight.data_ptr() == address


def test_a_full_disk_keeps_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    layer = paddle.nn.Linear(4, 4)
    address = layer.weight.data_ptr()
    assert release(layer).kept == {"their file can't be written (No space left on device)": 80}
    assert layer.weight.data_ptr() == address


def test_without_a_cache_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOHYBRID_CACHE", "off")
    with pytest.raises(UsageError, match="release_weights needs a cache"):
        autohybrid.inference(_model(), release_weights=True)


def test_a_cache_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "lies_in_memory", lambda path: True)
    with pytest.raises(UsageError, match="lies in memory itself"):
        autohybrid.inference(_model(), release_weights=True)


def test_a_directory_in_memory_is_told_by_its_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    number = tmp_path.stat().st_dev
    mounts = tmp_path / "proc/self/mountinfo"
    mounts.parent.mkdir(parents=True)
    for kind, in_memory in (("tmpfs", True), ("ramfs", True), ("ext4", False)):
        line = f"24 1 {os.major(number)}:{os.minor(number)} / /some/where rw,relatime shared:1 - {kind} none rw\n"
        mounts.write_text(f"23 1 0:9999 / /other rw - tmpfs none rw\n{line}")
        assert device.lies_in_memory(tmp_path, tmp_path) is in_memory


def test_the_file_has_no_name() -> None:
    release(paddle.nn.Linear(4, 4))
    assert list(released.folder().iterdir()) == []


def test_moving_is_no_change_of_weights(convert: Convert, honest: Honest) -> None:
    model = _model()
    region = convert(model, honest)
    _served(region, model)
    before = Snapshot.of(model)
    assert release(model).freed
    assert before.what_changed(Snapshot.of(model)) == ""
    model.training = model.training  # moves the counter, so that the region looks closely
    answered = region.hybrid_calls
    model(paddle.to_tensor(X))
    assert region.hybrid_calls == answered + 1
    assert len(honest.requests) == 1


def test_weights_are_released_once_the_region_serves(convert: Convert, honest: Honest) -> None:
    model = _model()
    region = convert(model, honest, policies=RELEASING)
    model(paddle.to_tensor(X))
    assert autohybrid.status(model).regions[0].released_bytes == 0
    _served(region, model)
    (status,) = autohybrid.status(model).regions
    assert status.released_bytes == _weight_bytes(model)
    assert "of the Layers' weights moved to a file" in str(autohybrid.status(model))


def test_a_region_that_stays_eager_keeps_its_weights(convert: Convert) -> None:
    model = _model()
    addresses = [each.data_ptr() for each in model.parameters()]
    convert(model, Liar(), policies=RELEASING)
    for _ in range(4):
        model(paddle.to_tensor(X))
    assert [each.data_ptr() for each in model.parameters()] == addresses
    assert autohybrid.status(model).regions[0].released_bytes == 0


def test_changed_weights_are_noticed_and_released_again(convert: Convert, honest: Honest) -> None:
    model = _model()
    region = convert(model, honest, policies=RELEASING)
    _served(region, model)
    model.second.weight.set_value(model.second.weight * 3.0)
    expected = region.recipe.function(paddle.to_tensor(X)).numpy()
    assert np.array_equal(model(paddle.to_tensor(X)).numpy(), expected)
    assert autohybrid.status(model).regions[0].released_bytes == 0
    assert np.array_equal(_served(region, model).numpy(), expected)
    assert len(honest.requests) == 2
    assert region.released is not None
    assert _anonymous_bytes(model.second.weight.data_ptr()) == 0


def test_why_weights_stay_is_told(convert: Convert, honest: Honest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "obstacle", lambda: "other threads are running (pump)")
    model = _model()
    _served(convert(model, honest, policies=RELEASING), model)
    assert "stay in memory: other threads are running (pump)" in str(autohybrid.status(model))


def test_it_is_tried_again_when_another_conversion_serves(
    convert: Convert, honest: Honest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model()
    region = convert(model, honest, policies=RELEASING)
    monkeypatch.setattr(released, "obstacle", lambda: "other threads are running (pump)")
    _served(region, model)
    monkeypatch.setattr(released, "obstacle", lambda: "")
    for _ in range(4):
        model(paddle.to_tensor(X[:1]))
    assert region.released is not None
    assert region.released.freed == _weight_bytes(model)


def test_an_optimizer_and_set_state_dict_work_afterwards() -> None:
    model, twin = _model(), _model()
    release(model)
    for each in (model, twin):
        optimizer = paddle.optimizer.SGD(0.1, parameters=each.parameters())
        with paddle.enable_grad():
            each(paddle.to_tensor(X)).sum().backward()
        optimizer.step()
    for one, other in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
    model.set_state_dict(_model().state_dict())
    assert np.array_equal(model(paddle.to_tensor(X)).numpy(), _model()(paddle.to_tensor(X)).numpy())


def test_saving_loading_and_copying_work_afterwards(tmp_path: Path) -> None:
    model = _model()
    expected = model(paddle.to_tensor(X)).numpy()
    release(model)
    paddle.save(model.state_dict(), str(tmp_path / "model.pdparams"))
    loaded = Model()
    loaded.set_state_dict(paddle.load(str(tmp_path / "model.pdparams")))
    loaded.eval()
    assert np.array_equal(loaded(paddle.to_tensor(X)).numpy(), expected)
    twin = copy.deepcopy(model)
    twin.second.weight.set_value(paddle.zeros_like(twin.second.weight))
    assert np.array_equal(model(paddle.to_tensor(X)).numpy(), expected)


def test_a_fork_has_weights_of_its_own() -> None:
    layer = paddle.nn.Linear(4, 4)
    release(layer)
    before = layer.weight.numpy()
    child = os.fork()
    if child == 0:
        layer.weight.set_value(paddle.zeros([4, 4]))
        os._exit(0 if float(layer.weight.abs().sum()) == 0.0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(layer.weight.numpy(), before)


def test_restoring_leaves_a_model_that_works(convert: Convert, honest: Honest) -> None:
    model = _model()
    expected = model(paddle.to_tensor(X)).numpy()
    _served(convert(model, honest, policies=RELEASING), model)
    autohybrid.restore(model)
    assert np.array_equal(model(paddle.to_tensor(X)).numpy(), expected)
    assert release(model).freed == _weight_bytes(model)


def test_the_mapping_goes_with_its_last_tensor() -> None:
    layer = paddle.nn.Linear(64, 64)
    release(layer)
    address = layer.weight.data_ptr()
    assert _anonymous_bytes(address) == 0
    del layer
    with pytest.raises(AssertionError, match="nothing is mapped"):
        _anonymous_bytes(address)


_SCRIPT = """
import paddle
paddle.seed(0)
model = paddle.nn.Sequential(*[paddle.nn.Conv2D(16, 16, 3, padding=1) for _ in range(6)])
model.eval()
x = paddle.ones([1, 16, 16, 16])
with paddle.no_grad():
    for _ in range(12):
        answer = model(x)
print("%.6f" % float(answer.sum()))
"""


def test_a_plan_is_run_with_released_weights(tmp_path: Path) -> None:
    script = tmp_path / "infer.py"
    script.write_text(_SCRIPT)

    def ran(*command: str) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [sys.executable, "-m", "autohybrid", *command], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert ended.returncode == 0, ended.stderr
        return ended

    ran("profile", "--engine", "predictor", "--budget", "15", "infer.py")
    plain, light = ran("run", "infer.py"), ran("run", "--release-weights", "infer.py")
    assert light.stdout == plain.stdout
    assert "moved to a file" not in plain.stderr
    if " hybrid " in plain.stderr:
        assert "moved to a file" in light.stderr
