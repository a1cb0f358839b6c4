"""What a chain must not change: everything that a script could see, for code that comes close to being one."""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import paddle
import paddle.nn.functional as F
import plans
import pytest
from answers import alike
from chained import WIDTH, Block, Put, Stack, X
from fakes import Honest
from paddle import nn

import autohybrid
from autohybrid import engines, plan
from autohybrid.runtime.attach import placed_in
from autohybrid.runtime.chain import OTHER_WAY, SHARED
from autohybrid.runtime.chain_finder import called_in_statements, find, find_again, parts_of, turns_of_statements
from autohybrid.runtime.chain_source import Refused
from autohybrid.runtime.fingerprint import fingerprint, structure_lines
from autohybrid.runtime.signature import recorded
from autohybrid.runtime.sites import ChainSite
from autohybrid.structure import flatten


class Raising(nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        raise ValueError("always")


class InATry(Stack):
    """What a failing statement leaves bound is seen behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.raising = Raising()
        self.eval()

    def forward(self, x: Any) -> Any:
        try:
            x = self.before(x)
            x = self.raising(x)
        except ValueError:
            print("failed")
        return x


class Suppressed(InATry):
    def forward(self, x: Any) -> Any:
        with contextlib.suppress(ValueError):
            x = self.before(x)
            x = self.raising(x)
        return x


class ReadLater(Stack):
    """A generator that reads a name when it is walked."""

    def forward(self, x: Any) -> Any:
        shifted = (x + i for i in range(3))
        print("between")
        x = self.before(x)
        x = self.blocks[0](x)
        y = self.blocks[1](x)
        print("behind")
        return sum(shifted), y


class OwnContainer(nn.Layer):  # type: ignore[misc]
    """Walks, counts and gives its Layers in ways that can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def __iter__(self) -> Any:
        print("walked")
        yield self.a
        yield self.b

    def __getitem__(self, index: int) -> Any:
        print("indexed")
        return (self.a, self.b)[index]

    def __len__(self) -> int:
        print("counted")
        return 2


class WalksItsOwn(Stack):
    def __init__(self) -> None:
        super().__init__()
        self.own = OwnContainer()
        self.eval()

    def forward(self, x: Any) -> Any:
        for layer in self.own:
            x = layer(x)
        for index in range(len(self.own)):
            x = self.own[index](x)
        return x


class CountedList(nn.LayerList):  # type: ignore[misc]
    def __iter__(self) -> Any:
        print("walked")
        return super().__iter__()


class WalksASubclass(Stack):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = CountedList(list(self.blocks))
        self.eval()

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def reversed(layers: Any) -> Any:
    print("reversed")
    return list(layers)[::-1]


class HiddenBuiltin(Stack):
    """Calls the function above, not the builtin."""

    def forward(self, x: Any) -> Any:
        for block in reversed(self.blocks):
            x = block(x)
        return x


class Computed(Stack):
    @property
    def strength(self) -> float:
        print("computed")
        return 2.0

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x) * self.strength
        return x


class Recorder:
    """Has a method that a Tensor has too; keeps its count where nobody looks."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def log(self, x: Any) -> Any:
        self.calls += 1
        return x * self.calls


class Records(Stack):
    def forward(self, x: Any, recorder: Any = None) -> Any:
        x = self.before(x)
        x = recorder.log(x) if recorder is not None else x
        return self.blocks[0](x)


class RecordsByAnotherName(Stack):
    def forward(self, x: Any, recorder: Any) -> Any:
        x = self.before(x)
        alias = recorder
        x = alias.log(x)
        return self.blocks[0](x)


class Remembering(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.last = 1.0

    def forward(self, x: Any) -> Any:
        self.last = float(x.max()) + 1.0
        return self.linear(x)


class ReadsWhatAMemberLeft(Stack):
    def __init__(self) -> None:
        super().__init__()
        self.remembering = Remembering()
        self.eval()

    def forward(self, x: Any) -> Any:
        x = self.remembering(x)
        x = x * self.remembering.last
        return self.blocks[0](x)


class TwoNamesOfAList(Stack):
    def forward(self, x: Any) -> Any:
        found: list[Any] = []
        other = found
        x = self.before(x)
        found.append(x)
        x = self.after(x)
        found.append(x)
        print("behind")
        other.append(x)
        return len(found), len(other)


class HistoryKept(Stack):
    def __init__(self) -> None:
        super().__init__()
        self.history = [0]

    def forward(self, x: Any) -> Any:
        x = self.before(x)
        history = self.history
        x = self.after(x)
        print("behind")
        history.append(1)
        return x, len(self.history)


class GivenListChanged(Stack):
    def forward(self, x: Any, found: Any) -> Any:
        x = self.before(x)
        found += [x]
        x = self.after(x)
        return x, len(found)


class Applied(Stack):
    def forward(self, x: Any, function: Any) -> Any:
        x = self.before(x)
        x = x.apply(function)
        return self.after(x)


class LoopedAround(Stack):
    """What one turn binds only sometimes, later turns may read."""

    def forward(self, x: Any) -> Any:
        for turn in (1, 0, 0):
            print(turn)
            x = self.before(x)
            if turn:
                extra = self.blocks[0](x)
            x = self.after(x)
        return x + extra


class ReadInTheNextTurn(Stack):
    """What is bound at the end of a turn, and read at the beginning of the next only."""

    def forward(self, x: Any) -> Any:
        total = carried = x
        for turn in range(3):
            total = total + carried
            print(turn)
            carried = self.before(carried)
            last = self.blocks[0](carried)
        return total + last


class AddedTo(Stack):
    """What is read behind by being added to."""

    def forward(self, x: Any) -> Any:
        x = self.before(x)
        y = self.blocks[0](x)
        print("between")
        x += 1
        return x * y


class LoopVariableKept(Stack):
    """A Layer's name that is used behind the loop."""

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        print("behind")
        return block(x)


class Walked(Stack):
    """An iterator can be walked once."""

    def forward(self, x: Any, scales: Any) -> Any:
        for block, scale in zip(self.blocks, scales):  # noqa: B905 - as users write it
            x = block(x * scale)
        return x


class BreaksByValue(Stack):
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
            if x.sum() > 1.0:
                break
        return x


class BranchesByValue(Stack):
    def forward(self, x: Any) -> Any:
        x = self.before(x)
        x = self.blocks[0](x) if x.mean() > 0 else self.blocks[1](x) * 2
        return self.after(x)


class ExitsByFlag(Stack):
    def forward(self, x: Any, early: bool = False) -> Any:
        for block in self.blocks:
            x = block(x)
            if early:
                return self.after(x)
        return x


def _printing(x: Any) -> Any:
    print("applied")
    return x + 1


SEEN: list[tuple[Callable[[], Any], Callable[[], list[tuple[Any, ...]]]]] = [
    (InATry, lambda: [(X,)]),
    (Suppressed, lambda: [(X,)]),
    (ReadLater, lambda: [(X,)]),
    (WalksItsOwn, lambda: [(X,)]),
    (WalksASubclass, lambda: [(X,)]),
    (HiddenBuiltin, lambda: [(X,)]),
    (Computed, lambda: [(X,)]),
    (Records, lambda: [(X, recorder := Recorder()), (X, recorder), (X,)]),
    (RecordsByAnotherName, lambda: [(X, recorder := Recorder()), (X, recorder)]),
    (ReadsWhatAMemberLeft, lambda: [(X,), (X * 2,)]),
    (TwoNamesOfAList, lambda: [(X,)]),
    (HistoryKept, lambda: [(X,)]),
    (GivenListChanged, lambda: [(X, [X])]),
    (Applied, lambda: [(X, _printing)]),
    (LoopedAround, lambda: [(X,)]),
    (ReadInTheNextTurn, lambda: [(X,)]),
    (AddedTo, lambda: [(X,)]),
    (LoopVariableKept, lambda: [(X,)]),
    (Walked, lambda: [(X, iter([1.0, 2.0, 3.0, 4.0])), (X, [1.0, 2.0, 3.0, 4.0])]),
    (BreaksByValue, lambda: [(X,), (X * 3,), (X - 1,), (X + 1,)]),
    (BranchesByValue, lambda: [(X,), (X * 3,), (X - 1,), (X + 1,)]),
    (ExitsByFlag, lambda: [(X,), (X, True)]),
]


@pytest.mark.parametrize(("kind", "calls"), SEEN, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("engine", ["fake", "predictor"])
def test_nothing_that_a_script_can_see_changes(
    kind: Callable[[], Any], calls: Callable[[], list[tuple[Any, ...]]], engine: str, put: Put, capsys: Any
) -> None:
    def played(model: Any) -> tuple[list[Any], str, Any]:
        with paddle.no_grad():
            answers = [model(*call) for _ in range(5) for call in calls()]
        return answers, capsys.readouterr().out, getattr(model, "history", None)

    expected = played(kind())
    model = kind()
    put(model, engines.by_name("predictor") if engine == "predictor" else Honest())
    found = played(model)
    assert found[1:] == expected[1:]
    assert all(map(alike, expected[0], found[0]))


class RecomputedInTraining(Stack):
    """As large models are written: a branch for training that no chain can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.recomputes = False

    def forward(self, x: Any, mask: Any = None) -> Any:
        for block in self.blocks:
            if self.recomputes and not x.stop_gradient:

                def called(*given: Any, block: Any = block) -> Any:
                    return block(*given)

                x = paddle.distributed.fleet.utils.recompute(called, x)
            elif mask is None:
                x = block(x)
            else:
                print("masked")
                x = block(x * mask)
        return x


def test_a_branch_that_no_chain_can_hold_is_presumed_not_to_be_taken(put: Put, capsys: Any) -> None:
    model = RecomputedInTraining()
    (chain,) = find(model).chains
    assert chain.presumed == (
        ("mask is None", True, "mask is None"),
        ("self.recomputes and (not x.stop_gradient)", False, "self.recomputes"),
    )
    (place,) = put(model)
    with paddle.no_grad():
        expected, masked = RecomputedInTraining.forward(model, X), RecomputedInTraining.forward(model, X, X)
        printed = capsys.readouterr().out
        for _ in range(4):
            assert alike(model(X), expected)
        assert place.region.hybrid_calls == 2
        assert alike(model(X, X), masked)
    assert capsys.readouterr().out == printed
    assert place.region.hybrid_calls == 2
    assert place.region.eager_calls[OTHER_WAY] == 1


class Chameleon(Stack):
    """What a condition reads is bound in the chain itself."""

    def forward(self, x: Any, found: Any = None) -> Any:
        for block in self.blocks:
            if found is not None:
                print("found")
            found = block(x)
            x = found
        return x


def test_a_condition_on_what_the_chain_binds_is_not_presumed() -> None:
    assert not find(Chameleon()).chains


class Enumerated(Stack):
    def __init__(self, depth: int = 6) -> None:
        super().__init__(depth)

    def forward(self, x: Any) -> Any:
        for index, block in enumerate(self.blocks):
            x = block(x)
            scaled = x * index
        print("behind")
        return self.after(x) + scaled, index


def test_a_chain_does_not_hand_out_layers() -> None:
    assert not find(LoopVariableKept()).chains


FIT = [True, True, True, False, True, True]


def _parts(model: Any) -> Any:
    chain = next(each for each in find(model).chains if "for " in each.text)
    return parts_of(model, "forward", chain, [False], {0: FIT})


@pytest.mark.parametrize("engine", ["fake", "predictor"])
def test_some_turns_of_a_loop_are_a_chain_and_the_others_run_as_they_are(engine: str, put: Put) -> None:
    model = Enumerated()
    (whole,) = [chain for chain in find(model).chains if "for " in chain.text]
    blocks = list(model.blocks)
    assert turns_of_statements(model, "forward", whole) == {0: [[block] for block in blocks]}
    first, last = _parts(model)
    assert (first.turns, last.turns) == ((0, 3), (4, 6))
    assert "in list(enumerate(self.blocks))[0:3]:" in first.text
    assert find_again(model, "forward", last.text) == last
    assert called_in_statements(model, "forward", last) == [blocks[4:]]
    by = engines.by_name("predictor") if engine == "predictor" else Honest()
    regions = [put.at(model, each, by) for each in (first, last)]
    seen: list[int] = []
    remover = model.blocks[3].register_forward_post_hook(lambda *_: seen.append(1))
    with paddle.no_grad():
        for _ in range(5):
            assert alike(model(X), Enumerated.forward(model, X))
        assert [region.hybrid_calls for region in regions] == [3, 3]
        assert len(seen) == 10
        remover.remove()
        more = Block()
        more.eval()
        model.blocks.append(more)
        for _ in range(4):
            assert alike(model(X), Enumerated.forward(model, X))
        del model.blocks[1:]
        for _ in range(4):
            assert alike(model(X), Enumerated.forward(model, X))


def test_a_member_that_is_left_out_may_do_what_it_likes(put: Put) -> None:
    """The state of a Layer that a chain doesn't use is none of its region's business."""
    model = Enumerated()
    model.blocks[3] = Remembering()
    model.eval()
    regions = [put.at(model, each, Honest()) for each in _parts(model)]
    with paddle.no_grad():
        for step in range(6):
            assert alike(model(X + step), Enumerated.forward(model, X + step))
    assert [region.hybrid_calls for region in regions] == [4, 4]
    model.blocks[4] = Block()
    model.eval()
    with paddle.no_grad():
        for _ in range(5):
            assert alike(model(X), Enumerated.forward(model, X))
    assert [region.hybrid_calls for region in regions] == [9, 7]


class FromTheEnd(Stack):
    def forward(self, x: Any) -> Any:
        x = self.blocks[-1](x)
        return self.blocks[-2](x)


def test_what_is_counted_from_the_end_is_counted_anew(put: Put) -> None:
    model = FromTheEnd()
    (place,) = put(model)
    assert place.chain is not None
    assert [part.unused for part in place.chain.partly] == [{"0", "1"}]
    with paddle.no_grad():
        for _ in range(2):
            for _ in range(4):
                assert alike(model(X), FromTheEnd.forward(model, X))
            del model.blocks[-1]
    assert place.region.hybrid_calls == 4


class PartedOnce(Walked):
    def forward(self, x: Any, scales: Any) -> Any:
        for block, scale in zip(self.blocks, scales):  # noqa: B905 - as users write it
            x = block(x * scale)
        print("behind")
        return x


def test_what_can_be_walked_once_is_not_walked_in_parts(put: Put) -> None:
    model = PartedOnce()
    (chain,) = find(model).chains
    (part,) = parts_of(model, "forward", chain, [False], {0: [True, True, False, False]})
    region = put.at(model, part, Honest())
    scales = [1.0, 2.0, 3.0, 4.0]
    with paddle.no_grad():
        expected = Walked.forward(model, X, scales)
        for _ in range(4):
            assert alike(model(X, scales), expected)
            assert alike(model(X, iter(scales)), expected)
    assert region.hybrid_calls == 2
    assert region.eager_calls[OTHER_WAY] == 4


@pytest.mark.parametrize("kind", [BreaksByValue])
def test_a_loop_that_breaks_has_no_parts(kind: Any) -> None:
    model = kind()
    (chain,) = find(model).chains
    assert not parts_of(model, "forward", chain, [False] * chain.text.count("\n"), {0: [True, True, False, False]})


class Lists(Stack):
    """Layers in a Python list, parameters in a list of Paddle's, Layers in Layers."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = [Block(), Block()]
        self.scales = nn.ParameterList([self.create_parameter([WIDTH]) for _ in range(4)])
        self.pairs = nn.LayerList([nn.LayerList([nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)]) for _ in range(2)])
        self.eval()
        for each in self.plain:
            each.eval()

    def forward(self, x: Any) -> Any:
        for block in self.plain:
            x = block(x)
        for index, block in enumerate(self.blocks):
            x = block(x * self.scales[index])
        for linear, norm in self.pairs:
            x = norm(linear(x)) + x * linear.bias
        for block in self.blocks:
            x = block.linear(x)
        return x


@pytest.mark.parametrize("engine", ["fake", "predictor"])
def test_lists_of_all_kinds_are_walked(engine: str, put: Put) -> None:
    model = Lists()
    (place,) = put(model, engines.by_name("predictor") if engine == "predictor" else Honest())
    assert place.chain is not None
    assert place.chain.text.count("for ") == 4
    with paddle.no_grad():
        for _ in range(4):
            assert alike(model(X), Lists.forward(model, X))
        assert place.region.hybrid_calls == 2
        model.plain[1] = Block()
        model.plain[1].eval()
        model.scales[2].set_value(model.scales[2] * 3)
        model.pairs[1][0] = nn.Linear(WIDTH, WIDTH)
        model.eval()
        for _ in range(4):
            assert alike(model(X), Lists.forward(model, X))
    assert place.region.hybrid_calls > 2


def test_a_list_with_two_names_is_never_answered_by_a_copy(put: Put) -> None:
    model = TwoNamesOfAList()
    (place,) = put(model)
    for _ in range(3):
        assert model(X) == (3, 3)
    assert place.region.hybrid_calls == 0
    assert place.region.eager_calls[SHARED] == 2


class Twins(Stack):
    """Two chains with the same text."""

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        print("between")
        for block in self.blocks:
            x = block(x)
        print("behind")
        return x


def _planned(model: Any, chains: Any, path: str = "") -> plan.Plan:
    tensors, structure = flatten(((X,), {}))
    regions = [
        plans.region(
            path,
            recorded(structure, tensors, (tuple(X.shape),)),
            kind="chain",
            members=["blocks.0", "blocks.3"],
            code=chain.text,
            source=chain.place,
            engine="predictor",
        )
        for chain in chains
    ]
    lines = structure_lines(model)
    entry = plans.model(regions, fingerprint=fingerprint(lines), structure=lines, class_name=type(model).__name__)
    return plans.whole([entry])


def test_a_plan_places_each_of_two_chains_with_the_same_text(tmp_path: Any) -> None:
    model = Twins()
    one, other = find(model).chains
    assert one.text == other.text
    plan.save(_planned(model, [one, other]), tmp_path / "plan.json")
    before = dict(vars(model))
    autohybrid.apply(model, tmp_path / "plan.json")
    forward = vars(model)["forward"]
    with paddle.no_grad():
        for _ in range(4):
            assert alike(model(X), Twins.forward(model, X))
    assert [region.hybrid_calls for region in autohybrid.status(model).regions] == [2, 2]
    assert autohybrid.apply(model, tmp_path / "plan.json") is model
    assert vars(model)["forward"] is forward
    autohybrid.restore(model)
    assert dict(vars(model)) == before


def test_a_chain_whose_code_is_gone_is_not_placed_and_status_says_why() -> None:
    model = Twins()
    (one, _) = find(model).chains
    edited = _planned(model, [one])
    (region,) = edited.models[0].regions
    other_code = region.code.replace("x)", "x, x)")
    edited.models[0].regions.append(msgspec.structs.replace(region, code=other_code))
    with pytest.warns(RuntimeWarning, match="aren't in the source any more"):
        autohybrid.apply(model, edited)
    status = autohybrid.status(model)
    assert [each.state for each in status.regions] == ["waiting", "not placed"]
    assert ["aren't in the source any more" in why for why in status.regions[1].reasons] == [True]
    assert "not placed" in str(status)
    autohybrid.restore(model)
    assert not autohybrid.status(model).regions


def test_a_chain_is_kept_for_other_processes() -> None:
    for note in ("stored: ", "from the store"):
        paddle.seed(0)
        model = Twins()
        autohybrid.apply(model, _planned(model, find(model).chains[:1]))
        with paddle.no_grad():
            for _ in range(4):
                assert alike(model(X), Twins.forward(model, X))
        (status,) = autohybrid.status(model).regions
        assert status.hybrid_calls
        assert status.store[0].startswith(note)
        autohybrid.restore(model)


def test_a_warm_up_converts_a_planned_chain() -> None:
    model = Twins()
    autohybrid.apply(model, _planned(model, find(model).chains[:1]))
    assert [region.state for region in autohybrid.warmup(model).regions] == ["hybrid"]
    autohybrid.restore(model)


def test_training_mode_is_eager_where_it_matters(put: Put) -> None:
    model = Enumerated()
    model.blocks[1] = nn.Sequential(Block(), nn.Dropout(0.5))
    model.eval()
    (place,) = put(model)
    with paddle.no_grad():
        for _ in range(4):
            model(X)
        served = place.region.hybrid_calls
        model.train()
        paddle.seed(0)
        expected = Enumerated.forward(model, X)
        paddle.seed(0)
        assert alike(model(X), expected)
        assert place.region.hybrid_calls == served
        model.eval()
        for _ in range(2):
            assert alike(model(X), Enumerated.forward(model, X))
    assert place.region.hybrid_calls > served


def test_many_threads_call_a_chain(put: Put) -> None:
    model = Enumerated()
    (place,) = put(model, engines.by_name("predictor"))
    inputs = [X + index for index in range(4)]
    with paddle.no_grad():
        expected = [Enumerated.forward(model, x) for x in inputs]
        for _ in range(3):
            model(X)
    wrong: list[int] = []

    def work(index: int) -> None:
        with paddle.no_grad():
            for _ in range(20):
                if not alike(model(inputs[index]), expected[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert place.region.hybrid_calls


def test_the_holder_of_a_chains_layers_is_no_part_of_the_model(put: Put) -> None:
    model = Enumerated()
    names, keys = [name for name, _ in model.named_sublayers()], list(model.state_dict())
    parameters, flags = [id(each) for each in model.parameters()], [each.training for each in model.sublayers()]
    full_names = [each.full_name() for each in model.sublayers(include_self=True)]
    for each in _parts(model):
        put.at(model, each, Honest())
    for _ in range(3):
        model(X)
    assert [name for name, _ in model.named_sublayers()] == names
    assert list(model.state_dict()) == keys
    assert [id(each) for each in model.parameters()] == parameters
    assert [each.training for each in model.sublayers()] == flags
    assert [each.full_name() for each in model.sublayers(include_self=True)] == full_names
    copied = copy.deepcopy(model)
    model.blocks[1].linear.weight.set_value(model.blocks[1].linear.weight * 2)
    for _ in range(4):
        assert alike(copied(X), Enumerated.forward(copied, X))
        assert alike(model(X), Enumerated.forward(model, X))
    assert {id(each.region) for each in placed_in(copied)}.isdisjoint(id(each.region) for each in placed_in(model))
    autohybrid.restore(copied)
    assert "forward" not in vars(copied)


def test_without_regions_nothing_is_left_behind(put: Put) -> None:
    model = Twins()
    before = dict(vars(model))
    places = put(model)
    model(X)
    places[0].lift()
    assert "forward" in vars(model)
    places[1].lift()
    assert dict(vars(model)) == before
    places[0].put()
    assert [each.region for each in placed_in(model)] == [places[0].region]
    places[0].lift()
    assert dict(vars(model)) == before
    for place in places:
        place.region.close()


def test_an_attribute_with_another_function_is_another_way(put: Put, capsys: Any) -> None:
    class Activated(Stack):
        def __init__(self) -> None:
            super().__init__()
            self.activation: Any = F.gelu

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = self.activation(block(x))
            return x

    model = Activated()
    (place,) = put(model)
    with paddle.no_grad():
        for _ in range(3):
            model(X)
        assert place.region.hybrid_calls
        model.activation = F.relu
        for _ in range(4):
            assert alike(model(X), Activated.forward(model, X))
        model.activation = _printing
        Activated.forward(model, X)
        printed = capsys.readouterr().out
        for _ in range(4):
            model(X)
    assert capsys.readouterr().out == printed * 4


def test_a_pickled_model_comes_back_eager(put: Put) -> None:
    model = Twins()
    put(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = pickle.loads(pickle.dumps(model))
    assert not placed_in(back)
    assert alike(back(X), Twins.forward(model, X))


def test_a_decorated_forward_is_refused_also_where_it_was_decorated_later() -> None:
    class Later(Stack):
        def forward(self, x: Any) -> Any:
            return self.after(self.before(x))

    Later.forward = paddle.no_grad()(Later.forward)  # type: ignore[method-assign]
    with pytest.raises(Refused, match="decorated"):
        find(Later())


def test_a_chain_site_says_what_it_replaces() -> None:
    model = Twins()
    (one, _) = find(model).chains
    site = ChainSite(model, "forward", one)
    heard: list[Any] = []

    def listening(x: Any) -> Any:
        heard.append(x)
        return site.eager(x)

    site.put(listening)
    assert alike(model(X), Twins.forward(model, X))
    assert [each is X for each in heard] == [True]
    site.lift()
    assert "forward" not in vars(model)


class Straight(Stack):
    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.after(x)


@pytest.mark.parametrize("full_graph", [False, True], ids=["by bytecode", "by source"])
def test_a_layer_with_a_chain_can_be_given_to_to_static(full_graph: bool, put: Put) -> None:
    model = Straight()
    with paddle.no_grad():
        expected = model(X)
        put(model, engines.by_name("predictor"))
        for _ in range(4):
            model(X)
        for kind in (nn.Sequential, lambda each: each):
            static = paddle.jit.to_static(kind(model), full_graph=full_graph)
            for _ in range(3):
                assert alike(static(X), expected)
    del model.forward
