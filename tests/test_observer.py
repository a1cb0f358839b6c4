"""Watching a run: which Layers are roots, which calls are inference, and where the time goes. With real Paddle."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from autohybrid.observe.observer import KEPT_PER_KIND, Observer
from autohybrid.observe.profile import Profile, RootProfile, Spot
from autohybrid.observe.timing import HookCost, Hooks

X = paddle.ones([2, 8])


class Sleeping(nn.Layer):  # type: ignore[misc]
    """Takes so long, by itself."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass
        return self.linear(x)


class Tree(nn.Layer):  # type: ignore[misc]
    """Two children of known length, the second called twice, and a shared one that has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.short = Sleeping(1e-3)
        self.long = Sleeping(2e-3)
        self.shared = nn.Linear(8, 8)
        self.again = nn.Sequential(self.shared)
        self.unused = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        x = self.again(self.shared(self.short(x)))
        return self.long(self.long(x))


def _observed(call: Any, times: int = 1, **options: Any) -> Profile:
    with Observer(**options) as observer:
        for _ in range(times):
            call()
    return observer.profile()


def _the_root(profile: Profile) -> RootProfile:
    (root,) = profile.roots
    return root


def test_a_root_is_found_by_its_call_and_with_its_place() -> None:
    model = Tree()
    root = _the_root(_observed(lambda: model(X), 5))
    assert root.layer is model
    assert (root.calls, root.training_calls, root.class_name) == (5, 0, "Tree")
    (place,) = root.places
    assert Path(place.file).name == "test_observer.py"
    assert place.function == "<lambda>"


def test_sublayers_are_no_roots_and_a_layer_made_late_is_one() -> None:
    model = Tree()

    def late() -> None:
        model(X)
        nn.Linear(8, 3)(model.short(X))

    assert [root.class_name for root in _observed(late).roots] == ["Tree", "Sleeping", "Linear"]


def test_roots_come_in_the_order_of_their_first_calls() -> None:
    one, two = nn.Linear(8, 8), nn.ReLU()
    assert [root.layer for root in _observed(lambda: (two(X), one(X)), 3).roots] == [two, one]


@pytest.mark.filterwarnings("ignore:The program will return to single-card operation")
def test_behind_data_parallel_the_model_itself_is_the_root() -> None:
    model = Tree()
    parallel = paddle.DataParallel(model)
    assert _the_root(_observed(lambda: parallel(X), 3)).layer is model


def test_what_training_calls_did_is_left_out() -> None:
    model = Tree()
    optimizer = paddle.optimizer.SGD(0.01, parameters=model.parameters())

    def train_then_infer() -> None:
        for _ in range(4):
            model(paddle.randn([3, 8])).mean().backward()
            optimizer.step()
            optimizer.clear_grad()
        for _ in range(6):
            model(X)

    root = _the_root(_observed(train_then_infer))
    assert (root.calls, root.training_calls) == (6, 4)
    assert all(list(kept.tensors[0].shape) == [2, 8] for kept in root.kept)
    assert root.sampled >= 2, "sub-Layers are timed in the inference calls"
    assert len(root.layers) > 1


def test_a_model_that_only_trains_is_no_root() -> None:
    model = Tree()
    assert _observed(lambda: model(X).sum().backward(), 3).roots == ()


def test_a_call_whose_gradients_paddle_grad_asks_for_is_training() -> None:
    model = Tree()
    x = paddle.ones([2, 8])
    x.stop_gradient = False
    assert _observed(lambda: paddle.grad(model(x).sum(), [x]), 3).roots == ()


def test_times_are_consistent_with_each_other_and_with_the_clock() -> None:
    model = Tree()
    with paddle.no_grad():
        started = time.perf_counter()
        root = _the_root(_observed(lambda: model(X), 30))
        elapsed = time.perf_counter() - started
    rows = {row.path: row for row in root.layers}
    assert sum(row.own for row in root.layers) == pytest.approx(rows[""].inclusive, rel=0.02)
    assert rows[""].inclusive == pytest.approx(root.seconds)
    assert 30 * 5e-3 < root.seconds < elapsed
    for row in root.layers:
        assert 0.0 <= row.own <= row.inclusive <= root.seconds
    # 1 ms and 2 x 2 ms of 5 ms, whatever else the machine does.
    assert 0.1 < rows["short"].inclusive / root.seconds < 0.3
    assert 0.6 < rows["long"].inclusive / root.seconds < 0.9
    assert rows["long"].own > 10 * rows["long.linear"].own


def test_a_call_that_took_long_for_once_moves_no_shares() -> None:
    model = Tree()

    def call(number: int) -> None:
        model.short.seconds, model.long.seconds = (0.05, 0.1) if number == 8 else (1e-3, 2e-3)
        model(X)

    numbers = iter(range(12))
    root = _the_root(_observed(lambda: call(next(numbers)), 12))
    assert max(root.durations) > 0.2, "the long call was none of those with hooks"
    shares = {row.path: row.inclusive / root.seconds for row in root.layers}
    assert shares["short"] + shares["long"] > 0.8


def test_calls_are_counted_per_call_of_the_root() -> None:
    model = Tree()
    rows = {row.path: row for row in _the_root(_observed(lambda: model(X), 6)).layers}
    assert {path: row.calls for path, row in rows.items()} == {
        "": 1.0,
        "short": 1.0,
        "short.linear": 1.0,
        "long": 2.0,
        "long.linear": 2.0,
        "shared": 2.0,
        "again": 1.0,
    }


def test_a_shared_layer_has_one_row_with_all_its_paths() -> None:
    model = Tree()
    rows = {row.path: row for row in _the_root(_observed(lambda: model(X), 3)).layers}
    assert rows["shared"].aliases == ("again.0",)
    assert rows["shared"].layer is model.shared
    assert rows["short"].aliases == ()


def test_after_so_many_calls_nothing_more_is_observed() -> None:
    model = Tree()
    assert _the_root(_observed(lambda: model(X), 9, max_calls=4)).calls == 4


def test_nothing_is_left_behind() -> None:
    model = Tree()
    call = nn.Layer.__call__
    traces = [sorted(sub.__dict__) for sub in model.sublayers(include_self=True)]
    with Observer():
        assert nn.Layer.__call__ is not call
        for _ in range(3):
            model(X)
    assert nn.Layer.__call__ is call
    assert [sorted(sub.__dict__) for sub in model.sublayers(include_self=True)] == traces
    for sub in model.sublayers(include_self=True):
        assert not sub._forward_pre_hooks
        assert not sub._forward_post_hooks


class Failing(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        self.linear(x)
        raise LookupError("on purpose")


def test_a_forward_that_raises_is_no_call_and_leaves_no_hooks() -> None:
    model = Failing()
    with Observer() as observer:
        for _ in range(3):
            with pytest.raises(LookupError):
                model(X)
        nn.Linear(8, 8)(X)
    assert not model.linear._forward_pre_hooks
    assert [root.class_name for root in observer.profile().roots] == ["Linear"]


def test_real_inputs_are_kept_as_they_were_before_the_call() -> None:
    class Mutating(nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any, scale: float = 1.0) -> Any:
            return x.add_(paddle.ones([2, 8])) * scale

    model = Mutating()
    root = _the_root(_observed(lambda: model(paddle.zeros([2, 8]), scale=2.0)))
    (kept,) = root.kept
    args, kwargs = kept.fresh_arguments()
    assert float(args[0].sum()) == 0.0
    assert kwargs == {"scale": 2.0}
    args[0].add_(paddle.ones([2, 8]))
    assert float(kept.fresh_arguments()[0][0].sum()) == 0.0, "each replay gets Tensors of its own"


def test_kept_inputs_are_few_and_stand_for_all_calls() -> None:
    model = nn.ReLU()
    root = _the_root(_observed(lambda: model(paddle.randn([2, 8])), 12))
    assert len(root.kept) == KEPT_PER_KIND
    assert sum(kept.weight for kept in root.kept) == pytest.approx(12)


def test_an_input_that_lies_where_the_last_one_was_freed_is_another_one() -> None:
    model = nn.ReLU()
    with Observer() as observer:
        places = set()
        for number in range(50):
            x = paddle.full([2, 8], float(number))
            places.add(id(x))
            model(x)
            del x
    assert len(places) < 50, "some were at the same address"
    assert len(_the_root(observer.profile()).kept) == KEPT_PER_KIND


def test_the_same_input_is_kept_once() -> None:
    model = nn.ReLU()
    assert len(_the_root(_observed(lambda: model(X), 12)).kept) == 1


@pytest.mark.parametrize("arrays", [False, True])
def test_another_size_that_comes_late_takes_a_place(arrays: bool) -> None:
    class Widths(nn.Layer):  # type: ignore[misc]
        def forward(self, images: Any) -> Any:
            return paddle.to_tensor(images[0]).sum([1]) if arrays else images[0].sum([1])

    model = Widths()
    model.eval()

    def called() -> None:
        for width in (8, 12):
            for _ in range(2 * KEPT_PER_KIND):
                image = np.ones([2, width], "float32")
                model([image if arrays else paddle.to_tensor(image)])

    kept = _the_root(_observed(called, 1)).kept
    shapes = [list(np.asarray(each.fresh_arguments()[0][0][0]).shape) for each in kept]
    assert shapes == [[2, 8], [2, 8], [2, 12]]


def test_kept_inputs_stay_within_their_memory() -> None:
    model = nn.ReLU()
    root = _the_root(_observed(lambda: model(paddle.randn([4, 64])), 5, keep_bytes=1500))
    assert len(root.kept) == 1


def test_each_argument_structure_is_kept_and_timed() -> None:
    class Either(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Any, second: bool = False) -> Any:
            return self.two(x) if second else self.one(x)

    model = Either()

    def both() -> None:
        for _ in range(9):
            model(X)
        model(X, second=True)

    root = _the_root(_observed(both))
    calls = {row.path: row.calls for row in root.layers}
    assert calls == {"": 1.0, "one": pytest.approx(0.9), "two": pytest.approx(0.1)}
    assert sorted(kept.weight for kept in root.kept) == [1.0, 9.0]


def test_another_threads_calls_are_roots_of_their_own() -> None:
    one, two = Tree(), nn.Linear(8, 8)

    def both() -> None:
        thread = threading.Thread(target=lambda: [two(X) for _ in range(4)])
        thread.start()
        for _ in range(4):
            one(X)
        thread.join()

    assert {root.class_name: root.calls for root in _observed(both).roots} == {"Tree": 4, "Linear": 4}


def test_the_hooks_own_cost_is_taken_out() -> None:
    layer = nn.Identity()
    with Hooks({Spot("it"): layer}) as hooks:
        for _ in range(3):
            layer(X)
    hooks.raw_inclusive[0] = 10.0
    sample = hooks.sample(20.0, HookCost(within=1.0, around=2.0))
    assert sample.total == 20.0 - 3 * 3.0
    assert sample.inclusive[Spot("it")] == 10.0 - 3 * 1.0
    assert sample.calls[Spot("it")] == 3
