"""Recognizes words of a command line that were split by a space, and says how to type them as one."""

import re
from collections.abc import Sequence

from ode_runner.recording.bookkeeping import COMMANDS

PATHS = ("output_dir", "data", "correction", *COMMANDS)  # options whose value is a path


def joined(word: str, arguments: Sequence[str]) -> str:
    """A sentence with the override that the words around `word` form without spaces; "" if they form none.

    It recognizes `solver = rk4`, `solver= rk4`, a path with a space, and `solver=euler, rk4`. PowerShell turns an
    unquoted `solver=euler,rk4` into the latter.
    """
    if word not in arguments:
        return ""
    place = list(arguments).index(word)
    before, after = (_bare(arguments, i) for i in (place - 1, place + 1))
    if word == "=" and before and after:
        return _typed(f"{before}={after}")
    if word.startswith("=") and before:
        return _typed(f"{before}{word}")
    if word.endswith(",") and "=" in word:
        return _typed(f"{word}{after}") if after else f" Type {word.rstrip(',')}, without the comma at its end."
    owner = next((i for i in reversed(range(place)) if "=" in arguments[i] or arguments[i].startswith("-")), None)
    if owner is None or "=" in word or arguments[owner].startswith("-"):
        return ""
    end = next((i for i in range(place, len(arguments)) if not _bare(arguments, i)), len(arguments))
    return _with_owner(arguments[owner], arguments[owner + 1 : end])


def _with_owner(owner: str, words: Sequence[str]) -> str:
    """A sentence with the override `owner` continued by `words`: the rest of its value, more values, or of a path."""
    if owner.endswith(("=", ",")):
        return _typed(owner + ",".join(words))
    key, _, value = owner.partition("=")
    if all(map(_is_number, [value, *words])):
        return _typed(",".join([owner, *words]))
    if re.search(r"\.(csv|parquet|npz|txt)$", words[-1]) and "." not in key:
        return f" Type task.file={words[-1]}."
    if "." in key or "." in words[-1] or key in PATHS:
        return f" If it belongs to the word before it, type '{' '.join([owner, *words])}' with the quotes."
    return _typed(",".join([owner, *words]))


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[-+\d.,eE]+", value) is not None


def _bare(arguments: Sequence[str], place: int) -> str:
    """The word at a place if it exists and is neither an override nor a flag; otherwise ""."""
    word = arguments[place] if 0 <= place < len(arguments) else ""
    return "" if "=" in word or word.startswith("-") else word


def _typed(override: str) -> str:
    if "," in override:
        return f" Type '{override}' without spaces, in PowerShell with the quotes."
    return f" Type {override} without spaces."
