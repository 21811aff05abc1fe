"""`evaluate=FOLDER` and the like: a run's own command, typed again with something changed."""

from pathlib import Path

from ode_runner.config.arguments import parse, root_of
from ode_runner.config.command_names import names_a_run
from ode_runner.config.help import GROUPS, conf_dir, did_you_mean, user_folders
from ode_runner.config.overrides import values_swept
from ode_runner.errors import RefusedInput
from ode_runner.recording.bookkeeping import COMMANDS, OBSERVERS, PLACEMENT, PREDICTION, PRESETS
from ode_runner.recording.record import RunRecord
from ode_runner.recording.stored_command import OVERRIDES, stored_overrides

NOT_KEPT = {"hydra", *COMMANDS, *PREDICTION, *PLACEMENT, *PRESETS, *OBSERVERS}  # of the run's own overrides
TRAINED = ("task", "model", "network", "seed")  # what the weights belong to


def with_its_command(words: list[str]) -> list[str]:
    """The words of a command line, with the overrides of the run they revisit before those typed now.

    Raises:
        RefusedInput: there is no run in the folder, or what is typed does not fit its weights.
    """
    arguments = parse(words)
    typed = arguments.overrides
    ways = [word for word in typed if names_a_run(word)]
    if not ways:
        return words
    ways += [word for word in typed if word.lower() == "audit=true"]
    if len(ways) > 1:
        raise RefusedInput(f"{' '.join(ways)}: one at a time.")
    way, _, folder = ways[0].partition("=")
    if not folder:
        raise RefusedInput(f"{way}= names no run folder. A run prints its own at the end.")
    if runs := values_swept(ways[0]):
        raise RefusedInput(f"{ways[0]} names {len(runs)} runs, and one is taken at a time. Type {way}={runs[0]} first.")
    for word in typed:
        if root_of(word) in TRAINED and not word.startswith("task."):
            raise RefusedInput(f"{word}: {way}= takes the run as it is. Change its solver or tolerance, say.")
    earlier = _kept(_overrides(way, Path(folder)), typed)
    _check_own_choices(earlier, Path(folder), words)
    if way not in ("audit", "replay"):
        earlier = [word for word in earlier if root_of(word) != "gradient"]
        typed = [*typed, "gradient=backprop"]
    return arguments._replace(overrides=[*earlier, *typed]).flags_first()


def _overrides(way: str, folder: Path) -> list[str]:
    if not folder.is_dir():
        raise RefusedInput(
            f"{way}={folder} is no run folder: there is no such folder.{did_you_mean(folder.name, _beside(folder))} "
            "A run prints its own at the end."
        )
    if not (folder / OVERRIDES).exists():
        raise RefusedInput(f"{way}={folder} is no run folder: it has no {OVERRIDES}.")
    return stored_overrides(folder)


def _check_own_choices(overrides: list[str], folder: Path, words: list[str]) -> None:
    """Raises RefusedInput, with the -cd that the run was made with, where one of its choices is not to be found."""
    record, places = RunRecord.read(folder), [conf_dir(), *user_folders(words)]
    if record is None or not record.config_dirs or not all(place.is_dir() for place in places):
        return  # what -cd names is for Hydra to look for
    for word in overrides:
        group, _, choice = word.lstrip("+").partition("=")
        if group in GROUPS and not any((place / group / f"{choice}.yaml").is_file() for place in places):
            flags = " ".join(f"-cd {made_with}" for made_with in record.config_dirs)
            raise RefusedInput(f"{folder} was made with {flags}, where its {word} is. Type that as well.")


def _beside(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.glob("*/")]


def _kept(earlier: list[str], typed: list[str]) -> list[str]:
    """Overrides of the run that nothing typed now replaces."""
    chosen_anew = {word.partition("=")[0] for word in typed}
    replaced = {"solver.rtol", "solver.atol"} if "tolerance" in chosen_anew else set()
    return [
        word
        for word in earlier
        if root_of(word) not in NOT_KEPT | chosen_anew and word.partition("=")[0] not in replaced | chosen_anew
    ]
