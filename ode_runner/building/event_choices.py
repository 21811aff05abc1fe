"""Checks of the choices that go with a task or model whose solves have events."""

from collections.abc import Mapping

from omegaconf import DictConfig

from ode_runner.batch import Answer
from ode_runner.building.instantiate import construct, target_of
from ode_runner.building.members import members, naming
from ode_runner.building.regularization import GROUP, build_regularizers
from ode_runner.errors import IncompatibleChoice
from ode_runner.gradients.event_checks import check_takes_events, steps_each
from ode_runner.models.base import Numerics
from ode_runner.models.events import has_events, of_absent_events
from ode_runner.regularizers.base import PathRegularizer, Regularizer
from ode_runner.solvers.base import Solver


def check_event_choices(cfg: DictConfig, choices: Mapping[str, str], solver: Solver) -> None:
    """Raises IncompatibleChoice if a choice does not support the events of the solves.

    Also if the model needs a task with events and this one has none.
    """
    task, model = target_of(cfg, "task"), target_of(cfg, "model")
    if of_absent_events(task, model):
        able = naming("task", members("task"), lambda other: Answer.EVENTS in other.needs)
        raise IncompatibleChoice(f"model={choices['model']} needs a task with events. Use {able}.")
    if not has_events(task, model):
        return
    batch = max(cfg.trainer.batch_size, cfg.trainer.eval_batch_size)
    gradient = None if model.numerics is Numerics.SOLVER else construct(cfg, "gradient")
    check_takes_events(solver, gradient, batch=batch)
    if gradient is not None and steps_each(solver) and not gradient.each_sample:
        raise IncompatibleChoice(
            f"gradient={choices['gradient']} follows steps that are common to the whole batch, and an event is at "
            "another time in each sample. Use gradient=backprop or checkpoint; or batches of one: "
            "solver.per_sample=false trainer.batch_size=1 trainer.eval_batch_size=1."
        )
    for name, one in build_regularizers(cfg, model).items():
        if isinstance(one, PathRegularizer) or type(one).of_states is not Regularizer.of_states:
            raise IncompatibleChoice(
                f"{GROUP}={name} penalises a path, and there is no rule for paths with events. Use {GROUP}=none."
            )
    if choices["diagnostics"] == "flow":
        raise IncompatibleChoice("diagnostics=flow looks at solves without events. Use diagnostics=none.")
