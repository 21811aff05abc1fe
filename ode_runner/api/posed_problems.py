"""The problems that a trained model poses, of which each has a field."""

from dataclasses import replace
from typing import Any

import torch

from ode_runner.batch import Split
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.gradients.recorded import RecordProblems, in_turn
from ode_runner.problem import Problem
from ode_runner.types import Time


def posed_problems(experiment: Experiment, model: str) -> list[list[Problem]]:
    """The problems that the model poses for an input, by their fields, in the order of time.

    Raises:
        IncompatibleChoice: it poses none.
    """
    recorded = RecordProblems()
    posing = replace(experiment, integrator=replace(experiment.integrator, gradient=recorded))
    batch = next(experiment.task.batches(Split.TEST, batch_size=1, epoch=0)).to(experiment.dtype)
    with torch.no_grad():
        posing.outputs(batch)
    if not recorded.problems:
        raise IncompatibleChoice(f"model={model} solves nothing, so there is no field.")
    return in_turn(recorded.problems)


def field_at(problems: list[list[Problem]], t: float | Time, model: str) -> Any:
    """The field that is solved at this time; of two that meet there, the later one.

    Raises:
        RefusedInput: `t` is several times, and there are several fields.
    """
    if len(problems) == 1:
        return problems[0][0].field.field
    if isinstance(t, torch.Tensor) and t.numel() > 1:
        raise RefusedInput(f"model={model} solves several fields in turn. Ask at one time.")
    begun = [one for one in problems if float(torch.cat([p.ts for p in one]).min()) <= float(t)]
    return (begun or problems)[-1 if begun else 0][0].field.field
