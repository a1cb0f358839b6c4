"""Plans on disk: read strictly, written whole or not at all."""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from autohybrid.errors import PlanError
from autohybrid.plan.document import SCHEMA_VERSION, Plan

_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From a version to the next one. Empty while there is only one version."""


def load(path: str | os.PathLike[str]) -> Plan:
    """Reads a plan.

    Raises:
        PlanError: the file is missing, isn't JSON, has another version, a field too many, too few or of another
            type, or a path that its own model lacks; the message names it.
    """
    place = Path(path)
    try:
        text = place.read_bytes()
    except OSError as error:
        raise PlanError(
            f"The plan {place} can't be read: {error.strerror}.", "'autohybrid profile SCRIPT' writes one."
        ) from error
    return parse(text, str(place))


def parse(text: bytes | str, origin: str = "plan") -> Plan:
    """Reads a plan from JSON text; ``origin`` names it in errors. Raises what :func:`load` raises."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PlanError(
            f"The plan {origin} isn't JSON: {error}.", "Write a new one with 'autohybrid profile'."
        ) from error
    if not isinstance(content, dict):
        raise PlanError(f"The plan {origin} isn't a JSON object.", "Write a new one with 'autohybrid profile'.")
    content = _migrated(content, origin)
    try:
        made = msgspec.convert(content, Plan)
    except msgspec.ValidationError as error:
        raise PlanError(
            f"The plan {origin} isn't valid: {error}.",
            "Mend that field, or write a new plan with 'autohybrid profile'.",
        ) from error
    _check_paths(made, origin)
    return made


def _check_paths(made: Plan, origin: str) -> None:
    """Refuses a region at a path that the model didn't have when it was profiled."""
    for model in made.models:
        paths = {line.partition(" ")[0] for line in model.structure}
        for region in model.regions:
            if (region.path or ".") not in paths:
                raise PlanError(
                    f"The plan {origin} names the path {region.path!r}, which its model {model.id} doesn't have.",
                    "Mend that path, or write a new plan with 'autohybrid profile'.",
                )


def _migrated(content: dict[str, Any], origin: str) -> dict[str, Any]:
    version = content.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise PlanError(f"The plan {origin} has no schema_version.", "Is it a plan? 'autohybrid profile' writes one.")
    while version in _MIGRATIONS:
        content = _MIGRATIONS[version](content)
        version = content["schema_version"]
    if version != SCHEMA_VERSION:
        raise PlanError(
            f"The plan {origin} has schema_version {version}, this autohybrid reads up to {SCHEMA_VERSION}.",
            "Update autohybrid, or profile again.",
        )
    return content


def dump(plan: Plan) -> bytes:
    """The plan as indented JSON text, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"


def save(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Writes a plan beside its place and renames it, so that a reader sees the old file or the new one.

    Raises:
        PlanError: the place can't be written.
    """
    place = Path(path)
    try:
        handle, aside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    except OSError as error:
        raise PlanError(
            f"The plan can't be written to {place}: {error.strerror}.", "Name a writable place with --output."
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(dump(plan))
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(aside, 0o666 & ~mask)
        os.replace(aside, place)
    except BaseException:
        os.unlink(aside)
        raise


def _tidied(part: Any) -> Any:
    """Descriptions as Python 3.13 has docstrings, without the indentation of the source, under older ones too."""
    if isinstance(part, list):
        return [_tidied(each) for each in part]
    if not isinstance(part, dict):
        return part
    described = part.get("description")
    rest = {key: _tidied(value) for key, value in part.items()}
    return {**rest, "description": inspect.cleandoc(described)} if isinstance(described, str) else rest


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a plan, made from the classes that read it."""
    schema = _tidied(msgspec.json.schema(Plan))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"autohybrid plan, version {SCHEMA_VERSION}",
        **schema,
    }
