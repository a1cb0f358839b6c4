"""Methods of Layers that take and give Tensors: seen, timed, tried, planned and applied like forwards."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import paddle
import plans
import pytest
from answers import alike
from commands import SCRIPTS, autohybrid, run
from paddle import nn

import autohybrid as ah
from autohybrid import plan
from autohybrid.observe.observer import Observer
from autohybrid.observe.profile import Profile, Spot
from autohybrid.roots import drives_forward
from autohybrid.runtime.applier import Applier
from autohybrid.runtime.fingerprint import fingerprint, structure_lines
from autohybrid.runtime.signature import recorded
from autohybrid.search.below import Family
from autohybrid.search.candidates import candidates_of
from autohybrid.structure import flatten

X = paddle.ones([2, 4])


class Coder(nn.Layer):  # type: ignore[misc]
    """Used through ``encode`` and ``decode``; its forward uses both."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(4, 3), nn.Linear(3, 4)
        self.eval()

    def encode(self, x: Any, scale: float = 1.0) -> dict[str, Any]:
        return {"latent": self._scaled(self.down(x), scale)}

    def _scaled(self, x: Any, scale: float) -> Any:
        return x * scale

    def decode(self, latent: Any) -> Any:
        return self.up(latent)

    def forward(self, x: Any) -> Any:
        return self.decode(self.encode(x)["latent"])

    def predict(self, x: Any) -> Any:
        return self._through_another(x)

    def _through_another(self, x: Any) -> Any:
        return self(x)

    def describe(self) -> str:
        return "no Tensor in, no Tensor out"


def _observed(call: Any, times: int = 4) -> Profile:
    with Observer() as observer, paddle.no_grad():
        for _ in range(times):
            call()
    return observer.profile()


def _spots(profile: Profile) -> set[Spot]:
    (root,) = profile.roots
    return {timed.spot for timed in root.layers}


def test_a_method_called_from_outside_makes_its_layer_a_root() -> None:
    model = Coder()
    seen = _observed(lambda: (model.encode(X, scale=2.0), model.describe()))
    (root,) = seen.roots
    assert root.layer is model
    assert root.calls == 4
    assert {kept.function for kept in root.kept} == {"encode"}
    assert _spots(seen) == {Spot("", "encode"), Spot("", "_scaled"), Spot("down")}
    assert Path(root.places[0].file).name == "test_methods.py"


def test_a_kept_call_of_a_method_is_made_again_as_it_was() -> None:
    model = Coder()
    (root,) = _observed(lambda: model.encode(X, scale=2.0)).roots
    assert alike(root.kept[0].answer(model), model.encode(X, scale=2.0))


def test_methods_and_forward_of_one_layer_are_one_root() -> None:
    model = Coder()

    def call() -> None:
        model.decode(model.encode(X)["latent"])
        model(X)

    seen = _observed(call)
    (root,) = seen.roots
    rows = {timed.spot: timed for timed in root.layers}
    assert root.calls == 12
    assert rows[Spot("", "encode")].calls == pytest.approx(2 / 3), "by itself and inside forward"
    assert rows[Spot("")].calls == pytest.approx(1 / 3)
    assert rows[Spot("", "encode")].called_from == {Spot("")}
    own = sum(timed.own for timed in root.layers)
    assert own == pytest.approx(root.seconds, rel=0.1)


def test_what_lies_inside_what_is_told_by_the_calls() -> None:
    model = Coder()
    seen = _observed(lambda: model(X))
    candidates = {each.spot: each for each in candidates_of(seen, seen.roots[0], Family())}
    whole, encode, decode = candidates[Spot("")], candidates[Spot("", "encode")], candidates[Spot("", "decode")]
    assert {whole.spot, encode.spot} <= candidates[Spot("down")].inside
    assert decode.spot not in candidates[Spot("down")].inside
    assert encode.spot not in whole.inside


def test_where_a_method_drives_forward_the_forwards_are_the_roots() -> None:
    model = Coder()
    seen = _observed(lambda: model.predict(X))
    assert {kept.function for kept in seen.roots[0].kept} == {"forward"}
    assert drives_forward(Coder, "predict")
    assert not drives_forward(Coder, "encode")


def test_classes_made_while_observing_are_seen_and_all_are_as_before_afterwards() -> None:
    before = dict(vars(Coder))
    with Observer() as observer, paddle.no_grad():

        class Late(nn.Layer):  # type: ignore[misc]
            def twice(self, x: Any) -> Any:
                return x * 2

        kept = Late.twice
        Late().twice(X)
    assert [root.class_name for root in observer.profile().roots] == [Late.__qualname__]
    assert Late.twice is kept
    assert dict(vars(Coder)) == before


def test_a_script_that_traces_a_method_by_itself_gets_its_own_code_traced() -> None:
    class Branching(nn.Layer):  # type: ignore[misc]
        def chosen(self, x: Any) -> Any:
            if x.sum() > 0:
                return x + 1
            return x - 1

        def forward(self, x: Any) -> Any:
            return self.chosen(x)

    with Observer(), paddle.no_grad():
        model = Branching()
        static = paddle.jit.to_static(model)
        answers = [float(static(paddle.full([2], value)).sum()) for value in (1.0, -1.0)]
    assert answers == [4.0, -4.0]


def _plan_for(model: nn.Layer, function: str, *args: Any, **kwargs: Any) -> plan.Plan:
    tensors, structure = flatten((args, kwargs))
    inputs = recorded(structure, tensors, tuple([tuple(tensor.shape) for tensor in tensors]))
    lines = structure_lines(model)
    region = plans.region("", inputs, kind="method", function=function, class_name="Coder")
    return plans.whole(
        [plans.model([region], fingerprint=fingerprint(lines), structure=lines, functions=[function, "forward"])]
    )


def test_a_planned_method_answers_hybrid_in_this_instance_only_and_is_taken_out_again() -> None:
    model, other = Coder(), Coder()
    ah.apply(model, _plan_for(model, "encode", X, scale=2.0))
    eager = Coder.encode
    with paddle.no_grad():
        for _ in range(4):
            assert alike(model.encode(X, scale=2.0), eager(model, X, scale=2.0))
        other.encode(X, scale=2.0)
    (shown,) = ah.status(model).regions
    assert shown.hybrid_calls == 2
    assert shown.path == "encode()"
    ah.restore(model)
    assert "encode" not in vars(model)
    assert "encode" not in vars(other)


def test_run_applies_a_plan_at_the_first_call_of_a_method() -> None:
    model = Coder()
    with Applier(_plan_for(model, "encode", X)) as applier, paddle.no_grad():
        for _ in range(4):
            model.encode(X)
    assert ah.status(model).regions[0].hybrid_calls == 2
    assert "encode()" in applier.summary()
    ah.restore(model)


@pytest.mark.slow
def test_a_script_that_uses_methods_is_profiled_and_run_with_its_plan(tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "autoencoder.py", tmp_path)
    alone = run([sys.executable, "autoencoder.py"], tmp_path)
    found = autohybrid("profile", "--budget", "25", "--report", "report.txt", "autoencoder.py", cwd=tmp_path)
    assert (found.code, found.out) == (0, alone.out), found.err
    (model,) = plan.load(tmp_path / "plan.json").models
    assert sorted(model.functions) == ["decode", "encode"]
    regions = {region.name: region.kind for region in model.regions}
    assert regions.get("encode()") == "method", regions
    assert {"decode()", "upwards()", "decoder"} & regions.keys(), regions
    hybrid = autohybrid("run", "--plan", "plan.json", "autoencoder.py", cwd=tmp_path)
    assert (hybrid.code, hybrid.out) == (0, alone.out), hybrid.err
    assert "encode()" in hybrid.err
