"""Tells command lines that ask about a run or a model (evaluate=, audit=, ...) from those that train."""

from collections.abc import Iterable

from ode_runner.recording.bookkeeping import COMMANDS

NO_FOLDER = ("true", "false", "null")  # values of audit= that are not a folder


def names_a_run(word: str) -> bool:
    """Whether an override, as typed, names the folder of a run to open."""
    key, equals, value = word.partition("=")
    return key in COMMANDS and bool(equals) and (key != "audit" or value.lower() not in NO_FOLDER)


def is_command(arguments: Iterable[str]) -> bool:
    """Whether the arguments, as typed, contain a command, so that nothing is trained."""
    typed = [word.partition("=") for word in arguments]
    return any(key in COMMANDS and value.lower() not in ("false", "null") for key, _, value in typed)
