"""Loading a trained run as an object."""

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ode_runner.api.composing import check_texts, composed
from ode_runner.api.run import Run
from ode_runner.build import assemble_experiment
from ode_runner.building.instantiate import target_of
from ode_runner.building.run_identity import identify
from ode_runner.commands.hypersolve import corrected
from ode_runner.commands.original_command import (
    LOADED,
    OF_RUNS,
    check_model_options,
    check_of_training,
    original_overrides,
)
from ode_runner.commands.trained_run import TrainedRun
from ode_runner.commands.unused_words import unused_words
from ode_runner.config.command_files import own_config_dirs
from ode_runner.config.trust import check_trust
from ode_runner.experiment.experiment import Experiment


def load(
    folder: str | os.PathLike[str],
    *overrides: str,
    config_dirs: Sequence[str | os.PathLike[str]] = (),
    trust: bool = False,
    correction: str | os.PathLike[str] | None = None,
) -> Run:
    """The trained run in a folder, with the weights that were best on validation.

    For a run that was killed or interrupted these are the best so far, and a message says so.

    Args:
        folder: of a run.
        overrides: another solver or tolerance for its solves, as with `evaluate=`: "solver=rk4", "tolerance=1e-6",
            "model.guidance=2".
        config_dirs: folders of the user's own choices with which the run was made, as for -cd.
        trust: also run code that the run names itself and that is in none of these folders.
        correction: a file or folder of `hypersolve=`, which corrects the steps of the solver.

    Raises:
        RefusedInput: there is no such run, it has no weights yet, or it needs code that is not trusted; or an override
            affects only training, or the correction is of another run or solver.
    """
    folder = Path(folder)
    check_texts(overrides)
    check_of_training(overrides, asked=LOADED, others=OF_RUNS)
    words = [word for place in config_dirs for word in ("-cd", str(place))]
    earlier = original_overrides(folder, list(overrides), words=words, asked=LOADED)
    with composed([*earlier, *overrides], config_dirs=config_dirs) as cfg:
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        plain = cast(dict[str, Any], OmegaConf.to_container(own))
        check_trust(plain, own_config_dirs(), opened=folder, trust=trust)
        choices = cfg.hydra.runtime.choices
        now, free = identify(cfg, choices), target_of(cfg, "model").test_only
        check_model_options(overrides, free)
        trained = TrainedRun.find(
            folder,
            partial(_assembled, cfg, choices, folder, correction),
            expected=now,
            free=[f"model.{name}" for name in free],
        )
        experiment = trained.experiment()
        for clause in unused_words(overrides, experiment, now, choices):
            warnings.warn(clause, stacklevel=2)
        return Run(folder=folder, record=trained.record, experiment=experiment, loaded_as=now)


def _assembled(
    cfg: DictConfig, choices: Mapping[str, str], folder: Path, correction: str | os.PathLike[str] | None
) -> Experiment:
    path = None if correction is None else Path(correction)
    return corrected(assemble_experiment(cfg, choices), path, run=folder, solver=choices["solver"])
