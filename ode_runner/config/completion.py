"""Tab completion from the names and contents of the yaml files. Imports neither Hydra nor torch, and so is quick."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ode_runner.config.arguments import parse
from ode_runner.config.choice_help import HIDDEN, bases, options_in
from ode_runner.config.help import conf_dir, defaults_of, user_folders
from ode_runner.config.option_values import BOOLEANS, values_of

ASKED_BY = ("bash", "fish")  # zsh asks as bash does
HYDRAS_OWN = ("hydra", "hydra.")  # Hydra's groups, most of which are not in our folder, and its settings
PRESETS = ("experiment", "grid", "search")  # groups whose yamls choose for other groups
OF_COMMANDS = {
    "rerun": ("missing", "failed", "all"),
    "format": ("torch_export", "onnx", "safetensors"),
    "part": ("field", "solve"),
}


def asking_shell(arguments: Sequence[str]) -> str | None:
    """The shell that asks for completions; None if the arguments are not such a request."""
    for shell in ASKED_BY:
        if list(arguments) in (["-sc", f"query={shell}"], ["--shell-completion", f"query={shell}"]):
            return shell
    return None


def joined(words: Iterable[str], *, shell: str) -> str:
    """Words in the format of a shell, without the keys of classes, which nobody types."""
    shown = [word for word in words if word.rpartition(".")[2].partition("=")[0] not in HIDDEN]
    return ("\n" if shell == "fish" else " ").join(shown)


def offered(arguments: Sequence[str]) -> list[str] | None:
    """The completions of a shell's line; None if only Hydra can tell them, which takes a third of a second.

    Files suffice to complete the name of a group, a choice, an option of a choice, and the values of an option that has
    a closed set of them. They do not suffice for keys that other words on the line may have added.
    """
    line = os.environ.get("COMP_LINE")
    if asking_shell(arguments) is None or line is None:
        return None
    words = line.split()[1:]
    word = words.pop() if words and not line.endswith(" ") else ""
    folders = [conf_dir(), *user_folders(words)]
    brought = any(re.match(r"[+~]|\w+@", other) for other in parse(words).overrides)
    key, equals, part = word.partition("=")
    if not equals:
        if re.fullmatch(r"\w*", word):
            return None if brought else _keys(folders, word)
        return None if brought else _options(folders, words, word)
    if not re.fullmatch(r"[\w-]*", part):
        return None
    values = _values(folders, words, key)
    return None if values is None else sorted(f"{key}={value}" for value in values if value.startswith(part))


def _values(folders: Sequence[Path], words: Sequence[str], key: str) -> list[str] | None:
    """The values of a key: choices of a group, or a closed set of values; None if Hydra has to be asked."""
    if re.fullmatch(r"\w+", key):
        if key in _groups(folders[:1]):
            return list(dict.fromkeys(_choices(folders, key)))
        if key in OF_COMMANDS:
            return list(OF_COMMANDS[key])
        defaults = options_in(_lines(folders[0] / "config.yaml"), "")
        return list(BOOLEANS) if any(option.name == key and option.value in BOOLEANS for option in defaults) else None
    found = re.fullmatch(r"(\w+)\.(?:(\w+)\.)?(\w+)", key)
    if found is None:
        return None
    group, member, option = found.groups()  # a member is typed for groups with several choices, such as logger
    path = _file(folders, group, member) if member else _chosen(folders, words, group)
    target = None if path is None else next(filter(None, (_target(_lines(one), group) for one in _whole(path))), None)
    own = [folder.parent for folder in folders[1:]] + [Path()]
    return (values_of(target, option, folders=own) or None) if target else None


def _options(folders: Sequence[Path], words: Sequence[str], word: str) -> list[str] | None:
    """The options of the choice of a group; None if Hydra has to be asked."""
    if not re.fullmatch(r"\w+\.\w*", word):
        return None
    group = word.partition(".")[0]
    path = _chosen(folders, words, group)
    task, model = (_chosen(folders, words, axis) for axis in ("task", "model"))
    if path is None or task is None or model is None or not all(_known_in_full(place) for place in (path, task, model)):
        return None
    both = folders[0] / "task_model" / f"{task.stem}_{model.stem}.yaml"
    places = {*_whole(path), *_whole(task), *_whole(model), *([both] if both.is_file() else [])}
    found = [option for place in places for option in options_in(_lines(place), group if place in _whole(path) else "")]
    found += options_in(_lines(folders[0] / "config.yaml"), "")
    names = {option.name for option in found if option.name.startswith(word)}
    return sorted({_next_part(name, word) for name in names})


def _next_part(name: str, word: str) -> str:
    """A dotted name up to its next dot; the last part with `=`, ready for a value."""
    point = name.find(".", len(word))
    return f"{name}=" if point < 0 else name[: point + 1]


def _known_in_full(path: Path) -> bool:
    """Whether a yaml includes no other yamls than those of `bases`."""
    listed = [line.strip() for line in _lines(path) if re.match(r"\s*- [\w/@]+(: \w+)?(  #.*)?$", line)]
    return all(re.match(r"- (override /|_self_|\w+@_here_: )", line) for line in listed)


def _whole(path: Path) -> list[Path]:
    """A yaml and those that it includes."""
    return [path, *(conf_dir() / base for base in bases(_lines(path), path.parent.name))]


def _chosen(folders: Sequence[Path], words: Sequence[str], group: str) -> Path | None:
    """The yaml of the choice of a group; None if it is not typed and several other words may decide it."""
    typed = {key: value for key, _, value in (word.partition("=") for word in parse(list(words)).overrides)}
    if group in typed:
        return _file(folders, group, typed[group])
    if typed.keys() & set(PRESETS):
        return None
    default = defaults_of(folders[0] / "config.yaml").get(group)
    deciding = {"task": (), "model": ("task",)}.get(group, ("task", "model"))
    others = [_chosen(folders, words, axis) for axis in deciding]
    said = [_override(_lines(path), group) for path in others if path is not None]
    names = [name for name in said if name is not None]
    if None in others or len(names) > 1:
        return None
    return _file(folders, group, names[0] if names else default or "")


def _override(lines: Sequence[str], group: str) -> str | None:
    """The choice that a yaml's defaults list makes for a group; None if it makes none."""
    found = (re.match(rf"\s*- override /(?:task_)?{group}: (\w+)", line) for line in lines)
    return next((match[1] for match in found if match), None)


def _target(lines: Sequence[str], group: str) -> str | None:
    """The class behind a choice: `_target_` at the top of its yaml, or under the name of its group."""
    node = ""
    for line in lines:
        if heading := re.match(r"(\w+):", line):
            node = heading[1]
        found = re.match(r"( *)_target_: (\S+)", line)
        if found and (not found[1] or (node == group and len(found[1]) == 2)):
            return found[2]
    return None


def _file(folders: Sequence[Path], group: str, name: str) -> Path | None:
    return next((path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()), None)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _keys(folders: Sequence[Path], word: str) -> list[str]:
    """Groups as they are typed, and keys of the configuration, with a dot after those that have options."""
    config = folders[0] / "config.yaml"
    keys = re.findall(r"^(\w+):(.*)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    values = [f"{key}=" for key, value in keys if value.strip()[:1] not in ("", "#")]  # the others are mappings
    nodes = [f"{group}." for group, choice in defaults_of(config).items() if choice != "null" and " " not in group]
    found = {*HYDRAS_OWN, *values, *nodes, *(_typed(folders, group) for group in _groups(folders) - {"hydra"})}
    return sorted(key for key in found if key.startswith(word))


def _groups(folders: Iterable[Path]) -> set[str]:
    return {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}


def _typed(folders: Iterable[Path], group: str) -> str:
    """A group as Hydra offers it: followed by `=` if it has only choices, by `/` if it has only groups."""
    entries = [path for folder in folders if (folder / group).is_dir() for path in (folder / group).iterdir()]
    choices, groups = any(path.suffix == ".yaml" for path in entries), any(path.is_dir() for path in entries)
    return group + ("=" if choices and not groups else "/" if groups and not choices else "")


def _choices(folders: Iterable[Path], group: str) -> list[str]:
    return [path.stem for folder in folders for path in (folder / group).glob("*.yaml")]
