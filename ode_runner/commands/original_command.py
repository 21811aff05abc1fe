"""`evaluate=FOLDER` and others: adds the overrides that made a run to a command line that names its folder."""

import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ode_runner.commands.run_files import where_files_are
from ode_runner.config.arguments import parse, root_of
from ode_runner.config.command_names import names_a_run
from ode_runner.config.help import GROUPS, conf_dir, did_you_mean, user_folders
from ode_runner.config.overrides import choices_named, values_swept
from ode_runner.config.unread_options import BUDGETS, LEARNING, STEPS, is_of_training
from ode_runner.errors import RefusedInput
from ode_runner.recording.bookkeeping import (
    COMMAND_OPTIONS,
    COMMANDS,
    OBSERVERS,
    PLACEMENT,
    PRESETS,
    PROCESSES,
    WATCHING,
)
from ode_runner.recording.record import FILE as RECORD
from ode_runner.recording.record import RunRecord
from ode_runner.recording.stored_command import OVERRIDES, stored_overrides

LOADED = "load: "  # stands for `evaluate=` and others in messages if a run is loaded from Python
NOT_KEPT = {"hydra", *COMMANDS, *COMMAND_OPTIONS, *PLACEMENT, *PRESETS, *OBSERVERS}  # of the run's own overrides
OF_TRAINING = (*BUDGETS, *STEPS, *WATCHING["trainer"], "log_every", "save_every_seconds")  # options of the trainer
# Commands that differentiate, and the groups and options of training that they read.
DIFFERENTIATING = {"audit=": ("gradient", "batch_size"), "replay=": ("gradient",), LOADED: ("gradient",)}
OF_RUNS = ("rerun", "plan", "sweep", "pictures", *PROCESSES)  # options that say which runs are made, and how
TRAINED = ("task", "model", "network", "seed")  # options that the weights depend on


def with_original_command(words: list[str]) -> list[str]:
    """The words of a command line, with the overrides of the run that they name before those typed now.

    Words that name no run are returned unchanged.

    Raises:
        RefusedInput: the folder holds no run, several are named, or an override does not fit the run's weights.
    """
    arguments = parse(words)
    typed = arguments.overrides
    asked = [word for word in typed if names_a_run(word)]
    if not asked:
        return words
    asked += [word for word in typed if word.lower() == "audit=true"]
    if len(asked) > 1:
        raise RefusedInput(f"{' '.join(asked)}: one at a time.")
    command, _, folder = asked[0].partition("=")
    if not folder:
        raise RefusedInput(f"{command}= names no run folder. A run prints its own at the end.")
    if runs := values_swept(asked[0]):
        raise RefusedInput(
            f"{asked[0]} names {len(runs)} runs, and one is taken at a time. Type {command}={runs[0]} first."
        )
    earlier = original_overrides(Path(folder), typed, words=words, asked=f"{command}=")
    check_of_training(typed, asked=f"{command}=")
    if f"{command}=" not in DIFFERENTIATING:
        earlier = [word for word in earlier if root_of(word) != "gradient"]
        typed = [*typed, "gradient=backprop"]
    return arguments._replace(overrides=[*earlier, *typed]).flags_first()


def check_of_training(typed: Sequence[str], *, asked: str, others: Sequence[str] = ()) -> None:
    """Raises RefusedInput for an option that affects only training, or one of `others`: a command trains nothing."""
    for word in words_of_training(typed, asked=asked, others=others):
        raise RefusedInput(f"{word} is of training, and {_plain(asked)} trains nothing. Leave it out.")


def words_of_training(typed: Sequence[str], *, asked: str, others: Sequence[str] = ()) -> Iterator[str]:
    """The words for options that affect only training, and not the command `asked`, or for one of `others`."""
    read = DIFFERENTIATING.get(asked, ())
    groups, options = ({*names} - {*read} for names in ((*LEARNING, *OBSERVERS, "gradient", *others), OF_TRAINING))
    return (word for word in typed if is_of_training(word, groups=groups, options=options))


def check_model_options(typed: Sequence[str], free: Collection[str]) -> None:
    """Raises RefusedInput for an option of the model on which its weights depend: one that is not among `free`."""
    for word in typed:
        name = word.partition("=")[0].removeprefix("model.")
        if word.startswith("model.") and name not in free:
            others = "".join(f", or model.{option}" for option in sorted(free))
            raise RefusedInput(f"{word}: the run is taken as it is. Change its solver or tolerance{others}, say.")


def _plain(asked: str) -> str:
    """The command as a word within a sentence."""
    return asked.removesuffix(": ")


def original_overrides(folder: Path, typed: list[str], *, words: list[str], asked: str) -> list[str]:
    """The overrides of the command that made the run in `folder`, without those that `typed` overrides replace.

    Args:
        folder: a run folder.
        typed: the overrides typed now.
        words: the whole command line typed now, for the folders of choices that it names.
        asked: the command, such as `evaluate=`, for messages.

    Raises:
        RefusedInput: the folder holds no run, or an override typed now does not fit the run's weights.
    """
    asks_model = asked in ("evaluate=", "predict=", "export=", LOADED)
    dotted = ("task.", "model.") if asks_model else ("task.",)  # see check_model_options
    for word in typed:
        if root_of(word) in TRAINED and not word.startswith(dotted):
            raise RefusedInput(f"{word}: {_plain(asked)} takes the run as it is. Change its solver or tolerance, say.")
    stored, record = _overrides(folder, asked=asked), RunRecord.read(folder)
    keys = {word.partition("=")[0] for word in typed}
    files = [] if record is None else list(where_files_are(folder, record, typed=keys))
    earlier = _kept(stored, [*typed, *files])
    _check_own_choices(earlier, folder, words, asked=asked)
    return [*earlier, *files]


def _overrides(folder: Path, *, asked: str) -> list[str]:
    run = next((place for place in list(folder.parents)[:2] if (place / OVERRIDES).is_file()), None)
    if run is not None and not (folder / OVERRIDES).exists():  # inside a run folder, such as its weights
        raise RefusedInput(f"{asked}{folder} lies in a run folder. Type {_typed(asked, run)}.")
    if not folder.is_dir():
        hint = did_you_mean(folder.name, [path.name for path in folder.parent.glob("*/")])
        raise RefusedInput(
            f"{asked}{folder} is no run folder: there is no such folder.{hint} A run prints its own at the end."
        )
    if not (folder / OVERRIDES).exists() and (inside := _latest_run(folder)) is not None:
        raise RefusedInput(
            f"{asked}{folder} is a folder of runs, and one of them is asked for. Type "
            f"{_typed(asked, inside)}, say; ode-report {shlex.quote(str(folder))} lists them."
        )
    if not (folder / OVERRIDES).exists():
        raise RefusedInput(f"{asked}{folder} is no run folder: it has no {OVERRIDES}.")
    return stored_overrides(folder)


def _typed(asked: str, folder: Path) -> str:
    """How to type the command for a run, in a shell or in Python."""
    return f"ode.load({str(folder)!r})" if asked == LOADED else shlex.quote(f"{asked}{folder}")


def _latest_run(folder: Path) -> Path | None:
    """The latest run at any depth in a folder; None if there is none."""
    found = (path.parent.parent for path in folder.glob(f"**/{OVERRIDES}"))
    runs = {run: (run / OVERRIDES).stat().st_mtime for run in found if (run / RECORD).is_file()}  # runs, not results
    return max(runs, key=lambda run: runs[run], default=None)


def _check_own_choices(overrides: list[str], folder: Path, words: list[str], *, asked: str) -> None:
    """Raises RefusedInput if a yaml of the run's choices is missing; the message names the -cd it was made with."""
    record, searched = RunRecord.read(folder), [conf_dir(), *user_folders(words)]
    if record is None or not record.config_dirs or not all(place.is_dir() for place in searched):
        return  # Hydra reports a folder of -cd that does not exist
    for word in overrides:
        group = word.lstrip("+").partition("=")[0]
        files = [Path(group) / f"{choice}.yaml" for choice in choices_named(word)] if group in GROUPS else []
        if not all(any((place / file).is_file() for place in searched) for file in files):
            flags = " ".join(f"-cd {made_with}" for made_with in record.config_dirs)
            instead = "Type that as well." if asked != LOADED else f"Give load config_dirs={record.config_dirs}."
            raise RefusedInput(f"{folder} was made with {flags}, where its {word} is. {instead}")


def _kept(earlier: list[str], typed: list[str]) -> list[str]:
    """The overrides of the earlier command that no override typed now replaces."""
    chosen_anew = {word.partition("=")[0] for word in typed}
    replaced = {"solver.rtol", "solver.atol"} if "tolerance" in chosen_anew else set()
    return [
        word
        for word in earlier
        if root_of(word) not in NOT_KEPT | chosen_anew and word.partition("=")[0] not in replaced | chosen_anew
    ]
