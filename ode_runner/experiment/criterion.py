"""The metric by which the best weights of a run are chosen."""

from ode_runner.models.base import Model
from ode_runner.tasks.base import Task


def criterion(task: type[Task], model: type[Model]) -> tuple[str, bool]:
    """The validation metric by which the best weights are chosen, and whether higher is better.

    It is the task's objective, or the loss if the model is trained without a solve. Then the weights do not depend on
    the solver, and validation costs no solve.
    """
    return (task.objective, task.higher_is_better) if model.objective.solves else ("loss", False)
