"""Checks that a solver takes a problem: its field, integrals and noise."""

from collections.abc import Mapping

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import StochasticField, VectorField
from ode_runner.fields.counted_field import name_of
from ode_runner.fields.structured_field import JumpField, kind_of
from ode_runner.integral import Integral
from ode_runner.noise.brownian_path import Noise, NoiseKind
from ode_runner.paths.denoising_field import ConsistencyField, DenoisingField
from ode_runner.problem import check_noise
from ode_runner.solvers.base import AdaptiveSolver, Solver, check_batch
from ode_runner.types import State


def check_takes(
    solver: Solver, field: VectorField, y0: State, integrals: Mapping[str, Integral], noise: Noise | None
) -> None:
    """Raises IncompatibleChoice if the solver has no rule for the field, the integrals or the noise of a problem."""
    name = solver.shown_name
    if _chooses_steps_of_general_noise(solver, field):
        raise IncompatibleChoice(
            f"{name} adapts its steps to the noise, and {name_of(field)} states general noise: without "
            "its Levy areas such steps solve another equation. Use a solver of fixed step, such as solver=heun_sde."
        )
    solver.check_field(field)
    if solver.draws or "forward" not in kind_of(field).call_weights:
        check_noise(noise, field, y0)
    if integrals:
        check_batch(y0)
        solver.check_integrals()
    with_or_without = isinstance(field, DenoisingField | ConsistencyField)  # a solver without noise ignores it
    driven = issubclass(solver.fields, StochasticField | JumpField)
    if noise is not None and not with_or_without and not driven:
        raise IncompatibleChoice(
            f"{name} solves ordinary differential equations, and noise drives stochastic ones: a StochasticField, "
            "by a solver whose `fields` it is. Leave noise out."
        )
    solver.check_state(y0)


def _chooses_steps_of_general_noise(solver: Solver, field: VectorField) -> bool:
    general = isinstance(field, StochasticField) and field.noise_kind is NoiseKind.GENERAL
    return general and isinstance(solver, AdaptiveSolver)
