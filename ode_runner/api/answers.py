"""What a trained model says of inputs, and which it takes."""

from torch import Tensor

from ode_runner.batch import Answer, Batch, Split
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.experiment import Experiment

DRAWN = frozenset({Answer.SAMPLES, Answer.TOKENS})  # answers that are about no input


def told_of_inputs(experiment: Experiment) -> frozenset[Answer]:
    """The answers of the model about inputs of this task; of a true field, which has each for some task, the task's."""
    answers = experiment.model.answers()
    if Answer.TRUTH in answers:
        answers = experiment.task.needs | {Answer.STATES} if experiment.task.needs - DRAWN else frozenset()
    return answers - DRAWN


def check_told(experiment: Experiment, model: str) -> None:
    """Raises IncompatibleChoice if the model says nothing of inputs, or draws samples alone by its solver."""
    if not told_of_inputs(experiment):
        raise IncompatibleChoice(f"model={model} gives no answers to inputs here, only samples. Use run.sample(4).")
    experiment.check_follows()


def check_states(experiment: Experiment, model: str) -> None:
    """Raises IncompatibleChoice if the model has no states on the way from an input, by its solver."""
    if Answer.STATES not in told_of_inputs(experiment):
        raise IncompatibleChoice(f"model={model} has no states between its blocks.")
    experiment.check_follows()


def one_of_test(experiment: Experiment) -> Batch:
    """The first sample of the test split, as a batch."""
    return next(experiment.task.batches(Split.TEST, batch_size=1, epoch=0)).to(experiment.dtype)


def checked_inputs(inputs: Tensor, experiment: Experiment) -> Tensor:
    """Inputs as the model takes them, of the shape of those to learn from, or of those of the test.

    Series that are read row by row have as many rows in training as a window has, in the test as were recorded.

    Raises:
        RefusedInput: they are of another, or no such inputs.
    """
    shapes = [tuple(experiment.task.spec.conditioned_shape)]
    if tuple(inputs.shape[1:]) not in shapes:  # a sample of the test may take as long to make as an answer
        shapes.append(tuple(one_of_test(experiment).inputs.shape[1:]))
    if tuple(inputs.shape[1:]) not in shapes or not len(inputs):
        asked = " or ".join(f"(batch, {', '.join(map(str, shape))})" for shape in dict.fromkeys(shapes))
        raise RefusedInput(f"inputs of shape {tuple(inputs.shape)} must be {asked}.")
    return experiment.task.spec.checked(inputs)


def mean_of_draws(values: Tensor, inputs: int, *, every_time: bool) -> Tensor:
    """Outputs (batch, ...), or (time, batch, ...), of a batch of as many as the inputs.

    A network that recognises a law of initial states draws several for each input, one draw of all after another.
    """
    return values.unflatten(axis := int(every_time), (-1, inputs)).mean(axis)
