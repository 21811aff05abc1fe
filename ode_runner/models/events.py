"""Models whose solves have events, and their outputs."""

from torch import Tensor

from ode_runner.batch import Answer, Outputs
from ode_runner.models.base import Model
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task
from ode_runner.types import Times


def has_events(task: type[Task], model: type[Model]) -> bool:
    """Whether solves end at events."""
    return model.to_events or Answer.EVENTS in task.needs


def of_absent_events(task: type[Task], model: type[Model]) -> bool:
    """Whether the model needs a task with events, and this task has none."""
    return model.to_events and Answer.EVENTS in model.answers() - task.needs


def with_events(model: Model, inputs: Tensor, ts: Times, integrate: Integrate) -> Outputs:
    """The outputs of the model, with the events of the solve."""
    encoding = model.encode(inputs)
    solution = model.solution(encoding, ts, integrate)
    return Outputs(values=model.read(solution.ys), terms=encoding.terms, events=solution.events)
