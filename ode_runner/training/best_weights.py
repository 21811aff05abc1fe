"""Which weights of a run are the best: by validation, or by the training loss if the model estimates parameters."""

import math
from collections.abc import Mapping

from torch.optim import Optimizer

from ode_runner.batch import Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.signals import StopRequest
from ode_runner.experiment.task_contract import check_criterion
from ode_runner.models.equations.estimated import EstimatedModel
from ode_runner.training.gauss_newton import evaluated

NONE = {"objective": math.nan, "chosen_by": math.nan, "epoch": 0}  # before the first epoch has ended


def better(
    best: Mapping[str, float], results: Mapping[str, float], experiment: Experiment, optimizer: Optimizer,
    stop: StopRequest, *, epoch: int,
) -> dict[str, float] | None:  # fmt: skip
    """The entry for `best` of an epoch whose weights are better than the best so far; None if they are not better.

    Args:
        best: the entry of the best epoch so far, or NONE.
        results: the metrics of the validation.
        experiment: has the weights that are evaluated.
        optimizer: a Gauss-Newton step may have moved the weights to a point where a solve fails.
        stop: checked before each batch.
        epoch: counted from 1.
    """
    name, higher_is_better = experiment.criterion
    check_criterion(experiment.task, experiment.objective, name, results)
    number = results[name]
    if of_training_data(experiment):
        number, higher_is_better = evaluated(experiment, optimizer, stop, Split.TRAIN)["loss"], False
    before, latest = best["chosen_by"], not experiment.objective.ranks
    if latest or math.isnan(before) or (number > before if higher_is_better else number < before):
        return {"objective": results[name], "chosen_by": number, "epoch": epoch}
    return None


def of_training_data(experiment: Experiment) -> bool:
    """Whether weights are chosen by the loss on the training data: standard errors are right only at its minimum."""
    return isinstance(experiment.model, EstimatedModel) and experiment.model.of_training_data
