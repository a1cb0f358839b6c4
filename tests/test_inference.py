"""``autohybrid.inference`` as a drop-in for Paddle's wrapper: ways of use, parameters, rules of its document."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hazards import numbers
from paddle import nn

import autohybrid
from autohybrid.errors import UsageError
from autohybrid.runtime import frames


class Model(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Any, scale: Any = None) -> Any:
        y = self.encode(x)
        return y if scale is None else y * scale

    def encode(self, x: Any) -> Any:
        return F.gelu(self.fc(x))


@pytest.fixture
def model() -> Iterator[Any]:
    made = Model()
    made.eval()
    yield made
    autohybrid.restore(made)


def _hybrid(model: Any) -> int:
    return sum(region.hybrid_calls for region in autohybrid.status(model).regions)


def _close(one: Any, other: Any) -> bool:
    return bool(np.allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=1e-5))


def _run(call: Any, times: int = 4) -> Any:
    with paddle.no_grad():
        return [call(numbers(4, 8)) for _ in range(times)][-1]


def test_every_parameter_of_paddles_wrapper_is_there_with_its_default() -> None:
    theirs = inspect.signature(paddle.incubate.jit.inference).parameters
    ours = inspect.signature(autohybrid.inference).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert {name: ours[name].default for name in theirs} == {name: each.default for name, each in theirs.items()}
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for name, each in ours.items() if name not in theirs)


def test_around_a_layer_returns_the_layer(model: Any) -> None:
    expected = _run(model)
    assert autohybrid.inference(model) is model
    assert _close(_run(model), expected)
    assert _hybrid(model)


def test_without_arguments_it_is_a_decorator_of_layers_too(model: Any) -> None:
    assert autohybrid.inference()(model) is model
    _run(model)
    assert _hybrid(model)


def test_around_a_bound_method_and_again(model: Any) -> None:
    expected = _run(model)
    model.encode = autohybrid.inference(model.encode)
    model.encode = autohybrid.inference(model.encode)
    for batch in (4, 6, 4, 6, 6):
        assert _close(model(numbers(batch, 8)), F.gelu(model.fc(numbers(batch, 8))))
    assert _close(_run(model), expected)
    assert _hybrid(model)


def test_wrapping_twice_keeps_the_first_region(model: Any) -> None:
    autohybrid.inference(model)
    region = model.forward
    assert autohybrid.inference(model).forward is region
    assert autohybrid.inference(region) is region


class Decorated(Model):
    @autohybrid.inference
    def encode(self, x: Any) -> Any:
        """Encodes."""
        return F.gelu(self.fc(x))


class DecoratedForward(Model):
    @autohybrid.inference(skip_prune_program=True)  # type: ignore[untyped-decorator]
    def forward(self, x: Any, scale: Any = None) -> Any:
        return self.encode(x)


class Below(DecoratedForward):
    def forward(self, x: Any, scale: Any = None) -> Any:
        return super().forward(x) + 1


@pytest.mark.parametrize("kind", [Decorated, DecoratedForward])
def test_each_instance_of_a_decorated_class_has_its_own(kind: type) -> None:
    one, other = kind(), kind()
    one.eval(), other.eval()
    for each in (one, other):
        with autohybrid.eager():
            expected = _run(each)
        assert _close(_run(each), expected)
        assert _hybrid(each)
    assert not _close(_run(one), _run(other))
    autohybrid.restore(one), autohybrid.restore(other)
    before = autohybrid.status(one)
    _run(one)
    assert autohybrid.status(one) == before


def test_a_decorated_method_stays_what_it_was_to_readers() -> None:
    assert Decorated.encode.__doc__ == "Encodes."
    assert list(inspect.signature(Decorated.encode).parameters) == ["self", "x"]


def test_super_reaches_the_decorated_forward_of_a_base_class() -> None:
    below = Below()
    below.eval()
    assert _close(_run(below), F.gelu(below.fc(numbers(4, 8))) + 1)
    assert _hybrid(below)
    autohybrid.restore(below)


def test_what_is_no_layer_and_no_method_is_refused() -> None:
    with pytest.raises(UsageError, match="the class Model"):
        autohybrid.inference(Model)
    with pytest.raises(UsageError, match="int"):
        autohybrid.inference(3)

    class Plain:
        @autohybrid.inference
        def method(self, x: Any) -> Any:
            return x

    with pytest.raises(UsageError, match="methods of Layers"):
        Plain().method(1)


def test_paddle_says_that_it_is_not_in_inference_mode(model: Any) -> None:
    autohybrid.inference(model)
    model.encode = autohybrid.inference(model.encode)
    assert paddle.incubate.jit.inference_decorator.is_inference_mode(model) is False
    assert paddle.incubate.jit.inference_decorator.is_inference_mode(model.encode) is False
    assert paddle.incubate.jit.inference_decorator.is_inference_mode(Decorated.encode) is False


def test_what_paddle_has_wrapped_is_taken_over(model: Any) -> None:
    expected = _run(model)
    paddle.incubate.jit.inference(model)
    autohybrid.inference(model)
    assert _close(_run(model), expected)
    assert _hybrid(model)
    autohybrid.restore(model)
    del model.forward


_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "TensorRT": ({"with_trt": True}, "without TensorRT"),
    "CINN": ({"enable_cinn": True}, "without CINN"),
    "cutlass": ({"exp_enable_use_cutlass": True}, "CUTLASS"),
    "a pass": ({"delete_pass_lists": ["no_such_pass"]}, "no_such_pass"),
    "a precision": ({"precision_mode": "int8"}, "int8"),
    "float16 on a CPU": ({"precision_mode": "float16"}, "CPU"),
    "TensorRT's precision": ({"trt_precision_mode": "half"}, "half"),
    "TensorRT's precision without TensorRT": ({"trt_precision_mode": "float16"}, "with_trt is off"),
    "TensorRT's files": ({"trt_use_static": True}, "with_trt is off"),
    "TensorRT's shapes": ({"collect_shape": True}, "with_trt is off"),
    "the memory pool": ({"memory_pool_init_size_mb": 10}, "memory pool"),
    "a policy": ({"on_miss": "perhaps"}, "on_miss"),
    "another policy": ({"on_weights": "perhaps"}, "on_weights"),
    "gradients": ({"on_grad": "perhaps"}, "on_grad"),
    "isolation": ({"isolation": "vm"}, "isolation"),
    "a count": ({"max_variants": 0}, "max_variants"),
    "a callable": ({"on_fallback": 3}, "on_fallback"),
    "an engine": ({"engine": "steam"}, "steam"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_what_cannot_be_had_here_is_refused_when_wrapping(name: str, model: Any) -> None:
    settings, why = _REFUSED[name]
    with pytest.raises(UsageError, match=why):
        autohybrid.inference(model, **settings)
    with pytest.raises(UsageError, match=why):
        autohybrid.inference(**settings)
    assert "forward" not in model.__dict__


@pytest.mark.parametrize(
    "settings",
    [
        {"switch_ir_optim": False},
        {"enable_new_ir": True},
        {"skip_prune_program": True},
        {"delete_pass_lists": ["inplace_pass"]},
        {"delete_pass_lists": []},
        {"delete_pass_lists": ["add_support_int8_pass"]},
    ],
    ids=str,
)
def test_what_can_be_had_still_answers_rightly(settings: dict[str, Any], model: Any) -> None:
    expected = _run(model)
    autohybrid.inference(model, **settings)
    assert _close(_run(model), expected)
    assert _hybrid(model)


def test_named_passes_reach_the_engine(model: Any) -> None:
    autohybrid.inference(model, delete_pass_lists=["inplace_pass"])
    assert model.forward.recipe.options["deleted_passes"] == ["inplace_pass"]
    autohybrid.restore(model)
    autohybrid.inference(model, switch_ir_optim=False)
    assert "constant_folding_pass" in model.forward.recipe.options["deleted_passes"]


def _note(build: Callable[[], Any], **settings: Any) -> str:
    """What the store did for a new instance of a model with the same weights."""
    paddle.seed(0)
    model = build()
    model.eval()
    autohybrid.inference(model, isolation="none", **settings)
    for seed in range(3):
        model(numbers(2, 4, seed=seed))
    note: str = model.forward.variants[0].store_note
    autohybrid.restore(model)
    return note


def test_a_cached_program_is_found_again_but_never_with_other_weights(tmp_path: Any) -> None:
    def build() -> Any:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU())

    def other() -> Any:
        model = build()
        model[0].weight.set_value(model[0].weight * 2)
        return model

    kept = {"save_model_dir": str(tmp_path / "kept"), "cache_static_model": True}
    assert _note(build, **kept).startswith("stored")
    assert _note(build, **kept) == "from the store"
    assert "weights" in _note(other, **kept)


def test_a_directory_without_the_cache_keeps_programs_and_finds_none(tmp_path: Any) -> None:
    def build() -> Any:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU())

    for _ in range(2):
        assert _note(build, save_model_dir=str(tmp_path / "kept")).startswith("stored")
    assert list((tmp_path / "kept").rglob("*.pdiparams"))


def test_a_parameter_that_only_the_wrapper_has_chooses_the_wrapper(model: Any) -> None:
    autohybrid.inference(model)
    assert model.forward.recipe.engine.name == "predictor"
    autohybrid.restore(model)
    autohybrid.inference(model, switch_ir_debug=True)
    assert model.forward.recipe.engine.name == "incubate"


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    # Paddle's compiled code names the means that it meets.
    model = nn.Sequential(nn.Conv2D(3, 4, 3), nn.AdaptiveAvgPool2D(1), nn.Flatten(), Means())
    model.eval()
    autohybrid.inference(model)
    for _ in range(4):
        model(numbers(1, 3, 8, 8))
    autohybrid.restore(model)
    assert capfd.readouterr().out == ""


def test_it_can_be_switched_off(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    autohybrid.inference(model)
    _run(model)
    before = _hybrid(model)
    with autohybrid.eager():
        _run(model)
    monkeypatch.setenv("AUTOHYBRID", "off")
    _run(model)
    assert _hybrid(model) == before
    assert autohybrid.status(model).regions[0].reasons["switched off"] == 8


def test_verify_says_how_many_answers_are_compared(model: Any) -> None:
    for verify, hybrid in ((0, 3), (1, 3), (2, 2), (3, 1)):
        autohybrid.inference(model, verify=verify)
        _run(model, times=4)
        assert _hybrid(model) == hybrid
        autohybrid.restore(model)


class Means(nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return x.mean([0, 1])


class OnList(Model):
    def forward(self, tensors: Any, flag: bool = False) -> Any:
        total = sum(self.fc(tensor) for tensor in tensors)
        return total if flag else total * 2


def test_paddles_scenario_of_a_list_and_a_bool_keyword() -> None:
    model: Any = OnList()
    model.eval()
    plain = copy.deepcopy(model)
    model.forward = autohybrid.inference(model.forward)
    model.forward = autohybrid.inference(model.forward)
    for _ in range(4):
        for count, flag in ((2, True), (3, False)):
            given = [numbers(4, 8, seed=seed) for seed in range(count)]
            assert _close(model(given, flag=flag), plain(given, flag=flag))
    assert _hybrid(model) >= 4
    autohybrid.restore(model)


class Transformer(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 32)
        self.blocks = nn.LayerList([nn.TransformerEncoderLayer(32, 4, 64) for _ in range(3)])
        self.head = nn.Linear(32, 16)

    def forward(self, ids: Any, mask: Any = None) -> Any:
        return self.head(self.run_blocks(self.embed(ids), mask))

    def run_blocks(self, x: Any, mask: Any) -> Any:
        for block in self.blocks:
            x = block(x, mask)
        return x


@dataclass
class Decoded:
    sample: Any
    posterior: Any = None


class Vae(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(4, 8, 3, padding=1)
        self.out = nn.Conv2D(8, 3, 3, padding=1)

    def decode(self, z: Any, return_dict: bool = True) -> Any:
        y = self.out(F.silu(F.interpolate(self.conv(z), scale_factor=2, mode="nearest")))
        return Decoded(sample=y) if return_dict else (y,)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "block loop"])
def test_a_transformer(whole: bool) -> None:
    model: Any = Transformer()
    model.eval()
    plain = copy.deepcopy(model)
    if whole:
        autohybrid.inference(model)
    else:
        model.run_blocks = autohybrid.inference(model.run_blocks)
    for length in (5, 5, 5, 7, 7, 7, 9):
        ids = numbers(2, length, dtype="int64")
        mask = paddle.tril(paddle.ones([length, length])).astype("bool")
        assert _close(model(ids, mask), plain(ids, mask))
    assert _hybrid(model) >= 2
    autohybrid.restore(model)


def test_a_decode_method_with_a_dataclass_answer() -> None:
    vae: Any = Vae()
    vae.eval()
    plain = copy.deepcopy(vae)
    vae.decode = autohybrid.inference(vae.decode)
    for seed in range(4):
        z = numbers(1, 4, 8, 8, seed=seed)
        answer = vae.decode(z)
        assert isinstance(answer, Decoded)
        assert answer.posterior is None
        assert _close(answer.sample, plain.decode(z).sample)
        assert _close(vae.decode(z, return_dict=False)[0], plain.decode(z).sample)
    assert _hybrid(vae) >= 2
    autohybrid.restore(vae)


def test_lambdas_and_partials_over_a_layer_are_guarded_by_it(model: Any) -> None:
    calls: list[Any] = [lambda x: model(x) * 2, functools.partial(model.forward, scale=2.0)]
    for call in calls:
        region = autohybrid.inference(call)
        before = _run(region)
        model.fc.weight.set_value(model.fc.weight * 3)
        with autohybrid.eager():
            expected = _run(region)
        assert not _close(before, expected)
        assert _close(_run(region), expected)
        assert region.hybrid_calls
        autohybrid.restore(region)


def test_a_pickled_region_is_the_eager_function(model: Any) -> None:
    autohybrid.inference(model)
    _run(model)
    (method,) = model.forward.__reduce__()[1]
    function = pickle.loads(pickle.dumps(method.__func__))
    assert function is Model.forward


def test_a_copy_is_independent_and_converts_by_itself(model: Any) -> None:
    autohybrid.inference(model)
    _run(model)
    twin = copy.deepcopy(model)
    twin.fc.weight.set_value(twin.fc.weight * 2)
    with autohybrid.eager():
        expected = _run(twin)
    assert _close(_run(twin), expected)
    assert _hybrid(twin)
    assert not _close(_run(model), expected)
    autohybrid.restore(twin)


@pytest.mark.parametrize("full_graph", [False, True], ids=["by bytecode", "by source"])
@pytest.mark.parametrize("itself", [False, True], ids=["around it", "itself"])
def test_what_is_given_to_to_static_answers_as_before(itself: bool, full_graph: bool, model: Any) -> None:
    outer = model if itself else nn.Sequential(model, nn.Linear(8, 8))
    outer.eval()
    expected = _run(outer)
    autohybrid.inference(model)
    _run(model)
    static = paddle.jit.to_static(outer, full_graph=full_graph)
    for _ in range(4):
        assert _close(_run(static), expected)
    assert _close(static(numbers(4, 8)), expected), "also where gradients are wanted"
    if itself:
        del model.forward  # Paddle's, which holds the region


def test_a_layer_with_a_region_is_saved_by_jit_save(model: Any, tmp_path: Path) -> None:
    autohybrid.inference(model)
    expected = _run(model)
    paddle.jit.save(model, str(tmp_path / "model"), input_spec=[paddle.static.InputSpec([None, 8])])
    assert _close(paddle.jit.load(str(tmp_path / "model"))(numbers(4, 8)), expected)
    before = _hybrid(model)
    assert _close(_run(model), expected)
    assert _hybrid(model) > before


def test_where_paddle_has_no_reader_of_bytecode_none_is_set() -> None:
    assert frames.setter_of(object())(None) is None
    assert frames.setter_of(paddle.base.core) is paddle.base.core.set_eval_frame
