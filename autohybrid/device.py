"""The clock and the machine: what time it is, where the work runs, what Paddle this is."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from autohybrid.errors import SetupError

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")

clock = time.perf_counter
"""Seconds as a float, monotonic; the one clock that every measurement reads."""

OLDEST_PADDLE = (3, 0)

MATH_THREADS = "OMP_NUM_THREADS"
"""The variable of the environment that says how many threads eager operators have; Paddle reads it when imported."""

_INSTALL = (
    'On a CPU: pip install "autohybrid[cpu]". For a GPU, install paddlepaddle-gpu 3.x as '
    "https://www.paddlepaddle.org.cn/install/quick describes (the public package index ends at 2.6.2)."
)


def require_paddle() -> ModuleType:
    """Imports Paddle, whichever distribution it came from.

    Raises:
        SetupError: not Linux on x86-64, no Paddle, or a Paddle older than 3.0.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise SetupError(
            f"Measuring and converting need Linux on x86-64, this is {platform.system()} on {platform.machine()}.",
            "'autohybrid report' works here.",
        )
    try:
        import paddle
    except ImportError as error:
        raise SetupError(f"Paddle can't be imported ({error}).", _INSTALL) from error
    version = tuple(int(part) for part in paddle.__version__.split(".")[:2] if part.isdigit())
    # A build from source calls itself 0.0.0 and is newer than any release.
    if version != (0, 0) and version < OLDEST_PADDLE:
        raise SetupError(f"Paddle {paddle.__version__} is too old, 3.0 or later is needed.", _INSTALL)
    module: ModuleType = paddle
    return module


def on_gpu() -> bool:
    """Whether Paddle's current device is a GPU."""
    paddle = require_paddle()
    return str(paddle.device.get_device()).startswith("gpu")


def synchronize() -> None:
    """Waits for the device. On a CPU nothing is pending (and ``paddle.device.synchronize`` raises in a CPU build)."""
    if on_gpu():
        require_paddle().device.synchronize()


def stream() -> int | None:
    """The number of the stream that Paddle's operators are put on now; None on a CPU, which has none."""
    return int(require_paddle().device.current_stream().stream_base.cuda_stream) if on_gpu() else None


def seconds_kept_waiting() -> float:
    """Seconds for which this thread was ready to run until now, and other work had its core; 0.0 if nobody counts them.

    The kernel's own account to the nanosecond (``Documentation/scheduler/sched-stats.rst``, the second field).
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) * 1e-9
    return 0.0


def cpu_model() -> str:
    """The processor's name as the kernel gives it, or the machine type."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def cpu_features() -> tuple[str, ...]:
    """The instruction sets of the processor that decide how fast a math library is, as the kernel names them."""
    return tuple([flag for flag in _cpu_flags().split() if flag.startswith(("avx", "amx", "fma", "f16c", "sse4"))])


def processor() -> str:
    """The processor's name with a digest of what it can do: one name may stand for several sets of instructions."""
    return f"{cpu_model()} {hashlib.sha256(_cpu_flags().encode()).hexdigest()[:8]}"


def _cpu_flags() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return ""


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_limit(root: Path = Path("/")) -> float | None:
    """What the process's control groups allow it of the cores' time together, in cores; None for no limit.

    The kernel's ``cpu.max`` (version 2) or ``cpu.cfs_quota_us`` (version 1), the smallest on the way up.
    """
    found = []
    for folder in _control_groups(root, "cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))
        with contextlib.suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            found.append(int(quota) / int(period))
    return min((limit for limit in found if limit > 0.0), default=None)


def cores_granted() -> int:
    """How many threads can work all the time: the usable cores, or fewer whole ones where control groups limit them."""
    limit = core_limit()
    return usable_cores() if limit is None else max(1, min(usable_cores(), int(limit)))


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that the process's control groups allow it, None for no limit."""
    found = []
    for folder in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                found.append(int((folder / name).read_text()))
    # Version 1 writes the largest number of pages for no limit.
    return min((limit for limit in found if limit < 1 << 62), default=None)


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """The directories of this process's control groups with those above them, for one controller."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            mount = root / "sys/fs/cgroup" / (controller if controllers else "")
            group = mount / path.lstrip("/")
            while group != mount and mount in group.parents:
                yield group
                group = group.parent
            yield mount


def math_threads() -> int:
    """The number of threads that eager operators use on a CPU: what OpenMP was told (Paddle sets 1 by default)."""
    return _count(os.environ.get(MATH_THREADS, "")) or usable_cores()


def math_threads_told() -> int | None:
    """``OMP_NUM_THREADS`` as the user has set it, None where only Paddle has, which sets 1 when it is imported.

    A 1 that a script has put into ``os.environ`` can't be told from Paddle's own later on: it counts where
    :func:`remember_environment` was called between the two.
    """
    value = _count(os.environ.get(MATH_THREADS, ""))
    if value != 1 or "paddle" not in sys.modules or _told_before_paddle:
        return value
    with contextlib.suppress(OSError):
        # What the process was started with; a change of os.environ isn't in it.
        for entry in Path("/proc/self/environ").read_bytes().split(b"\0"):
            name, _, given = entry.partition(b"=")
            if name == MATH_THREADS.encode() and _count(given.decode(errors="replace")):
                return value
    return None


def remember_environment() -> None:
    """Notes what the user has set, right before Paddle is imported."""
    global _told_before_paddle
    _told_before_paddle = _count(os.environ.get(MATH_THREADS, "")) is not None


_told_before_paddle = False


def _count(value: str) -> int | None:
    first = value.split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None


def most_math_threads() -> int:
    """The most math threads that a conversion gets: one a core, and no more than the user's ``OMP_NUM_THREADS``."""
    told = math_threads_told()
    return cores_granted() if told is None else min(told, cores_granted())


def set_math_threads(count: int) -> None:
    """Has eager operators of this thread use so many threads on a CPU from now on."""
    # At calls of a region, where looking at the version again would take longer than all else.
    paddle = sys.modules.get("paddle") or require_paddle()
    paddle.base.core.set_num_threads(count)


def seconds_of_spinning() -> float:
    """For how long Paddle's idle math threads wait busily for more work: ``KMP_BLOCKTIME`` (milliseconds), else 0.2 s.

    The default of Intel's OpenMP, which Paddle's wheels bring along (its developer guide, ``KMP_BLOCKTIME``).
    """
    told = os.environ.get("KMP_BLOCKTIME", "").strip().lower().removesuffix("ms")
    return int(told) * 1e-3 if told.isdigit() else 0.2


def let_threads_rest() -> None:
    """Returns when no thread of this process works or waits busily any more, or after ``seconds_of_spinning``.

    On a CPU that others use as well, a thread that waits busily and has lost its core for a while is taken to rest.
    """
    ends = clock() + seconds_of_spinning()
    while clock() < ends:
        before = time.process_time()
        time.sleep(min(LOOK, max(0.0, ends - clock())))
        if time.process_time() - before < BUSY * LOOK:
            return


LOOK = 0.01
"""Seconds after which it is looked at again whether other threads are at work: some turns of the kernel's scheduler."""

BUSY = 0.2
"""The share of a core from which they are."""


def math_threads_now() -> int:
    """The number of threads that eager operators of this very thread use on a CPU, also when it was told so late."""
    return _thread_counter()()


@functools.cache
def _thread_counter() -> Callable[[], int]:
    """What tells :func:`math_threads_now`: the OpenMP that Paddle has loaded, its wheels bring Intel's along. Nothing
    is loaded here."""
    for name in ("libiomp5.so", "libgomp.so.1"):
        with contextlib.suppress(OSError, AttributeError):
            # PyDLL: giving the interpreter's lock away, for some thread to take it, would cost more than the call.
            counter: Callable[[], int] = ctypes.PyDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW).omp_get_max_threads
            return counter
    return math_threads


def keeping_math_threads(work: Callable[[ArgumentT], ResultT], argument: ArgumentT) -> ResultT:
    """``work(argument)``, making or running a predictor: Paddle leaves the calling thread with math threads that it
    didn't have, as many as the predictor's where one is made, one behind each run.

    A function rather than a context, which would cost a call of a tiny region more than this does.
    """
    now = _thread_counter()
    before = now()
    try:
        return work(argument)
    finally:
        if now() != before:
            set_math_threads(before)


def granted_threads(asked: int | None) -> int:
    """The math threads of a conversion: as asked for, within the most; as many as eager's where nobody asked."""
    return math_threads() if asked is None else min(asked, most_math_threads())


def lower_precisions() -> tuple[str, ...]:
    """The floating types below float32 that the current device computes with in hardware."""
    if on_gpu():
        return ("float16", "bfloat16") if require_paddle().amp.is_bfloat16_supported() else ("float16",)
    return ("bfloat16",) if {"avx512_bf16", "amx_bf16"} & set(cpu_features()) else ()


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return 4 << 30


def resident_memory(pid: int | str = "self") -> int:
    """Bytes of physical memory that a process holds by itself, not shared with the one it was forked from.

    Returns 0 when the process is gone or the kernel doesn't tell.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
    return 0


def private_memory() -> int:
    """Bytes of physical memory with no file behind them that this process holds: what no pressure can get back.

    Code of libraries and mapped files don't count; in a forked child, pages that it still shares with its parent do.
    """
    with contextlib.suppress(OSError):
        lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
        return sum(int(line[1]) * 1024 for line in lines if line[0] in ("RssAnon:", "RssShmem:"))
    return 0


def held_memory() -> int:
    """:func:`private_memory`, with what Paddle has allocated on a GPU, once what was freed is given back."""
    trim_memory()
    on_device = int(require_paddle().device.cuda.memory_allocated()) if on_gpu() else 0
    return private_memory() + on_device


def trim_memory() -> None:
    """Has the C library, and Paddle's pool on a GPU, give back what was freed; without effect where they can't."""
    if on_gpu():
        require_paddle().device.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def lies_in_memory(path: Path, root: Path = Path("/")) -> bool:
    """Whether a directory is on a file system without a disk, as the kernel's list of mounts has it."""
    number = path.stat().st_dev
    named = f"{os.major(number)}:{os.minor(number)}"
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/mountinfo").read_text().splitlines():
            # mount, parent, device, ... - type source options
            before, _, after = line.partition(" - ")
            if before.split()[2:3] == [named]:
                return after.split()[:1] in (["tmpfs"], ["ramfs"])
    return False


def peak_memory() -> int:
    """Bytes of physical memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
