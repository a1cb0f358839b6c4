"""What stands in for an attribute, and what is there afterwards."""

from __future__ import annotations

import math

import pytest

from autohybrid.runtime.stand_ins import items_standing_in, standing_in


class Base:
    @staticmethod
    def greet() -> str:
        return "base"


class Derived(Base):
    pass


@pytest.mark.parametrize("owner", [Base, Derived])
def test_an_attribute_is_where_and_what_it_was(owner: type[Base]) -> None:
    before = dict(vars(owner))
    with standing_in(owner, "greet", staticmethod(lambda: "other")):
        assert owner.greet() == "other"
    assert dict(vars(owner)) == before
    assert owner.greet() == "base"


def test_what_is_new_goes_again() -> None:
    with standing_in(math, "of_no_use", 1):
        assert vars(math)["of_no_use"] == 1
    assert not hasattr(math, "of_no_use")


def test_items_come_back_and_others_stay() -> None:
    container = {"one": 1, "two": 2}
    with items_standing_in(container, {"one": -1, "three": 3}):
        assert container == {"one": -1, "two": 2, "three": 3}
        container["two"] = 0
    assert container == {"one": 1, "two": 0}
