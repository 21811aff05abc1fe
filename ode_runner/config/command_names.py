"""Whether the words of a command line ask a question about a run or a model, rather than for a run."""

from collections.abc import Iterable

from ode_runner.recording.bookkeeping import COMMANDS

NO_FOLDER = ("", "true", "false", "null")  # values of audit= that name no folder


def names_a_run(word: str) -> bool:
    """Whether an override, as typed, names the folder of a run that is to be opened."""
    key, equals, value = word.partition("=")
    return key in COMMANDS and bool(equals) and (key != "audit" or value.lower() not in NO_FOLDER)


def is_command(arguments: Iterable[str]) -> bool:
    """Whether a command is among the arguments, as typed, so that nothing is trained."""
    typed = [word.partition("=") for word in arguments]
    return any(key in COMMANDS and value.lower() not in ("", "false", "null") for key, _, value in typed)
