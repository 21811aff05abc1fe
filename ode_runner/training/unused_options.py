"""Options that were changed but have no effect, because of the other choices."""

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

from ode_runner.config.choices import default_options
from ode_runner.errors import as_typed
from ode_runner.experiment.experiment import Experiment
from ode_runner.regularizers.depth_varying import Layered
from ode_runner.training.gauss_newton import GaussNewton
from ode_runner.training.trainer import Trainer

OF_SOLVES = {"max_nfe": "nothing is solved"}  # options of the trainer, each with the reason if a model solves nothing


def unused_options(
    experiment: Experiment, trainer: Trainer | None, *, choices: Mapping[str, str], config: Mapping[str, Any]
) -> Iterator[str]:
    """A clause for each option that differs from its yaml but has no effect, and for a schedule that never acts.

    Args:
        choices: the choice of each group.
        config: the options of each group, with their values.
    """
    unused = {
        "task": experiment.task.unused_options(),
        "model": experiment.model.unused_options(),
        "network": _of_network(experiment),
        "solver": _of_solver(experiment),
        "schedule": {} if trainer is None else trainer.stages.schedule.unused_options(),
        "optimizer": {} if trainer is None else _of_optimizer(trainer),
        "trainer": {} if trainer is None or "solver" not in experiment.model.unused_axes() else OF_SOLVES,
    }
    for group, options in unused.items():
        for option, reason in options.items():
            place, _, name = f"{group}.{option}".rpartition(".")  # the place may be a nested object, as solver.base
            defaults = default_options(group, choices.get(f"{group}@{place}", choices[group]))
            value = reduce(lambda inside, part: inside.get(part, {}), place.split("."), config).get(name)
            if name in defaults and value != defaults[name]:
                yield f"{group}.{option}={as_typed(value)} is not used: {reason}"
    if trainer is not None:
        epochs = min(trainer.options.epochs, trainer.total_steps / trainer.steps_per_epoch)
        yield from filter(None, [trainer.stages.schedule.idle_in(epochs)])


def _of_solver(experiment: Experiment) -> Mapping[str, str]:
    if "solver" in experiment.model.unused_axes():
        return {}
    solver, generator = experiment.integrator.solver, experiment.model.generator()
    field = experiment.task.spec.field if generator is None else generator.field
    return {**solver.unused_options(), **solver.unused_options_for(field)}


def _of_network(experiment: Experiment) -> Mapping[str, str]:
    model = experiment.model
    if "network" in model.unused_axes():
        return {}
    of_layers = {"time": "layers do not receive the time"} if isinstance(model, Layered) else {}
    return {**model.unused_options_of_network, **of_layers}


def _of_optimizer(trainer: Trainer) -> Mapping[str, str]:
    """All optimizers but one are torch's, and have no method that tells this."""
    damped = isinstance(trainer.optimizer, GaussNewton)
    return {"lr": "optimizer.damping decides how long a step is"} if damped else {}
