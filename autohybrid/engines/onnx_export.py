"""An exported Paddle program as an ONNX model, through paddle2onnx, for the engines that read such models.

paddle2onnx ends the process on an operator that it doesn't know, and so does what it calls: it works in a process of
its own, a forked child where this one can be forked. Only its compiled function is called; its Python function would
have pip install packages while converting.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autohybrid import device
from autohybrid.engines.graphs import (
    Blank,
    Graph,
    Made,
    Place,
    bytes_of,
    found_in,
    places_in,
    random_like,
    read_parameters,
    state_of,
    write_parameters,
)
from autohybrid.engines.interface import Request
from autohybrid.engines.paddle_export import STEM, conversion_lock, export, known_graph, write_graph
from autohybrid.errors import ConversionError
from autohybrid.isolation import LOG_TAIL, Died, Finished, Forked, Raised, Result, Stopped, obstacle

OPSET = 17
"""The first version of ONNX's operators that has LayerNormalization; paddle2onnx goes up from it where it must."""

ONNX = "onnx"
"""What ONNX models are called among the files that are made of a graph."""

LARGEST = (2 << 30) - (64 << 20)
"""Bytes of parameters that an ONNX model in one file can hold, with some room for the rest."""

LARGEST_COMPARED = 128 << 20
"""Bytes up to which files are compared here, which takes four times as many."""

SECONDS = 120.0


def lacking(*packages: str) -> str | None:
    """In words, which of the packages isn't installed; None when all are. Nothing is imported for it."""
    missing = [package for package in packages if find_spec(package) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of packages; empty for what isn't there."""
    return {package: _version(package) for package in packages}


@functools.cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def export_onnx(request: Request) -> Path:
    """Writes the program as an ONNX model into the request's directory; nothing else is left there.

    Of a program that this process has exported, the second model is made with random parameters: where the first one
    differs from it in nothing but the parameters, all later ones are that model with other parameters in their places.
    Where the first one's parameters are gone or have changed, or the graph is another process's, a model is made with
    both its own and random ones.

    Raises:
        ConversionError: the ONNX model can't be made; with what paddle2onnx said.
    """
    model = _onnx_file(request.directory)
    with conversion_lock:
        graph = known_graph(request)
        blank = None if graph is None else graph.blanks.get(ONNX) or _blank_like_the_first(graph, request)
        if graph is not None and blank is not None:
            graph.blanks[ONNX] = blank
            blank.write(graph.named(state_of(request.program)), model)
        else:
            _export_anew(request, model, known=graph is not None)
    for file in request.directory.glob(f"{STEM}.*"):
        if file != model:
            file.unlink()
    return model


def _export_anew(request: Request, model: Path, *, known: bool) -> None:
    graph = export(request)
    seeking = known and graph is not None and ONNX not in graph.blanks
    parameters = request.directory / f"{STEM}.pdiparams"
    if parameters.exists() and parameters.stat().st_size > LARGEST:
        raise ConversionError("more than 2 GB of parameters don't fit into one ONNX model")
    result = _converted_aside(request.directory, seeking=seeking)
    if not model.exists():
        raise ConversionError(f"no ONNX model can be made of it: {_said(result)}")
    if graph is None:
        return
    if seeking:
        graph.blanks[ONNX] = _blank_of(model)
    elif not known and model.stat().st_size <= LARGEST_COMPARED:
        # Of a larger one the second is made twice and compared in the child.
        graph.first = Made.of(model, graph.named(state_of(request.program)))
    graph.made = True


def _blank_like_the_first(graph: Graph, request: Request) -> Blank | None:
    """What the second model is filled from, made with random parameters and held against the first one; None where it
    can't be told."""
    first, graph.first = graph.first, None
    if first is None:
        return None
    model, random = _onnx_file(request.directory), random_like(graph.named(state_of(request.program)))
    write_graph(graph, random, request.directory)
    _converted_aside(request.directory, seeking=False)
    if not model.exists():
        return None
    content = model.read_bytes()
    model.unlink()
    places = found_in(content, {name: bytes_of(tensor) for name, tensor in random.items()})
    blank = Blank.cut(content, places) if places is not None else None
    return blank if blank is not None and first.made_by(blank) else None


def _blank_of(model: Path) -> Blank | None:
    file = _places_file(model.parent)
    return Blank.cut(model.read_bytes(), json.loads(file.read_text())) if file.exists() else None


def _onnx_file(directory: Path) -> Path:
    return directory / f"{STEM}.onnx"


def _places_file(directory: Path) -> Path:
    return directory / f"{STEM}.places"


def _converted_aside(directory: Path, *, seeking: bool) -> Result:
    if device.on_gpu() or obstacle():
        return _in_new_process(directory, seeking)
    return Forked().run(lambda: _convert(directory, seeking), seconds=SECONDS, memory=device.available_memory() // 2)


def _in_new_process(directory: Path, seeking: bool) -> Result:
    # The modules that this process can import, wherever they lie; none that happen to lie in the current directory.
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", __name__, str(directory), *(["--seek"] if seeking else [])],
            env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
            cwd=directory,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Stopped(limit=f"{SECONDS:.0f} seconds")
    log = (ended.stdout + ended.stderr).decode(errors="replace")[-LOG_TAIL:]
    if ended.returncode != 0:
        return Died(how=f"exit code {ended.returncode}", log=log)
    return Finished(value=None, log=log)


def _convert(directory: Path, seeking: bool) -> None:
    """Writes ``infer.onnx`` beside the exported program; may end the process.

    When ``seeking``, also where the parameters stand in it, if that can be told.
    """
    _die_plainly()
    file, parameters = directory / f"{STEM}.json", directory / f"{STEM}.pdiparams"
    program = json.loads(file.read_text())["program"]
    if _mend_scales(program):
        file.write_text(json.dumps({**json.loads(file.read_text()), "program": program}))
    content = _translated(file, parameters, program)
    aside = directory / f"{STEM}.part"
    aside.write_bytes(content)
    # Whole, or not there: what comes now may end the process.
    aside.rename(_onnx_file(directory))
    if seeking and parameters.exists():
        places = _places_of_parameters(content, file, parameters, program)
        if places is not None:
            _places_file(directory).write_text(json.dumps(places))


def _translated(file: Path, parameters: Path, program: Any) -> bytes:
    import paddle2onnx.paddle2onnx_cpp2py_export as paddle2onnx

    from autohybrid.engines import onnx_graph

    model: bytes = paddle2onnx.export(
        str(file),
        str(parameters) if parameters.exists() else "",
        OPSET,
        True,  # a later version of the operators where it needs one
        False,  # verbose
        True,  # check the model
        True,  # experimental operators
        True,  # optimise: what needs no other package
        {},  # operators of the user's own
        "onnxruntime",
        "",  # calibration
        "",  # parameters in a file of their own
        False,  # float16
    )
    try:
        return onnx_graph.mended(model, _ranks(program))
    except ConversionError as error:
        sys.exit(f"[ERROR] {error.problem}")


def _places_of_parameters(content: bytes, file: Path, parameters: Path, program: Any) -> list[Place] | None:
    names = [operator["A"][3] for operator in _operators(program) if operator["#"] == "p"]
    real = read_parameters(parameters, names)
    random = random_like(real)
    other = parameters.with_suffix(".random")
    write_parameters(random, other)
    return places_in(
        content,
        {name: bytes_of(tensor) for name, tensor in real.items()},
        _translated(file, other, program),
        {name: bytes_of(tensor) for name, tensor in random.items()},
    )


def _die_plainly() -> None:
    """Has an abort end the process at once, with all that was printed.

    Paddle's handler of it walks the stack, which hung in forked children; buffers of compiled code would be lost.
    """
    for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        signal.signal(number, signal.SIG_DFL)
    libc, no_buffer = ctypes.CDLL(None), 2
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, no_buffer, 0)


def _mend_scales(program: Any) -> bool:
    """Gives interpolations their scales as float32: paddle2onnx 2.1 aborts on the float64 that Paddle 3.3 writes."""
    scales = [
        scale
        for operator in _operators(program)
        if operator["#"].endswith("_interp")
        for attribute in operator["A"]
        if attribute["N"] == "scale"
        for scale in attribute["AT"]["D"]
    ]
    for scale in scales:
        scale["#"] = scale["#"].replace("a_f64", "a_f32")
    return bool(scales)


def _ranks(program: Any) -> list[int]:
    """The number of dimensions of each output."""
    fetched = [operator for operator in _operators(program) if operator["#"].endswith(".fetch")]
    return [len(operator["O"][0]["TT"]["D"][1]) for operator in fetched]


def _operators(scope: Any) -> Iterator[dict[str, Any]]:
    """All operators of a program in Paddle's JSON, those inside of branches and loops too."""
    for region in scope.get("regions", ()):
        for block in region["blocks"]:
            for operator in block["ops"]:
                yield operator
                yield from _operators(operator)


def _said(result: Result) -> str:
    """The last error in what a conversion printed, or how it ended."""
    ended_with = result.error if isinstance(result, Raised) else ""
    complaints = re.findall(r"\[ERROR\]\s*(?:\[Paddle2ONNX\])?\s*(.+)", result.log + ended_with)
    # Its last word may only sum up what it named before.
    named = [each for each in complaints if each.strip() != "There are unsupported features."]
    if complaints:
        return str((named or complaints)[-1]).strip()
    if isinstance(result, Raised):
        return result.error.strip().splitlines()[-1]
    if isinstance(result, Stopped):
        return f"stopped after {result.limit}"
    return f"it ended with {result.how}" if isinstance(result, Died) else "it wrote nothing"


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), "--seek" in sys.argv)
