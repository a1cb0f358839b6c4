"""What keeps a region from being wrong, slow, or in the way: each guard is shown to be needed."""

from __future__ import annotations

import contextlib
import os
import timeit
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from hazards import numbers
from paddle import nn

import autohybrid
from autohybrid.engines.incubate import IncubateEngine
from autohybrid.errors import UsageError
from autohybrid.runtime import changes, patches
from autohybrid.runtime.variant import State
from autohybrid.structure import flatten, reader


class Model(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Any, scale: Any = 1) -> Any:
        return self.fc(x) * scale


@pytest.fixture
def model() -> Iterator[Any]:
    made = Model()
    made.eval()
    yield made
    autohybrid.restore(made)


def _status(model: Any) -> Any:
    return autohybrid.status(model).regions[0]


def _run(model: Any, times: int = 4, **keywords: Any) -> Any:
    with paddle.no_grad():
        return [model(numbers(4, 8), **keywords) for _ in range(times)][-1]


def _close(one: Any, other: Any) -> bool:
    return bool(np.allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=1e-5))


def test_without_its_guards_a_region_is_stale(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    autohybrid.inference(model)
    before = _run(model)
    monkeypatch.setattr(changes.Snapshot, "looks_unchanged", lambda self: True)
    model.fc.weight.set_value(model.fc.weight * 2)
    assert _close(_run(model), before)
    monkeypatch.undo()
    assert not _close(_run(model), before)


def test_an_engine_that_answers_wrongly_is_never_served(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = IncubateEngine.convert

    class Wrong:
        def __init__(self, right: Any) -> None:
            self.right, self.close, self.concurrent = right, right.close, False

        def run(self, tensors: Any) -> list[Any]:
            return [output + 1 for output in self.right.run(tensors)]

    monkeypatch.setattr(IncubateEngine, "convert", lambda self, request: Wrong(convert(self, request)))
    expected = _run(model)
    autohybrid.inference(model, engine="incubate")
    assert _close(_run(model), expected)
    assert _status(model).hybrid_calls == 0
    assert any("answers differ" in reason for reason in _status(model).reasons)


def test_an_engine_that_turns_wrong_at_the_second_call_is_found_out(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = IncubateEngine.convert
    calls = [0]

    class Turning:
        def __init__(self, right: Any) -> None:
            self.right, self.close, self.concurrent = right, right.close, False

        def run(self, tensors: Any) -> list[Any]:
            calls[0] += 1
            return [output + (calls[0] > 2) for output in self.right.run(tensors)]

    monkeypatch.setattr(IncubateEngine, "convert", lambda self, request: Turning(convert(self, request)))
    expected = _run(model)
    autohybrid.inference(model, engine="incubate", isolation="none")
    assert _close(_run(model, times=6), expected)
    assert _status(model).hybrid_calls == 0


def test_an_engine_that_fails_ends_its_variant_with_one_warning(model: Any) -> None:
    expected = _run(model)
    autohybrid.inference(model)
    _run(model)
    (variant,) = model.forward.variants

    def broken(tensors: Any) -> Any:
        raise RuntimeError("out of luck")

    variant.run = broken
    with pytest.warns(RuntimeWarning, match="Model.*out of luck"):
        assert _close(_run(model, times=1), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _close(_run(model), expected)
    assert variant.state is State.REFUSED
    model.fc.weight.set_value(model.fc.weight * 1.0)
    _run(model)
    assert variant.state is State.REFUSED


def test_a_failed_conversion_does_not_harm_a_later_one() -> None:
    class Fails(nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return paddle.to_tensor(sorted(x.tolist()))

    for _ in range(3):
        fails, works = Fails(), Model()
        fails.eval(), works.eval()
        expected = _run(works)
        autohybrid.inference(fails), autohybrid.inference(works)
        with pytest.warns(RuntimeWarning, match="stays eager"):
            _run(fails)
        assert _close(_run(works), expected)
        assert _status(works).hybrid_calls
        assert not _status(fails).hybrid_calls
        autohybrid.restore(fails), autohybrid.restore(works)


def test_a_step_counter_as_an_argument_ends_in_eager(model: Any) -> None:
    autohybrid.inference(model)
    for step in range(600):
        model(numbers(4, 8), step)
    status = _status(model)
    assert status.reasons["its arguments keep changing"] > 500
    assert len(model.forward.variants) <= 3
    assert len(model.forward._shelf._sightings) <= 256
    for _ in range(30):
        model(numbers(4, 8), 1.5)
    assert _status(model).hybrid_calls > 10


def test_variants_are_bounded_and_idle_ones_make_room(model: Any) -> None:
    autohybrid.inference(model, max_variants=2)
    for scale in (1, 2):
        _run(model, scale=scale)
    first = model.forward.variants[0]
    assert "as many conversions" in " ".join(_reasons(lambda: _run(model, scale=3), model))
    _run(model, scale=3, times=60)
    assert len(model.forward.variants) == 2
    assert first not in model.forward.variants
    assert first.executable is None


def _reasons(action: Callable[[], Any], model: Any) -> list[str]:
    before = dict(_status(model).reasons)
    action()
    return [reason for reason, count in _status(model).reasons.items() if count != before.get(reason, 0)]


@pytest.mark.parametrize(("on_miss", "hybrid"), [("convert", 4), ("eager", 2)])
def test_on_miss(on_miss: str, hybrid: int, model: Any) -> None:
    autohybrid.inference(model, on_miss=on_miss)
    _run(model)
    _run(model, scale=2)
    assert _status(model).hybrid_calls == hybrid


def test_on_miss_error_names_the_region(model: Any) -> None:
    autohybrid.inference(model, on_miss="error")
    _run(model)
    with pytest.raises(UsageError, match="'Model'"):
        _run(model, scale=2)
    _run(model)


def test_on_weights_eager_waits_for_refresh(model: Any) -> None:
    autohybrid.inference(model, on_weights="eager")
    _run(model)
    model.fc.weight.set_value(model.fc.weight * 2)
    assert any("weights changed" in reason for reason in _reasons(lambda: _run(model), model))
    before = _status(model).hybrid_calls
    autohybrid.refresh(model)
    _run(model)
    assert _status(model).hybrid_calls > before


def test_on_weights_error_names_the_region(model: Any) -> None:
    autohybrid.inference(model, on_weights="error")
    _run(model)
    model.fc.weight.set_value(model.fc.weight * 2)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"'Model'.*weights changed"):
            _run(model)
    autohybrid.refresh(model)
    _run(model)


def test_on_grad_eager_answers_eagerly(model: Any) -> None:
    autohybrid.inference(model, on_grad="eager")
    for _ in range(5):
        answer = model(numbers(4, 8))
    answer.sum().backward()
    assert model.fc.weight.grad is not None
    assert _status(model).hybrid_calls == 0
    _run(model)
    assert _status(model).hybrid_calls


def test_on_grad_error_raises_in_backward(model: Any) -> None:
    autohybrid.inference(model, on_grad="error")
    for _ in range(5):
        answer = model(numbers(4, 8))
    assert _status(model).hybrid_calls
    with pytest.raises(Exception, match="Model"):
        answer.sum().backward()


def test_fallbacks_are_told(model: Any) -> None:
    told: list[tuple[str, str]] = []
    autohybrid.inference(model, on_fallback=lambda name, reason: told.append((name, reason)))
    _run(model)
    assert told == [("Model", "not converted yet"), ("Model", "being proven")]


def test_a_failing_fallback_costs_no_answer(model: Any) -> None:
    def failing(name: str, reason: str) -> None:
        raise KeyError(name)

    autohybrid.inference(model, on_fallback=failing)
    with pytest.warns(RuntimeWarning, match="on_fallback failed"):
        model(numbers(4, 8))


def test_refresh_takes_back_refusals() -> None:
    class Switch(Model):
        count: Any = None

        def forward(self, x: Any, scale: Any = 1) -> Any:
            if self.count is not None:
                self.count += 1
            return self.fc(x)

    model = Switch()
    model.eval()
    model.count = 0
    autohybrid.inference(model)
    _run(model, times=8)
    assert _status(model).state == "eager"
    model.count = None
    autohybrid.refresh(model)
    _run(model)
    assert _status(model).hybrid_calls
    autohybrid.restore(model)


_PATCHED: tuple[tuple[Any, str], ...] = (
    (nn.Layer, "__setattr__"),
    (nn.Layer, "train"),
    (nn.Layer, "to"),
    (paddle.Tensor, "set_value"),
    (paddle.Tensor, "data"),
    (paddle.optimizer.SGD, "step"),
    (paddle.optimizer.Optimizer, "step"),
    (paddle, "grad"),
)


def test_patches_come_with_the_first_region_and_go_with_the_last(model: Any) -> None:
    other = Model()
    originals = [owner.__dict__.get(name) for owner, name in _PATCHED]
    autohybrid.inference(model), autohybrid.inference(other)
    assert nn.Layer.__dict__["train"] is not originals[1]
    autohybrid.restore(model)
    assert nn.Layer.__dict__["train"] is not originals[1]
    autohybrid.restore(other)
    assert [owner.__dict__.get(name) for owner, name in _PATCHED] == originals


def test_somebody_elses_patch_over_ours_stays(model: Any) -> None:
    original = nn.Layer.train
    autohybrid.inference(model)
    ours = nn.Layer.train
    called: list[Any] = []

    def theirs(layer: Any) -> Any:
        called.append(layer)
        return ours(layer)

    nn.Layer.train = theirs
    autohybrid.restore(model)
    moved = changes.counter.value
    model.train()
    assert called == [model]
    assert nn.Layer.train is theirs
    # Beneath theirs ours sleeps, though Layer.train assigns attributes, which is not watched any more either.
    assert changes.counter.value == moved
    nn.Layer.train = original


def test_a_region_that_is_forgotten_lets_the_patches_go() -> None:
    before = patches._users
    model = Model()
    autohybrid.inference(model)
    assert patches._users == before + 1
    autohybrid.restore(model)
    autohybrid.restore(model)
    assert patches._users == before


def test_an_optimizer_made_later_is_watched_too(model: Any) -> None:
    autohybrid.inference(model)

    class Mine(paddle.optimizer.SGD):  # type: ignore[misc]
        def step(self) -> None:
            with paddle.no_grad():
                for parameter in self._parameter_list:
                    parameter.set_value(parameter * 2)

    before = _run(model)
    Mine(0.1, parameters=model.parameters()).step()
    assert not _close(_run(model), before)


def test_restoring_leaves_no_trace(model: Any) -> None:
    before, keys = dict(model.__dict__), list(model.state_dict())
    names = [name for name, _ in model.named_sublayers()]
    autohybrid.inference(model)
    _run(model)
    assert list(model.state_dict()) == keys
    assert [name for name, _ in model.named_sublayers()] == names
    autohybrid.restore(model)
    assert model.__dict__ == before


def test_conversions_are_tried_in_a_child_first(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.getpid()
    convert = IncubateEngine.convert

    def dying(self: Any, request: Any) -> Any:
        if os.getpid() != here:
            os.abort()
        return convert(self, request)

    monkeypatch.setattr(IncubateEngine, "convert", dying)
    expected = _run(model)
    autohybrid.inference(model, engine="incubate")
    with pytest.warns(RuntimeWarning, match="dies"):
        assert _close(_run(model), expected)
    assert any("SIGABRT" in reason for reason in _status(model).reasons)
    autohybrid.restore(model)
    autohybrid.inference(model, engine="incubate", isolation="none")
    _run(model)
    assert _status(model).hybrid_calls


def test_a_size_that_no_call_had_is_proven_before_it_is_served() -> None:
    class Looks(Model):
        def forward(self, x: Any, scale: Any = 1) -> Any:
            return self.fc(x) * _parity(x.shape[0])

    model = Looks()
    model.eval()
    autohybrid.inference(model)
    for size in (4, 6, 8, 3, 5, 4, 6, 3):
        for _ in range(4):
            x = numbers(size, 8)
            assert _close(model(x), model.fc(x) * _parity(size))
    assert _status(model).hybrid_calls
    autohybrid.restore(model)


def _parity(size: Any) -> int:
    return 1 + int(size % 2 != 0)


def test_the_check_of_every_call_is_far_cheaper_than_the_full_one() -> None:
    model: Any = nn.LayerList([nn.Linear(2, 2) for _ in range(100)])
    with contextlib.ExitStack() as stack:
        patches.watch()
        stack.callback(patches.unwatch)
        snapshot = changes.Snapshot.of(model)
        quick = min(timeit.repeat(snapshot.looks_unchanged, number=50, repeat=5)) / 50
        full = min(timeit.repeat(lambda: snapshot.what_changed(changes.Snapshot.of(model)), number=5, repeat=5)) / 5
    assert full > 20 * quick


def test_a_known_call_is_matched_cheaper_than_taken_apart() -> None:
    call = (tuple(numbers(2, 2, seed=seed) for seed in range(10)), {"scale": 2.0, "mode": "a"})
    _, structure = flatten(call)
    read = reader(structure)
    assert read(call) is not None
    taking_apart = min(timeit.repeat(lambda: flatten(call), number=200, repeat=7))
    assert min(timeit.repeat(lambda: read(call), number=200, repeat=7)) < 0.8 * taking_apart
