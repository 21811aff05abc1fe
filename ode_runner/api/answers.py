"""What a trained model says of inputs."""

from torch import Tensor

from ode_runner.batch import Answer
from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.experiment import Experiment

DRAWN = frozenset({Answer.SAMPLES, Answer.TOKENS})  # answers that are about no input


def told_of_inputs(experiment: Experiment) -> frozenset[Answer]:
    """The answers of the model about inputs of this task; of a true field, which has each for some task, the task's."""
    answers = experiment.model.answers()
    if Answer.TRUTH in answers:
        answers = experiment.task.needs | {Answer.STATES} if experiment.task.needs - DRAWN else frozenset()
    return answers - DRAWN


def check_told(experiment: Experiment, model: str) -> None:
    """Raises IncompatibleChoice if the model says nothing of inputs, and draws samples alone."""
    if not told_of_inputs(experiment):
        raise IncompatibleChoice(
            f"model={model} says nothing of inputs here: what it has learned are samples. Use run.sample(4)."
        )


def mean_of_draws(values: Tensor, inputs: int, *, every_time: bool) -> Tensor:
    """Outputs (batch, ...), or (time, batch, ...), of a batch of as many as the inputs.

    A network that recognises a law of initial states draws several for each input, one draw of all after another.
    """
    return values.unflatten(axis := int(every_time), (-1, inputs)).mean(axis)
