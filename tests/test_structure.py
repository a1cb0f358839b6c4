"""Calls taken apart and put together again."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autohybrid.structure import call_reader, constants, describe, flatten, map_constants, reader, rebuild, signature

TENSORS = (paddle.zeros([2]), paddle.ones([3, 1]), paddle.arange(4))

Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Record:
    first: Any
    second: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    only: Any


class Colour(enum.Enum):
    RED = 1


class ModelOutput(OrderedDict[str, Any]):
    """A dict with attributes, as model outputs often are."""


CONSTANTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=True),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from([Colour.RED, int, slice(1, None, 2), np.float32(2.5), paddle.float32, range(3), ...]),
)
VALUES = st.recursive(
    st.sampled_from(TENSORS) | CONSTANTS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3),
        st.dictionaries(st.text(max_size=2), inner, max_size=3).map(ModelOutput),
        st.builds(Pair, inner, inner),
        st.builds(Record, inner, inner),
        st.builds(Frozen, inner),
    ),
    max_leaves=12,
)


def _same(one: Any, other: Any) -> bool:
    """The same types all the way down, the very same Tensors, the same constants."""
    if type(one) is not type(other):
        return False
    if isinstance(one, paddle.Tensor):
        return one is other
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        names = [field.name for field in dataclasses.fields(one)]
        return all(_same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or repr(one) == repr(other)


@settings(deadline=None, max_examples=300)
@given(VALUES)
def test_what_is_taken_apart_comes_together_again(value: Any) -> None:
    tensors, structure = flatten(value)
    assert _same(rebuild(structure, tensors), value)


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_each_tensor_is_listed_once_and_every_constant_is_kept(value: Any) -> None:
    tensors, structure = flatten(value)
    assert len({id(tensor) for tensor in tensors}) == len(tensors)
    assert not any(isinstance(constant, paddle.Tensor) for constant in constants(structure))
    assert flatten(rebuild(structure, tensors))[1] == structure


def test_other_tensors_take_the_places_of_the_old_ones() -> None:
    x, y = TENSORS[:2]
    _, structure = flatten({"a": [x, y, x], "b": Pair(y, 3)})
    new_x, new_y = paddle.full([2], 7.0), paddle.full([3, 1], 8.0)
    made = rebuild(structure, [new_x, new_y])
    assert made["a"][0] is made["a"][2] is new_x
    assert made["a"][1] is made["b"].left is new_y
    assert made["b"].right == 3


X, Y = TENSORS[:2]
UNLIKE = [
    (1, 1.0),
    (1, True),
    (0.0, -0.0),
    ("a", b"a"),
    ([X], (X,)),
    ([X, X], [X, Y]),
    ([X, None], [X]),
    (Pair(X, 1), (X, 1)),
    ({"a": X, "b": Y}, {"b": X, "a": Y}),
    ({"a": X}, ModelOutput(a=X)),
    (Record(X), Frozen(X)),
    ([[X], Y], [X, [Y]]),
    (np.float32(1.0), np.float64(1.0)),
    (np.zeros(2), np.zeros(3)),
    (np.zeros(2), np.zeros(2, dtype=np.int64)),
    (slice(1, 2), slice(1, 3)),
    (object(), object()),
]


@pytest.mark.parametrize(("one", "other"), UNLIKE, ids=lambda value: type(value).__name__)
def test_calls_that_python_could_tell_apart_have_different_structures(one: Any, other: Any) -> None:
    assert flatten(one)[1] != flatten(other)[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: [X, {"k": (Y, 2.5, None, "s")}],
        lambda: float("nan"),
        lambda: np.arange(3),
        lambda: slice(1, None),
        lambda: Record(X, Colour.RED),
    ],
)
def test_calls_that_are_alike_have_one_structure_and_one_hash(make: Any) -> None:
    one, other = flatten(make())[1], flatten(make())[1]
    assert one == other
    assert hash(one) == hash(other)


def test_the_signature_tells_dtypes_and_ranks_apart_but_not_sizes() -> None:
    assert signature([paddle.zeros([2, 3])]) == signature([paddle.zeros([5, 7])])
    assert signature([paddle.zeros([2])]) != signature([paddle.zeros([2], dtype="float64")])
    assert signature([paddle.zeros([2])]) != signature([paddle.zeros([2, 1])])


def test_constants_can_be_changed_in_place_of_tensors() -> None:
    _, structure = flatten([X, 1, {"k": 2, "s": "kept"}])
    doubled = map_constants(structure, lambda value: value * 2 if isinstance(value, int) else value)
    assert rebuild(doubled, [X])[1:] == [2, {"k": 4, "s": "kept"}]


def test_a_plan_shows_what_json_can_hold_and_only_the_types_of_the_rest() -> None:
    _, structure = flatten([X, (1, float("inf")), {"k": object()}, Pair(None, np.zeros(2))])
    described = describe(structure, lambda index: f"tensor {index}")
    assert described == {
        "list": [
            {"tensor": "tensor 0"},
            {"tuple": [{"constant": 1}, {"constant": "inf"}]},
            {"dict": {"k": {"opaque": "object"}}},
            {
                "object": {"left": {"constant": None}, "right": {"opaque": "numpy.ndarray float64 [2]"}},
                "class": "test_structure.Pair",
            },
        ]
    }


@dataclasses.dataclass
class Wrapped:
    x: Any


READ: dict[str, Any] = {
    "one": lambda a, b: ((a,), {}),
    "two": lambda a, b: ((a, b), {}),
    "a row": lambda a, b: (([a, b],), {}),
    "a row that is a tuple": lambda a, b: (((a, b),), {}),
    "twice": lambda a, b: ((a, b, a), {}),
    "twice in a row": lambda a, b: (([a, a],), {}),
    "named": lambda a, b: ((a,), {"x": b, "flag": True}),
    "nested": lambda a, b: (({"x": (a, [b])}, 1.0), {"mode": "up"}),
    "an object": lambda a, b: ((Wrapped(a), b), {}),
    "none": lambda a, b: ((None, 2), {}),
}


@pytest.mark.parametrize("one", READ)
@pytest.mark.parametrize("other", READ)
def test_a_reader_takes_what_flatten_takes_and_of_its_own_structure_only(one: str, other: str) -> None:
    structure = flatten(READ[one](paddle.ones([1]), paddle.ones([1])))[1]
    call = READ[other](paddle.ones([2]), paddle.ones([2]))
    tensors, _ = flatten(call)
    for found in (reader(structure)(call), call_reader(structure)(*call)):
        if one != other:
            assert found is None
        else:
            assert found is not None
            assert [id(each) for each in found] == [id(each) for each in tensors]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_reader_of_usual_calls_refuses_what_is_nearly_one(kind: Any) -> None:
    a, b = paddle.ones([1]), paddle.ones([1])
    of_row, of_two = call_reader(flatten(((kind([a, b]),), {}))[1]), call_reader(flatten(((a, b), {}))[1])
    other: Any = {list: tuple, tuple: list}[kind]
    for part in ([a, a], [a, 3], [a], [a, b, paddle.ones([1])], []):
        assert of_row((kind(part),), {}) is None
        assert of_two(tuple(part), {}) is None
    assert of_row((other([a, b]),), {}) is None
    assert of_row((Pair(a, b),), {}) is None
    assert of_row((kind([a, b]),), {"x": a}) is None
    assert of_row((kind([a, b]), a), {}) is None
    assert of_two((a, b), {"x": a}) is None
    weight = paddle.create_parameter([1], "float32")
    assert of_row((kind([a, weight]),), {}) == [a, weight]
    assert of_two((weight, b), {}) == [weight, b]
    given = kind([a, b])
    read = of_row((given,), {})
    assert read == [a, b]
    assert read is not given, "what is read is changed by whoever has it"


def test_a_reader_refuses_what_is_nearly_its_structure() -> None:
    a, b = paddle.ones([1]), paddle.ones([1])
    read = reader(flatten((([a, b], 1), {}))[1])
    calls: tuple[Any, ...] = (
        (([a, a], 1), {}),
        (([a, 3], 1), {}),
        (([a], 1), {}),
        (([a, b, a], 1), {}),
        (((a, b), 1), {}),
        (([a, b], 1.0), {}),
        (([a, b], True), {}),
        (([a, b], a), {}),
        (([a, b],), {"x": 1}),
    )
    assert [read(call) for call in calls] == [None] * len(calls)
    more = Wrapped(a)
    of_wrapped = reader(flatten(more)[1])
    assert of_wrapped(more) == [a]
    more.extra = b  # type: ignore[attr-defined]
    assert of_wrapped(more) is None
