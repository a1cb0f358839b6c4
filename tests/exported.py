"""Running what ``autohybrid export`` wrote, in processes that can't import autohybrid."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from commands import run

_LOADING = """
import importlib.util, json, sys

sys.modules["autohybrid"] = None  # importing it is an error from here on

import paddle

def loaded(file, name):
    specification = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module

def leaves(value):
    if isinstance(value, paddle.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [leaf for part in parts for leaf in leaves(part)]

def apart(eager, hybrid):
    # The largest difference, relative to the tolerance of a plan: 1e-5 of the scale and 1e-3 of the element.
    worst = 0.0
    for one, other in zip(leaves(eager), leaves(hybrid), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        one, other = one.cast("float64"), other.cast("float64")
        worst = max(worst, float(((one - other).abs() / (1e-5 * one.abs().max() + 1e-3 * one.abs() + 1e-30)).max()))
    return worst

def told(**what):
    assert not [name for name in sys.modules if name.startswith("autohybrid.")]
    print("TOLD " + json.dumps(what))
"""

_CONVERTED = """
script = loaded({script!r}, "script")
exported = loaded({code!r}, "exported")
names = dict(vars(script), paddle=paddle)
paddle.seed(0)
model = eval({model!r}, names)
model.eval()
calls = [lambda model, each=each: eval(each, names, {{"model": model}}) for each in {calls!r}]
with paddle.no_grad():
    eager = [call(model) for call in calls]
    assert exported.{convert}(model) is model
    hybrid = [[call(model) for call in calls] for _ in range(3)]
from pathlib import Path
made = sorted(Path(exported._directory.name).glob("*/forward/infer.json"))
told(
    apart=[apart(one, other) for answers in hybrid for one, other in zip(eager, answers, strict=True)],
    alike=all(str(type(a)) == str(type(b)) for answers in hybrid for a, b in zip(eager, answers)),
    graphs=len(made),
)
"""


def told_by(program: str, here: Path) -> dict[str, Any]:
    """What a program told at its end; it has the functions of ``_LOADING``."""
    file = here / "driver.py"
    file.write_text(_LOADING + program)
    done = run([sys.executable, file], here)
    lines = [line for line in done.out.splitlines() if line.startswith("TOLD ")]
    assert done.code == 0, done.err[-3000:]
    assert lines, done.out[-3000:]
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("TOLD "))
    return found


def compared(text: str, here: Path, *, script: Path, model: str, convert: str, calls: list[str]) -> dict[str, Any]:
    """Runs exported code on a model, beside eager, in a process without autohybrid.

    Args:
        model: the expression that makes one, with the names of the script.
        convert: the name of the function to call with it.
        calls: expressions with ``model``.

    Returns:
        ``apart``, for each of three rounds of the calls the difference in units of the tolerance; ``alike``, whether
        the answers are of eager's types; ``graphs``, how many static graphs were made.
    """
    code = here / "exported_code.py"
    code.write_text(text)
    return told_by(
        _CONVERTED.format(script=str(script), code=str(code), model=model, convert=convert, calls=calls), here
    )
