"""Early stopping: `trainer.patience` ends training once validation has not improved for so many epochs.

The epoch and the best epoch so far, by which it decides, are in every checkpoint: a resumed run ends where an
uninterrupted one would.
"""

from ode_runner.errors import IncompatibleChoice, as_chosen
from ode_runner.experiment.experiment import Experiment


def out_of_patience(patience: int | None, objective: str, best: int, *, epoch: int, step: int) -> str:
    """A clause for the record if training is to end, otherwise nothing.

    Args:
        patience: in epochs; None: unlimited.
        objective: the name of the validation metric that is to improve.
        best: the epoch in which it was best, counted from 1; 0 before the first, or if its weights are lost.
        epoch: the number of epochs completed.
        step: the number of steps completed.
    """
    if patience is None or not best or epoch - best < patience:
        return ""
    return f"ended by trainer.patience={patience} at step {step}: no better {objective} since epoch {best}"


def check_patience(experiment: Experiment, *, stages: int) -> None:
    """Raises IncompatibleChoice if trainer.patience is set and validation cannot tell when training should end."""
    if experiment.options.patience is not None:
        check_ranked(experiment, stages=stages, option=f"trainer.patience={experiment.options.patience}")


def check_ranked(experiment: Experiment, *, stages: int, option: str) -> None:
    """Raises IncompatibleChoice if `option` would end training by validation, which cannot tell when it should end."""
    if not experiment.objective.ranks:
        raise IncompatibleChoice(
            f"{option} needs a loss by which weights can be ranked, and that of "
            f"{as_chosen('model', experiment.model)} is against a teacher that learns as well. Leave it "
            "out, or use trainer.max_seconds."
        )
    if stages > 1:
        raise IncompatibleChoice(
            f"{option} would end the first of {stages} stages, which are trained one after another. "
            "Leave it out, or use trainer.epochs, which holds for each stage."
        )
