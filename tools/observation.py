"""What observation costs, and whether its shares are right.

Three measurements, each printed with its samples' medians:

1. The cost over 200 root calls. Two processes with the same model call it in turn, one observed and one not, so that
   the machine's moods meet both.
2. The shares of a ResNet's stages, against a timing of the same stages without any hook.
3. The cost on a model with 2,000 sub-Layers.

Usage: python tools/observation.py [--calls 200]
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.vision import models

from autohybrid import device
from autohybrid.device import clock
from autohybrid.observe.observer import Observer
from autohybrid.stats import compare

STAGES = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")


def many_layers(count: int = 2000) -> nn.Layer:
    """A model of so many sub-Layers, a tenth of them containers."""
    made = []
    for _ in range(count // 10):
        made.append(nn.Sequential(*[nn.Linear(16, 16) if n % 2 == 0 else nn.ReLU() for n in range(9)]))
    return nn.Sequential(*made)


MODELS: dict[str, tuple[Callable[[], nn.Layer], list[int]]] = {
    "mobilenet_v3_large": (models.mobilenet_v3_large, [1, 3, 224, 224]),
    "resnet18": (models.resnet18, [1, 3, 224, 224]),
    "2,000 sub-Layers": (many_layers, [1, 16]),
}


def calls_on_demand(name: str, observed: bool, pipe: Connection) -> None:
    """Answers each message with the seconds of one call of the model."""
    paddle.seed(0)
    build, shape = MODELS[name]
    model, x = build(), paddle.rand(shape)
    model.eval()
    observer = Observer()
    if observed:
        observer.__enter__()
    with paddle.no_grad():
        while pipe.recv():
            started = clock()
            model(x)
            pipe.send(clock() - started)
    pipe.send(observer.profile().roots[0].sampled if observed else 0)


def cost(name: str, calls: int) -> None:
    """Prints the plain and the observed time of a model's calls, made in turn by two processes."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for observed in (False, True):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=calls_on_demand, args=(name, observed, theirs), daemon=True))
        processes[-1].start()
        pipes.append(ours)
    samples: list[list[float]] = [[], []]
    for number in range(calls):
        for side in (0, 1) if number % 2 else (1, 0):
            pipes[side].send(True)
            samples[side].append(pipes[side].recv())
    for pipe in pipes:
        pipe.send(False)
    sampled = [pipe.recv() for pipe in pipes][1]
    for process in processes:
        process.join()
    plain, seen = np.median(samples[0]), np.median(samples[1])
    found = compare(samples[1], samples[0])
    print(
        f"{name:20} {calls} calls: plain {plain * 1e3:8.2f} ms, observed {seen * 1e3:8.2f} ms, ratio of the medians "
        f"{seen / plain:.3f}, of the pairs {found.speedup:.3f} ({found.low:.3f} to {found.high:.3f}), of the sums "
        f"{sum(samples[1]) / sum(samples[0]):.3f}; hooked in {sampled} calls"
    )


def stage_seconds(model: Any, x: paddle.Tensor) -> dict[str, float]:
    """Seconds of each stage of a ResNet, called one after another by hand."""
    found = {}
    for name in STAGES:
        stage = getattr(model, name)
        if name == "fc":
            x = paddle.flatten(x, 1)
        started = clock()
        x = stage(x)
        found[name] = clock() - started
    return found


def shares(calls: int) -> None:
    """Prints the shares of a ResNet's stages, as observed and as timed by hand in the same run."""
    paddle.seed(0)
    model, x = models.resnet18(), paddle.rand([1, 3, 224, 224])
    model.eval()
    by_hand: dict[str, list[float]] = {name: [] for name in STAGES}
    observer = Observer()
    with paddle.no_grad():
        for _ in range(calls):
            with observer:
                model(x)
            for name, seconds in stage_seconds(model, x).items():
                by_hand[name].append(seconds)
    root = observer.profile().roots[0]
    observed = {row.path: row.inclusive / root.seconds for row in root.layers}
    total = sum(float(np.median(samples)) for samples in by_hand.values())
    print(f"{'stage':10} {'observed':>9} {'by hand':>9}  points")
    for name in STAGES:
        share = float(np.median(by_hand[name])) / total
        print(f"{name:10} {observed[name]:9.1%} {share:9.1%} {abs(share - observed[name]) * 100:7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200)
    calls = parser.parse_args().calls
    print(f"{device.cpu_model()}, {device.usable_cores()} cores, Paddle {paddle.__version__}")
    for name in MODELS:
        cost(name, calls)
    shares(min(calls, 40))


if __name__ == "__main__":
    main()
