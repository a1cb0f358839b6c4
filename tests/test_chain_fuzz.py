"""Forwards made at random: with regions at their chains, or at parts of them, they do what they did.

``CHAIN_FUZZ_FIRST`` and ``CHAIN_FUZZ_LAST`` choose which are made.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import os
import random
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import paddle
import pytest
from answers import alike
from chained import Put, Stack, X
from fakes import Honest

from autohybrid.runtime.attach import placed_in
from autohybrid.runtime.chain_finder import find, parts_of, turns_of_statements

SEEDS = range(int(os.environ.get("CHAIN_FUZZ_FIRST", "0")), int(os.environ.get("CHAIN_FUZZ_LAST", "25")))
FLAGS = [(False, False), (True, False), (False, True), (True, True)]


class _Writer:
    """Writes one forward."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lines: list[str] = []

    def forward(self) -> str:
        self._lines = ["def forward(self, a, b, f=False, g=False):", "    c = a * 0.5"]
        self._block(1, self._random.randint(4, 8), loops=0)
        self._line(1, f"return {', '.join(self._name() for _ in range(self._random.randint(1, 3)))}")
        return "\n".join(self._lines) + "\n"

    def _line(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def _name(self) -> str:
        return self._random.choice("aabbccd")

    def _value(self) -> str:
        one, other = self._name(), self._name()
        return self._random.choice(
            [
                f"self.before({one})",
                f"self.blocks[{self._random.randint(-2, 3)}]({one})",
                f"self.blocks[0]({one} + {other}, scale=0.5)",
                f"F.silu({one}) * 0.5 + {other}",
                f"self.after({one}).tanh()",
                one,
            ]
        )

    def _block(self, depth: int, length: int, loops: int) -> None:
        for _ in range(length):
            self._statement(depth, loops)

    def _statement(self, depth: int, loops: int) -> None:
        kinds = ["assign"] * 8 + ["print", "swap", "add", "list", "joint"]
        kinds += ["if", "loop", "loop", "walk", "while", "def", "generator"] if depth < 3 else []
        kinds += ["exit"] if loops else []
        getattr(self, f"_{self._random.choice(kinds)}")(depth, loops)

    def _assign(self, depth: int, loops: int) -> None:
        self._line(depth, f"{self._name()} = {self._value()}")

    def _joint(self, depth: int, loops: int) -> None:
        self._line(depth, f"{self._name()}, {self._name()} = self.blocks[1]({self._name()}, {self._name()})")

    def _swap(self, depth: int, loops: int) -> None:
        self._line(depth, f"{self._name()}, {self._name()} = {self._name()}, {self._name()}")

    def _add(self, depth: int, loops: int) -> None:
        self._line(depth, f"{self._name()} += {self._name()} * 0.25")

    def _print(self, depth: int, loops: int) -> None:
        self._line(depth, f"print({self._random.choice(['f', 'g', repr('here')])})")

    def _list(self, depth: int, loops: int) -> None:
        name = self._name()
        self._line(depth, f"{name}_list = [{self._name()}]")
        self._line(depth, f"{name}_list.append(self.before({self._name()}))")
        self._line(depth, f"{name} = {name}_list[0] + {name}_list[1]")

    def _if(self, depth: int, loops: int) -> None:
        self._line(depth, f"if {self._random.choice(['f', 'g', 'not f', 'f and g', 'self.flag', 'b is None'])}:")
        self._block(depth + 1, self._random.randint(1, 3), loops)
        if self._random.random() < 0.6:
            self._line(depth, "else:")
            self._block(depth + 1, self._random.randint(1, 3), loops)

    def _loop(self, depth: int, loops: int) -> None:
        walked = self._random.choice(["self.blocks", "self.blocks[1:]", "reversed(self.blocks)", "self.blocks[:0]"])
        self._line(depth, f"for block in {walked}:")
        self._line(depth + 1, f"{self._name()} = block({self._name()})")
        self._block(depth + 1, self._random.randint(0, 2), loops + 1)

    def _walk(self, depth: int, loops: int) -> None:
        self._line(depth, "for index, block in enumerate(self.blocks):")
        self._line(depth + 1, f"{self._name()} = block({self._name()}) * (index + 1)")
        self._block(depth + 1, self._random.randint(0, 2), loops + 1)

    def _while(self, depth: int, loops: int) -> None:
        name = f"n{len(self._lines)}"
        self._line(depth, f"{name} = 0")
        self._line(depth, f"while {name} < 2:")
        self._line(depth + 1, f"{name} += 1")
        self._block(depth + 1, self._random.randint(1, 3), loops + 1)

    def _exit(self, depth: int, loops: int) -> None:
        self._line(depth, f"if {self._random.choice(['f', 'g', 'f and not g'])}:")
        self._line(depth + 1, self._random.choice(["break", "continue", f"return {self._name()}"]))

    def _def(self, depth: int, loops: int) -> None:
        name = f"inner{len(self._lines)}"
        self._line(depth, f"def {name}():")
        self._line(depth + 1, f"return {self._name()} * 2")
        self._block(depth, 2, loops)
        self._line(depth, f"{self._name()} = {name}()")

    def _generator(self, depth: int, loops: int) -> None:
        name = f"walked{len(self._lines)}"
        self._line(depth, f"{name} = ({self._name()} + k for k in range(2))")
        self._block(depth, 2, loops)
        self._line(depth, f"{self._name()} = sum({name})")


def _made(seed: int) -> Any:
    text = _Writer(seed).forward()
    file = f"<forward {seed}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names: dict[str, Any] = {"F": paddle.nn.functional, "paddle": paddle, "__name__": __name__}
    exec(compile(text, file, "exec"), names)
    forward = names["forward"]
    assert isinstance(forward, FunctionType)
    model = type("Made", (Stack,), {"forward": forward, "flag": False})()
    for parameter in model.parameters():
        parameter.set_value(parameter * 0.5)
    return model


def _played(model: Any) -> Iterator[tuple[Any, str]]:
    for f, g in FLAGS * 3:
        out = io.StringIO()
        with paddle.no_grad(), contextlib.redirect_stdout(out):
            try:
                answer = model(X, X * 0.5 + 0.1, f, g)
            except (UnboundLocalError, NameError) as error:
                answer = type(error).__name__
        yield answer, out.getvalue()


@pytest.mark.parametrize("parted", [False, True], ids=["whole", "parted"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_forward_does_what_it_did(seed: int, parted: bool, put: Put) -> None:
    model = _made(seed)
    expected = list(_played(model))
    chains = find(model).chains
    if parted:
        chains = [part for chain in chains for part in _parts(model, chain, random.Random(seed))]
    for chain in chains:
        put.at(model, chain, Honest())
    assert len(placed_in(model)) == len(chains)
    for (answer, printed), (found, also_printed) in zip(expected, _played(model), strict=True):
        assert also_printed == printed
        assert alike(answer, found), _Writer(seed).forward()


def test_forwards_made_at_random_hold_chains_that_serve(put: Put) -> None:
    """Else the test above would show nothing."""
    served = 0
    for seed in range(8):
        model = _made(seed)
        places = put(model)
        list(_played(model))
        served += sum(place.region.hybrid_calls for place in places)
    assert served > 20


def _parts(model: Any, chain: Any, chance: random.Random) -> list[Any]:
    count = len(ast.parse(chain.text).body)
    keep = [chance.random() < 0.6 for _ in range(count)]
    turns = turns_of_statements(model, "forward", chain)
    wanted = {number: [chance.random() < 0.7 for _ in each] for number, each in turns.items()}
    return parts_of(model, "forward", chain, keep, wanted)
