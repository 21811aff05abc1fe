"""Refuses words of the command line that would have no effect but that Hydra accepts silently."""

import posixpath
import re
from collections.abc import Mapping, Sequence

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ode_runner.config.arguments import Arguments, parse
from ode_runner.config.command_names import is_command, names_a_run
from ode_runner.config.help import did_you_mean
from ode_runner.errors import RefusedInput
from ode_runner.recording.bookkeeping import (
    COMMAND_OPTIONS,
    COMMANDS,
    OBSERVERS,
    PLACEMENT,
    PRESETS,
    PROCESSES,
)

SEVERAL = {"-m", "--multirun", "-c", "--cfg", "grid", "search", "experiment", "hydra.mode"}  # words that may sweep
OF_SWEEPS = r"hydra/(launcher|sweeper)=|hydra\.(launcher|sweeper|sweep)\.|sweep="
# Keys that have one value for all cells of a sweep.
COMMON = ("recipe", "hydra", *PRESETS, *PLACEMENT, *PROCESSES, *OBSERVERS, *COMMAND_OPTIONS)


def check_words_used(arguments: Sequence[str]) -> None:
    """Check that every word has an effect together with the others.

    Raises:
        RefusedInput: a word has no effect; the message names it, and what to type instead.
    """
    _check_once(parse(arguments))
    _check_configuration(parse(arguments))
    keys = {word.lstrip("+").partition("=")[0]: word for word in arguments}
    idle = next((word for word in arguments if re.match(OF_SWEEPS, word.lstrip("+"))), None)
    if idle and not SEVERAL & keys.keys():
        raise RefusedInput(f"{idle} is for several runs. Add -m to run every combination of the values typed.")
    if "hydra.run.dir" in keys and {"-m", "--multirun"} & keys.keys():
        raise RefusedInput(f"{keys['hydra.run.dir']} is for a single run. Name the folder of a sweep by sweep=NAME.")
    for key, word in keys.items():
        if key.startswith("hydra."):
            _check_hydra_has(key)
        if re.match(r"(experiment|grid|search)\.", key):
            raise RefusedInput(f"{word}: {key.partition('.')[0]} is chosen by its name, and has no options of its own.")
    _check_asked(keys, arguments)


def _check_once(typed: Arguments) -> None:
    """Raises RefusedInput for an option or a flag with two values; Hydra would take the later one."""
    pairs = [(word.lstrip("+").partition("=")[0], word.partition("=")[2], word) for word in typed.overrides]
    pairs += [(flag.name, flag.value, " ".join(flag.words)) for flag in typed.flags if flag.value is not None]
    first: dict[str, tuple[str, str]] = {}
    for name, value, words in pairs:
        earlier = first.setdefault(name, (value, words))
        if value != earlier[0]:
            raise RefusedInput(f"{name} is typed twice, as {earlier[1]} and as {words}. Leave one of them out.")


def _check_configuration(typed: Arguments) -> None:
    """Raises RefusedInput for flags that name another configuration: runs need the program's own."""
    for flag in typed.flags:
        if flag.name in ("--config-path", "--config-name") and flag.value:
            raise RefusedInput(
                f"{' '.join(flag.words)}: the program's own configuration is read in any case. Name a folder of your "
                "own choices by -cd FOLDER, and what you choose by experiment=NAME."
            )


def _check_asked(keys: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Raises RefusedInput for an option of one command that is typed with another, or with none."""
    for key, commands in COMMAND_OPTIONS.items():
        asked = is_command(word for word in arguments if word.startswith(tuple(f"{command}=" for command in commands)))
        if key in keys and not asked and keys[key] != f"{key}=null":
            instead = ", and choose what is learned from by task=" if key == "data" else ""
            able = " and ".join(f"{command}=RUN_FOLDER" for command in commands)
            raise RefusedInput(f"{keys[key]} is for {able}. Leave it out{instead}.")
    idle = keys.get("trust", "trust=false").partition("=")[2] not in ("false", "null")
    if idle and "," not in keys["trust"] and not any(map(names_a_run, arguments)):
        raise RefusedInput(f"{keys['trust']} is for runs that are opened, as by evaluate=RUN_FOLDER. Leave it out.")
    if "recipe" in keys:
        raise RefusedInput(f"{keys['recipe']}: a recipe is read from the file of its experiment. Leave it out.")
    for key in ("rerun", "sweep", "pictures"):
        if key in keys and is_command(arguments):
            raise RefusedInput(f"{keys[key]} is for runs that train. Leave it out with {', '.join(COMMANDS)}.")


def _check_hydra_has(key: str) -> None:
    """Raises RefusedInput for a key that is not in Hydra's own settings: with a `+`, Hydra would add it."""
    node, names = OmegaConf.structured(HydraConf), key.split(".")
    for i, name in enumerate(names[1:], start=1):
        if (
            not isinstance(node, DictConfig)
            or OmegaConf.get_type(node) is dict
            or node._is_none()
            or node._is_missing()
        ):
            return  # its keys are declared by a plugin, such as the launcher, and not by Hydra
        offered = [".".join([*names[:i], str(other)]) for other in node]
        if (tried := ".".join(names[: i + 1])) not in offered:
            hint = did_you_mean(tried, offered)
            raise RefusedInput(f"no option '{key}'.{hint} Available: {', '.join(offered)}")
        node = node._get_node(name)


def check_sweepable(overrides: Mapping[str, Override]) -> None:
    """Check that only options that may differ between cells have several values.

    Raises:
        RefusedInput: an option that must be the same for all cells has several values, or a sweep has no values.
    """
    for key, override in overrides.items():
        if not override.is_sweep_override():
            continue
        if re.split(r"[./@]", key.lstrip("+"))[0] in COMMON:
            raise RefusedInput(f"{override.input_line}: {key} is the same for all cells of a sweep. Type one value.")
        if override.is_discrete_sweep() and not list(override.sweep_string_iterator()):
            raise RefusedInput(f"{override.input_line} names no value, so there would be nothing to run.")


def check_plain_names(choices: Mapping[str, str | None]) -> None:
    """Check that each choice is typed by its plain name: Hydra also accepts tsit5.yaml and ./tsit5 for tsit5.

    A run has a single folder and fingerprint only if each of its choices has a single name.

    Raises:
        RefusedInput: another name is typed; the message says which one to type.
    """
    for group, name in choices.items():
        folder = group.partition("@")[0]
        path = posixpath.normpath(posixpath.join(folder, re.sub(r"\.ya?ml$", "", str(name)).strip("/")))
        plain = posixpath.relpath(path, folder)
        if name is not None and name != plain:
            raise RefusedInput(f"{group}={name} is another name of {group}={plain}. Type that.")
