"""Configurations as ode-run composes them. Imports nothing that `--shapes` checks, because conftest.py imports it."""

import pickle
from collections.abc import Callable
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ode_runner.config.composition_cost import less_composing
from ode_runner.config.help import conf_dir

Compose = Callable[..., DictConfig]

_composed: dict[tuple[object, ...], bytes] = {}


def composition(*overrides: str) -> DictConfig:
    """The configuration of `ode-run overrides`, including Hydra's own part; each call returns a new copy."""
    asked = (conf_dir(), Path.cwd(), *overrides)
    if asked not in _composed:
        with less_composing(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
        _composed[asked] = pickle.dumps(cfg)
    copy: DictConfig = pickle.loads(_composed[asked])
    return copy
