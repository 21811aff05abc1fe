"""Refuses training problems that are too large for a gradient mode, before anything is printed."""

from ode_runner.experiment.experiment import Experiment
from ode_runner.training.training_problems import training_problems, undisturbed


def check_problem_size(experiment: Experiment) -> None:
    """Raises IncompatibleChoice if the batch has too many samples or parameters for the gradient mode."""
    gradient = experiment.integrator.gradient
    if not gradient.sized_by_batch:
        return
    with undisturbed(experiment.model, experiment.device, training=True):
        for problem in training_problems(experiment):
            gradient.check_size(problem)
