"""Errors in a yaml file, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from yaml import MarkedYAMLError

from ode_runner.errors import RefusedInput


@contextmanager
def told_by_place(path: str) -> Iterator[None]:
    """Inside, a yaml that cannot be read raises RefusedInput with its path, line and column."""
    try:
        yield
    except UnicodeDecodeError:
        raise RefusedInput(f"cannot read {path}: it is no text in UTF-8.") from None
    except MarkedYAMLError as error:
        at = error.problem_mark
        place = "" if at is None else f", line {at.line + 1}, column {at.column + 1}"
        raise RefusedInput(f"cannot read {path}{place}: {error.problem}.") from None
