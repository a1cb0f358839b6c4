"""What every conversion through Paddle needs: one at a time, unheard, no traces in Paddle's process-wide state.

Paddle's tracer keeps its state in places that other threads, and later exports, look at; the functions here keep one
export's affairs to itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import shutil
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import paddle
from paddle.base import core as paddle_core
from paddle.base import framework
from paddle.static import InputSpec

from autohybrid.engines.graphs import (
    Graph,
    Graphs,
    Reads,
    State,
    described,
    paths_of,
    state_of,
    value_reads,
    write_parameters,
)
from autohybrid.engines.interface import Busy, Request
from autohybrid.engines.silence import warnings_held_back
from autohybrid.errors import ConversionError
from autohybrid.logs import noise_is_wanted
from autohybrid.structure import Tensor

WRAPPER_DELETED_PASSES = ("trt_prompt_tuning_embedding_eltwise_layernorm_fuse_pass", "add_support_int8_pass")
"""What ``paddle.incubate.jit.inference`` deletes when it is told nothing; a list given to it replaces these."""

STEM = "infer"
"""Exported files are called this, with various endings."""

_FEED = "autohybrid_feed_"
"""Begins the names of inputs. Paddle puts a Tensor whose own name is that of an input into that input's place, whatever
its place in the list: the names must be such as no script gives."""

core: Any = paddle_core

conversion_lock = threading.RLock()
"""Paddle's tracer and its pass manager aren't made for two threads: one conversion at a time in a process."""

# A child that is forked while another thread converts would wait for that thread for ever: it has no such thread.
os.register_at_fork(after_in_child=lambda: conversion_lock._at_fork_reinit())  # type: ignore[attr-defined]


@contextlib.contextmanager
def converting() -> Iterator[None]:
    """Holds :data:`conversion_lock` for a call that eager can answer as well.

    Raises:
        Busy: another thread holds it, which may take minutes.
    """
    if not conversion_lock.acquire(blocking=False):
        raise Busy(CONVERTING)
    try:
        yield
    finally:
        conversion_lock.release()


CONVERTING = "another thread is converting"


def others_convert() -> bool:
    """Whether another thread holds :data:`conversion_lock` now."""
    try:
        with converting():
            return False
    except Busy:
        return True


def known_graph(request: Request) -> Graph | None:
    """The graph that :func:`export` would take in place of a trace."""
    return request.graphs.find(described(state_of(request.program))) if request.graphs is not None else None


def export(request: Request, within: contextlib.AbstractContextManager[Any] | None = None) -> Graph | None:
    """Writes the program, with its parameters, to ``infer.*`` in the request's directory.

    It is traced, unless an equal one was: then its parameters alone are written, beside what was exported before.
    Inputs are named so that :func:`place_of` tells which is which; outputs keep their order. ``within`` is entered
    around a trace of its own: what it changes no graph tells.

    Returns the graph that it took, or left for others.
    """
    with conversion_lock:
        state, graph = state_of(request.program), known_graph(request) if within is None else None
        if graph is None:
            return _trace(request, state, within)
        write_graph(graph, graph.named(state), request.directory)
        return graph


def write_graph(graph: Graph, named: Mapping[str, Tensor], directory: Path) -> None:
    """Writes what was exported before with these parameters, as :func:`export` does."""
    (directory / f"{STEM}.json").write_bytes(graph.program)
    write_parameters(named, directory / f"{STEM}.pdiparams")


def _trace(request: Request, state: State, within: contextlib.AbstractContextManager[Any] | None) -> Graph | None:
    specs = [
        InputSpec(list(shape), tensor.dtype, name=input_name(index), stop_gradient=True)
        for index, (shape, tensor) in enumerate(zip(request.shapes, request.inputs, strict=True))
    ]
    with contained(), value_reads() as reads, within or contextlib.nullcontext():
        program = paddle.jit.to_static(request.program, input_spec=[specs], full_graph=True)
        # Pruning refuses inputs that the answer doesn't depend on; a cache's keys and values are often such.
        paddle.jit.save(program, str(request.directory / STEM), skip_prune_program=True)
    if request.graphs is None or within is not None:
        return None
    return _left(request.graphs, program, state, request.directory / f"{STEM}.json", reads)


def _left(graphs: Graphs, program: Any, state: State, file: Path, reads: Reads) -> Graph | None:
    """Leaves what was traced for others like it, where nothing in it depends on the weights' values."""
    # The trace is remembered: this makes no other.
    parameters = paths_of(program.forward.concrete_program_specify_input_spec().parameters, state)
    if reads.happened or parameters is None:
        graphs.reject(described(state))
        return None
    graph = Graph(program=file.read_bytes(), parameters=parameters)
    graphs.keep(described(state), graph)
    return graph


def input_name(place: int) -> str:
    """What an exported program calls the input at a place."""
    return f"{_FEED}{place}"


def place_of(*names: str) -> int:
    """The place among the program's inputs of the one that an exported program calls by one of ``names``."""
    return next(int(name.removeprefix(_FEED)) for name in names if name.startswith(_FEED))


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Around a trace: warnings are held back, other threads keep their tracer, a failure leaves nothing behind.

    To be entered with :data:`conversion_lock` held.
    """
    try:
        with _tracer_of_this_thread_only(), _one_stack_for_all(), warnings_held_back(), warnings.catch_warnings():
            if not noise_is_wanted():
                warnings.simplefilter("ignore")
            yield
    except BaseException:
        forget_failed_program()
        raise


@contextlib.contextmanager
def _one_stack_for_all() -> Iterator[None]:
    """Gives Paddle the same list for the Python stack of every operator that it traces.

    For each operator Paddle calls ``traceback.extract_stack`` and never gives back the list that it gets: some 100 KB
    for each conversion of a small model. One list, filled anew each time, can only be lost once.
    """
    original = traceback.extract_stack
    thread = threading.get_ident()

    def extracted(*args: Any, **kwargs: Any) -> traceback.StackSummary:
        found = original(*args, **kwargs)
        if threading.get_ident() != thread:
            return found
        _shared_stack[:] = found
        return _shared_stack

    traceback.extract_stack = extracted
    try:
        yield
    finally:
        traceback.extract_stack = original
        _shared_stack.clear()


_shared_stack = traceback.StackSummary()


def forget_failed_program() -> None:
    """Clears what a failed export leaves in Paddle's process-wide records.

    They are keyed by the address of a program that is gone; a later program at the same address would inherit its
    parameters, and die.
    """
    from paddle.jit.dy2static import parameter_recorder

    for recorder in (parameter_recorder._global_parameter_recorder, parameter_recorder._global_inplace_map):
        for record in ("params_dict", "tensor2value"):
            getattr(recorder, record, {}).clear()


@contextlib.contextmanager
def _tracer_of_this_thread_only() -> Iterator[None]:
    """Keeps the default that threads begin with as it is while this thread has dygraph mode off.

    Paddle's ``global_var`` is thread-local, but writing its tracer also writes the value that new threads copy: a
    thread that first touches Paddle during a trace would be without dygraph mode for its whole life.
    """
    kind: Any = type(framework.global_var)
    original = kind.__dict__.get("__setattr__")
    if original is None or not hasattr(core, "_switch_tracer"):
        yield
        return

    def own_thread_only(self: Any, name: str, value: Any) -> None:
        if name == "_dygraph_tracer_":
            core._switch_tracer(value)
            self.__dict__[name] = value
        else:
            original(self, name, value)

    kind.__setattr__ = own_thread_only
    try:
        yield
    finally:
        kind.__setattr__ = original


def check_pass_names(engine: str, passes: object) -> None:
    """Raises ``ConversionError`` for anything but a list of names of IR passes that this Paddle has.

    Paddle itself accepts unknown names in silence.
    """
    if not isinstance(passes, (list, tuple)) or not all(isinstance(name, str) for name in passes):
        raise ConversionError(f"{engine}: deleted_passes must be a list of names, not {passes!r}")
    for name in passes:
        if not _is_pass(name):
            raise ConversionError(
                f"{engine}: there is no IR pass {name!r} in this Paddle",
                "paddle.inference.Config().pass_builder().all_passes() lists the older half of them.",
            )


def _is_pass(name: str) -> bool:
    if name in WRAPPER_DELETED_PASSES:
        return True
    # There is no list of the passes, only two registries that refuse a name they don't have.
    registries: tuple[Callable[[], Any], ...] = (
        lambda: core.pir.PassManager().add_pass(name, {}),
        lambda: core.get_pass(name),
    )
    for look_up in registries:
        with contextlib.suppress(Exception):
            look_up()
            return True
    return False


def removed_with(owner: object, directory: Path) -> weakref.finalize[[Path, int], object]:
    """Has ``directory`` removed when ``owner`` is collected, when the process ends, or when the result is called.

    A forked child leaves its parent's directory alone.
    """
    remove = weakref.finalize(owner, _remove, directory, os.getpid())
    # multiprocessing's children end without the finalizers of weakref, and with its own.
    multiprocessing.util.Finalize(owner, remove, exitpriority=0)
    return remove


def _remove(directory: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)
