"""What sharing an export saves: identical blocks as regions of their own, and weights that have changed.

Encoder blocks of one structure with weights of their own are converted one after the other, each until it serves, in
fresh processes with an empty store that take turns:

- shared: as autohybrid does it
- anew: the same with each block traced and exported anew
- one: a single block
- rehearsed: as ``shared``, where what nothing has tried yet is tried in a forked child first, as ``inference`` does it

``traces``, ``saves``, ``to onnx`` and ``optimised`` count ``paddle.jit.to_static``, ``paddle.jit.save``, runs of
paddle2onnx, and programs that the engine optimised, also in children.

Then the weights of a block that serves are changed, again and again, and it is converted by turns from the graph that
is there and anew, in one process; and a later process finds the graph of other weights in the store.

Usage: python tools/shared_exports.py [--engines NAME,...] [--blocks N] [--width N] [--rounds N] [-o FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tabulate import tabulate

TOKENS = 64
HEADS = 4
CHANGES = 4
"""How often weights are changed for each way of converting again."""

WORKS = ("shared", "anew", "one", "rehearsed", "later", "changed")
COUNTED = ("traces", "saves", "to onnx", "optimised")


class Done:
    """What this process and its children have done, a line of a file each."""

    def __init__(self) -> None:
        # Removed at once: the descriptor is all that is needed, and children have it too.
        with tempfile.NamedTemporaryFile() as file:
            self._descriptor = os.open(file.name, os.O_RDWR | os.O_APPEND)

    def note(self, name: str) -> None:
        os.write(self._descriptor, f"{name}\n".encode())

    def counts(self) -> Counter[str]:
        return Counter(os.pread(self._descriptor, 1 << 20, 0).decode().splitlines())


@contextlib.contextmanager
def counted() -> Iterator[Done]:
    """Counts what is done from now on."""
    import paddle

    from autohybrid.engines import onnx_export, onnxruntime, openvino

    found = Done()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            # ONNX Runtime opens a model a second time, which optimises nothing.
            if name != "optimised" or function.__name__ != "_session" or "save" in kwargs:
                found.note(name)
            return function(*args, **kwargs)

        return called

    places: list[tuple[str, Any, str]] = [
        ("traces", paddle.jit, "to_static"),
        ("saves", paddle.jit, "save"),
        ("to onnx", onnx_export, "_converted_aside"),
        ("optimised", paddle.inference, "create_predictor"),
        ("optimised", onnxruntime, "_session"),
        ("optimised", openvino, "_compiled"),
    ]
    with contextlib.ExitStack() as stack:
        for name, owner, attribute in places:
            stack.enter_context(mock.patch.object(owner, attribute, counting(name, getattr(owner, attribute))))
        yield found


@contextlib.contextmanager
def nothing_shared() -> Iterator[None]:
    from autohybrid.runtime.graphs import SharedGraphs

    with (
        mock.patch.object(SharedGraphs, "find", return_value=None),
        mock.patch.object(SharedGraphs, "keep", return_value=None),
    ):
        yield


def region_of(block: Any, engine: str, isolation: str) -> Any:
    from autohybrid import engines, store
    from autohybrid.runtime.equality import Tolerance
    from autohybrid.runtime.policies import Policies
    from autohybrid.runtime.region import Region
    from autohybrid.runtime.variant import Recipe

    recipe = Recipe(
        layer=block,
        function=block.forward,
        engine=engines.by_name(engine),
        options={},
        tolerance=Tolerance(),
        proofs=2,
        store=store.default(),
    )
    return Region(path="", recipe=recipe, admitted=None, policies=Policies(on_miss="convert", isolation=isolation))


def settle(region: Any, x: Any) -> float:
    """Seconds until the conversion serves."""
    from autohybrid.runtime.variant import State

    began = time.perf_counter()
    for _ in range(4):
        region(x)
    seconds = time.perf_counter() - began
    states = [variant.state for variant in region.variants]
    if states != [State.SERVING]:
        raise SystemExit(f"not converted: {[variant.reason for variant in region.variants]}")
    return seconds


def built(count: int, width: int, seed: int) -> tuple[list[Any], Any]:
    import paddle

    paddle.seed(seed)
    blocks = [paddle.nn.TransformerEncoderLayer(width, HEADS, 4 * width) for _ in range(count)]
    for block in blocks:
        block.eval()
        for parameter in block.parameters():
            parameter.set_value(parameter + 0.02 * paddle.randn(parameter.shape))
    return blocks, paddle.randn([1, TOKENS, width])


def measured_here(work: str, engine: str, count: int, width: int) -> dict[str, Any]:
    """One run, in this process."""
    import paddle

    from autohybrid.runtime import rehearsal

    blocks, x = built(count, width, seed=2 if work == "later" else 1)
    isolation = "fork" if work == "rehearsed" else "none"
    if isolation == "fork" and not rehearsal.possible():
        raise SystemExit("this process can't be forked")
    regions = [region_of(block, engine, isolation) for block in blocks]
    with contextlib.ExitStack() as stack:
        stack.enter_context(paddle.no_grad())
        if work == "anew":
            stack.enter_context(nothing_shared())
        done = stack.enter_context(counted())
        seconds = sum(settle(region, x) for region in regions)
        if work == "changed":
            return changed_here(blocks[0], regions[0], x, done)
    return {"seconds": seconds, **{name: done.counts()[name] for name in COUNTED}}


def changed_here(block: Any, region: Any, x: Any, done: Done) -> dict[str, Any]:
    """Changes weights by turns with and without the graph that is there; seconds until the conversion serves again."""
    import paddle

    found: dict[str, list[float]] = {"reused": [], "anew": []}
    counts: dict[str, Counter[str]] = {"reused": Counter(), "anew": Counter()}
    for turn in range(2 * CHANGES):
        way = ("reused", "anew")[turn % 2]
        for parameter in block.parameters():
            parameter.set_value(parameter + 0.01 * paddle.randn(parameter.shape))
        # Left to itself, a region waits the longer the more often its weights have changed.
        region.refresh()
        before = done.counts()
        with nothing_shared() if way == "anew" else contextlib.nullcontext():
            found[way].append(settle(region, x))
        counts[way] += done.counts() - before
    return {"seconds": found, "counts": counts}


def measured(work: str, engine: str, count: int, width: int, cache: Path) -> dict[str, Any]:
    """One run in a fresh process."""
    command = [sys.executable, __file__, "--work", work, "--engines", engine, "--blocks", str(count)]
    ended = subprocess.run(
        [*command, "--width", str(width)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "AUTOHYBRID_CACHE": str(cache)},
    )
    if ended.returncode != 0:
        raise SystemExit(f"{work} with {engine} failed:\n{ended.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def rounds_of(engine: str, count: int, width: int, rounds: int) -> dict[str, Any]:
    """All runs with one engine."""
    found: dict[str, Any] = {"engine": engine, **{work: [] for work in WORKS}}
    for turn in range(rounds):
        order = ["shared", "anew", "one", "rehearsed"]
        for work in order if turn % 2 == 0 else reversed(order):
            with tempfile.TemporaryDirectory(prefix="autohybrid-") as cache:
                found[work].append(measured(work, engine, 1 if work == "one" else count, width, Path(cache)))
                if work == "one":
                    found["later"].append(measured("later", engine, 1, width, Path(cache)))
    with tempfile.TemporaryDirectory(prefix="autohybrid-") as cache:
        found["changed"].append(measured("changed", engine, 1, width, Path(cache)))
    return found


def _ratio(over: list[dict[str, Any]], under: list[dict[str, Any]]) -> str:
    ratios = [one["seconds"] / other["seconds"] for one, other in zip(over, under, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def shown(found: list[dict[str, Any]], count: int) -> str:
    """Three tables: seconds with counts, ratios round by round, and changed weights."""
    runs, ratios, changes = [], [], []
    for each in found:
        for work, blocks in (("one", 1), ("shared", count), ("anew", count), ("rehearsed", count), ("later", 1)):
            samples = each[work]
            numbers = [max(sample[name] for sample in samples) for name in COUNTED]
            seconds = statistics.median(sample["seconds"] for sample in samples)
            runs.append([each["engine"], work, blocks, f"{seconds:.2f}", *numbers])
        ratios.append(
            [
                each["engine"],
                _ratio(each["shared"], each["anew"]),
                _ratio(each["shared"], each["one"]),
                _ratio(each["later"], each["one"]),
            ]
        )
        (changed,) = each["changed"]
        reused, anew = changed["seconds"]["reused"], changed["seconds"]["anew"]
        pairs = [one / other for one, other in zip(reused, anew, strict=True)]
        counts = changed["counts"]
        changes.append(
            [
                each["engine"],
                f"{statistics.median(reused):.2f}",
                counts["reused"].get("traces", 0),
                f"{statistics.median(anew):.2f}",
                counts["anew"].get("traces", 0),
                f"{statistics.median(pairs):.2f}",
            ]
        )
    return "\n\n".join(
        [
            tabulate(runs, headers=["engine", "run", "blocks", "s", *COUNTED], disable_numparse=True),
            tabulate(ratios, headers=["engine", "shared / anew", "shared / one", "later / one"], disable_numparse=True),
            tabulate(
                changes,
                headers=["changed weights", "reused s", "traces", "anew s", "traces", "reused / anew"],
                disable_numparse=True,
            ),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="predictor,onnxruntime,openvino")
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(measured_here(args.work, args.engines, args.blocks, args.width)))
        return
    from autohybrid.search.session import environment

    machine = environment()
    found = []
    for engine in args.engines.split(","):
        found.append(rounds_of(engine, args.blocks, args.width, args.rounds))
        print(shown(found[-1:], args.blocks), flush=True)
    if len(found) > 1:
        print(shown(found, args.blocks))
    print(
        f"{args.blocks} encoder blocks of width {args.width}, {TOKENS} tokens; medians of {args.rounds} rounds, "
        f"{CHANGES} changes of each kind; ratios round by round, with the range; "
        f"{machine.processor}, {machine.cores} cores."
    )
    if args.output:
        import msgspec

        content = {
            "environment": msgspec.to_builtins(machine),
            "blocks": args.blocks,
            "width": args.width,
            "tokens": TOKENS,
            "engines": found,
        }
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
