"""Rewords Hydra's errors in one readable line: what was typed, why it is refused, what to type instead."""

import errno
import re
import shlex
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from ode_runner.config.command_names import names_a_run
from ode_runner.config.help import (
    GROUPS,
    available,
    conf_dir,
    did_you_mean,
    user_folders,
)
from ode_runner.config.hints import foreign_choice, foreign_hint
from ode_runner.config.known_options import choices_of, known_keys, no_such_key, roots
from ode_runner.config.split_words import joined
from ode_runner.config.typed_signs import about_comma, about_letters, about_signs
from ode_runner.config.yaml_faults import UNKNOWN

EXTRAS = {  # part of the error if a package is missing: what was typed, the package, and the extra that installs it
    "Could not load 'hydra/launcher/joblib'": ("hydra/launcher=local", "hydra-joblib-launcher", "local"),
    "Could not load 'hydra/launcher/submitit_": ("hydra/launcher=slurm", "hydra-submitit-launcher", "slurm"),
    "Unknown plugin class : 'hydra_plugins.hydra_ray_launcher": ("hydra/launcher=ray", "hydra-ray-launcher", "ray"),
    "No module named 'optuna'": ("a search", "optuna", "search"),
}
OF_OVERRIDES = (  # the beginning of Hydra's message, and the message here
    (
        r"Could not append to config\. An item is already at '([^']+)'",
        "there is an option {0}. Type {0}=VALUE, without the +.",
    ),
    (r"Expecting one subcommand", "-s and --shell-completion are followed by install=bash or another of its commands."),
    (r"Additional config directory '(.*)' not found", "-cd names the folder '{0}', which does not exist."),
    (r"provider=(\S+) in \S+, path=(.*) is not available", "{0} names the folder '{1}', which does not exist."),
)
BARE = {  # words without a value, as other programs have them
    "help": "Type --help.",
    "list": "Type --help.",
    "version": "Type --version.",
    "train": "Leave it out: ode-run trains.",
    "run": "Leave it out: ode-run trains.",
}
EVERY = ("all", "*", "any")  # typed for all choices of a group
# Messages of OmegaConf's parser and resolvers for a ${...} that cannot be read.
UNREADABLE = r"recursion depth|(mismatched|extraneous|missing .*) input|token recognition|no viable alternative"
# The message that a resolver has raised, and the key; under a debugger OmegaConf leaves the key out.
RESOLVED = r"\w+ raised while resolving interpolation: (.*?)\s*(?:$|full_key: (\S+))"


def readable_message(error: BaseException, arguments: list[str]) -> str:
    """The message, in one line, for an error of Hydra, OmegaConf or the system that was raised before a run began.

    It says what was typed, why it is refused and what to type instead.
    """
    root = _root_cause(error)
    if sentence := _of_an_override(error, arguments) or _of_a_cause(root, arguments):
        return sentence
    return " ".join(line.strip() for line in str(root).splitlines() if line.strip()) or type(root).__name__


def _of_an_override(error: BaseException, arguments: list[str]) -> str:
    """Hydra's error about an override, reworded; "" if the error is about something else."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group = error.missing_cfg_file.rpartition("/")[0]
        if error.options is not None or group in GROUPS:  # Hydra gives no options for one of several, as logger=[csv,x]
            return _no_such_option(error.missing_cfg_file, list(error.options or sorted(choices_of(group))))
    if isinstance(error, OverrideParseException):
        word = str(error.override)
        hint = about_signs(word) or joined(word, arguments) or _about_bare(word, arguments) or about_letters(word)
        return f"cannot read '{word}'.{hint} Options are typed as key=value; quote values with spaces or brackets."
    twice = re.match(r"Multiple values for (\S+)\. To override", str(error))
    if twice and any(word.startswith(f"+{twice[1]}") for word in arguments):
        return f"{twice[1]} is chosen already. Type {twice[1]}=NAME, without the +."
    if twice:
        return f"a yaml chooses {twice[1]} once more. Write '- override /{twice[1]}: NAME' among its defaults."
    if several := re.match(r"Ambiguous value for argument '([^']+)'", str(error)):
        instead = "Add -m to run each of them, or use brackets for a list: key=[a,b]."
        return f"{several[1]} names several values. {instead}{about_comma(several[1])}"
    for pattern, sentence in OF_OVERRIDES:
        if said := re.match(pattern, str(error)):
            return sentence.format(*said.groups())
    if unknown := re.search(UNKNOWN, str(error)):
        return no_such_key(unknown[1] or unknown[2], arguments)
    return ""


def _of_a_cause(root: BaseException, arguments: list[str]) -> str:
    """The root cause of an error about a package, a value or a file, reworded; "" if it is about something else."""
    if lacking := next((extra for mark, extra in EXTRAS.items() if mark in str(root)), None):
        return f"{lacking[0]} needs {lacking[1]}: pip install 'ode-run[{lacking[2]}]', or leave it out."
    if re.search(UNREADABLE, str(root)):
        words = [word for word in arguments if "$" in word]
        return f"cannot read {' or '.join(words) or 'an option'}: a value in ${{...}} is misspelt, or leads to itself."
    resolved = re.match(RESOLVED, str(root), re.DOTALL)
    if resolved and resolved[2] and resolved[1].startswith('"'):  # a KeyError: a resolver does not know the name
        return f"{resolved[2]}: {resolved[1].strip(chr(34))}."
    if resolved:
        return resolved[1]
    if isinstance(root, OmegaConfBaseException) and (node := re.search(r"full_key: (\S+)", str(root))):
        reason = str(root).splitlines()[0].rpartition(" while resolving interpolation: ")[2]
        return f"{node[1]}: {reason.rstrip('.')}."
    if isinstance(root, OSError) and root.strerror:
        place = f" to {root.filename}" if root.filename else ""
        opened = any(names_a_run(word) for word in arguments)
        instead = "copy the run's folder elsewhere" if opened else "choose another place with output_dir=FOLDER"
        if root.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            return f"the disk has no locks ({root.strerror}), by which a run has its folder to itself; {instead}."
        free = "Type a shorter name" if root.errno == errno.ENAMETOOLONG else "Free it"
        return f"cannot write{place} ({root.strerror}). {free}, or {instead}."
    return ""


def about_flag(flag: str, arguments: list[str]) -> str:
    """A sentence that says how to type an option that was typed as a flag, such as `--solver rk4`; "" for others."""
    if flag in ("-M", "--sweep"):
        return " Several values are run by -m."
    name, equals, value = flag.lstrip("-").partition("=")
    if name not in known_keys([]):
        return ""
    following = [*arguments[arguments.index(flag) + 1 :], "VALUE"][0] if flag in arguments else "VALUE"
    return f" Type {name}={value if equals else following}."


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _no_such_option(missing: str, options: list[str]) -> str:
    group, _, name = missing.rpartition("/")
    return f"no {group} named '{name}'.{_hint_for(group, name, options)} {available(options)}"


def _hint_for(group: str, name: str, options: list[str]) -> str:
    """A hint for an unknown choice.

    Its yaml may be in a folder that was not named; its name may have another letter case, be that of another program or
    group, or be close to one that exists.
    """
    if places := _not_named(group, name):
        return f" {places[0] / group / name}.yaml is there: add -cd {shlex.quote(str(places[0]))}."
    alike = next((option for option in options if option.lower() == name.lower()), None)
    if alike:
        return did_you_mean(alike, options)
    if re.search(r"\s\S+=", name):
        return " Two options are in one word: type them separately, without quotes around both."
    if name in EVERY:
        return f" Every one is typed as -m '{group}=glob(*)'."
    elsewhere = next(
        (f" That is {other}={name}." for other in GROUPS if name != "none" and name in choices_of(other)), ""
    )
    return foreign_choice(group, name) or foreign_hint(name) or elsewhere or did_you_mean(name.lower(), options)


def _not_named(group: str, name: str) -> list[Path]:
    """The subfolders of the working directory that have a yaml of this choice."""
    try:
        return [path for path in sorted(Path().iterdir()) if (path / group / f"{name}.yaml").is_file()]
    except OSError:  # no permission to read it
        return []


def _about_bare(word: str, arguments: list[str]) -> str:
    """A hint for a word that was typed without a value; "" if it has a value or nothing is known about it."""
    if "=" in word:
        return ""
    if word in BARE:
        return f" {BARE[word]}"
    if word not in roots(known_keys([])):
        return foreign_hint(word)
    following = arguments[arguments.index(word) + 1 :] if word in arguments else []
    value = following[0] if following and "=" not in following[0] and not following[0].startswith("-") else "VALUE"
    return foreign_hint(word) or f" Type {word}={value}."


def hidden_files(arguments: list[str]) -> list[tuple[Path, str]]:
    """The user's yaml files that are not used because a built-in choice has their name, each with that choice."""
    return [
        (path, f"{group}={path.stem}")
        for folder in user_folders(arguments)
        for group in GROUPS
        for path in sorted((folder / group).glob("*.yaml"))
        if (conf_dir() / group / path.name).is_file()
    ]
