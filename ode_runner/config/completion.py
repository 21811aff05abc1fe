"""What TAB offers at once: groups and their choices by names of files. Imports neither Hydra nor torch."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ode_runner.config.arguments import parse
from ode_runner.config.help import conf_dir, defaults_of, user_folders

QUERIES = (["-sc", "query=bash"], ["--shell-completion", "query=bash"])  # zsh asks as bash does
HYDRAS_OWN = ("hydra", "hydra.")  # its groups, most of which it brings itself, and its settings


def offered(arguments: Sequence[str]) -> list[str] | None:
    """What completes the line of a shell that asks; None where Hydra has to be asked, after a third of a second.

    A group with a part of a choice, and a word that is not yet a key, are told by names of files alone. Options of a
    choice, and keys that other words may have brought, are not.
    """
    line = os.environ.get("COMP_LINE")
    if list(arguments) not in QUERIES or line is None:
        return None
    words = line.split()[1:]
    word = words.pop() if words and not line.endswith(" ") else ""
    folders = [conf_dir(), *user_folders(words)]
    group, equals, part = word.partition("=")
    if equals:
        known = re.fullmatch(r"\w+", group) and re.fullmatch(r"\w*", part) and group in _groups(folders[:1])
        return sorted({f"{group}={name}" for name in _choices(folders, group, part)}) if known else None
    brought = any(re.match(r"[+~]|\w+@", other) for other in parse(words).overrides)
    return None if brought or not re.fullmatch(r"\w*", word) else _keys(folders, word)


def _keys(folders: Sequence[Path], word: str) -> list[str]:
    """Groups, as they are typed, and keys of the configuration, with a point behind those that have options."""
    config = folders[0] / "config.yaml"
    keys = re.findall(r"^(\w+):(.*)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    values = [f"{key}=" for key, value in keys if value.strip()[:1] not in ("", "#")]  # others hold settings
    nodes = [f"{group}." for group, choice in defaults_of(config).items() if choice != "null" and " " not in group]
    found = {*HYDRAS_OWN, *values, *nodes, *(_typed(folders, group) for group in _groups(folders) - {"hydra"})}
    return sorted(key for key in found if key.startswith(word))


def _groups(folders: Iterable[Path]) -> set[str]:
    return {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}


def _typed(folders: Iterable[Path], group: str) -> str:
    """As Hydra offers a group: with `=` behind it where it has choices alone, `/` where it has groups alone."""
    entries = [path for folder in folders if (folder / group).is_dir() for path in (folder / group).iterdir()]
    choices, groups = any(path.suffix == ".yaml" for path in entries), any(path.is_dir() for path in entries)
    return group + ("=" if choices and not groups else "/" if groups and not choices else "")


def _choices(folders: Iterable[Path], group: str, part: str) -> list[str]:
    return [path.stem for folder in folders for path in (folder / group).glob("*.yaml") if path.stem.startswith(part)]
