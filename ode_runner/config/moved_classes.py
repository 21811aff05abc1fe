"""Finds classes of this program that have moved since a record named them by their module."""

from functools import cache
from typing import Any

from ode_runner.config.help import conf_dir, targets_in

PACKAGE = "ode_runner."


def with_present_classes(config: Any) -> Any:
    """A copy of a configuration, or of a part of one, with the present module of each of our classes.

    A class that a built-in yaml names is recognized by its own name and its first folder, such as `solvers`.
    """
    if isinstance(config, dict):
        return {key: _now(value) if key == "_target_" else with_present_classes(value) for key, value in config.items()}
    return [with_present_classes(value) for value in config] if isinstance(config, list) else config


def _now(target: Any) -> Any:
    known = _built_in()
    return target if target in known.values() else known.get(_key(str(target)), target)


@cache
def _built_in() -> dict[tuple[str, str], str]:
    """Every class of ours that a built-in yaml names, by first folder and class name."""
    targets = (target for path in sorted(conf_dir().rglob("*.yaml")) for target in targets_in(path))
    return {_key(target): target for target in targets if target.startswith(PACKAGE)}


def _key(target: str) -> tuple[str, str]:
    return ".".join(target.split(".")[:2]), target.rpartition(".")[2]
