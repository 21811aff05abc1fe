"""JSON that every program can read: the standard has neither NaN nor Infinity."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON; a number that is not finite becomes null, which tables read as missing."""
    text = json.dumps(_finite_or_null(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode()  # file names that are not UTF-8 have surrogates


def numbers(row: Mapping[str, float | None]) -> dict[str, float]:
    """The numbers with null replaced by NaN, which undoes `to_json`."""
    return {name: math.nan if value is None else value for name, value in row.items()}


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite_or_null(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
