"""Composes a configuration from command-line overrides, within this process."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import ode_runner.launch  # noqa: F401  for the resolver `folder`, which the configuration asks for
from ode_runner.config.composition_cost import less_composing
from ode_runner.config.help import conf_dir, search_path
from ode_runner.config.known_options import check_known_keys
from ode_runner.config.messages import readable_message
from ode_runner.config.overrides import check_overrides, quoted_where_needed, values_swept
from ode_runner.config.repeated_options import last_of_each
from ode_runner.config.set_options import completed
from ode_runner.config.unused_words import check_words_used
from ode_runner.errors import RefusedInput

_one_thread = RLock()


def check_texts(overrides: Sequence[object]) -> None:
    """Raises RefusedInput for overrides that are not strings, such as a list."""
    if wrong := [type(word).__name__ for word in overrides if not isinstance(word, str)]:
        raise RefusedInput(f"the words are texts, and a {wrong[0]} is none: ode.train('task=half_moons', 'seed=1').")


@contextmanager
def composed(overrides: Sequence[str], *, config_dirs: Sequence[str | os.PathLike[str]]) -> Iterator[DictConfig]:
    """The configuration of one run, with Hydra's own part; within the context, Hydra's state is that of a command.

    This state and sys.argv are global to the process: other threads wait until the context ends.

    Args:
        overrides: as typed after `ode-run`, such as "task=digits", "solver.rtol=1e-4".
        config_dirs: folders of the user's own choices, as for -cd.

    Raises:
        RefusedInput: the command line would refuse the overrides, or they describe several runs.
    """
    check_texts(overrides)
    overrides, remarks = last_of_each(overrides)
    for remark in remarks:
        warnings.warn(remark, stacklevel=4)
    places = [Path(place).resolve() for place in config_dirs]
    for place in places:
        if not place.is_dir():
            raise RefusedInput(f"config_dirs names the folder '{place}', which does not exist.")
    words = [word for place in places for word in ("-cd", str(place))] + list(overrides)
    with _one_thread, _hydra_and_argv_restored():
        sys.argv = ["ode-run", *words]  # read by messages and by the search for choices
        try:
            cfg = _compose(words, overrides, places)
        except (HydraException, OmegaConfBaseException) as error:
            raise RefusedInput(readable_message(error, words)) from error
        HydraConfig.instance().set_config(cfg)
        yield cfg


def _compose(words: list[str], overrides: Sequence[str], places: Sequence[Path]) -> DictConfig:
    for word in overrides:
        if word.startswith("-"):
            raise RefusedInput(f"{word}: a flag has no place here. Sweep with a loop, and name config_dirs=[...].")
        if len(values := values_swept(word)) > 1 or word.startswith(("grid=", "search=")):
            raise RefusedInput(
                f"{word} asks for {len(values) or 'many'} runs, and one is made at a time. Write a loop, or type a "
                f"sweep: ode-run -m {word}"
            )
    check_words_used(words)
    complete = quoted_where_needed(completed(overrides))
    check_overrides(complete)
    check_known_keys(words)
    if places:
        complete.append(search_path(places))
    with less_composing(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=complete, return_hydra_config=True)


@contextmanager
def _hydra_and_argv_restored() -> Iterator[None]:
    """Restores sys.argv and Hydra's state at the end, since a script may use Hydra itself."""
    argv, state = sys.argv, Singleton.get_state()
    try:
        yield
    finally:
        sys.argv = argv
        Singleton.set_state(state)
