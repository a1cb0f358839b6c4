"""A long run of one region with changing shapes, constants and weights from several threads, compared with eager.

Between two changes of the weights, a quarter of the calls race the conversions; then what is left is converted, and the
rest are answered by the conversions, from all threads at once. Prints wrong answers (there must be none), how the calls
were answered, and the process's memory over time; ends with the threads' stacks where a round doesn't come to its end.

With ONNX Runtime and OpenVINO, each of the 36 kinds of calls is exported twice, in a new process each time since other
threads run: most of the time goes there, and it grows with what else the machine does.

Usage: python tools/soak.py [--calls 100000] [--threads 4] [--variants 100] [--engine NAME]
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import random
import threading
import warnings
from typing import Any

import paddle
from paddle import nn

import autohybrid
from autohybrid.device import clock, resident_memory

SIZES = (1, 2, 3, 5, 8, 13)
SCALES = (0.5, 1.0, 2.0)
WEIGHT_CHANGES = 10
"""How often the weights change in a whole run."""

RACING = 4
"""One in so many calls is made while there is still something to convert."""

MOST_CALLS_TO_PROVE = 12
"""For one kind of arguments, to have a conversion or be left to eager."""

LONGEST_ROUND = 900
"""Seconds from which on a round is taken to have come to a stop."""


class Scaled(nn.Layer):  # type: ignore[misc]
    """A small Layer with a constant, a flag and an optional second output."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: paddle.Tensor, *, scale: float = 1.0, pooled: bool = False) -> Any:
        y = x + scale * self.down(nn.functional.silu(self.up(x)))
        return {"y": y, "mean": y.mean(0)} if pooled else y


def same(one: Any, other: Any) -> bool:
    """Whether two answers have the same structure and nearly the same values."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return list(one.shape) == list(other.shape) and bool(paddle.allclose(one, other, rtol=1e-3, atol=1e-5))


class Soak:
    """The threads' common state; weights change while no thread is calling."""

    def __init__(self, threads: int, calls: int, engine: str | None) -> None:
        self.model = Scaled()
        self.model.eval()
        autohybrid.inference(max_variants=2 * len(SIZES) * len(SCALES), engine=engine)(self.model)
        self.wrong = 0
        self.rounds = WEIGHT_CHANGES + 1
        self.calls_in_a_round = calls // (threads * self.rounds)
        self.raced = threading.Barrier(threads, action=self.convert_the_rest)
        self.ended = threading.Barrier(threads, action=self.change_weights)
        self.memory: list[int] = []
        self.started = clock()
        faulthandler.dump_traceback_later(LONGEST_ROUND, exit=True)

    def convert_the_rest(self) -> None:
        """Calls with each kind of arguments until there is nothing to convert."""
        with paddle.no_grad():
            for size, scale, pooled in itertools.product(SIZES, SCALES, (False, True)):
                for _ in range(MOST_CALLS_TO_PROVE):
                    before = self.hybrid_calls
                    self.model(paddle.rand([size, 64]), scale=scale, pooled=pooled)
                    if self.hybrid_calls > before:
                        break

    @property
    def hybrid_calls(self) -> int:
        return autohybrid.status(self.model).regions[0].hybrid_calls

    def change_weights(self) -> None:
        """One in-place change, of a kind that leaves no mark on the Tensor, and a reading of the memory."""
        self.memory.append(resident_memory())
        print(f"round {len(self.memory)} of {self.rounds} ended after {clock() - self.started:.0f} s", flush=True)
        faulthandler.dump_traceback_later(LONGEST_ROUND, exit=True)
        weight = self.model.up.weight
        weight.set_value(weight * 1.01 if len(self.memory) % 2 else weight * 0.99)

    def work(self, seed: int) -> None:
        """One thread's calls."""
        choose = random.Random(seed)
        with paddle.no_grad():
            for _ in range(self.rounds):
                racing = self.calls_in_a_round // RACING
                self.compare(choose, racing)
                self.raced.wait()
                self.compare(choose, self.calls_in_a_round - racing)
                self.ended.wait()

    def compare(self, choose: random.Random, calls: int) -> None:
        """So many calls, each beside eager."""
        for _ in range(calls):
            x = paddle.rand([choose.choice(SIZES), 64])
            arguments = {"scale": choose.choice(SCALES), "pooled": choose.random() < 0.5}
            answer = self.model(x, **arguments)
            with autohybrid.eager():
                expected = self.model(x, **arguments)
            self.wrong += not same(expected, answer)


def soak(threads: int, calls: int, engine: str | None) -> None:
    """Calls one region from several threads."""
    run = Soak(threads, calls, engine)
    workers = [threading.Thread(target=run.work, args=(seed,)) for seed in range(threads)]
    started = clock()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    faulthandler.cancel_dump_traceback_later()
    print(f"{calls} calls from {threads} threads in {clock() - started:.0f} s, wrong answers: {run.wrong}")
    print(autohybrid.status(run.model))
    print("MiB after each round:", ", ".join(f"{each / 2**20:.0f}" for each in run.memory))


def variants(count: int, engine: str | None) -> None:
    """Makes and drops so many conversions."""
    memory = []
    with paddle.no_grad():
        for number in range(count):
            model = Scaled()
            model.eval()
            autohybrid.inference(engine=engine)(model)
            x = paddle.rand([4, 64])
            for _ in range(4):
                model(x)
            autohybrid.restore(model)
            if number % (count // 10) == count // 10 - 1:
                memory.append(resident_memory())
    print(f"{count} conversions made and dropped; MiB:", ", ".join(f"{each / 2**20:.0f}" for each in memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--variants", type=int, default=100)
    parser.add_argument("--engine", help="what converts  [default: as autohybrid.inference chooses]")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    paddle.seed(0)
    variants(options.variants, options.engine)
    soak(options.threads, options.calls, options.engine)


if __name__ == "__main__":
    main()
