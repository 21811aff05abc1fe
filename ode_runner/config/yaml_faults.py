"""Errors in a yaml file, in one line."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from yaml import MarkedYAMLError

from ode_runner.errors import BrokenFile

UNKNOWN = r"Could not override '([^']+)'|Key '([^']+)' is not in struct"  # what Hydra says of an option or a group


@contextmanager
def with_position(path: str) -> Iterator[None]:
    """Inside, a yaml that cannot be read raises RefusedInput with its path, line and column."""
    try:
        yield
    except UnicodeDecodeError:
        raise BrokenFile(f"cannot read {path}: it is no text in UTF-8.") from None
    except MarkedYAMLError as error:
        at = error.problem_mark
        place = "" if at is None else f", line {at.line + 1}, column {at.column + 1}"
        raise BrokenFile(f"cannot read {path}{place}: {error.problem}.") from None


def of_a_file(error: BaseException, words: Sequence[str]) -> bool:
    """Whether the error of a cell is in a yaml file that it chooses, and not in a word of the command."""
    if missing := getattr(error, "missing_cfg_file", None):  # of Hydra, which is not imported by whoever reads recipes
        group, _, name = missing.rpartition("/")
        return not any(word.lstrip("+") == f"{group}={name}" for word in words)
    if key := re.search(UNKNOWN, str(error)):
        return not any(re.split(r"[=@]", word.lstrip("+~"))[0] == (key[1] or key[2]) for word in words)
    return isinstance(error, BrokenFile)
