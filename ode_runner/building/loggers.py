"""The loggers that a configuration chooses: none, one or several, by the keys under `logger`."""

import importlib.util
from pathlib import Path

from omegaconf import DictConfig

from ode_runner.building.instantiate import checked_partial, construct, target_of
from ode_runner.building.several import chosen
from ode_runner.errors import RefusedInput
from ode_runner.loggers.several import Loggers

GROUP = "logger"
FACTS = ("folder", "first_step")  # arguments of a logger that are known at run time only


def check_loggers(cfg: DictConfig) -> None:
    """Raises RefusedInput if an option is wrong, or the package that a logger needs is not installed."""
    for name, options in chosen(cfg, GROUP).items():
        place = f"{GROUP}.{name}"
        checked_partial(options, place, named=FACTS)  # the logger itself is made once the run's first step is known
        package = target_of(options, place).package
        if package is not None and importlib.util.find_spec(package) is None:
            raise RefusedInput(f"logger={name} needs {package}: pip install {package}, or leave it out.")


def build_loggers(cfg: DictConfig, *, folder: Path, first_step: int) -> Loggers:
    """All chosen loggers as one; `first_step` is the step at which the session begins."""
    loggers = chosen(cfg, GROUP)
    return Loggers(
        {
            name: construct(options, f"{GROUP}.{name}", folder=folder, first_step=first_step)
            for name, options in loggers.items()
        }
    )
