"""Options of the network that another choice sets: whether the network chosen has them."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ode_runner.building.instantiate import target_of
from ode_runner.building.members import members, naming
from ode_runner.config.help import conf_dir, user_folders
from ode_runner.errors import IncompatibleChoice


def check_network_options(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Raises IncompatibleChoice where the yaml of the model or the task sets options that the network has not."""
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


def _set_by(group: str, name: str) -> Iterator[str]:
    """The options of the network that a choice's yaml sets."""
    for folder in (conf_dir(), *user_folders(sys.argv[1:])):
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            network = OmegaConf.to_container(OmegaConf.load(path), resolve=False).get("network") or {}  # type: ignore[union-attr]
            return (str(option) for option in network if not str(option).startswith("_"))
    return iter(())


def _has(asked: set[str], network: Any) -> bool:
    return asked <= _options(network)


def _options(network: Any) -> set[str]:
    return set(inspect.signature(network).parameters)
