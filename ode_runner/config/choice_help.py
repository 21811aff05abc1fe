"""`ode-run --help task=lotka_volterra`: the options of a choice with defaults and descriptions, from its yaml.

Imports neither Hydra nor torch, and no yaml parser: our yaml files have one `key: value  # what it is` per line.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ode_runner.config.arguments import parse
from ode_runner.config.help import GROUPS, available, conf_dir, did_you_mean, print_help, user_folders
from ode_runner.errors import RefusedInput
from ode_runner.recording.text_layout import aligned

HIDDEN = ("_target_", "_partial_")  # keys that name the class behind a choice, which nobody types


class Option(NamedTuple):
    """An option: its name as typed, its default, and the comment in its yaml."""

    name: str
    value: str
    comment: str


def choices_asked(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Group and name of each choice that is typed with --help."""
    pairs = [word.partition("=") for word in parse(list(arguments)).overrides]
    return [(group, name) for group, _, name in pairs if group in GROUPS and name]


def show_help(arguments: list[str]) -> int:
    """Print the help of each choice that is typed with --help, or of the whole program; returns the exit code."""
    asked = choices_asked(arguments)
    if not asked:
        print_help(arguments)
    try:
        for i, (group, name) in enumerate(asked):
            print("\n" * (i > 0), end="")
            print_choice(group, name, arguments)
    except RefusedInput as refusal:
        print(f"ode-run: {refusal}", file=sys.stderr)
        return 2
    return 0


def print_choice(group: str, name: str, arguments: Sequence[str]) -> None:
    """Print the description of a choice, its options, and the options that it sets elsewhere.

    Raises:
        RefusedInput: there is no such choice.
    """
    folders = [conf_dir(), *user_folders(list(arguments))]
    path = _path(folders, group, name)
    lines = path.read_text(encoding="utf-8").splitlines()
    header = next((line[1:].strip() for line in lines if line[:1] == "#" and not line.startswith("# @")), "")
    print(f"{group}={name}: {header}\n")
    found = list(options_in(lines, group))
    for base in bases(lines, group):
        inherited = options_in((conf_dir() / base).read_text(encoding="utf-8").splitlines(), group)
        found += [option for option in inherited if option.name not in {own.name for own in found}]
    own = [option for option in found if option.name.startswith(f"{group}.")]
    others = [option for option in found if option not in own]
    for line in aligned([(f"{option.name}={option.value}", option.comment) for option in own]) if own else ():
        print(f"  {line}")
    if not own:
        print("  it has no options of its own")
    if others:
        print("\nunless something else is typed, it also sets")
        for line in aligned([(f"{option.name}={option.value}", option.comment) for option in others]):
            print(f"  {line}")


def _path(folders: Sequence[Path], group: str, name: str) -> Path:
    for folder in folders:
        if (path := folder / group / f"{name}.yaml").is_file():
            return path
    names = [path.stem for folder in folders for path in (folder / group).glob("*.yaml")]
    raise RefusedInput(f"no {group} named '{name}'.{did_you_mean(name, names)} {available(names)}")


def bases(lines: Sequence[str], group: str) -> list[str]:
    """The built-in yamls that a group's yaml includes: the group's default, or that of a part (`control@_here_`)."""
    parts = (re.match(r"\s*- (\w+)@_here_: (\w+)", line) for line in lines)
    return [
        *(f"{group}/default.yaml" for line in lines if line == "defaults: [default]"),
        *(f"{group}/{part[1]}/{part[2]}.yaml" for part in parts if part),
    ]


def opened(lines: Sequence[str]) -> Iterator[str]:
    """The lines; a class with its options in braces becomes a line for each option, as in most yamls."""
    for line in lines:
        braces = re.fullmatch(r"( *)(?:([\w-]+): )?\{(.*_target_.*)\}\s*", line)
        if braces is None:
            yield line
            continue
        indent = braces[1]
        if braces[2]:
            yield f"{indent}{braces[2]}:"
            indent += "  "
        for entry in re.split(r", (?=[\w-]+: )(?![^\[{]*[\]}])", braces[3]):
            yield f"{indent}{entry.strip()}"


def options_in(lines: Sequence[str], group: str) -> Iterator[Option]:
    """The options of a yaml, by full names, and the choices of other groups from its defaults list."""
    package = next((line.split()[2] for line in lines if line.startswith("# @package")), group)
    above: list[str] = [] if package in ("_global_", "") else [package]
    parents: list[tuple[int, str]] = []
    listed = 1000  # indent of the list that contains the line: a word cannot replace items of a list
    for line in opened(lines):
        depth = len(line) - len(line.lstrip())
        listed = depth if line.lstrip().startswith("- ") else listed if depth > listed else 1000
        # A task chooses by /task_solver and /task_network where the model's own solver or network has precedence.
        if chosen := re.match(r"\s*- override /(?:task_)?(\S+): (\S+)", line):
            yield Option(chosen[1], chosen[2], "")
        entry = re.match(r"( *)([\w-]+):(?: +(.*))?$", line)
        if entry is None or depth > listed or entry[2] in (*HIDDEN, "defaults"):
            continue
        parents = [(indent, key) for indent, key in parents if indent < depth]
        value, _, comment = (entry[3] or "").partition("  # ")
        if value and not value.startswith("#"):
            yield Option(".".join([*above, *(key for _, key in parents), entry[2]]), value.strip(), comment.strip())
        else:
            parents.append((depth, entry[2]))
