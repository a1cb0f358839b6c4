"""Argument and output structures of a plan as a person would write them."""

from __future__ import annotations

from typing import Any


def signature_text(structure: Any) -> str:
    """``(float32[1, dyn, 256], mask=float32[32, 32])``: what a Layer is called with, or gives.

    A structure of a form that isn't known is shown as it stands in the plan.
    """
    call = _call(structure)
    return _text(structure) if call is None else call


def varying(structure: Any) -> list[str]:
    """The dimensions that vary, each with its Tensor: ``dimension 1 of float32[1, dyn, 256]``."""
    found = []
    for tensor in _tensors(structure):
        found += [
            f"dimension {place} of {_text({'tensor': tensor})}"
            for place, size in enumerate(tensor["shape"])
            if size == "dyn"
        ]
    return found


def _call(structure: Any) -> str | None:
    """Positional and keyword arguments, recorded as a tuple of a tuple and a dict."""
    match structure:
        case {"tuple": [{"tuple": list(args)}, {"dict": dict(kwargs)}]}:
            return f"({', '.join([*map(_text, args), *(f'{key}={_text(value)}' for key, value in kwargs.items())])})"
    return None


def _text(structure: Any) -> str:
    match structure:
        case {"tensor": {"dtype": str(dtype), "shape": list(shape)}}:
            return f"{dtype}[{', '.join(map(str, shape))}]"
        case {"tuple": list(parts)}:
            return f"({', '.join(map(_text, parts))}{',' if len(parts) == 1 else ''})"
        case {"list": list(parts)}:
            return f"[{', '.join(map(_text, parts))}]"
        case {"dict": dict(parts)}:
            return "{" + ", ".join(f"{key!r}: {_text(value)}" for key, value in parts.items()) + "}"
        case {"object": dict(parts), "class": str(name)}:
            return f"{name}({', '.join(f'{key}={_text(value)}' for key, value in parts.items())})"
        case {"constant": value}:
            return repr(value)
        case {"opaque": str(name)}:
            return f"<{name}>"
    return str(structure)


def _tensors(structure: Any) -> list[dict[str, Any]]:
    if isinstance(structure, list):
        return [tensor for part in structure for tensor in _tensors(part)]
    match structure:
        case {"tensor": {"shape": list()} as tensor}:
            return [tensor]
        case dict():
            return _tensors(list(structure.values()))
    return []
