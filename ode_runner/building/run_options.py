"""Checks of the options that belong to no group, or whose class is not ours and does not check them."""

import math
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ode_runner.building.optimizer_options import check_optimizer
from ode_runner.errors import RefusedInput, as_typed


def check_numbers(cfg: DictConfig) -> None:
    """Raises RefusedInput if the seed, the tolerance or an option of the optimizer is not a valid number."""
    if type(cfg.seed) is not int or not 0 <= cfg.seed < 2**31:
        several = "" if isinstance(cfg.seed, int | float) else " Several are typed as -m seed=0,1,2."
        raise RefusedInput(f"seed={as_typed(cfg.seed)} is no whole number from 0 to {2**31 - 1}.{several}")
    if type(cfg.tolerance) not in (int, float) or not 0 < cfg.tolerance < math.inf:
        raise RefusedInput(f"tolerance={as_typed(cfg.tolerance)} is no number above 0.")
    check_optimizer(cast(dict[str, Any], OmegaConf.to_container(cfg.optimizer, resolve=True)))


def check_pictures(cfg: DictConfig) -> None:
    """Raises RefusedInput if an option asks for pictures and pictures=false forbids them."""
    if type(cfg.pictures) is not bool:
        raise RefusedInput(f"pictures={as_typed(cfg.pictures)} is neither true nor false.")
    asked = {"trainer.animate": cfg.trainer.get("animate"), "trainer.pictures_every": cfg.trainer.get("pictures_every")}
    for option, value in asked.items():
        if value and not cfg.pictures:
            raise RefusedInput(f"{option}={as_typed(value)} asks for pictures, and pictures=false for none.")
