"""autohybrid: finds the parts of a PaddlePaddle model worth running as static graphs, proves it, and applies it.

``autohybrid profile train_infer.py`` writes a plan; ``autohybrid.apply(model, plan="plan.json")`` puts it into a model.
Importing this package imports neither Paddle nor SciPy; using it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from autohybrid import logs as _logs  # noqa: F401 - makes the logger ready for whoever sets its level

if TYPE_CHECKING:
    from autohybrid import cache
    from autohybrid.decorator import inference
    from autohybrid.exports.code import export
    from autohybrid.exports.static import export_static
    from autohybrid.inventory import Inventory, env
    from autohybrid.notebook import bench, check, profile
    from autohybrid.plan import Plan, load, save
    from autohybrid.plan.measurement import Measurement
    from autohybrid.report.difference import PlanDifference, diff
    from autohybrid.report.measurement import Checked
    from autohybrid.report.rendering import render
    from autohybrid.runtime.attach import applied, apply, restore
    from autohybrid.runtime.status import Status, status
    from autohybrid.runtime.switch import eager
    from autohybrid.runtime.upkeep import refresh, warmup
    from autohybrid.search.options import Options

__version__ = "0.1.0"


__all__ = [
    "Checked",
    "Inventory",
    "Measurement",
    "Options",
    "Plan",
    "PlanDifference",
    "Status",
    "__version__",
    "applied",
    "apply",
    "bench",
    "cache",
    "check",
    "diff",
    "eager",
    "env",
    "export",
    "export_static",
    "inference",
    "load",
    "profile",
    "refresh",
    "render",
    "restore",
    "save",
    "status",
    "warmup",
]

_HOMES = {
    "Checked": "autohybrid.report.measurement",
    "Inventory": "autohybrid.inventory",
    "Measurement": "autohybrid.plan.measurement",
    "Options": "autohybrid.search.options",
    "Plan": "autohybrid.plan",
    "PlanDifference": "autohybrid.report.difference",
    "Status": "autohybrid.runtime.status",
    "applied": "autohybrid.runtime.attach",
    "apply": "autohybrid.runtime.attach",
    "bench": "autohybrid.notebook",
    "check": "autohybrid.notebook",
    "diff": "autohybrid.report.difference",
    "eager": "autohybrid.runtime.switch",
    "env": "autohybrid.inventory",
    "export": "autohybrid.exports.code",
    "export_static": "autohybrid.exports.static",
    "inference": "autohybrid.decorator",
    "load": "autohybrid.plan",
    "profile": "autohybrid.notebook",
    "refresh": "autohybrid.runtime.upkeep",
    "render": "autohybrid.report.rendering",
    "restore": "autohybrid.runtime.attach",
    "save": "autohybrid.plan",
    "status": "autohybrid.runtime.status",
    "warmup": "autohybrid.runtime.upkeep",
}

_WITHOUT_PADDLE = ("autohybrid.exports.code", "autohybrid.inventory", "autohybrid.plan", "autohybrid.report")


def __getattr__(name: str) -> Any:
    if name == "cache":
        return import_module("autohybrid.cache")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'autohybrid' has no attribute {name!r}")
    if not home.startswith(_WITHOUT_PADDLE):
        from autohybrid.device import require_paddle

        require_paddle()
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
