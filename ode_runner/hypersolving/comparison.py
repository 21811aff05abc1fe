"""A method, its corrected steps, and the classical Runge-Kutta method at no more evaluations."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.operation_work import OperationCount
from ode_runner.fields.counted_field import CountedField, name_of
from ode_runner.hypersolving.corrections import StateCorrection
from ode_runner.hypersolving.residuals import Residuals
from ode_runner.hypersolving.solves import Measured, Solves
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.hypersolver import Hypersolver
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.types import Trajectory

FITTED = (0.5, 1, 2)  # the numbers of steps that a correction is fitted to, as multiples of the solver's
COMPARED = (0.25, 0.5, 1, 2, 4)  # and those that it is compared at


class Compared(NamedTuple):
    """What is reached with some number of steps."""

    steps: FixedStepRungeKutta  # the method
    base: Measured
    corrected: Measured
    rk4: Measured | None  # by at most as many evaluations as the corrected method; None: that is not even one step


def cost_of(correction: StateCorrection, field: CountedField, data: Residuals) -> float:
    """The cost of a call of the correction in evaluations of the field, by multiplications and additions.

    Raises:
        IncompatibleChoice: the field multiplies no matrices, so that a network costs more than any number of steps.
    """
    single = data.chosen(data.t.new_zeros(1).long())
    one, before = single.to(torch.float64), field.ledger.tally.evaluations
    with OperationCount() as of_field:
        field(one.t[0], one.y, *one.given)
    evaluations = field.ledger.tally.evaluations - before
    if not of_field.flops:
        raise IncompatibleChoice(
            f"{name_of(field)} is no network: a correction would cost more than shorter steps. Use "
            "solver=dopri5 with a smaller tolerance."
        )
    with OperationCount() as of_correction:
        correction(single.t, single.dt, single.y, single.dy, *single.given)
    return of_correction.flops / of_field.flops * evaluations


def compare(
    solves: Solves, base: FixedStepRungeKutta, correction: StateCorrection, accurate: Sequence[Trajectory]
) -> Iterator[Compared]:
    """The method with several numbers of steps, fewer and more than those that the correction was fitted to."""
    for steps in stretched(base, COMPARED):
        corrected, rk4 = Hypersolver.around(steps, correction), _rk4(steps, correction)
        of_rk4 = None if rk4 is None else solves.measure(rk4, accurate)
        yield Compared(steps, solves.measure(steps, accurate), solves.measure(corrected, accurate), of_rk4)


def stretched(base: FixedStepRungeKutta, factors: Iterable[float]) -> Iterator[FixedStepRungeKutta]:
    """The method with these multiples of its number of steps, as far as they are whole numbers per unit of time."""
    for factor in factors:
        if base.num_steps is None:
            yield replace(base, step_size=base.step_size and base.step_size / factor)
        elif (count := base.num_steps * factor) == int(count):
            yield replace(base, num_steps=int(count))


def _rk4(steps: FixedStepRungeKutta, correction: StateCorrection) -> RK4 | None:
    """The classical method with no more evaluations; None if that is not even a step per unit of time."""
    share = (len(steps.tableau.b) + correction.cost) / len(RK4.tableau.b)
    if steps.num_steps is None:
        return RK4(num_steps=None, step_size=steps.step_size and steps.step_size / share)
    count = int(steps.num_steps * share)
    return RK4(num_steps=count, step_size=None) if count else None
