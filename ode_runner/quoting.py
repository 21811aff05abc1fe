"""Values in messages: as they are typed, in the words of yaml."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

MOST_SIGNS = 100  # of a value in a message


def as_typed(value: Any) -> str:
    """What to type for a value that a configuration holds: `true`, `null`, `[0,true]`, `{a:1}`; cut short if long.

    A text that would be read as something else stands in quotes, as it was typed.
    """
    text = _written(value)
    return text if len(text) <= MOST_SIGNS else f"{text[:MOST_SIGNS]}..."


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return value if _is_plain(value) else repr(value)
    if isinstance(value, Mapping):  # OmegaConf's among them, as in the next
        return "{" + ",".join(f"{key}:{_written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return f"[{','.join(map(_written, value))}]"
    return repr(value) if isinstance(value, int | float) else type(value).__name__


def _is_plain(text: str) -> bool:
    """Whether a text stands for itself, without quotes: it is one word, and neither a number nor a word of yaml."""
    if len(text.split()) > 1 or text.lower() in ("true", "false", "null"):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
