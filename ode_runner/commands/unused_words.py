"""Words typed with a command on a run that have no effect; those of the run itself were reported when it was made."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ode_runner.config.command_files import typed_overrides
from ode_runner.config.unread_options import READ_AS, unread_words
from ode_runner.experiment.experiment import Experiment
from ode_runner.recording.record import UNUSED, RunRecord
from ode_runner.recording.stored_command import OVERRIDES, stored_overrides
from ode_runner.training.unused_options import unused_options


def typed_now(folder: Path | None) -> list[str]:
    """The overrides typed with a command, without those of the run in `folder`, if it is on a run."""
    own = set(stored_overrides(folder)) if folder and (folder / OVERRIDES).exists() else set()
    return [word for word in typed_overrides() if word not in own]


def unused_words(
    words: Collection[str], experiment: Experiment, now: RunRecord, choices: Mapping[str, str]
) -> Iterator[str]:
    """A clause for each word that has no effect on the solves.

    Args:
        words: the overrides typed now.
        experiment: the experiment that they make.
        now: the record that a run of them would have.
        choices: the choice of each group.
    """
    if now.choices["solver"] == UNUSED:
        yield from (f"{word} is not used: nothing is solved" for word in filter(is_of_solves, words))
        return
    yield from unread_words(list(words), now)
    names = {word.lstrip("+").partition("=")[0] for word in words}
    for clause in unused_options(experiment, None, choices=choices, config=now.config):
        if clause.partition("=")[0] in names:
            yield clause


def is_of_solves(word: str) -> bool:
    """Whether an override sets the solver or its accuracy; `=null` does not count, since it only undoes another one."""
    name, _, value = word.lstrip("+").partition("=")
    return value != "null" and (name in READ_AS or name.partition(".")[0] == "solver")
