"""Which weights of a run are the best: by validation, or by the training loss if the model estimates parameters.

Of equally good ones, such as those of 100 % accuracy, the ones with the least loss on validation.
"""

import math
from collections.abc import Mapping

from torch.optim import Optimizer

from ode_runner.batch import Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.signals import StopRequest
from ode_runner.experiment.task_contract import check_criterion
from ode_runner.models.equations.estimated import EstimatedModel
from ode_runner.training.gauss_newton import evaluated

# Before the first epoch has ended. `improved`: the epoch in which `chosen_by` was first reached.
NONE = {"objective": math.nan, "chosen_by": math.nan, "loss": math.nan, "epoch": 0, "improved": 0}


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
    loss = results.get("loss", math.nan)
    found = {"objective": results[name], "chosen_by": number, "loss": loss, "epoch": epoch, "improved": epoch}
    if latest or math.isnan(before) or (number > before if higher_is_better else number < before):
        return found
    return found | {"improved": best["improved"]} if number == before and loss < best["loss"] else None


def best_of_checkpoint(best: Mapping[str, float]) -> dict[str, float]:
    """The entry that a checkpoint holds, with what older ones lack."""
    return {"chosen_by": best["objective"], "loss": math.nan, "improved": best["epoch"], **best}


def of_training_data(experiment: Experiment) -> bool:
    """Whether weights are chosen by the loss on the training data: standard errors are right only at its minimum."""
    return isinstance(experiment.model, EstimatedModel) and experiment.model.of_training_data
