"""The identity of a run: its fingerprint, and whether a record on disk is of the same run.

It is made from the names of choices and their options. A class is part of it only if it is not the class in the
built-in yaml of that choice. So moving our modules changes no fingerprint.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ode_runner.config.help import conf_dir, targets_in
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.recording.own_code import CHOICES, FOLDER
from ode_runner.recording.record import NONE, UNUSED, RunRecord, computed, flat
from ode_runner.recording.strict_json import to_json

DIGITS = 12  # 48 bits: among a million configurations, the chance of a collision is one in 500
SHOWN = 3  # differences in a message
PACKAGE = "ode_runner"


def fingerprint(
    config: Mapping[str, Any],
    used: Mapping[str, str],
    choices: Mapping[str, str],
    *,
    without: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> str:
    """The fingerprint of a run: a hash, of 12 hexadecimal digits, of all that determines its result except the seed.

    Args:
        config: the resolved configuration.
        used: the choice of each axis; "-" if the model does not use it.
        choices: the choice of each config group, Hydra's too (`solver@solver.base`: group solver, place solver.base).
        without: by group, options to leave out. The fingerprint of training leaves out those that affect only the
            test.
    """
    content = _canonical(computed(_with_names(config, choices), used))
    for group, options in without.items():
        content[group] = {name: option for name, option in content[group].items() if name not in options}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:DIGITS]


def read_same(folder: Path, expected: RunRecord) -> RunRecord | None:
    """The record in `folder`, or None if there is none that can be read.

    Raises:
        RefusedInput: it is the record of another run than expected.
    """
    found = RunRecord.read(folder)
    differences = [] if found is None else list(_differences(found, expected))
    if not differences:
        return found
    raise RefusedInput(
        f"{folder} holds another run ({', '.join(differences[:SHOWN])}), which is left as it is. "
        "Leave hydra.run.dir and hydra.sweep.subdir out, or name a folder of its own."
    )


def is_same(found: RunRecord, expected: RunRecord) -> bool:
    """Whether both records are of one run, whatever its status."""
    return next(_differences(found, expected), None) is None


def differing_options(found: RunRecord, expected: RunRecord, group: str) -> list[str]:
    """The options of a group in which two records differ, such as `task.test`."""
    return [name for name, _, _ in _differing(found, expected) if name.startswith(f"{group}.")]


def check_same_weights(
    found: RunRecord, expected: RunRecord, folder: Path, *, read: Callable[[], object], free: Collection[str] = ()
) -> None:
    """Raises RefusedInput if a record differs from its folder's command in what the weights depend on, or in the seed.

    Args:
        found: the record.
        expected: the record that the command would make now.
        folder: the run's.
        read: reads the data; it is called if they are there and cannot be read, to raise the reason.
        free: options that the weights do not depend on.
    """
    for name, recorded, now in _differing(found, expected):
        if name in free:
            continue
        if name.removeprefix("task.") in found.contents:
            if now is None and Path(str(_option(expected, name))).exists():
                read()
            raise RefusedInput(_of_other_data(folder, name, expected, there=now is not None))
        if name == "task" or name.partition(".")[0] in ("model", "network", "seed"):
            there, here = f"{name}={as_typed(recorded)}", f"{name}={as_typed(now)}"
            raise RefusedInput(_of_other_choices(found, folder, there, here))


def _of_other_choices(found: RunRecord, folder: Path, recorded: str, now: str) -> str:
    """`recorded` is an option as in the record, `now` as in the command that is kept beside it."""
    if any(place.startswith(f"{CHOICES}/") for place in found.code):
        kept = folder / FOLDER / CHOICES
        return (
            f"{folder} was made with {recorded}, and its command gives {now} now, because a yaml of -cd has "
            f"changed. The run keeps those it was made with: use -cd {kept}."
        )
    return (
        f"{folder} holds parts of two runs: record.json has {recorded}, and the command that is kept beside it {now}."
    )


def _of_other_data(folder: Path, name: str, expected: RunRecord, *, there: bool) -> str:
    named = f"{name}={as_typed(_option(expected, name))}"
    if not there:
        return f"{folder} was made with {named}, and there is nothing to be read there. Say where it is: {name}=PATH."
    return f"{folder} was made with other data than {named} has now. Say where those are: {name}=PATH."


def _option(record: RunRecord, name: str) -> Any:
    group, _, option = name.partition(".")
    return record.config[group].get(option)


def _differences(found: RunRecord, expected: RunRecord) -> Iterator[str]:
    """The differences of two records, one phrase each. Classes of built-in choices may have moved and do not count."""
    differing = list(_differing(found, expected))
    yield from (f"{name}={as_typed(recorded)} there, {as_typed(now)} here" for name, recorded, now in differing)
    if not differing and found.fingerprint != expected.fingerprint:
        yield f"fingerprint {found.fingerprint} there, {expected.fingerprint} here"


def _differing(found: RunRecord, expected: RunRecord) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of each choice, option or seed in which two records differ."""
    recorded, now = (_compared(record) for record in (found, expected))
    for name in dict.fromkeys([*recorded, *now]):
        if recorded.get(name) != now.get(name):
            yield name, recorded.get(name), now.get(name)


def _compared(record: RunRecord) -> dict[str, Any]:
    config = dict(record.config)
    for option, content in record.contents.items():
        group, _, name = option.rpartition(".")
        config[group or "task"] = {**config.get(group or "task", {}), name: content}
    stored = json.loads(to_json(computed(config, record.choices)))  # where infinity is null
    options: dict[str, Any] = flat(_canonical(stored))
    choices = {axis: UNUSED if choice == NONE else choice for axis, choice in record.choices.items()}
    return {**choices, "seed": record.seed, **options}


def _with_names(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """A copy in which each class of a built-in yaml is replaced by the name of the choice.

    Other classes of ours, such as the field of a recipe, are named without the folder of their kind.
    """
    named = deepcopy(dict(config))
    for key, choice in choices.items():
        group, _, package = str(key).partition("@")
        node: Any = named
        for part in (package or group).split("."):
            node = node.get(part) if isinstance(node, dict) else None
        _name(node, group, str(choice))
    for name, options in (named.get("regularizer") or {}).items():  # several may be chosen, each under its own key
        _name(options, "regularizer", name)
    return dict(_without_folders(named))


def _name(node: Any, group: str, choice: str) -> None:
    """Replace the class in a node by the name of the choice, if it is the class in the built-in yaml."""
    if isinstance(node, dict) and node.get("_target_") == _built_in_class(group, choice) is not None:
        node["_target_"] = choice


def _without_folders(value: Any, key: str = "") -> Any:
    """A copy in which `ode_runner.solvers.explicit.euler.Euler` is `ode_runner.solvers.euler.Euler`, and so on."""
    if isinstance(value, Mapping):
        return {name: _without_folders(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    parts = value.split(".") if key == "_target_" and isinstance(value, str) else []
    return ".".join([*parts[:2], *parts[-2:]]) if len(parts) > 4 and parts[0] == PACKAGE else value


@cache
def _built_in_class(group: str, choice: str) -> str | None:
    """The class in a choice's built-in yaml, or in the yaml that this one includes (`defaults: [default]`)."""
    path = conf_dir() / group / f"{choice}.yaml"
    if targets := targets_in(path):
        return targets[0]
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    base = re.search(r"^defaults: \[(\w+)\]$", text, re.MULTILINE)
    return _built_in_class(group, base[1]) if base else None


def _canonical(value: Any) -> Any:
    """The value in a form that is equal for equivalent values: 1 and 1.0, or a null option and an absent one.

    So an option that is added later, and is null by default, changes no fingerprint.
    """
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
