"""Which outputs a trained model gives for inputs, and which inputs it accepts."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import Answer, Batch, Split
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.experiment import Experiment

DRAWN = frozenset({Answer.SAMPLES, Answer.TOKENS})  # outputs that do not depend on inputs


def answers_of(experiment: Experiment) -> frozenset[Answer]:
    """The kinds of output for inputs of this task; a true field gives those that the task needs, and states."""
    answers = experiment.model.answers()
    if Answer.TRUTH in answers:
        answers = experiment.task.needs | {Answer.STATES} if experiment.task.needs - DRAWN else frozenset()
    return answers - DRAWN


def check_answers(experiment: Experiment, model: str) -> None:
    """Raises IncompatibleChoice if the model has no outputs for inputs, or its solver only draws samples."""
    if not answers_of(experiment):
        raise IncompatibleChoice(f"model={model} gives no answers to inputs here, only samples. Use run.sample(4).")
    experiment.check_follows()


def check_states(experiment: Experiment, model: str) -> None:
    """Raises IncompatibleChoice if the model has no states between input and output, with its solver."""
    check_answers(experiment, model)
    if Answer.STATES not in answers_of(experiment):
        of_samples = " run.sample(4, times=5).path has those of samples." if experiment.model.answers() & DRAWN else ""
        raise IncompatibleChoice(f"model={model} {experiment.model.untimed}: inputs have no states.{of_samples}")


def one_of_test(experiment: Experiment) -> Batch:
    """The first sample of the test split, as a batch."""
    return next(experiment.task.batches(Split.TEST, batch_size=1, epoch=0)).to(experiment.dtype)


def checked_inputs(inputs: Tensor, experiment: Experiment) -> Tensor:
    """Inputs as the model takes them; their shape must be that of the training inputs, or of the test inputs.

    The number of rows may differ for series read row by row: a window in training, the recorded rows in the test.

    Raises:
        RefusedInput: they have another shape, or are not valid inputs.
    """
    shapes = [tuple(experiment.task.spec.conditioned_shape)]
    if tuple(inputs.shape[1:]) not in shapes:  # lazily: making a test sample may take as long as a prediction
        shapes.append(tuple(one_of_test(experiment).inputs.shape[1:]))
    if tuple(inputs.shape[1:]) not in shapes or not len(inputs):
        asked = " or ".join(f"(batch, {', '.join(map(str, shape))})" for shape in dict.fromkeys(shapes))
        raise RefusedInput(f"inputs of shape {tuple(inputs.shape)} must be {asked}.")
    if not experiment.task.spec.blanks and not bool((known := inputs.isfinite()).all()):
        raise RefusedInput(
            f"inputs must be finite, and {inputs[~known][0]:g} is among them, which this task cannot read."
        )
    return experiment.task.spec.checked(inputs)


def increasing(times: Tensor) -> Tensor:
    """The times.

    Raises:
        RefusedInput: they are no list, empty, or do not increase.
    """
    if times.dim() != 1 or not len(times) or bool((times[1:] <= times[:-1]).any()):
        raise RefusedInput("times must be a list of numbers, each larger than the one before.")
    return times


def tensor_of(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Lists, an array or a tensor as a tensor of this type and on this device.

    Raises:
        RefusedInput: they are not numbers, or lists of several lengths.
    """
    if isinstance(values, Tensor):
        return torch.as_tensor(values, dtype=dtype, device=device)
    try:
        copied = np.array(values)  # a copy: torch warns of read-only arrays
        return torch.as_tensor(copied, dtype=dtype, device=device)
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusedInput("what is given must be numbers, in a tensor, an array, or lists of one length.") from error


def path_of(data: Any) -> Path:
    """The path of a file of data.

    Raises:
        RefusedInput: it is something else, such as a table.
    """
    if not isinstance(data, str | os.PathLike):
        raise RefusedInput(
            f"data is the path of a file, and a {type(data).__name__} is none. Write it to a file first."
        )
    return Path(data)


def mean_of_draws(values: Tensor, inputs: int, *, every_time: bool) -> Tensor:
    """Averages outputs (batch, ...), or (time, batch, ...), over the samples for each input.

    A recognition network draws several initial states per input; along the batch axis, one draw of all inputs follows
    another.
    """
    return values.unflatten(axis := int(every_time), (-1, inputs)).mean(axis)
