"""What may be asked about a run, or about a model that is not to be trained, and where the answers are written."""

from collections.abc import Iterable

WAYS = {
    "evaluate": "evaluations",
    "predict": "predictions",
    "audit": "audits",
    "replay": "replays",
}


def is_visit(arguments: Iterable[str]) -> bool:
    """Whether arguments as typed ask one of these questions, rather than for a run."""
    typed = [word.partition("=") for word in arguments]
    return any(key in WAYS and value.lower() not in ("", "false", "null") for key, _, value in typed)
