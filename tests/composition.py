"""Configurations as ode-run composes them. Imports nothing that `--shapes` checks, for conftest.py imports this."""

from collections.abc import Callable

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ode_runner.config.help import conf_dir

Compose = Callable[..., DictConfig]


def composition(*overrides: str) -> DictConfig:
    """The configuration of `ode-run overrides`, Hydra's own part included."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)
