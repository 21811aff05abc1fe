"""The options that exist, and the nearest one to a name that does not."""

import re

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ode_runner.config.help import GROUPS, MOST_SIGNS, conf_dir, did_you_mean, listed, search_path, user_folders
from ode_runner.config.hints import foreign_hint
from ode_runner.errors import RefusedInput


def check_known_keys(arguments: list[str]) -> None:
    """Raises RefusedInput for `+foo=1`: Hydra accepts it, nothing reads it, and it would change the fingerprint."""
    groups = {*GROUPS, "hydra", *(path.name for folder in user_folders(arguments) for path in folder.glob("*/"))}
    for word in arguments:
        key = word.lstrip("+").partition("=")[0]
        root = re.split(r"[./@]", key)[0]
        if word.startswith("+") and root not in groups and root not in roots(known_keys(arguments)):
            raise RefusedInput(no_such_key(key, arguments))


def no_such_key(key: str, arguments: list[str]) -> str:
    """The message about an option that does not exist, with the nearest one that does."""
    known = known_keys(arguments)
    instead = f"not every cell of the sweep has an option '{key}'. Sweep those that have it apart."
    if key in known and any(word.startswith(f"~{key}") for word in arguments):
        return f"'{key}' is needed and cannot be removed."
    if key in known:  # the default choice has it, but not every choice of the sweep
        return _not_everywhere(key, arguments) or instead
    leaf = key.rpartition(".")[2]
    elsewhere = [name for name in known if name.rpartition(".")[2] == leaf]  # the right name in the wrong group
    group = key.partition(".")[0]
    siblings = [name for name in known if name.startswith(f"{group}.")]
    hint = f" Did you mean '{elsewhere[0]}'?" if elsewhere else _nearest(key, siblings, known)
    owners = [choice for choice in choices_of(group) if leaf in _keys(group, choice)]
    if not owners and not elsewhere and foreign_hint(key) and not (siblings and hint):
        return f"no option '{key}'.{foreign_hint(key)}"
    if owners := [owner for owner in owners if key == f"{group}.{owner}.{leaf}"] or owners:
        hint = f" It belongs to {listed([f'{group}={owner}' for owner in owners], most=MOST_SIGNS // 2)}."
        if is_swept(group, arguments):
            return _not_everywhere(key, arguments) or instead
    if group in GROUPS and not siblings:
        return f"no option '{key}'.{hint} The {group} chosen takes no options."
    return f"no option '{key}'.{hint} Available: {', '.join(siblings or roots(known))}"


def _not_everywhere(key: str, arguments: list[str]) -> str:
    """The message about an option that only some choices of a sweep have, by the names of the others; "" if unknown."""
    group, _, leaf = key.partition(".")
    swept = [name for word in arguments if word.startswith(f"{group}=") for name in word.partition("=")[2].split(",")]
    has = {name: leaf in _keys(group, name) for name in choices_of(group) if name in swept}
    without = [f"{group}={name}" for name, there in has.items() if not there]
    if not without or len(without) == len(has):
        return ""
    have, them = ("has", "it") if len(without) == 1 else ("have", "them")
    named = listed(without, most=MOST_SIGNS // 2)
    return f"{named} {have} no option '{key}', which is typed for all cells of the sweep. Sweep {them} apart."


def has_option(group: str, name: str) -> bool:
    """Whether a built-in choice of the group has an option of this name."""
    return any(name in _keys(group, choice) for choice in choices_of(group))


def is_swept(group: str, arguments: list[str]) -> bool:
    """Whether the cells of a sweep may have different choices of `group`.

    Hydra then accepts an option that is typed for all cells only if the default choice has it. Tasks and models may
    choose for other groups, so that sweeps over them count, too.
    """
    choosers = [f"{chooser}=" for chooser in (group, "task", "model")]
    for word in arguments:
        of_cells = word.startswith("hydra.sweeper.cells=") and any(chooser in word for chooser in choosers)
        if of_cells or ("," in word and word.startswith(tuple(choosers))):
            return True
    return False


def _nearest(key: str, siblings: list[str], known: list[str]) -> str:
    """A sentence with the option of the closest name, by the last part of the name within a group; "" if none."""
    if "." not in key or not siblings:
        return did_you_mean(key.lower(), known, closeness=0.75)
    leaves = {name.rpartition(".")[2]: name for name in siblings}
    close = did_you_mean(key.rpartition(".")[2], list(leaves), closeness=0.8)
    return re.sub("'(.*?)'", lambda leaf: f"'{leaves[leaf[1]]}'", close)


def choices_of(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _keys(group: str, choice: str) -> set[str]:
    """The options in a built-in choice's yaml, and in those that it includes (`- folder@_here_: name`)."""
    path = conf_dir() / group / f"{choice}.yaml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if "@package _global_" in text:  # then its own options are under the group's name
        own = re.search(rf"^{group}:\n((?:  .*\n)*)", text, re.MULTILINE)
        return {*re.findall(r"^  (\w+):", own[1], re.MULTILINE)} if own else set()
    included = (f"{folder}/{name}" for folder, name in re.findall(r"^ +- (\w+)@_here_: (\w+)", text, re.MULTILINE))
    return {*re.findall(r"^(\w+):", text, re.MULTILINE)}.union(*(_keys(group, name) for name in included))


def roots(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def known_keys(arguments: list[str]) -> list[str]:
    """Every option of the configuration composed with the valid group choices among the arguments."""
    chosen = [word for word in arguments if word.partition("=")[0] in GROUPS and "," not in word]
    chosen.append(search_path(folder.resolve() for folder in user_folders(arguments)))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            cfg = compose("config", overrides=chosen)
        except Exception:  # one of the choices is invalid; the defaults have most options
            cfg = compose("config")
    return [*GROUPS, *_leaves(cfg)]


def _leaves(cfg: DictConfig, prefix: str = "") -> list[str]:
    names: list[str] = []
    for key in map(str, cfg):
        name = f"{prefix}{key}"
        if not key.startswith("_"):
            node = cfg._get_node(key)
            names += _leaves(node, f"{name}.") if OmegaConf.is_dict(node) else [name]  # type: ignore[arg-type]
    return names
