"""What the options of an engine may be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from autohybrid.errors import ConversionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``accepts`` tells whether a value will do, ``wanted`` names in words what would."""

    accepts: Callable[[Any], bool]
    wanted: str


def count() -> Rule:
    return Rule(accepts=lambda value: type(value) is int and value >= 1, wanted="a positive int")


def flag() -> Rule:
    return Rule(accepts=lambda value: type(value) is bool, wanted="a bool")


def one_of(values: Collection[str]) -> Rule:
    return Rule(
        accepts=lambda value: type(value) is str and value in values, wanted=f"one of {', '.join(sorted(values))}"
    )


def check(engine: str, rules: Mapping[str, Rule], options: Mapping[str, Any]) -> None:
    """Raises ``ConversionError`` for an option without a rule, and for a value that its rule doesn't accept."""
    for name, value in options.items():
        if name not in rules:
            raise ConversionError(f"the engine {engine} has no option {name!r}", f"It has: {', '.join(sorted(rules))}.")
        if not rules[name].accepts(value):
            raise ConversionError(f"{engine}: {name} must be {rules[name].wanted}, not {value!r}")
