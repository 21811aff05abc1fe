"""Samples of a trained run: what may be asked for, and how they are drawn."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ode_runner.api.answers import tensor_of
from ode_runner.batch import Drawn
from ode_runner.commands.sample import MOST
from ode_runner.errors import IncompatibleChoice, RefusedInput, check_whole
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import NOISE, model_view
from ode_runner.experiment.signals import StopRequest
from ode_runner.tasks.sampled import SampledTask

LARGEST = 2**63 - 1  # a seed of torch and of keyed noise


def draw(experiment: Experiment, count: int, *, times: int, given: list[Tensor], seed: int | None, model: str) -> Drawn:
    """Samples under the conditions `given`, as the model's own numbers; `model` is its name in messages.

    Raises:
        IncompatibleChoice: the model gives no samples.
        RefusedInput: the number of times or the seed is none.
    """
    check_whole(times, f"times={times}", least=1, most=MOST)
    if seed is not None:
        check_whole(seed, f"seed={seed}", least=0, most=LARGEST)
        experiment = replace(experiment, seed=seed)
    sample = model_view(experiment, [], StopRequest(), noise=NOISE if seed is None else seed).sample
    if sample is None:
        raise IncompatibleChoice(f"model={model} gives no samples.")
    with torch.no_grad():
        return sample(count, times, given)


def conditions(experiment: Experiment, count: int, given: Any, *, task: str) -> list[Tensor]:
    """The conditions of `count` samples, in a list, which is empty if they have none; `task` is its name in messages.

    Raises:
        RefusedInput: `count` is no number of samples, or `given` does not suit the task.
    """
    check_whole(count, f"count={count}", least=1, most=MOST)
    spec = experiment.task.spec
    if given is None:
        return experiment.task.given(count) if isinstance(experiment.task, SampledTask) else []
    found, shape = tensor_of(given, experiment.dtype, experiment.device), (count, spec.condition)
    if not spec.condition:
        raise RefusedInput(f"samples of task={task} have no conditions. Leave given out.")
    if found.shape != shape:
        raise RefusedInput(f"given has shape {tuple(found.shape)}; conditions of these samples have {shape}.")
    return [found]
