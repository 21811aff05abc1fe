"""Checks single overrides that Hydra would accept or refuse unreadably: removals, choices, endless ranges."""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException

from ode_runner.config.arguments import parse
from ode_runner.config.help import GROUPS, available, conf_dir, user_folders
from ode_runner.config.split_words import joined
from ode_runner.errors import RefusedInput
from ode_runner.recording.bookkeeping import COMMANDS

OPTIONAL = ("experiment", "grid", "search")  # groups from which nothing need be chosen
SEVERAL = (*OPTIONAL, "regularizer", "logger")  # groups that allow any number of choices at once
MOST_VALUES = 100_000  # values of one option of a sweep


def check_overrides(arguments: Sequence[str]) -> None:
    """Check each override by itself, before a configuration is composed.

    Raises:
        RefusedInput: an override is wrong; the message names it, and what to type instead.
    """
    for override in _overrides(arguments):
        group = override.key_or_group
        if not group:
            word = str(override.input_line)
            instead = joined(word, arguments) or " Type key=value."
            raise RefusedInput(f"cannot read '{word}': there is nothing before the =.{instead}")
        if override.is_delete():
            _check_deletion(override, arguments)
        if isinstance(sweep := override.value(), RangeSweep):
            _check_range(str(override.input_line), sweep)
        if (group in GROUPS or "/" in group) and override.package is None and not override.is_delete():
            _check_names(override, arguments)
        if group in COMMANDS and (override.is_add() or override.is_force_add()):
            raise RefusedInput(f"{override.input_line}: type it without the +.")
        if group == "hydra":
            raise RefusedInput(f"{override.input_line}: options of Hydra have names with a dot, as hydra.verbose=true.")
        if group == "hydra.verbose":
            _check_verbose(override)


def quoted_where_needed(words: Sequence[str]) -> list[str]:
    """The words, flags first, with quotes around plain values that contain `=`, as names of run folders do.

    Hydra requires these quotes in overrides, and not in the values of flags, such as -cd RUN/code/conf.
    """
    arguments, plain = parse(words), r"""^([^=]*=)([^'"()\[\]{},]*=[^'"()\[\]{},]*)$"""
    quoted = [re.sub(plain, r"\1'\2'", word) for word in arguments.overrides]
    return arguments._replace(overrides=quoted).flags_first()


def is_one_value(word: str) -> bool:
    """Whether an override can be read, and sets one value."""
    return any(not override.is_sweep_override() for override in _overrides([word]))


def is_sweep(word: str) -> bool:
    """Whether an override has several values, or a range."""
    return any(override.is_sweep_override() for override in _overrides([word]))


def values_swept(word: str) -> list[str]:
    """The values of an override that sweeps over several, as text; empty for other overrides."""
    swept = [override for override in _overrides([word]) if override.is_discrete_sweep()]
    return [value for override in swept for value in override.sweep_string_iterator()]


def choices_named(word: str) -> list[str]:
    """The choices that an override of a group names: one, or all of a list, as in regularizer=[kinetic,steer]."""
    values = [override.value() for override in _overrides([word])]
    return [str(one) for value in values for one in (value if isinstance(value, list) else [value])]


def _overrides(arguments: Sequence[str]) -> Iterator[Override]:
    """The overrides that can be parsed; Hydra refuses the others itself."""
    parser = OverridesParser.create()
    for word in arguments:
        try:
            yield parser.parse_override(word)
        except (HydraException, ValueError, RecursionError):
            continue


def _check_verbose(override: Override) -> None:
    value = override.value()
    if not isinstance(value, bool | str | list):
        raise RefusedInput(f"{override.input_line} is neither true nor false.")
    if isinstance(value, list) and not all(isinstance(name, str) for name in value):
        raise RefusedInput(f"{override.input_line}: its list is of names of loggers, as hydra.verbose=[ode_runner].")


def _check_deletion(override: Override, arguments: Sequence[str]) -> None:
    line, group = override.input_line, override.key_or_group
    if group in GROUPS and group not in OPTIONAL:
        raise RefusedInput(f"{line}: {_needed(group, arguments)}")
    if "." not in group and group not in GROUPS and not group.startswith("hydra"):
        raise RefusedInput(f"{line}: '{group}' is needed and cannot be removed.")
    if "." not in group and not isinstance(override.value(), str | None):
        raise RefusedInput(f"{line} names no {group}. Leave it out.")


def _check_names(override: Override, arguments: Sequence[str]) -> None:
    group, value = override.key_or_group, override.value()
    for name in value.list if isinstance(value, ChoiceSweep) else [value]:
        empty = name is None or name == []
        if empty and group in OPTIONAL:
            raise RefusedInput(f"{override.input_line}: no {group} is chosen unless one is typed. Leave it out.")
        if empty:
            raise RefusedInput(f"{override.input_line}: {_needed(group, arguments)}")
        several = name if isinstance(name, list) and group in SEVERAL else [name]
        _check_apart(override, several)
        for one in several:
            if one is None or isinstance(one, int | float | list | dict | RangeSweep) or "${" in str(one):
                each = f" For each of them, type -m {group}={','.join(map(str, one))}." if isinstance(one, list) else ""
                instead = available(_names(group, arguments))
                raise RefusedInput(f"{override.input_line} names no {group}.{each} {instead}")
            if (plain := str(one).removeprefix(f"{group}/")) != str(one):
                raise RefusedInput(f"{override.input_line}: {group}/ is the group. Type {group}={plain}.")
            if "/" in plain and plain.endswith(".yaml") and (stem := PurePath(plain).stem) in _names(group, arguments):
                raise RefusedInput(f"{override.input_line}: that is a path. Type {group}={stem}.")


def _check_apart(override: Override, names: Sequence[object]) -> None:
    """Raises RefusedInput for choices that exclude each other: `none` with others, or the same one twice."""
    line, group = override.input_line, override.key_or_group
    others = list(dict.fromkeys(str(name) for name in names if name != "none"))
    instead = f"Type {group}={others[0] if len(others) == 1 else '[' + ','.join(others) + ']'}."
    if others and "none" in names:
        raise RefusedInput(f"{line}: none is for no {group} at all. {instead}")
    if len(others) < len(names) - names.count("none"):
        raise RefusedInput(f"{line} names one {group} twice. {instead}")


def _needed(group: str, arguments: Sequence[str]) -> str:
    names = _names(group, arguments)
    instead = f"Type {group}=none for no {group}." if "none" in names else available(names)
    return f"'{group}' is needed and cannot be removed. {instead}"


def _names(group: str, arguments: Sequence[str]) -> list[str]:
    folders = [conf_dir(), *user_folders(list(arguments))]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def _check_range(line: str, sweep: RangeSweep) -> None:
    if sweep.step == 0:
        raise RefusedInput(f"{line}: the step of a range, its third number, must not be 0.")
    try:
        count = ((sweep.stop or 0) - (sweep.start or 0)) / sweep.step
    except OverflowError:  # integers too large for a float
        count = math.inf
    if not count <= MOST_VALUES:  # not `count >`, so that NaN is refused
        raise RefusedInput(f"{line} names more than {MOST_VALUES:,} values.")
