"""Chains: stretches of a forward that run as one region, and everything about them as eager. With real Paddle."""

from __future__ import annotations

import copy
import inspect
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
import paddle.nn.functional as F
import pytest
from answers import alike
from chained import WIDTH, Block, Put, Stack, X
from fakes import Honest
from paddle import nn

import autohybrid
from autohybrid import engines
from autohybrid.runtime.attach import Placed, placed_in
from autohybrid.runtime.chain import Rewritten
from autohybrid.runtime.chain_finder import find, find_again, parts_of
from autohybrid.runtime.chain_source import Refused
from autohybrid.runtime.sites import ChainSite


class Looped(Stack):
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


class SeveralHandedOn(Stack):
    def forward(self, x: Any, y: Any) -> Any:
        for block in self.blocks:
            x, y = block(x, y)
        return {"x": x, "y": y}


class OthersForEach(Stack):
    def forward(self, x: Any, rope: Any) -> Any:
        for index, block in enumerate(self.blocks):
            x = block(x + rope[index])
        return x


class Zipped(Stack):
    def forward(self, x: Any, rope: Any, scales: Any) -> Any:
        for block, angle, scale in zip(self.blocks, rope, scales):  # noqa: B905 - as users write it
            x = block(x * angle, scale=scale)
        return x


class Backwards(Stack):
    def forward(self, x: Any) -> Any:
        for block in reversed(self.blocks):
            x = block(x)
        return x


class Sliced(Stack):
    def forward(self, x: Any, start: int = 0, stop: int = 4) -> Any:
        for block in self.blocks[start:stop]:
            x = block(x)
        return x


class Indexed(Stack):
    def forward(self, x: Any) -> Any:
        for index in range(len(self.blocks)):
            x = self.blocks[index](x)
        return x


class TwiceOver(Stack):
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        print("between")
        for block in self.blocks:
            x = block(x, scale=2.0)
        return x


class WithoutLoop(Stack):
    def forward(self, x: Any) -> Any:
        x = self.before(x)
        x = self.blocks[0](x)
        y = self.blocks[1](x)
        x = self.blocks[2](x)
        return self.after(x + y)


class SkippedOver(Stack):
    def forward(self, x: Any) -> Any:
        skip = x
        x = self.blocks[0](x)
        x = self.blocks[1](x)
        x = x + skip
        return self.blocks[2](x)


class HiddenStates(Stack):
    def forward(self, x: Any) -> Any:
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return x, found


class ByAttribute(Stack):
    """Reads what else is on ``self``: a number, a parameter, a function."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = 0.5
        self.bias = self.create_parameter([WIDTH])
        self.activation = F.gelu

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = self.activation(block(x, scale=self.strength) + self.bias)
        return x


class InBranches(Stack):
    """A name that only one branch binds, and that only that way is read."""

    def forward(self, x: Any, wide: bool = False) -> Any:
        x = self.before(x)
        if wide:
            extra = self.blocks[0](x)
        x = self.blocks[1](x)
        print("between")
        return x + extra if wide else x


class ThroughAClosure(Stack):
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)

        def doubled() -> Any:
            return x * 2

        return doubled()


class CarriedRound(Stack):
    """A chain inside a loop, whose result is its own next input."""

    def forward(self, x: Any, times: int = 3) -> Any:
        for turn in range(times):
            x = self.before(x)
            x = self.blocks[0](x)
            print("turn", turn)
        return x


class Private(Stack):
    def __init__(self) -> None:
        super().__init__()
        self.__hidden = nn.Linear(WIDTH, WIDTH)
        self.eval()

    def forward(self, x: Any) -> Any:
        print("private")
        x = self.__hidden(x)
        return self.after(x)


class Inherited(Looped):
    def forward(self, x: Any) -> Any:
        x = super().forward(x)
        x = self.before(x)
        return self.after(x)


class Comprehended(Stack):
    def forward(self, x: Any) -> Any:
        parts = paddle.concat([block(x) for block in self.blocks], axis=-1)
        return self.after(parts[:, :WIDTH])


class Gathered(nn.Layer):  # type: ignore[misc]
    """Containers of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        paddle.seed(1)
        self.named = nn.LayerDict({"a": Block(), "b": Block()})
        self.tail = nn.Sequential(Block(), Block())
        self.eval()

    def forward(self, x: Any) -> Any:
        for name, block in self.named.items():
            x = block(x) + len(name)
        for block in self.tail:
            x = block(x)
        return x


CONVERTED: list[tuple[Callable[[], Any], list[tuple[Any, ...]]]] = [
    (Looped, [(X,)]),
    (SeveralHandedOn, [(X, X * 2)]),
    (OthersForEach, [(X, [X * 0.1] * 4)]),
    (Zipped, [(X, (X, X, X, X), [1.0, 2.0, 3.0, 4.0])]),
    (Backwards, [(X,)]),
    (Sliced, [(X, 1, 3), (X, 0, 2), (X,)]),
    (Indexed, [(X,)]),
    (TwiceOver, [(X,)]),
    (WithoutLoop, [(X,)]),
    (SkippedOver, [(X,)]),
    (HiddenStates, [(X,)]),
    (ByAttribute, [(X,)]),
    (InBranches, [(X, True), (X,)]),
    (ThroughAClosure, [(X,)]),
    (CarriedRound, [(X,), (X, 2)]),
    (Private, [(X,)]),
    (Inherited, [(X,)]),
    (Comprehended, [(X,)]),
    (Gathered, [(X,)]),
]


def _hybrid(places: list[Placed]) -> list[int]:
    return [place.region.hybrid_calls for place in places]


@pytest.mark.parametrize(("kind", "calls"), CONVERTED, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("engine", ["fake", "predictor"])
def test_each_chain_answers_as_eager_and_is_really_hybrid(
    kind: Callable[[], Any], calls: list[tuple[Any, ...]], engine: str, put: Put, capsys: Any
) -> None:
    model = kind()
    with paddle.no_grad():
        expected = [model(*call) for call in calls]
        printed = capsys.readouterr().out
        state = {name: id(value) for name, value in model.state_dict().items()}
        places = put(model, engines.by_name("predictor") if engine == "predictor" else None)
        assert places, find(model).obstacles
        for _ in range(4):
            answers = [model(*call) for call in calls]
            assert capsys.readouterr().out == printed
            assert all(map(alike, expected, answers))
    assert all(_hybrid(places)), [dict(place.region.eager_calls) for place in places]
    assert {name: id(value) for name, value in model.state_dict().items()} == state
    autohybrid.restore(model)
    assert "forward" not in vars(model)


class ExitByFlag(Stack):
    def forward(self, x: Any, first: int = 2) -> Any:
        for index, block in enumerate(self.blocks):
            if index == first:
                return self.after(x)
            x = block(x)
        return x


class ExitByValue(Stack):
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
            if float(x.sum()) > 2.0:
                break
        return x


class Printed(Stack):
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
            print(round(float(x.mean()), 3))
        return x


class AppendedElsewhere(Stack):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
            self.seen.append(list(x.shape))
        return x


class Watching(Stack):
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return len(locals()), x


class Decorated(Stack):
    @paddle.no_grad()  # type: ignore[untyped-decorator]
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


REFUSED = [ExitByFlag, ExitByValue, Printed, AppendedElsewhere]


@pytest.mark.parametrize("kind", REFUSED)
def test_whatever_else_happens_between_the_members_refuses_the_chain_and_is_named(kind: Any) -> None:
    found = find(kind())
    assert not [chain for chain in found.chains if "for " in chain.text]
    assert found.obstacles
    obstacle = found.obstacles[0]
    assert obstacle.code == "between"
    assert obstacle.place is not None
    assert Path(obstacle.place.file).name == "test_chains.py"
    assert inspect.getsource(kind).count(obstacle.detail) == 1


@pytest.mark.parametrize(("kind", "why"), [(Watching, "locals"), (Decorated, "decorated")])
def test_a_function_that_cannot_be_compiled_anew_is_refused_with_the_reason(kind: Any, why: str) -> None:
    with pytest.raises(Refused, match=why):
        find(kind())


def test_without_source_there_is_no_chain() -> None:
    names: dict[str, Any] = {"Stack": Stack}
    exec("class Made(Stack):\n    def forward(self, x):\n        return self.after(self.before(x))\n", names)
    with pytest.raises(Refused, match="source"):
        find(names["Made"]())


def test_a_block_called_alone_is_eager(put: Put) -> None:
    model = Looped()
    put(model)
    with paddle.no_grad():
        alone = model.blocks[1](X)
        for _ in range(4):
            model(X)
        assert alike(model.blocks[1](X), alone)
    assert "forward" not in vars(model.blocks[1])


@pytest.mark.parametrize("replace", ["block", "in place", "root"])
def test_what_is_replaced_afterwards_is_followed(replace: str, put: Put) -> None:
    model, other = WithoutLoop(), WithoutLoop(3)
    (place,) = put(model)
    with paddle.no_grad():
        for _ in range(4):
            model(X)
        assert place.region.hybrid_calls
        if replace == "block":
            model.blocks[1] = other.blocks[1]
        elif replace == "root":
            model.before = other.before
        else:
            model.before.weight.set_value(other.before.weight)
        expected = type(model).forward(model, X)
        for _ in range(4):
            assert alike(model(X), expected)
        assert place.region.hybrid_calls >= 3


def test_a_hook_on_a_member_is_called(put: Put) -> None:
    model = Looped()
    (place,) = put(model)
    with paddle.no_grad():
        for _ in range(3):
            model(X)
        calls: list[int] = []
        remover = model.blocks[2].register_forward_post_hook(lambda *_: calls.append(1))
        model(X)
        model(X)
        remover.remove()
    assert len(calls) >= 2
    assert place.region.hybrid_calls


def test_gradients_come_through_a_chain(put: Put) -> None:
    model = Looped()
    x = X.clone()
    x.stop_gradient = False
    model(x).sum().backward()
    expected = x.grad.clone()
    put(model)
    for _ in range(5):
        x.clear_grad()
        model(x).sum().backward()
        assert alike(x.grad, expected)


def test_a_copy_has_chains_of_its_own(put: Put) -> None:
    model = Looped()
    (place,) = put(model)
    with paddle.no_grad():
        for _ in range(3):
            model(X)
        copied = copy.deepcopy(model)
        (own,) = placed_in(copied)
        assert own.region is not place.region
        copied.blocks[0].linear.weight.set_value(copied.blocks[0].linear.weight * 2)
        calls = place.region.hybrid_calls
        for _ in range(4):
            assert alike(copied(X), Looped.forward(copied, X))
            assert not alike(copied(X), Looped.forward(model, X))
        assert own.region.hybrid_calls
        assert place.region.hybrid_calls == calls
    autohybrid.restore(copied)


def test_a_model_with_a_chain_can_be_pickled_and_comes_back_eager(put: Put) -> None:
    model = Looped()
    put(model)
    method = pickle.loads(pickle.dumps(model.__dict__["forward"]))
    assert alike(method(X), Looped.forward(model, X))


def test_a_traceback_shows_the_files_and_lines_of_the_users_code(put: Put) -> None:
    model = Looped()
    put(model)
    with pytest.raises(ValueError, match=r".*") as raised:
        model(paddle.ones([2, WIDTH + 1]))
    frames = traceback.extract_tb(raised.value.__traceback__)
    shown = [frame for frame in frames if frame.filename == __file__]
    lines, first = inspect.getsourcelines(Looped.forward)
    assert [frame.line for frame in shown if frame.name.startswith("forward")] == [
        "for block in self.blocks:",
        "x = block(x)",
    ]
    assert [frame.lineno for frame in shown if frame.name == "forward_chain"] == [first + len(lines) - 2]


def test_the_source_of_a_rewritten_forward_is_the_users(put: Put) -> None:
    model = Looped()
    before = inspect.signature(model.forward)
    put(model)
    assert isinstance(vars(model)["forward"], Rewritten)
    assert inspect.signature(model.forward) == before
    assert model.forward.__name__ == "forward"
    assert inspect.getsource(vars(model)["forward"]._bound) == inspect.getsource(Looped.forward)


def test_two_instances_of_one_class_have_chains_of_their_own(put: Put) -> None:
    one, other = Looped(3), Looped(5)
    put(one)
    put(other)
    with paddle.no_grad():
        for _ in range(4):
            assert alike(one(X), Looped.forward(one, X))
            assert alike(other(X), Looped.forward(other, X))
    assert all(_hybrid([*placed_in(one), *placed_in(other)]))


def test_a_chain_is_found_again_by_its_text() -> None:
    (chain,) = find(Looped()).chains
    assert find_again(Looped(), "forward", chain.text) == chain
    for text in (chain.text.replace("block", "other"), "", "for for", "\0"):
        assert find_again(Looped(), "forward", text) is None


def test_a_chain_is_found_however_a_version_of_python_prints_it() -> None:
    chain = next(each for each in find(OthersForEach()).chains if "for " in each.text)
    for text in ("for (index, block) in", "for index, block in"):
        assert find_again(OthersForEach(), "forward", text + chain.text[chain.text.index(" enumerate") :]) == chain


def test_the_parts_of_a_chain_are_chains_too(put: Put) -> None:
    model = WithoutLoop()
    (chain,) = find(model).chains
    parts = parts_of(model, "forward", chain, [True, True, False, True, True])
    assert [part.text.splitlines() for part in parts] == [
        ["x = self.before(x)", "x = self.blocks[0](x)"],
        ["x = self.blocks[2](x)", "return self.after(x + y)"],
    ]
    with paddle.no_grad():
        expected = model(X)
        regions = [put.at(model, part, Honest()) for part in parts]
        for _ in range(4):
            assert alike(model(X), expected)
    assert all(region.hybrid_calls for region in regions)
    autohybrid.restore(model)
    assert "forward" not in vars(model)


def test_a_forward_that_somebody_else_replaced_is_left_alone() -> None:
    model = Looped()
    (chain,) = find(model).chains
    model.__dict__["forward"] = lambda x: x
    with pytest.raises(Refused, match="another function"):
        ChainSite(model, "forward", chain)


def test_the_chain_of_paddles_own_encoder() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 8), 3)
    encoder.eval()
    assert any("in enumerate(self.layers)" in chain.text for chain in find(encoder).chains)
