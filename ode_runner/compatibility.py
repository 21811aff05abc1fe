"""Which task, model, solver and gradient mode go together: decided by type, before anything is made."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from ode_runner.batch import Answer
from ode_runner.building.members import members, naming, ways
from ode_runner.errors import IncompatibleChoice, either
from ode_runner.field import StochasticField, VectorField
from ode_runner.fields.structured_field import JumpField, SeparableField, kind_of
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.field_checks import HOLD_REAL
from ode_runner.models.base import Model, Numerics
from ode_runner.models.events import of_absent_events
from ode_runner.networks.base import Network
from ode_runner.paths.denoising_field import ConsistencyField, DenoisingField
from ode_runner.solvers.base import Solver
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.stochastic import StochasticMethod
from ode_runner.tasks.base import Task
from ode_runner.tasks.sampled import asks_for_answers

PLAIN, IMPLICIT = "backprop", "radau_iia5"  # the mode and the implicit solver that are named before others


def check_compatible(choices: Mapping[str, str], model: type[Model], solver: Solver, gradient: GradientMode) -> None:
    """Raises IncompatibleChoice unless the three go together. The message names alternatives, as they are typed."""
    if "gradient" in model.unused_axes():
        return
    if model.numerics is Numerics.DISCRETE:
        _check_discrete(choices, solver, gradient)
    if not (solver.differentiable or gradient.own_derivative):
        raise IncompatibleChoice(
            f"solver={choices['solver']} is {solver.kind}, so gradient={choices['gradient']} cannot use it. "
            f"Use {ways(_other_gradients(solver), ('solver', [_like(solver, gradient)]))}."
        )
    if not gradient.takes(type(solver)):
        raise IncompatibleChoice(
            f"gradient={choices['gradient']} needs {gradient.requirement}; "
            f"solver={choices['solver']} is {solver.kind}. "
            f"Use {ways(('solver', _other_solvers(gradient, solver)), _other_gradients(solver))}."
        )
    if isinstance(solver, PerSampleStepping) and solver.per_sample and not gradient.each_sample:
        raise IncompatibleChoice(
            f"gradient={choices['gradient']} follows steps that are common to the whole batch, and with "
            "solver.per_sample=true every sample has its own. Use gradient=backprop or checkpoint, or "
            "solver.per_sample=false."
        )
    gradient.check(solver)


def _check_discrete(choices: Mapping[str, str], solver: Solver, gradient: GradientMode) -> None:
    """Raises IncompatibleChoice unless the solver's steps can be a model's blocks and the gradient mode is exact."""
    if not isinstance(solver, FixedStepRungeKutta):
        able = [name for name, other in members("solver").items() if issubclass(other, FixedStepRungeKutta)]
        raise IncompatibleChoice(
            f"model={choices['model']} takes a fixed-step explicit Runge-Kutta solver; "
            f"solver={choices['solver']} is {solver.kind}. Use {ways(('solver', able), ('model', ['odenet']))}."
        )
    if not gradient.exact:
        raise IncompatibleChoice(
            f"model={choices['model']} is differentiated exactly; gradient={choices['gradient']} is not exact. "
            "Use gradient=backprop, or model=odenet."
        )


def check_answers(choices: Mapping[str, str], task: type[Task], model: type[Model]) -> None:
    """Raises IncompatibleChoice unless the model gives the outputs that the task needs; names the models that do."""
    if gives_what_is_asked(task, model):
        return

    def fits(other: type[Model]) -> bool:
        driven = task.gives_series or not other.of_series
        known = task.has_true_field or other.numerics not in (Numerics.SOLVER, Numerics.EQUATION)
        return task.needs <= other.answers() and driven and known and not of_absent_events(task, other)

    able = naming("model", members("model"), fits)
    raise IncompatibleChoice(
        f"task={choices['task']} asks for {_listed(task.needs)}, and model={choices['model']} gives "
        f"{_listed(model.answers() - {Answer.STATES} or model.answers())} only. "
        + (f"Use {able}." if able else "No model here gives that.")
    )


def gives_what_is_asked(task: type[Task], model: type[Model]) -> bool:
    """Whether a model gives all outputs that the task needs, or those that suffice instead."""
    return task.needs <= model.answers() or (bool(task.suffices) and task.suffices <= model.answers())


def check_state(choices: Mapping[str, str], model: type[Model], network: Network) -> None:
    """Raises IncompatibleChoice if the task is about the state itself but the network turns it into features."""
    if not network.spec.state_itself or network.state_is_data or "network" in model.unused_axes():
        return
    raise IncompatibleChoice(
        f"task={choices['task']} is about the state itself, {math.prod(network.spec.input_shape)} numbers, and "
        f"network={choices['network']} makes features of it. Use network=mlp, with at least that network.width; a "
        "network of your own that keeps the state declares state_is_data = True."
    )


def check_of_true_field(
    choices: Mapping[str, str], task: type[Task], model: type[Model], options: Mapping[str, object]
) -> None:
    """Raises IncompatibleChoice if an option for the true field is set with a model that learns, or vice versa."""
    if model.numerics is Numerics.SOLVER:
        for name in sorted(task.of_learning):
            if options.get(name) is not None:
                raise IncompatibleChoice(
                    f"task.{name}={options[name]} concerns the training data, and model={choices['model']} learns "
                    f"nothing. Leave task.{name} out."
                )
        return
    for name in sorted(task.of_true_field):
        if options.get(name) is not None:
            raise IncompatibleChoice(
                f"task.{name}={options[name]} concerns the task's true field, which model=exact solves; "
                f"model={choices['model']} learns its own field. Leave task.{name} out."
            )


def check_answerable(task: type[Task], model: type[Model], solver: Solver) -> None:
    """Raises IncompatibleChoice if outputs are integrals along a solve and the solver has no rule for integrals.

    Only solvers of ordinary equations are checked: with a sampler, a solve by the reference solver gives the outputs.
    Drawing samples of a model that is trained without a solve needs no integral.
    """
    asked = model.objective.solves or asks_for_answers(task)
    if model.takes_integrals and asked and solver.of_ordinary_equations:
        solver.check_integrals()


def check_real(choices: Mapping[str, str], model: Model) -> None:
    """Raises IncompatibleChoice if the model has complex parameters."""
    if name := next((name for name, p in model.named_parameters() if p.is_complex()), ""):
        raise IncompatibleChoice(
            f"model={choices['model']} has complex parameters ({name}), and training takes real ones. {HOLD_REAL}."
        )


def check_fields(choices: Mapping[str, str], model: Model, solver: Solver) -> None:
    """Raises IncompatibleChoice unless the solver takes every field of the model."""
    generator = model.generator()
    solved = list(_fields(model)) if generator is None else [generator.field]
    if model.numerics is Numerics.NONE or all(map(solver.takes_field, solved)):
        return
    if any(isinstance(field, StochasticField) and not isinstance(field, DenoisingField) for field in _fields(model)):
        able = naming("solver", members("solver"), _stochastic)
        raise IncompatibleChoice(
            f"task={choices['task']} model={choices['model']} has a stochastic equation, and "
            f"solver={choices['solver']} takes {solver.fields_in_words}. Use {able}."
        )
    if model.other_solver:
        raise IncompatibleChoice(model.other_solver.format_map(choices))
    [kind, *_] = [kind_of(field) for field in solved if not solver.takes_field(field)]
    if solver.of_ordinary_equations and not issubclass(kind, DenoisingField):
        raise IncompatibleChoice(_without_derivative(choices, kind))
    needed = f"solver={choices['solver']} needs {solver.fields_in_words}"
    raise IncompatibleChoice(needed + _other_kind(choices, kind, model, solver))


def _other_kind(choices: Mapping[str, str], kind: type[VectorField], model: Model, solver: Solver) -> str:
    """The second half of an error message: the kind of the field, and what to type instead."""
    of_both = f"; that of task={choices['task']} model={choices['model']}"
    if issubclass(kind, JumpField):
        able = naming("solver", members("solver"), lambda other: other.takes_kind(kind))
        return f"{of_both} is none, but one of states that jump. Use {able}."
    if issubclass(kind, DenoisingField):
        return (
            f"{of_both} leads from noise to points in a space. "
            "Use a solver of ordinary equations or a sampler of such a path, solver=heun or ddim."
        )
    if issubclass(solver.fields, StochasticField | ConsistencyField):
        return f"{of_both} is none. Use solver=rk4."
    if model.numerics is Numerics.SOLVER:
        return f"; that of task={choices['task']} is none. Use {solver.example}, or solver=rk4."
    if not issubclass(SeparableField, solver.fields):
        instead = either(f"model=exact {solver.example}", "solver=rk4")
        return f"; that of model={choices['model']} network={choices['network']} is none. Use {instead}."
    option, value = model.separable
    instead = ways((option, [value]), ("solver", ["rk4"]))
    return model.other_kind.format_map({**choices, "instead": instead})


def check_fresh_noise(choices: Mapping[str, str], model: Model, solver: Solver) -> None:
    """Raises IncompatibleChoice if the solver draws noise, but the model learns from noise that depends on the data."""
    generator = model.generator()
    if generator is not None and not generator.of_path and solver.draws:
        raise IncompatibleChoice(
            f"solver={choices['solver']} draws noise on its way, as the reverse equation of a path does; "
            f"model={choices['model']} learns from pairs of data and noise that belong together, and no such path is "
            "theirs. Use a solver without noise, such as solver=heun or ddim."
        )


def _without_derivative(choices: Mapping[str, str], kind: type[VectorField]) -> str:
    """The error message for a solver of ordinary equations and a field without a derivative."""
    able = naming("solver", members("solver"), lambda other: other.takes_kind(kind))
    return (
        f"solver={choices['solver']} evaluates a field by its derivative, and that of task={choices['task']} "
        f"model={choices['model']} has none, but {_in_words(list(kind.call_weights))}. Use {able}."
    )


def _in_words(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _other_solvers(gradient: GradientMode, solver: Solver) -> list[str]:
    """Stochastic solvers that the mode takes, if `solver` is one; else one example."""
    if not isinstance(solver, StochasticMethod):
        return [gradient.example]
    return [name for name, other in members("solver").items() if _stochastic(other) and gradient.takes(other)]


def _like(solver: Solver, gradient: GradientMode) -> str:
    """A solver to use in place of one that cannot be differentiated: Radau IIA, if the mode takes it."""
    takes = solver.of_ordinary_equations and gradient.takes(members("solver")[IMPLICIT])
    return IMPLICIT if takes else gradient.example


def _other_gradients(solver: Solver) -> tuple[str, list[str]]:
    """Modes that take the solver: backprop if it does, else all that do."""
    modes: Mapping[str, Any] = members("gradient")
    able = [name for name, mode in modes.items() if mode.takes(type(solver))]
    return "gradient", [PLAIN] if PLAIN in able else able


def _stochastic(solver: type[Solver]) -> bool:
    return issubclass(solver, StochasticMethod)


def _listed(answers: Collection[Answer]) -> str:
    """`values and samples`, in the order in which they are declared."""
    return " and ".join(answer for answer in Answer if answer in answers)


def _fields(module: nn.Module) -> Iterator[VectorField]:
    """The outermost fields among a model's submodules, without fields inside them."""
    for child in module.children():
        if isinstance(child, VectorField):
            yield child
        else:
            yield from _fields(child)
