"""Tells a Hydra job, wherever it runs, which trial of a search it is, by an environment variable."""

import os
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig

from ode_runner.recording.relative_path import relative_path

if TYPE_CHECKING:
    from ode_runner.sweeps.pruning import PrunableTrial

VARIABLE = "ODE_RUN_TRIAL"


def override_for(number: int) -> str:
    """The override that tells a job the number of its trial; it is not part of the run's identity."""
    return f"+hydra.job.env_set.{VARIABLE}='{number}'"


def trial_of_job() -> "PrunableTrial | None":
    """The trial of the present job; None if it is not one that may be pruned."""
    number = os.environ.get(VARIABLE)
    if number is None:
        return None
    from ode_runner.sweeps.pruning import PrunableTrial, pruner  # here, because it imports Optuna, which few jobs need

    job = HydraConfig.get()
    typed = job.sweeper.pruner
    chosen_by = pruner(typed if isinstance(typed, str) else hydra.utils.instantiate(typed))
    return PrunableTrial(relative_path(job.sweep.dir).absolute(), number=int(number), chosen_by=chosen_by)
