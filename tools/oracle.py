"""How far plans are from the best that anyone could do by hand.

For each workload of ``oracle_models.py``:

1. Every Layer that is called is converted by itself, with each set of options that its engine offers; those that
   answer rightly are the candidates, with their fastest options.
2. Every admissible set of candidates (none inside another) is put in place and measured on the whole model, each call
   beside one of eager's, the sets in a new random order in each round. After some rounds the slower half of the sets
   is left out, until few are left for the longest measurement.
3. ``autohybrid profile`` makes a plan of the same model.
4. Fresh processes, five at a time, make calls in turn: eager; the best set; the best set once more, which tells how
   far one process is from the next with the very same regions; the plan as ``autohybrid.apply`` places it; and the
   plan's choice placed by hand, so that what the search chose and what its guards cost can be told apart. A chain or a
   method that the model written by hand has no Layer for can't be placed so: then the plan as it is applied is judged.

The sets are measured beside eager in one process, the comparison is made in others: a set that comes out faster there
than the best one shows that the first ranking was wrong, and is said to be within 2 % only of that one.

It shares no code with the search, only the engine; regions are placed as a user would by hand, without any guard.

What isn't enumerated, so that the sets can all be measured: identical Layers (class, settings, parameters' and inputs'
shapes) that stand in the same place of identical Layers are converted all or none, for they gain or lose alike; Layers
under a share of the time (in the table) are no candidates by themselves: one of them can save no more than that.

Usage: python tools/oracle.py [--json FILE] [--launches 3] [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from oracle_models import WORKLOADS
from paddle.utils import flatten, pack_sequence_as
from tabulate import tabulate

from autohybrid import engines
from autohybrid.engines import Request

ENGINE = "predictor"
SHARES = (0.003, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15, 0.2)
"""Candidates begin at the smallest of these for which the sets can be measured in the time there is."""

PAIRS_FIRST, PAIRS_LAST = 3, 60
CLEARLY = 0.97
NEAR = 1.02
ROLES = ("eager", "best", "best again", "choice", "plan")


# --- candidates --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Call:
    """One call of a Layer as it came: nested arguments, and eager's answer."""

    arguments: Any
    answer: Any
    seconds: float

    def tensors(self) -> list[Any]:
        return [part for part in flatten(self.arguments) if isinstance(part, paddle.Tensor)]

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(tensor.shape) for tensor in self.tensors())


class Flat(paddle.nn.Layer):  # type: ignore[misc]
    """A Layer's call as an engine wants it: a list of Tensors in, a list of Tensors out."""

    def __init__(self, layer: Any, call: Call) -> None:
        super().__init__()
        self.layer = layer
        # Numbers in the Tensors' places: a Layer's own Tensors would be taken for its state.
        numbers = iter(range(len(call.tensors())))
        self._parts = [next(numbers) if isinstance(part, paddle.Tensor) else part for part in flatten(call.arguments)]
        self._is_tensor = [isinstance(part, paddle.Tensor) for part in flatten(call.arguments)]
        self._like = pack_sequence_as(call.arguments, self._parts)

    def forward(self, tensors: list[Any]) -> list[Any]:
        args, kwargs = self._arguments(tensors)
        flat: list[Any] = self._flat(self.layer.forward(*args, **kwargs))
        return flat

    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def _arguments(self, tensors: list[Any]) -> Any:
        pairs = zip(self._parts, self._is_tensor, strict=True)
        return pack_sequence_as(self._like, [tensors[part] if is_tensor else part for part, is_tensor in pairs])

    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def _flat(self, answer: Any) -> list[Any]:
        return [part for part in flatten(answer) if part is not None]


@dataclass(slots=True)
class Candidate:
    """A Layer that converts rightly at all its calls; ``hybrid`` is what a user would put into its place."""

    path: str
    layer: Any
    kind: Any
    options: dict[str, Any]
    share: float
    hybrid: Callable[..., Any]


def recorded(model: Any, inputs: Sequence[Any], repeats: int = 5) -> dict[str, list[Call]]:
    """The calls of each Layer in one call of the model, with the shortest seconds of several."""
    found: dict[str, list[Call]] = {}
    for _ in range(repeats):
        seen: dict[str, list[Call]] = {}
        handles = [
            _recording(layer, seen.setdefault(path, [])) for path, layer in model.named_sublayers(include_self=True)
        ]
        model(*inputs)
        for remove in handles:
            remove()
        if not found:
            found = seen
        for path, calls in seen.items():
            for kept, call in zip(found[path], calls, strict=True):
                kept.seconds = min(kept.seconds, call.seconds)
    return {path: calls for path, calls in found.items() if calls}


def _recording(layer: Any, calls: list[Call]) -> Callable[[], None]:
    forward = layer.forward

    def recording(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        answer = forward(*args, **kwargs)
        calls.append(Call([list(args), kwargs], answer, time.perf_counter() - started))
        return answer

    layer.__dict__["forward"] = recording
    return lambda: layer.__dict__.pop("forward")


def kind_of(path: str, layer: Any, calls: Sequence[Call], kinds: dict[str, Any]) -> Any:
    """Equal for identical Layers in the same place of identical Layers."""
    above, _, name = path.rpartition(".")
    parameters = tuple((each, tuple(value.shape)) for each, value in layer.state_dict().items())
    inside = (kinds[above], name) if above in kinds and not name.isdigit() else ()
    return (type(layer).__name__, repr(layer), parameters, tuple(call.shapes() for call in calls), inside)


def converted(layer: Any, call: Call, options: dict[str, Any]) -> Any:
    """The engine's executable for one call of a Layer; raises whatever the engine does."""
    directory = Path(tempfile.mkdtemp(prefix="oracle-"))
    tensors = [tensor if tensor.is_contiguous() else tensor.clone() for tensor in call.tensors()]
    request = Request(
        program=Flat(layer, call),
        inputs=tensors,
        shapes=[list(tensor.shape) for tensor in tensors],
        options=options,
        directory=directory,
    )
    return engines.by_name(ENGINE).convert(request)


def by_hand(executables: dict[tuple[tuple[int, ...], ...], Any], like: Any) -> Callable[..., Any]:
    """A forward that runs converted programs, with no more around them than has to be."""
    only = next(iter(executables.values())) if len(executables) == 1 else None

    def hybrid(*args: Any, **kwargs: Any) -> Any:
        tensors = [part for part in (*args, *kwargs.values()) if isinstance(part, paddle.Tensor)]
        tensors = [tensor if tensor.is_contiguous() else tensor.clone() for tensor in tensors]
        chosen = only or executables[tuple(tuple(tensor.shape) for tensor in tensors)]
        answer = chosen.run(tensors)
        return answer[0] if isinstance(like, paddle.Tensor) else _packed(like, answer)

    return hybrid


def _packed(like: Any, tensors: Sequence[Any]) -> Any:
    given = iter(tensors)
    return pack_sequence_as(like, [None if part is None else next(given) for part in flatten(like)])


def equal(one: Any, other: Any) -> bool:
    """Whether two answers agree within a thousandth, or 1e-5 of the largest value."""
    for a, b in zip(flatten(one), flatten(other), strict=True):
        if a is None or b is None:
            if a is not b:
                return False
            continue
        a, b = a.numpy(), b.numpy()
        if a.shape != b.shape or not np.allclose(a, b, rtol=1e-3, atol=1e-5 * max(1e-30, float(np.abs(a).max()))):
            return False
    return True


class Candidates:
    """The Layers of a model that can be converted by themselves."""

    def __init__(self, model: Any, inputs: Sequence[Any]) -> None:
        self.calls = recorded(model, inputs)
        self.layers = dict(model.named_sublayers(include_self=True))
        self.seconds = sum(call.seconds for call in self.calls[""])
        self.kinds: dict[str, Any] = {}
        for path, calls in self.calls.items():
            self.kinds[path] = kind_of(path, self.layers[path], calls, self.kinds)
        self.failures: dict[str, str] = {}
        self._options: dict[Any, dict[str, Any] | None] = {}
        self._known: dict[str, Candidate | None] = {}

    def share(self, path: str) -> float:
        return min(1.0, sum(call.seconds for call in self.calls[path]) / self.seconds)

    def from_share(self, least: float) -> list[Candidate]:
        """All candidates of groups that together take at least such a share of the time."""
        together: dict[Any, float] = {}
        for path, kind in self.kinds.items():
            together[kind] = together.get(kind, 0.0) + self.share(path)
        paths = [path for path, kind in self.kinds.items() if together[kind] >= least]
        for path in paths:
            if path not in self._known:
                self._known[path] = self._candidate(path)
        return [found for path in paths if (found := self._known[path]) is not None]

    def _candidate(self, path: str) -> Candidate | None:
        kind = self.kinds[path]
        if kind not in self._options:
            self._options[kind] = self._fastest_options(path)
        options = self._options[kind]
        if options is None:
            return None
        hybrid = self.placed(path, options)
        return Candidate(path, self.layers[path], kind, options, self.share(path), hybrid)

    def placed(self, path: str, options: dict[str, Any]) -> Callable[..., Any]:
        calls = {call.shapes(): call for call in self.calls[path]}
        executables = {shapes: converted(self.layers[path], call, options) for shapes, call in calls.items()}
        return by_hand(executables, self.calls[path][0].answer)

    def _fastest_options(self, path: str) -> dict[str, Any] | None:
        """Of the options with which all calls of a Layer are answered rightly, the fastest."""
        best: tuple[float, dict[str, Any] | None] = (float("inf"), None)
        for options in engines.attempts(engines.by_name(ENGINE), engines.this_machine()):
            try:
                hybrid = self.placed(path, dict(options))
                seconds = self._tried(path, hybrid)
            except Exception as error:  # noqa: BLE001 - what can't be converted is no candidate
                self.failures.setdefault(path, f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}")
                continue
            # The first are the defaults, which stay unless others are clearly faster.
            if seconds < best[0] * CLEARLY:
                best = (seconds, dict(options))
        return best[1]

    def _tried(self, path: str, hybrid: Callable[..., Any]) -> float:
        """Seconds that it takes for the Layer's calls; raises when an answer isn't eager's."""
        total = 0.0
        for call in self.calls[path]:
            args, kwargs = call.arguments
            for scale in (1.0, 0.9):
                moved = _scaled(call.arguments, scale)
                if not equal(self.layers[path].forward(*moved[0], **moved[1]), hybrid(*moved[0], **moved[1])):
                    raise ValueError("wrong answer")
            samples = []
            for _ in range(12):
                started = time.perf_counter()
                hybrid(*args, **kwargs)
                samples.append(time.perf_counter() - started)
            total += statistics.median(samples)
        return total


def _scaled(arguments: Any, scale: float) -> Any:
    def scaled(part: Any) -> Any:
        is_float = isinstance(part, paddle.Tensor) and paddle.is_floating_point(part)
        return part * scale if is_float else part

    return pack_sequence_as(arguments, [scaled(part) for part in flatten(arguments)])


# --- sets --------------------------------------------------------------------------------------------------------


class TooMany(Exception):
    """There are more sets than can be measured."""


def groups_of(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates that are converted all or none."""
    found: dict[Any, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.kind, []).append(candidate)
    return list(found.values())


def admissible(groups: Sequence[Sequence[Candidate]], most: int) -> list[tuple[int, ...]]:
    """Every set of groups in which no Layer lies inside another; raises TooMany beyond ``most``."""

    def lies_inside(one: str, other: str) -> bool:
        return one != other and (other == "" or one.startswith(other + "."))

    def excluded(one: Sequence[Candidate], other: Sequence[Candidate]) -> bool:
        return any(lies_inside(a.path, b.path) or lies_inside(b.path, a.path) for a in one for b in other)

    conflicts = [{j for j, other in enumerate(groups) if excluded(one, other)} for one in groups]
    found: list[tuple[int, ...]] = []

    def extend(chosen: tuple[int, ...], start: int) -> None:
        found.append(chosen)
        if len(found) > most:
            raise TooMany
        for index in range(start, len(groups)):
            if index not in conflicts[index] and not conflicts[index] & set(chosen):
                extend((*chosen, index), index + 1)

    extend((), 0)
    return found


@dataclass(slots=True)
class Measured:
    """A set with its samples, in seconds for a call of the whole model."""

    paths: list[str]
    options: dict[str, dict[str, Any]]
    eager: list[float] = field(default_factory=list)
    hybrid: list[float] = field(default_factory=list)

    @property
    def speedup(self) -> float:
        return statistics.median(a / b for a, b in zip(self.eager, self.hybrid, strict=True))


def place(candidates: Sequence[Candidate]) -> None:
    for candidate in candidates:
        candidate.layer.__dict__["forward"] = candidate.hybrid


def lift(candidates: Sequence[Candidate]) -> None:
    for candidate in candidates:
        candidate.layer.__dict__.pop("forward", None)


def measured_sets(
    call: Callable[[], Any], groups: Sequence[Sequence[Candidate]], sets: Sequence[Sequence[int]], seconds: float
) -> list[Measured]:
    """Measures all sets, those that look better longer; the fastest first."""
    order = random.Random(0)
    chosen = [[candidate for index in members for candidate in groups[index]] for members in sets]
    found = [
        Measured([each.path for each in members], {each.path: each.options for each in members}) for members in chosen
    ]
    alive = list(range(len(sets)))
    pairs = PAIRS_FIRST
    deadline = time.perf_counter() + seconds
    while True:
        for _ in range(pairs):
            order.shuffle(alive)
            for number in alive:
                _pair(call, chosen[number], found[number], swap=order.random() < 0.5)
        alive.sort(key=lambda number: -found[number].speedup)
        if len(alive) <= 3 or (len(alive) <= 8 and time.perf_counter() > deadline):
            break
        alive = alive[: max(3, len(alive) // 2)]
        pairs = min(PAIRS_LAST, pairs * 2)
    rest = sorted(set(range(len(sets))) - set(alive), key=lambda number: -found[number].speedup)
    return [found[number] for number in (*alive, *rest)]


def _pair(call: Callable[[], Any], members: Sequence[Candidate], found: Measured, swap: bool) -> None:
    def eager() -> None:
        found.eager.append(_seconds(call))

    def hybrid() -> None:
        place(members)
        found.hybrid.append(_seconds(call))
        lift(members)

    for action in (hybrid, eager) if swap else (eager, hybrid):
        action()


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def optimum(name: str, seconds: float, pipe: Connection) -> None:
    """Sends the candidates and the measured sets of a workload. Runs in a process of its own."""
    model, inputs = _model(name, by_hand=True)
    with paddle.no_grad():
        for _ in range(5):
            model(*inputs)
        all_of_them = Candidates(model, inputs)
        # The halving takes some three times the first rounds, two calls for each pair.
        most = int(seconds / (6 * PAIRS_FIRST * all_of_them.seconds))
        for least in SHARES:
            groups = groups_of(all_of_them.from_share(least))
            try:
                sets = admissible(groups, most)
                break
            except TooMany:
                continue
        else:
            raise RuntimeError(f"{name}: more than {most} sets of Layers above {SHARES[-1]:.0%}")
        ranked = measured_sets(lambda: model(*inputs), groups, sets, seconds)
    pipe.send(
        {
            "least_share": least,
            "candidates": [
                {"path": each.path, "group": number, "options": each.options, "share": each.share}
                for number, group in enumerate(groups)
                for each in group
            ],
            "failures": all_of_them.failures,
            "sets": [asdict(each) for each in ranked],
        }
    )


def _model(name: str, by_hand: bool) -> tuple[Any, tuple[Any, ...]]:
    workload = WORKLOADS[name]
    model, inputs = workload.made()
    if by_hand and workload.by_hand is not None:
        model = workload.by_hand(model)
        model.eval()
    return model, inputs


# --- the plan, and the comparison ----------------------------------------------------------------------------------


def profiled(name: str, place_of_plan: Path) -> float:
    """Has the tool make a plan for the workload's script; returns the seconds that it took."""
    script = Path(__file__).with_name("oracle_script.py")
    started = time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "autohybrid",
            "profile",
            "-o",
            str(place_of_plan),
            "--force",
            "--fresh",
            "--threads",
            "1",
            str(script),
            name,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


Regions = dict[str, dict[str, Any]]
"""Paths of a model as somebody would write it by hand, each with the engine's options."""


def choice_of(name: str, made: dict[str, Any]) -> Regions | None:
    """What a plan chose, as paths of the model written by hand; a chain is the Layer that has its members.

    None where it chose something that can't be placed so.
    """
    original, _ = _model(name, by_hand=False)
    rewrite = WORKLOADS[name].by_hand
    by_hand_model = original if rewrite is None else rewrite(original)
    paths = {id(layer): path for path, layer in by_hand_model.named_sublayers(include_self=True)}
    members = {
        tuple(id(sub) for sub in layer.blocks): path
        for path, layer in by_hand_model.named_sublayers()
        if hasattr(layer, "blocks")
    }
    layers = dict(original.named_sublayers(include_self=True))
    found: Regions = {}
    for region in (region for model in made["models"] for region in model["regions"]):
        if region.get("function", "forward") != "forward":
            return None
        chain = tuple(id(layers[path]) for path in region.get("members") or ())
        if chain and chain not in members:
            return None
        own = "" if region["path"] == "" else paths[id(layers[region["path"]])]
        found[members[chain] if chain else own] = region["options"]
    return found


def calls_on_demand(name: str, role: str, regions: Regions | None, plan: str, pipe: Connection) -> None:
    """Answers each message with the seconds of one call of the model, converted as the role says."""
    model, inputs = _model(name, by_hand=regions is not None)
    with paddle.no_grad():
        expected = model(*inputs)
        if regions is not None:
            calls = Candidates(model, inputs)
            hybrids = {path: calls.placed(path, options) for path, options in regions.items()}
            for path, hybrid in hybrids.items():
                calls.layers[path].__dict__["forward"] = hybrid
        elif role == "plan":
            import autohybrid

            autohybrid.apply(model, plan=plan)
        for _ in range(10):
            answer = model(*inputs)
        pipe.send(equal(expected, answer))
        while pipe.recv():
            pipe.send(_seconds(lambda: model(*inputs)))


def launch(name: str, best: Regions, choice: Regions | None, plan: str, seconds: float) -> dict[str, list[float]]:
    """Samples of each role from processes that take turns, the order drawn anew for each round."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    placed = {"best": best, "best again": best, "choice": choice}
    roles = [role for role in ROLES if role != "choice" or choice is not None]
    for role in roles:
        pipes[role], theirs = context.Pipe()
        arguments = (name, role, placed.get(role), plan, theirs)
        processes.append(context.Process(target=calls_on_demand, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()
    for role in roles:
        if not pipes[role].recv():
            raise RuntimeError(f"{name}: the answer of {role!r} isn't eager's")
    samples: dict[str, list[float]] = {role: [] for role in roles}
    order = list(roles)
    deadline = time.perf_counter() + seconds
    while len(samples["eager"]) < 30 or (len(samples["eager"]) < 400 and time.perf_counter() < deadline):
        random.shuffle(order)
        for role in order:
            pipes[role].send(True)
            samples[role].append(pipes[role].recv())
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    return samples


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median over launches of the median ratio of two roles' calls, with the outermost 99 % limits of all."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def ratio(launches: Sequence[dict[str, list[float]]], one: str, other: str) -> Ratio:
    """How many times the seconds of ``other`` those of ``one`` are."""
    generator = np.random.default_rng(0)
    medians, limits = [], []
    for samples in launches:
        ratios = np.asarray(samples[one]) / np.asarray(samples[other])
        drawn = generator.choice(ratios, (2000, len(ratios)))
        medians.append(float(np.median(ratios)))
        limits += [float(limit) for limit in np.percentile(np.median(drawn, axis=1), [0.5, 99.5])]
    return Ratio(statistics.median(medians), min(limits), max(limits))


def verdict(found: Ratio, again_to_best: Ratio) -> str:
    """``within 2 %``, ``inside the noise`` (its interval reaches down to there, or two processes with the very same
    regions are as far apart), or ``worse``."""
    if found.value <= NEAR:
        return "within 2 %"
    apart = max(again_to_best.value, 1.0 / again_to_best.value)
    return "inside the noise" if found.low <= NEAR or found.value <= NEAR * apart else "worse"


def examined(name: str, launches: int, seconds: float) -> dict[str, Any]:
    """Everything about one workload, as it goes into the JSON file."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=optimum, args=(name, seconds, theirs), daemon=True)
    process.start()
    theirs.close()
    found: dict[str, Any] = ours.recv()
    process.join()
    best = found["sets"][0]
    with tempfile.TemporaryDirectory() as scratch:
        place_of_plan = Path(scratch, "plan.json")
        found["profile_seconds"] = profiled(name, place_of_plan)
        found["plan"] = json.loads(place_of_plan.read_bytes())
        choice = choice_of(name, found["plan"])
        found["launches"] = [
            launch(name, best["options"], choice, str(place_of_plan), seconds / 8) for _ in range(launches)
        ]
    return found


def row(name: str, found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    launches = found["launches"]
    judged = "choice" if "choice" in launches[0] else "plan"
    choice, again = ratio(launches, judged, "best"), ratio(launches, "best again", "best")
    (model,) = found["plan"]["models"]
    candidates = found["candidates"]
    return [
        name,
        f"{len(candidates)} in {len({each['group'] for each in candidates})}",
        f"{found['least_share']:.1%}",
        str(len(found["sets"])),
        _listed(found["sets"][0]["paths"]),
        _listed([_name(region) for region in model["regions"]]),
        str(ratio(launches, "eager", "best")),
        str(ratio(launches, "eager", "plan")),
        str(again),
        str(choice) if judged == "choice" else "-",
        f"{judged} {verdict(choice, again)}",
        str(ratio(launches, "plan", "best")),
    ]


def _name(region: dict[str, Any]) -> str:
    function = region.get("function", "forward")
    members = region.get("members")
    path = "+".join(members) if members else region["path"] or "(root)"
    return str(path if function == "forward" else f"{path}.{function}")


def _listed(paths: Sequence[str]) -> str:
    return "\n".join(path or "(root)" for path in paths) or "(nothing)"


HEADERS = (
    "workload",
    "candidates",
    "from",
    "sets",
    "best set",
    "plan",
    "eager/best",
    "eager/plan",
    "best/best",
    "choice/best",
    "verdict",
    "plan/best",
)


def results(names: Sequence[str], launches: int, seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        yield name, examined(name, launches, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; all of them without")
    parser.add_argument("--json", metavar="FILE", help="where to write all samples")
    parser.add_argument("--launches", type=int, default=3, help="groups of fresh processes for each comparison")
    parser.add_argument("--seconds", type=float, default=60.0, help="for the sets of one workload, about")
    wanted = parser.parse_args()
    found: dict[str, Any] = {}
    for name, result in results(wanted.names or list(WORKLOADS), wanted.launches, wanted.seconds):
        found[name] = result
        print(tabulate([row(name, result)], headers=HEADERS, disable_numparse=True), flush=True)
        if wanted.json:
            Path(wanted.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(tabulate([row(*item) for item in found.items()], headers=HEADERS, disable_numparse=True, tablefmt="grid"))


if __name__ == "__main__":
    main()
