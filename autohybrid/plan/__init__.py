"""The plan document: its content, its JSON, its schema, its versions. Sees no Paddle."""

from autohybrid.plan.document import (
    SCHEMA_VERSION,
    Confirmation,
    EagerThreads,
    Environment,
    Equality,
    Model,
    Place,
    Plan,
    RankedLayer,
    Region,
    Rejected,
    Samples,
    Script,
    Settings,
    spot_name,
)
from autohybrid.plan.files import dump, json_schema, load, parse, save

__all__ = [
    "SCHEMA_VERSION",
    "Confirmation",
    "EagerThreads",
    "Environment",
    "Equality",
    "Model",
    "Place",
    "Plan",
    "RankedLayer",
    "Region",
    "Rejected",
    "Samples",
    "Script",
    "Settings",
    "dump",
    "json_schema",
    "load",
    "parse",
    "save",
    "spot_name",
]
