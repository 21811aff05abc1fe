"""`evaluate=FOLDER` and the like: a run's own command, typed again with something changed."""

import re
from pathlib import Path

from ode_runner.errors import RefusedInput
from ode_runner.help import did_you_mean
from ode_runner.stored import OVERRIDES, stored_overrides
from ode_runner.ways import WAYS

NO_FOLDER = ("", "true", "false", "null")  # what may be typed for audit= besides a folder
FORGOTTEN = {
    *(*WAYS, "times", "inputs"),
    *("rerun", "plan", "sweep", "grid", "search", "output_dir", "logger", "diagnostics", "hydra"),
}
TRAINED = ("task", "model", "network", "seed")  # what the weights belong to


def with_its_command(arguments: list[str]) -> list[str]:
    """The arguments, with the overrides of the run they revisit before those typed now.

    Raises:
        RefusedInput: there is no run in the folder, or what is typed does not fit its weights.
    """
    ways = [word for word in arguments if _names_a_run(*word.partition("=")[::2])]
    if not ways:
        return arguments
    ways += [word for word in arguments if word.lower() == "audit=true"]
    if len(ways) > 1:
        raise RefusedInput(f"{' '.join(ways)}: one at a time.")
    way, _, folder = ways[0].partition("=")
    typed = [word for word in arguments if not word.startswith("-")]
    for word in typed:
        if _root(word) in TRAINED and not word.startswith("task."):
            raise RefusedInput(f"{word}: {way}= takes the run as it is. Change its solver or tolerance, say.")
    flags, earlier = arguments[: len(arguments) - len(typed)], _kept(_overrides(way, Path(folder)), typed)
    if way in ("audit", "replay"):
        return [*flags, *earlier, *typed]
    return [*flags, *(word for word in earlier if _root(word) != "gradient"), *typed, "gradient=backprop"]


def _names_a_run(key: str, value: str) -> bool:
    return key in WAYS and value.lower() not in (NO_FOLDER if key == "audit" else NO_FOLDER[:1])


def _overrides(way: str, folder: Path) -> list[str]:
    if not folder.is_dir():
        raise RefusedInput(
            f"{way}={folder} is no run folder: there is no such folder.{did_you_mean(folder.name, _beside(folder))} "
            "A run prints its own at the end."
        )
    if not (folder / OVERRIDES).exists():
        raise RefusedInput(f"{way}={folder} is no run folder: it has no {OVERRIDES}.")
    return stored_overrides(folder)


def _beside(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.glob("*/")]


def _kept(earlier: list[str], typed: list[str]) -> list[str]:
    """Overrides of the run that nothing typed now replaces."""
    chosen_anew = {word.partition("=")[0] for word in typed}
    replaced = {"solver.rtol", "solver.atol"} if "tolerance" in chosen_anew else set()
    return [
        word
        for word in earlier
        if _root(word) not in FORGOTTEN | chosen_anew and word.partition("=")[0] not in replaced | chosen_anew
    ]


def _root(word: str) -> str:
    return re.split(r"[.=@/]", word.lstrip("+~"))[0]
