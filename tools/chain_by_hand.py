"""A chain that autohybrid finds against the same loop moved into a method by hand and wrapped with Paddle's wrapper.

The model is that of ``profiles/transformer_blocks``, small and large. All ways run in one process, in turn, each with a
model of its own and the same weights; answers are compared with eager's first.

Usage: python tools/chain_by_hand.py [--widths 96 384] [--rounds 40]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle

import autohybrid
from autohybrid import device
from autohybrid.engines.silence import stdout_kept
from autohybrid.runtime.equality import Tolerance, difference
from autohybrid.search.sampling import duration
from autohybrid.stats import compare, median

SCRIPT = Path(__file__).parent.parent / "profiles" / "transformer_blocks" / "infer.py"
DEPTH, CHANNELS, TOKENS = 12, 16, 64


def workload() -> Any:
    """The workload's script as a module."""
    specification = importlib.util.spec_from_file_location("transformer_blocks", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def by_hand(module: Any, width: int) -> Any:
    """The model as a user would rewrite it: the loop is a method, which the wrapper decorates."""

    class Rewritten(module.Denoiser):  # type: ignore[misc]
        def forward(self, latent: Any, text: Any, time: Any, mask: Any, mode: str = "full") -> Any:
            x = self.embed_x(latent)
            if mode == "skip" or time.numpy().max() < 0.05:
                return self.head(self.norm(x))
            y = self.embed_y(text)
            c = self.embed_time(time).unsqueeze(1)
            x = self.run_blocks(x, y, c, mask)
            return self.head(self.norm(x))

        def run_blocks(self, x: Any, y: Any, c: Any, mask: Any) -> Any:
            for block in self.blocks:
                x, y = block(x, y, c, mask)
            return x

    model = Rewritten(width, DEPTH, CHANNELS)
    directory = tempfile.mkdtemp()
    model.__dict__["run_blocks"] = paddle.incubate.jit.inference(model.run_blocks, save_model_dir=directory)
    return model


def inputs() -> tuple[Any, ...]:
    """One call's arguments."""
    mask = paddle.zeros([1, 1, 1, 2 * TOKENS])
    return paddle.randn([1, TOKENS, CHANNELS]), paddle.randn([1, TOKENS, CHANNELS]), paddle.full([1, 1], 0.5), mask


def measured(module: Any, width: int, rounds: int) -> None:
    """Prints one line for each way."""
    eager = module.Denoiser(width, DEPTH, CHANNELS)
    planned = module.Denoiser(width, DEPTH, CHANNELS)
    hand = by_hand(module, width)
    for model in (eager, planned, hand):
        model.set_state_dict(eager.state_dict())
        model.eval()
    call = inputs()
    with paddle.no_grad():
        plan = autohybrid.profile(planned, *call, options=autohybrid.Options(budget=120.0, threads=1, fresh=True))
        autohybrid.apply(planned, plan)
        expected = eager(*call)
        for name, model in (("by hand", hand), ("autohybrid", planned)):
            with stdout_kept():  # the wrapper prints each pass
                for _ in range(4):
                    found = difference([expected], [model(*call)], Tolerance())
            assert found.equal, f"{name}: {found.problem}"
        ways: dict[str, Callable[[], Any]] = {
            "eager": lambda: eager(*call),
            "by hand": lambda: hand(*call),
            "autohybrid": lambda: planned(*call),
        }
        samples: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds):
            names = list(ways)
            for name in names[turn % 3 :] + names[: turn % 3]:
                samples[name].append(duration(ways[name]))
    print(f"width {width}, {DEPTH} blocks: regions {[region.name for region in plan.models[0].regions]}")
    if not plan.recommends_change:
        for row in plan.models[0].rejected[:3]:
            print(f"  {row.name}: {row.reason}, {row.detail}")
    for name, found_samples in samples.items():
        line = f"  {name:10} {1e3 * median(found_samples):8.2f} ms"
        for other in ("eager", "by hand"):
            ratio = compare(samples[other], found_samples)
            line += f", {ratio.speedup:.2f}x of {other} ({ratio.low:.2f} to {ratio.high:.2f})"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[96, 384])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    sys.argv = sys.argv[:1]
    print(f"{device.cpu_model()}, {device.usable_cores()} cores, Paddle {paddle.__version__}")
    for width in arguments.widths:
        measured(workload(), width, arguments.rounds)


if __name__ == "__main__":
    main()
