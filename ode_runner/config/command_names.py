"""What may be asked about a run, or about a model that is not to be trained, and where the answers are written."""

from collections.abc import Iterable

COMMANDS = {
    "evaluate": "evaluations",
    "predict": "predictions",
    "audit": "audits",
    "replay": "replays",
}

NO_FOLDER = ("", "true", "false", "null")  # what may be typed for audit= besides a folder


def names_a_run(word: str) -> bool:
    """Whether a word as typed names the folder of a run that is to be opened."""
    key, equals, value = word.partition("=")
    return key in COMMANDS and bool(equals) and (key != "audit" or value.lower() not in NO_FOLDER)


def is_command(arguments: Iterable[str]) -> bool:
    """Whether arguments as typed ask one of these questions, rather than for a run."""
    typed = [word.partition("=") for word in arguments]
    return any(key in COMMANDS and value.lower() not in ("", "false", "null") for key, _, value in typed)
