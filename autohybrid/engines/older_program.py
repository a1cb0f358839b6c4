"""Paddle's older program format (``.pdmodel``), whose optimised programs can be kept.

In the format of Paddle 3 a predictor optimises the program anew whenever it is made. In the older one it can write what
its passes made of it, and a later predictor opens that in the time that it takes to read. Not everything can be
exported to it: with Paddle 3.3 nothing that calls ``paddle.matmul``, so no transformer of Paddle's own, and no LSTM.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import paddle
from paddle import inference

from autohybrid.engines.interface import Request
from autohybrid.engines.paddle_export import STEM, export
from autohybrid.engines.silence import stdout_kept
from autohybrid.errors import ConversionError

_OPTIMIZED = "_optimized"
"""What Paddle calls the files of an optimised program."""


def export_older(request: Request) -> None:
    """Like :func:`export`, to ``infer.pdmodel``; to be called with the lock for conversions held.

    Raises:
        ConversionError: this Paddle has no such format.
    """
    export(request, within=_older_programs())
    (request.directory / f"{STEM}.pdiparams.info").unlink(missing_ok=True)


def _older_programs() -> AbstractContextManager[Any]:
    guard = getattr(getattr(paddle, "pir_utils", None), "OldIrGuard", None)
    if guard is None:
        raise ConversionError(f"Paddle {paddle.__version__} doesn't write its older program format")
    made: AbstractContextManager[Any] = guard()
    return made


def keep_optimized(directory: Path, config: Any) -> None:
    """Replaces the program in ``directory`` by what the passes of ``config``, an ``inference.Config``, make of it.

    Raises:
        ConversionError: Paddle wrote none.
    """
    config.set_optim_cache_dir(str(directory))
    config.enable_save_optim_model(True)
    with stdout_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inference.create_predictor(config)
    for suffix in ("pdmodel", "pdiparams"):
        made = directory / f"{_OPTIMIZED}.{suffix}"
        if not made.exists():
            raise ConversionError("Paddle wrote no optimised program", exported=True)
        made.replace(directory / f"{STEM}.{suffix}")
