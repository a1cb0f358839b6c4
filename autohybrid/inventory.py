"""What a bug report needs to know of a machine and an installation; nothing private in it."""

from __future__ import annotations

import os
import platform
import stat
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import autohybrid
from autohybrid import device, store
from autohybrid.errors import SetupError
from autohybrid.offers import offered
from autohybrid.sizes import size_text

LIBRARIES = ("numpy", "scipy", "click", "msgspec", "tabulate", "setuptools", "paddle2onnx", "onnxruntime", "openvino")
"""Distributions whose versions matter, where they are installed."""

VARIABLES = ("AUTOHYBRID", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "FLAGS_", "DNNL_", "ONEDNN_")
"""How the names of the environment's variables begin that are told; others may be private."""

TOLD_WHOLE = ("CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME", "COLUMNS", "NO_COLOR")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEngine:
    """An engine that some installed package offers; ``unavailable`` says why it can't be used, empty when it can."""

    name: str
    package: str
    unavailable: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCache:
    """Where conversions are kept; ``problem`` says why nothing is, empty when all is well. Sizes in bytes."""

    place: str
    size: int
    permissions: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A machine and an installation; prints as a table.

    ``cores`` may be used by this process, of ``all_cores``; ``core_limit`` is what its control group allows in cores'
    time, None for no limit. Memory in bytes. ``variables`` are as they were before Paddle was imported.
    """

    autohybrid: str
    python: str
    platform: str
    paddle: str
    device: str
    processor: str
    features: tuple[str, ...]
    all_cores: int
    cores: int
    core_limit: float | None
    free_memory: int
    memory_limit: int | None
    math_threads: int
    engines: tuple[FoundEngine, ...]
    libraries: dict[str, str]
    cache: FoundCache
    variables: dict[str, str]

    def __str__(self) -> str:
        return shown(self)


def env() -> Inventory:
    """Looks at this machine and this installation; works without Paddle too."""
    variables = dict(_variables())
    paddle, where = _paddle()
    return Inventory(
        autohybrid=autohybrid.__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=f"{platform.system()} {platform.release()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        paddle=paddle,
        device=where,
        processor=device.cpu_model(),
        features=device.cpu_features(),
        all_cores=os.cpu_count() or 1,
        cores=device.usable_cores(),
        core_limit=device.core_limit(),
        free_memory=device.available_memory(),
        memory_limit=device.memory_limit(),
        math_threads=device.math_threads(),
        engines=tuple(_engines()),
        libraries=dict(_libraries()),
        cache=_cache(),
        variables=variables,
    )


def without_home(text: str) -> str:
    """The text with the user's home directory as ``~``."""
    home = os.path.expanduser("~")
    if home in ("/", "~", ""):
        return text
    return os.pathsep.join(
        "~" + part[len(home) :] if part == home or part.startswith(home + "/") else part
        for part in text.split(os.pathsep)
    ).replace(f"{home}/", "~/")


def _paddle() -> tuple[str, str]:
    """Paddle's version with its commit and build, and the current device; the version says why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Paddle's own about compilers, which nobody asked for here
            paddle = device.require_paddle()
    except SetupError as error:
        return f"none: {without_home(error.problem)}", ""
    build = f"CUDA {paddle.version.cuda()}" if paddle.is_compiled_with_cuda() else "CPU build"
    return f"{paddle.__version__}, commit {paddle.version.commit[:12]}, {build}", str(paddle.device.get_device())


def _engines() -> Iterator[FoundEngine]:
    for point in offered():
        package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else ""
        yield FoundEngine(name=point.name, package=package, unavailable=_obstacle(point))


def _obstacle(point: Any) -> str:
    try:
        return without_home(point.load()().unavailable() or "")
    except Exception as error:  # noqa: BLE001 - somebody's engine may fail in any way, and that is what is to be told
        return without_home(f"can't be loaded: {type(error).__name__}: {error}")


def _libraries() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _cache() -> FoundCache:
    root = store.place()
    if root is None:
        return FoundCache(place="off", size=0, permissions="", problem="AUTOHYBRID_CACHE is off")
    problem, permissions = "", ""
    try:
        found = root.lstat()
        permissions = f"{stat.filemode(found.st_mode)}, {'yours' if found.st_uid == os.geteuid() else 'not yours'}"
        store.check(root)
    except FileNotFoundError:
        permissions = "not there yet"
    except OSError as error:
        problem = str(error.strerror)
    except SetupError as error:
        problem = without_home(error.problem)
    return FoundCache(place=without_home(str(root)), size=_size(root), permissions=permissions, problem=problem)


def _size(root: Path) -> int:
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(root) for name in names)


def _variables() -> Iterator[tuple[str, str]]:
    for name, value in sorted(os.environ.items()):
        if name.startswith(VARIABLES) or name in TOLD_WHOLE:
            yield name, without_home(value)


def shown(found: Inventory, width: int = 80) -> str:
    """As a table of two columns."""
    lines = [
        ("autohybrid", found.autohybrid),
        ("Python", found.python),
        ("platform", found.platform),
        ("Paddle", found.paddle),
        ("device", found.device),
        ("processor", f"{found.processor}: {' '.join(found.features)}"),
        ("cores", f"{found.cores} usable of {found.all_cores}, control group: {_limit(found.core_limit)}"),
        ("memory", f"{size_text(found.free_memory)} free, control group: {_memory_limit(found.memory_limit)}"),
        ("math threads", f"{found.math_threads} (OMP_NUM_THREADS; Paddle sets 1 where it isn't set)"),
        *((f"engine {each.name}", _engine(each)) for each in found.engines),
        ("libraries", ", ".join(f"{name} {number}" for name, number in found.libraries.items())),
        ("cache", _cache_text(found.cache)),
        *((name, value or '""') for name, value in found.variables.items()),
    ]
    left = max(len(name) for name, _ in lines) + 2
    return "\n".join(
        textwrap.fill(f"{name:<{left}}{text}".rstrip(), width, subsequent_indent=" " * left, break_on_hyphens=False)
        for name, text in lines
    )


def _engine(found: FoundEngine) -> str:
    origin = f" ({found.package})" if found.package else ""
    return f"{f'not usable: {found.unavailable}' if found.unavailable else 'usable'}{origin}"


def _cache_text(found: FoundCache) -> str:
    parts = [found.place, size_text(found.size), found.permissions, found.problem]
    return "off (AUTOHYBRID_CACHE)" if found.place == "off" else ", ".join(part for part in parts if part)


def _limit(cores: float | None) -> str:
    return "no limit" if cores is None else f"{cores:g}"


def _memory_limit(size: int | None) -> str:
    return "no limit" if size is None else size_text(size)
