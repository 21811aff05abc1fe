"""Parses a command line into flags, each with its value, and overrides. Knows Hydra's flags without importing Hydra."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

TAKE_A_VALUE = {
    "-c": "--cfg",
    "-p": "--package",
    "-cp": "--config-path",
    "-cn": "--config-name",
    "-cd": "--config-dir",
    "--experimental-rerun": "--experimental-rerun",
}
SUBCOMMANDS = ("new", "pack")
INFO_VALUES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")  # the value of --info is optional


class Flag(NamedTuple):
    """One flag as typed; `name` is its long form if the flag takes a value."""

    name: str
    value: str | None  # None: the flag takes none, or none was typed
    words: list[str]


class Arguments(NamedTuple):
    """Flags and overrides of a command line, each in the order typed."""

    flags: list[Flag]
    overrides: list[str]

    def flags_first(self) -> list[str]:
        """All words, flags first: Hydra 1.3 rejects overrides on both sides of a flag."""
        return [word for flag in self.flags for word in flag.words] + self.overrides

    def config_dirs(self) -> list[str]:
        """The folders of the user's own choices, named by -cd, in the order typed."""
        return [flag.value for flag in self.flags if flag.name == "--config-dir" and flag.value]


def parse(words: Iterable[str]) -> Arguments:
    """Sort the words of a command line into flags and overrides, in any order."""
    flags: list[Flag] = []
    overrides: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        typed, equals, attached = word.partition("=")
        name = _long_name(typed)
        if equals:
            flags.append(Flag(name, attached, [word]))
        elif waiting and _has_value(name, waiting):
            flags.append(Flag(name, waiting[0], [word, waiting.pop(0)]))
        else:
            flags.append(Flag(name, None, [word]))
    return Arguments(flags, overrides)


def _long_name(typed: str) -> str:
    """The long name of a flag that takes a value, even if abbreviated as argparse allows; other flags as typed."""
    if typed in TAKE_A_VALUE:
        return TAKE_A_VALUE[typed]
    meant = [name for name in TAKE_A_VALUE.values() if len(typed) > 2 and name.startswith(typed)]
    return meant[0] if len(meant) == 1 else typed


def _has_value(name: str, following: Sequence[str]) -> bool:
    return name in TAKE_A_VALUE.values() or (name in ("--info", "-i") and following[0] in INFO_VALUES)


def is_subcommand(words: Sequence[str]) -> bool:
    """Whether a command line begins with a subcommand, which has no configuration; overrides have a `=`."""
    return bool(words) and words[0] in SUBCOMMANDS


def root_of(word: str) -> str:
    """The first part of an override's key: solver for solver=rk4, +solver.rtol=1 and solver@solver.base=rk4."""
    return re.split(r"[.=@/]", word.lstrip("+~"))[0]
