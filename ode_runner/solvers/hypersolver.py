"""Hypersolvers: methods of fixed step whose steps a network corrects."""

import abc
from dataclasses import dataclass, field
from typing import Self, final

from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.solvers.one_step import Step
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau, advance, time_tensor
from ode_runner.types import State, Time


class Correction(nn.Module, abc.ABC):
    """A network g(t, dt, y, f(t, y)), fitted to the local error of a method's steps along one field."""

    cost: float  # of a call, in evaluations of the field

    @abc.abstractmethod
    def forward(self, t: Time, dt: Time, y: State, dy: State, *given: Tensor) -> State:
        """The local error of a step of length dt from y at t, divided by dt ** (p + 1); dy = f(t, y, *given)."""


@final
@dataclass(frozen=True, kw_only=True)
class Hypersolver(FixedStepRungeKutta):
    """A method of order p with corrected steps: y + dt phi(t, y) + dt ** (p + 1) g(t, dt, y, f(t, y)).

    The order remains p, and the constant of its error falls as far as g agrees with the local error. The correction's
    cost is counted with every step.

    Poli, Massaroli, Yamashita, Asama, Park. Hypersolvers: Toward Fast Continuous-Depth Models. NeurIPS 2020.
    """

    base: FixedStepRungeKutta
    correction: Correction
    order: int = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "order", self.base.order)

    @classmethod
    def around(cls, base: FixedStepRungeKutta, correction: Correction) -> Self:
        """The base with its steps corrected, as many as it takes."""
        return cls(base=base, correction=correction, num_steps=base.num_steps, step_size=base.step_size)

    @property
    def tableau(self) -> Tableau:  # type: ignore[override]
        return self.base.tableau

    @property
    def shown_name(self) -> str:
        return f"{self.base.shown_name} with a correction"

    @property
    def of_ordinary_equations(self) -> bool:
        """False: it solves the equation that the correction was fitted to, and no other; and it gives no densities."""
        return False

    def step(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> tuple[State, list[Tensor]]:
        assert isinstance(field, CountedField)
        y1, ks = self.base.step(field, t0, t1, y0, f0)
        field.ledger.tally.evaluations += self.correction.cost
        t, dt = time_tensor(t0, y0), time_tensor(t1 - t0, y0)
        error = self.correction(t, dt, y0, f0, *field.of_field(field.arguments()))
        return y1 + (t1 - t0) ** (self.order + 1) * error, ks

    def _within(self, step: Step, t: float) -> State:
        """The cubic Hermite polynomial of both ends and their slopes, of which y1 is corrected."""
        theta = step.fraction(t)
        error = step.y1 - advance(step.y0, step.t1 - step.t0, self.tableau.b, step.ks)
        return super()._within(step, t) + (3 - 2 * theta) * theta**2 * error

    def check_integrals(self) -> None:
        raise IncompatibleChoice(
            f"{self.shown_name} corrects states alone, and has no rule for integrals along a solve. Leave the "
            "correction out."
        )
