"""Putting a plan into a model and taking it out again. With real Paddle."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

import paddle
import plans
import pytest
from answers import alike, of_eager
from engine_regions import converting_elsewhere
from paddle import nn

import autohybrid
from autohybrid import plan
from autohybrid.errors import AutohybridError, ExitCode, PlanError, UsageError
from autohybrid.runtime.applier import Applier
from autohybrid.runtime.fingerprint import fingerprint, structure_lines
from autohybrid.runtime.signature import recorded
from autohybrid.structure import flatten


class Block(nn.Layer):  # type: ignore[misc]
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        return nn.functional.relu(self.linear(x)) + x


class Model(nn.Layer):  # type: ignore[misc]
    def __init__(self, width: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.LayerList([Block(width) for _ in range(blocks)])
        self.head = nn.Linear(width, 3)
        self.eval()

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Outer(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.eval()

    def forward(self, x: Any) -> Any:
        return self.model(x) * 2


X = paddle.ones([2, 4])


def _call(x: Any = X, dynamic: bool = False) -> Any:
    """The argument structure of a Layer that is called with ``x`` alone."""
    tensors, structure = flatten(((x,), {}))
    shape = tuple(x.shape)
    return recorded(structure, tensors, ((-1, *shape[1:]) if dynamic else shape,))


def _entry(model: Any, *paths: str, **changes: Any) -> plan.Model:
    lines = structure_lines(model)
    regions = [plans.region(path, _call(dynamic=True)) for path in paths]
    return plans.model(regions, fingerprint=fingerprint(lines), structure=lines, class_name="Model", **changes)


def _plan(model: Any, *paths: str) -> plan.Plan:
    return plans.whole([_entry(model, *paths)])


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    autohybrid.restore(made)


def _counts(model: Any) -> dict[str, int]:
    return {region.path: region.hybrid_calls for region in autohybrid.status(model).regions}


def test_a_plan_from_a_file_puts_its_regions_in_place(model: Model, tmp_path: Path) -> None:
    place = tmp_path / "plan.json"
    plan.save(_plan(model, "blocks.0", "head"), place)
    assert autohybrid.apply(model, plan=place) is model
    for _ in range(5):
        assert alike(model(X), of_eager(model, X))
    assert _counts(model) == {"blocks.0": 3, "head": 3}


def test_a_plan_made_after_a_forward_kept_a_tensor_on_its_layer_fits_the_model_before(model: Model) -> None:
    used = Model()
    used.blocks[0].last = X  # as a cache, a table or an average that a first call makes
    made = plans.whole([_entry(used, "head")])
    autohybrid.apply(model, made)
    for _ in range(4):
        model(X)
    assert _counts(model) == {"head": 2}


def test_dynamic_dimensions_take_any_size_with_one_conversion(model: Model) -> None:
    autohybrid.apply(model, _plan(model, "blocks.0"))
    for size in (2, 5, 7, 3, 2):
        x = paddle.randn([size, 4])
        assert alike(model(x), of_eager(model, x))
    assert _counts(model) == {"blocks.0": 3}


def test_calls_that_the_plan_does_not_know_stay_eager(model: Model) -> None:
    autohybrid.apply(model, _plan(model, "blocks.0"))
    for _ in range(4):
        model(paddle.ones([2, 3, 4]))
    (region,) = autohybrid.status(model).regions
    assert (region.hybrid_calls, region.reasons) == (0, {"not in the plan": 4})


@pytest.mark.parametrize(("verify", "served"), [(1, 3), (2, 2), (3, 1)])
def test_so_many_calls_are_verified_before_a_region_serves(model: Model, verify: int, served: int) -> None:
    autohybrid.apply(model, _plan(model, "head"), verify=verify)
    for _ in range(4):
        model(X)
    assert _counts(model) == {"head": served}


def _traces(model: Any) -> list[Any]:
    return [sorted(sub.__dict__) for sub in model.sublayers(include_self=True)]


def test_restore_leaves_no_trace(model: Model) -> None:
    before, forward = _traces(model), type(model.head).forward
    autohybrid.apply(model, _plan(model, "blocks.0", "blocks.1", "head"))
    for _ in range(4):
        model(X)
    assert hasattr(paddle.nn.Layer.__setattr__, "__wrapped__"), "changes are watched while regions are in place"
    assert autohybrid.restore(model) is model
    assert _traces(model) == before
    assert type(model.head).forward is forward
    assert not hasattr(paddle.nn.Layer.__setattr__, "__wrapped__")
    assert autohybrid.status(model).regions == ()


def test_restore_gives_back_a_forward_that_was_set_on_the_instance(model: Model) -> None:
    own = model.head.__dict__["forward"] = lambda x: nn.Linear.forward(model.head, x) * 2
    autohybrid.apply(model, _plan(model, "head"))
    for _ in range(4):
        assert alike(model(X), of_eager(model, X))
    autohybrid.restore(model)
    assert model.head.__dict__["forward"] is own


def test_applied_lasts_as_long_as_its_block(model: Model) -> None:
    with autohybrid.applied(model, _plan(model, "head")) as same:
        assert same is model
        assert len(autohybrid.status(model).regions) == 1
    assert autohybrid.status(model).regions == ()
    with pytest.raises(ZeroDivisionError), autohybrid.applied(model, _plan(model, "head")):
        raise ZeroDivisionError
    assert autohybrid.status(model).regions == ()


def test_the_state_dict_and_the_tree_stay_as_they_were(model: Model) -> None:
    keys, names = list(model.state_dict()), [name for name, _ in model.named_sublayers()]
    autohybrid.apply(model, _plan(model, "blocks.0", "head"))
    for _ in range(3):
        model(X)
    assert list(model.state_dict()) == keys
    assert [name for name, _ in model.named_sublayers()] == names


def test_applying_the_same_plan_again_changes_nothing(model: Model) -> None:
    content = _plan(model, "head")
    autohybrid.apply(model, content)
    for _ in range(4):
        model(X)
    autohybrid.apply(model, content)
    assert _counts(model) == {"head": 2}


def test_another_plan_takes_the_place_of_the_one_before(model: Model) -> None:
    autohybrid.apply(model, _plan(model, "head"))
    autohybrid.apply(model, _plan(model, "blocks.1"))
    assert list(_counts(model)) == ["blocks.1"]
    autohybrid.restore(model)
    assert "forward" not in model.head.__dict__


def test_a_plan_for_another_structure_is_refused_by_its_first_difference(model: Model) -> None:
    with pytest.raises(PlanError, match=r"another structure.*blocks\.2") as caught:
        autohybrid.apply(model, _plan(Model(blocks=3), "head"))
    assert caught.value.remedy
    with pytest.raises(PlanError, match=r"float32\[8, 8\]"):
        autohybrid.apply(model, _plan(Model(width=8), "head"))
    assert autohybrid.status(model).regions == ()


def test_a_plan_is_applied_to_the_part_that_was_profiled() -> None:
    outer = Outer()
    autohybrid.apply(outer, _plan(Model(), "head"))
    for _ in range(4):
        assert alike(outer(X), of_eager(outer, X))
    assert _counts(outer) == {"head": 2}
    autohybrid.restore(outer)


def test_equal_entries_are_one_and_different_ones_must_be_named(model: Model) -> None:
    one, other = _entry(model, "head"), _entry(model, "blocks.0", id="Model-2")
    autohybrid.apply(model, plans.whole([one, plans.model(one.regions, fingerprint=one.fingerprint, id="again")]))
    both = plans.whole([one, other])
    with pytest.raises(PlanError, match=r"Block-1, Model-2") as caught:
        autohybrid.apply(model, both)
    assert "entry" in caught.value.remedy
    autohybrid.apply(model, both, entry="Model-2")
    assert list(_counts(model)) == ["blocks.0"]
    with pytest.raises(PlanError, match="nonsense"):
        autohybrid.apply(model, both, entry="nonsense")


def _bad(path: str = "head", **changes: Any) -> plan.Region:
    return plans.region(path, _call(), **changes)


@pytest.mark.parametrize(
    "bad",
    [
        _bad(path="no.such"),
        _bad(engine="nonsense"),
        _bad(options={"nonsense": 1}),
    ],
    ids=["path", "engine", "options"],
)
def test_a_plan_that_cannot_be_applied_is_an_error_the_user_can_mend(model: Model, bad: plan.Region) -> None:
    entry = _entry(model)
    with pytest.raises(AutohybridError) as caught:
        autohybrid.apply(model, plans.whole([plans.model([bad], fingerprint=entry.fingerprint)]))
    assert caught.value.exit_code == ExitCode.PLAN
    assert caught.value.remedy


@pytest.mark.parametrize("bad", [_bad(engine="nonsense"), _bad(options={"nonsense": 1})], ids=["engine", "options"])
def test_a_plan_that_cannot_be_applied_whole_is_not_applied_in_part(model: Model, bad: plan.Region) -> None:
    entry = _entry(model, "blocks.0")
    broken = plans.whole([plans.model([*entry.regions, bad], fingerprint=entry.fingerprint)])
    with pytest.raises(AutohybridError):
        autohybrid.apply(model, broken)
    assert autohybrid.status(model).regions == ()


def test_what_is_no_layer_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"needs a paddle\.nn\.Layer, got str"):
        autohybrid.apply("model")


def test_status_prints_as_a_table(model: Model) -> None:
    assert str(autohybrid.status(model)) == "No regions: this model is eager."
    autohybrid.apply(model, _plan(model, "head"))
    assert autohybrid.status(model).regions[0].state == "waiting"
    model(X)
    assert autohybrid.status(model).regions[0].state == "proving"
    for _ in range(4):
        model(X)
    shown = str(autohybrid.status(model)).splitlines()
    assert shown[0].split()[:3] == ["region", "engine", "state"]
    assert shown[2].split()[:5] == ["head", "incubate", "hybrid", "3", "2"]
    assert sum(autohybrid.status(model).regions[0].reasons.values()) == 2


def test_a_deep_copy_answers_with_its_own_weights(model: Model) -> None:
    autohybrid.apply(model, _plan(model, "head"))
    for _ in range(4):
        model(X)
    twin = copy.deepcopy(model)
    try:
        twin.head.weight.set_value(twin.head.weight + 1)
        for _ in range(5):
            assert alike(twin(X), of_eager(twin, X))
            assert alike(model(X), of_eager(model, X))
        assert not alike(twin(X), model(X))
    finally:
        autohybrid.restore(twin)


def test_an_applier_finds_the_roots_by_their_calls() -> None:
    model, other = Model(), nn.Linear(4, 4)
    with Applier(_plan(model, "head")) as applier:
        for _ in range(4):
            assert alike(model(X), of_eager(model, X))
            other(X)
        assert _counts(model) == {"head": 2}
    assert "hybrid" in applier.summary()
    autohybrid.restore(model)


@pytest.mark.parametrize("bad", [_bad(engine="nonsense"), _bad(options={"nonsense": 1})], ids=["engine", "options"])
def test_an_applier_refuses_a_plan_that_cannot_be_had_here_before_anything_is_called(bad: plan.Region) -> None:
    with pytest.raises(PlanError, match="nonsense"):
        Applier(plans.whole([plans.model([bad])]))


def test_an_applier_says_why_nothing_was_applied() -> None:
    with Applier(_plan(Model(blocks=3), "head")) as applier:
        Model()(X)
    assert "no region of the plan was used" in applier.summary()
    assert "another structure" in applier.summary()


def test_after_a_warm_up_the_first_call_is_hybrid(model: Model) -> None:
    autohybrid.apply(model, _plan(model, "head"))
    status = autohybrid.warmup(model)
    assert status.regions[0].state == "hybrid"
    warming = status.regions[0].eager_calls
    model(X)
    with paddle.no_grad():
        model(X)
    (after,) = autohybrid.status(model).regions
    assert (after.hybrid_calls, after.eager_calls) == (2, warming)


def test_a_warm_up_waits_for_a_conversion_in_another_thread(model: Model) -> None:
    autohybrid.apply(model, _plan(model, "head"))
    with ThreadPoolExecutor(1) as pool:
        with converting_elsewhere():
            warming = pool.submit(autohybrid.warmup, model)
            with contextlib.suppress(NotYet):
                warming.result(timeout=1.0)
        assert warming.result().regions[0].state == "hybrid"


def test_warming_up_takes_the_eager_answers_random_numbers_from_nobody(model: Model) -> None:
    paddle.seed(7)
    expected = paddle.rand([3]).tolist()
    autohybrid.apply(model, _plan(model, "head"))
    paddle.seed(7)
    autohybrid.warmup(model)
    assert paddle.rand([3]).tolist() == expected
