"""Checks that the chosen network has the network options that the yaml of another choice sets."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig

from ode_runner.building.instantiate import target_of
from ode_runner.building.members import members, naming
from ode_runner.config.choices import content_of
from ode_runner.errors import IncompatibleChoice


def check_network_options(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Raises IncompatibleChoice if the yaml of the model or the task sets options that the network does not have."""
    offered = _options(target_of(cfg, "network"))
    task, model = choices["task"], choices["model"]
    for group, name, typed in (
        ("model", model, f"model={model}"),
        ("task", task, f"task={task}"),
        ("task_model", f"{task}_{model}", f"task={task} with model={model}"),
    ):
        asked = {option for option in _set_by(group, name) if option in cfg.network}
        if lacking := sorted(asked - offered):
            able = naming("network", members("network"), partial(_has, asked))
            raise IncompatibleChoice(
                f"{typed} sets {', '.join(f'network.{option}' for option in lacking)}, and "
                f"network={choices['network']} has no such option{'s' if len(lacking) > 1 else ''}. "
                + (f"Use {able}." if able else "No network here has them all.")
            )


def _set_by(group: str, name: str) -> list[str]:
    """The options of the network that a choice's yaml sets."""
    network = content_of(group, name).get("network") or {}
    return [str(option) for option in network if not str(option).startswith("_")]


def _has(asked: set[str], network: Any) -> bool:
    return asked <= _options(network)


def _options(network: Any) -> set[str]:
    return set(inspect.signature(network).parameters)
