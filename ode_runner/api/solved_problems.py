"""The problems that a trained model solves, each with its field."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ode_runner.api.answers import check_answers, one_of_test
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.gradients.recorded import RecordProblems, in_turn
from ode_runner.problem import Problem
from ode_runner.types import State, Time


def solved_problems(experiment: Experiment, model: str) -> list[list[Problem]]:
    """The problems that the model solves for an input, grouped by field, in the order of time.

    Raises:
        IncompatibleChoice: it solves none.
    """
    check_answers(experiment, model)
    recorded = RecordProblems()
    posing = replace(experiment, integrator=replace(experiment.integrator, gradient=recorded))
    with torch.no_grad():
        posing.outputs(one_of_test(experiment))
    if not recorded.problems:
        raise IncompatibleChoice(f"model={model} solves nothing, so there is no field.")
    return in_turn(recorded.problems)


def problem_at(problems: list[list[Problem]], t: float | Time, model: str) -> Problem:
    """The problem that is solved at this time; where two meet, the later one.

    Raises:
        RefusedInput: `t` is several times, and there are several problems with different fields.
    """
    if len(problems) == 1:
        return problems[0][0]
    if isinstance(t, torch.Tensor) and t.numel() > 1:
        raise RefusedInput(f"model={model} solves several fields in turn. Ask at one time.")
    begun = [one for one in problems if float(torch.cat([p.ts for p in one]).min()) <= float(t)]
    return (begun or problems)[-1 if begun else 0][0]


def arguments_of(problem: Problem) -> Encoding:
    """The state of a problem and the tensors given to its field, without those given to its integrals."""
    field = problem.field
    return Encoding(problem.y0, field.given[: len(field.given) - sum(field.counts)])


def encoding_of_test(experiment: Experiment) -> Encoding:
    """The encoding of one input, for a field on the task's own states; the model's sampler may solve no problem."""
    with torch.no_grad():
        return experiment.model.encode(one_of_test(experiment).inputs)


@contextmanager
def arguments_like(known: Encoding, y: State, given: Sequence[Tensor], model: str) -> Iterator[None]:
    """A context in which a field is called. It may accept other shapes than those known, such as larger images.

    Raises:
        RefusedInput: the call fails, and the shapes are not the known ones.
    """
    try:
        yield
    except Exception as error:
        shapes = [("batch", *one.shape[1:]) for one in (known.y0, *known.given)]
        found = [tuple(one.shape) for one in (y, *given)]
        if [one[1:] for one in found] == [one[1:] for one in shapes] and len({one[:1] for one in found}) == 1:
            raise
        wanted = " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
        takes = (
            "a state of shape"
            if len(shapes) == 1
            else f"a state and, given behind it, {len(known.given)} more, of shapes"
        )
        raise RefusedInput(
            f"the field of model={model} takes {takes} {wanted}, not {' and '.join(map(str, found))}."
        ) from error
