"""The plan as typed values. Sees no Paddle: a plan can be read, shown and compared anywhere.

Samples are stored, numbers derived from them are methods. Durations are seconds, memory is bytes, shares are
fractions of the time that the root's inference calls took (a model's own share: of all roots' time).
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

import msgspec

from autohybrid import stats

SCHEMA_VERSION = 1
"""1: the first published version."""

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts: immutable, keyword-only, and strict about fields it doesn't know."""


class Environment(Document, frozen=True):
    """Where the measurements were made."""

    autohybrid: str
    paddle: str
    python: str
    platform: str
    device: str
    processor: str
    cores: Count
    math_threads: Count


class Script(Document, frozen=True):
    """What was profiled: ``command`` as it was given, the working directory's name isn't kept."""

    command: list[str]
    seconds: Seconds
    exit_code: int


class Settings(Document, frozen=True):
    """What the search was told, as far as it decides what a plan may contain."""

    engines: list[str]
    rtol: float
    atol: float
    min_gain: float
    budget_seconds: float
    isolation: str


class Place(Document, frozen=True):
    """A place in the source."""

    file: str
    line: Count
    function: str


class Samples(Document, frozen=True):
    """Two interleaved series: ``eager[i]`` was measured beside ``hybrid[i]``, in one process."""

    eager: list[Seconds]
    hybrid: list[Seconds]

    def comparison(self) -> stats.Comparison:
        return stats.compare(self.eager, self.hybrid)


class Equality(Document, frozen=True):
    """How far converted and eager answers were apart, over all values compared.

    ``error`` is the largest |hybrid - eager|, ``limit`` what the tolerance allowed at that element, ``noise`` how far
    eager's own answer moved when its inputs moved by one rounding step, ``scale`` the largest |eager|.
    """

    error: float
    limit: float
    noise: float
    scale: float
    inputs_compared: Count


def spot_name(path: str, function: str) -> str:
    """What people call a function of the Layer at a path: ``encoder``, ``(root)``, ``vae.decode()``."""
    if function == "forward":
        return path or "(root)"
    return f"{path}.{function}()" if path else f"{function}()"


def chain_name(members: list[str] | tuple[str, ...], line: int) -> str:
    """What people call a chain: ``blocks.0..11, line 73``."""
    first, last = (members[0], members[-1]) if members else ("", "")
    stem = first.rpartition(".")[0]
    if stem and last.startswith(stem + "."):
        last = last[len(stem) + 1 :]
    return f"{first}..{last}, line {line}"


def candidate_name(path: str, function: str, members: list[str], source: Place | None) -> str:
    """:func:`chain_name` for what has members, else :func:`spot_name`."""
    return chain_name(members, source.line if source else 0) if members else spot_name(path, function)


class RankedLayer(Document, frozen=True):
    """One row of the ranking: where the time of the inference calls goes. ``function`` is ``forward`` or a method;
    ``members`` are the paths of the Layers that a chain calls, empty for what is no chain; ``called_in`` are the names
    of the functions that call it."""

    path: str
    function: str
    members: list[str]
    class_name: str = msgspec.field(name="class")
    aliases: list[str]
    calls: float
    inclusive_seconds: Seconds
    self_seconds: Seconds
    share: Share
    ceiling: float | None
    looks: str
    source: Place | None
    called_in: list[str] = []

    @property
    def name(self) -> str:
        """What people call it."""
        return candidate_name(self.path, self.function, self.members, self.source)


class Region(Document, frozen=True):
    """A candidate that the plan converts.

    ``inputs`` are the argument structures to convert for. ``measured_on`` is the path whose trial stands for this
    region: its own, or that of a Layer of the same class, structure and signature. ``training_mode`` tells whether
    the region may answer in training mode: ``same`` when that makes no difference to it.

    ``kind`` tells what it stands for: a Layer's forward (``layer``), another method of it (``method``), or consecutive
    calls in a Layer's function (``chain``). ``function`` is the attribute that is replaced. Of a chain, ``members`` are
    the paths of the Layers called, in order, and ``code`` the statements, by which it is found again. ``source`` is
    where the code stood when it was profiled.
    """

    kind: Literal["layer", "method", "chain"]
    path: str
    function: str
    members: list[str]
    code: str
    source: Place | None
    aliases: list[str]
    class_name: str = msgspec.field(name="class")
    source_hash: str
    engine: str
    options: dict[str, Any]
    inputs: list[Any]
    outputs: Any
    training_mode: Literal["same", "eager"]
    share: Share
    calls: float
    measured_on: str
    equality: Equality
    samples: Samples
    conversion_seconds: Seconds
    extra_memory: Count

    @property
    def name(self) -> str:
        """What people call it."""
        return candidate_name(self.path, self.function, self.members, self.source)


class Rejected(Document, frozen=True):
    """A Layer, a method, a chain or an attempt that was passed over, and why.

    ``reason`` is a code of ``autohybrid report``'s table of reasons; ``share`` the part of the root's time that it
    stands for; ``evidence`` what was seen (the end of a dead process's output, the numbers that differed);
    ``reproduce`` the name of a script beside the plan that shows the failure alone, or empty; ``samples`` what was
    measured where it converts.
    """

    path: str
    function: str
    members: list[str]
    class_name: str = msgspec.field(name="class")
    reason: str
    detail: str
    hint: str
    share: Share
    source: Place | None
    engine: str
    options: dict[str, Any]
    evidence: str
    reproduce: str
    samples: Samples | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return candidate_name(self.path, self.function, self.members, self.source)


class Confirmation(Document, frozen=True):
    """Baseline against hybrid on the whole root, each entry of ``processes`` measured in a process of its own."""

    processes: list[Samples]
    equality: Equality
    min_gain: float

    def comparison(self) -> stats.Comparison:
        return stats.combine([samples.comparison() for samples in self.processes])

    def eager_samples(self) -> list[float]:
        """Seconds per root call of the baseline, all processes together."""
        return [sample for samples in self.processes for sample in samples.eager]

    def hybrid_samples(self) -> list[float]:
        """Seconds per root call with the regions in place, all processes together."""
        return [sample for samples in self.processes for sample in samples.hybrid]

    def verdict(self) -> stats.Verdict:
        return self.comparison().verdict(self.min_gain)


class EagerThreads(Document, frozen=True):
    """Eager with as many math threads as the regions use (``samples.hybrid``), beside eager as the script runs it.

    ``set_by`` is what gave eager those threads in the measurement, in the running process.
    """

    threads: Count
    set_by: str
    samples: Samples


class Model(Document, frozen=True):
    """One root: its structure, where its time goes, what was chosen and what was not.

    ``eager_threads`` is there where regions use more math threads than the script: eager could have them, too.

    ``functions`` are those that were called from outside any Layer: ``forward``, methods.
    """

    id: str
    class_name: str = msgspec.field(name="class")
    functions: list[str]
    places: list[Place]
    fingerprint: str
    structure: list[str]
    calls: Count
    training_calls: Count
    seconds_per_call: Seconds
    share: Share
    ranking: list[RankedLayer]
    regions: list[Region]
    rejected: list[Rejected]
    confirmation: Confirmation | None
    eager_threads: EagerThreads | None


class Plan(Document, frozen=True):
    """A whole plan, as in ``plan.json``.

    ``whole_script`` are wall-clock seconds of whole processes, conversion included: the script plain, and with the
    plan.
    """

    schema_version: int
    created: str
    environment: Environment
    script: Script | None
    settings: Settings
    models: list[Model]
    trials: Count
    search_seconds: Seconds
    complete: bool
    notes: list[str]
    whole_script: Samples | None

    @property
    def recommends_change(self) -> bool:
        return any(model.regions for model in self.models)

    def _repr_html_(self) -> str:
        # A notebook asks the value itself; who draws it lies above this part.
        drawn: str = import_module("autohybrid.report.html.cell").of_plan(self)
        return drawn
