"""Base classes of stochastic solvers: fixed steps along one Brownian path."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, cast

from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import StochasticField, VectorField
from ode_runner.fields.counted_field import CountedField, name_of, uncounted
from ode_runner.fields.driving_noise import DrivingNoise
from ode_runner.noise.brownian_path import Calculus, Increment, NoiseKind
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.solvers import quadrature
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.one_step import AcceptedStep, Step, StepwiseSolver
from ode_runner.solvers.reverse_equation import check_reverse
from ode_runner.solvers.stochastic_equation import StochasticEquation, convertible
from ode_runner.solvers.tableau import Point, time_tensor
from ode_runner.types import State, Times


class Stepped(NamedTuple):
    """The result of a step."""

    y1: State
    f0: State  # the drift at the beginning of the step, in the solver's calculus


@dataclass(frozen=True, kw_only=True)
class StochasticMethod(FixedStepSolver, abc.ABC):
    """A method for dy = f dt + g dW with fixed steps, in one calculus, for some kinds of noise.

    A field that states its drift in the other calculus is converted, except with general noise. Integrals along a solve
    use the left rectangle rule, whose error is O(dt), as the weak error of the state is.
    """

    fields: ClassVar[type] = StochasticField
    calculus: ClassVar[Calculus]
    noises: ClassVar[frozenset[NoiseKind]] = frozenset(NoiseKind)
    looks_ahead: ClassVar[bool] = False  # True: evaluates drift or diffusion at the end of a step

    @property
    def draws(self) -> bool:
        return True

    def check_integrals(self) -> None:
        """Accepted: integrals are computed in each step."""

    def check_direction(self, field: VectorField, ts: Times) -> None:
        """Raises RefusedInput if a path's reverse equation is singular at these times, or they run the wrong way."""
        own = uncounted(field)
        if isinstance(own, DenoisingField):
            check_reverse(own, ts, solver=self.shown_name, looks_ahead=self.looks_ahead)

    def takes_field(self, field: VectorField) -> bool:
        if not super().takes_field(field):
            return False
        own = cast("StochasticField", uncounted(field))
        return own.noise_kind in self.noises and convertible(own, self.calculus)

    def check_field(self, field: VectorField) -> None:
        if super().takes_field(field) and not self.takes_field(field):
            raise IncompatibleChoice(self._refusal(cast("StochasticField", uncounted(field))))
        super().check_field(field)

    def _refusal(self, own: StochasticField) -> str:
        name = self.shown_name
        if own.noise_kind not in self.noises:
            able = " or ".join(kind for kind in NoiseKind if kind in self.noises)
            return (
                f"{name} takes {able} noise, and {name_of(own)} states {own.noise_kind} noise. Use "
                "solver=euler_maruyama for Ito's equations, or solver=heun_sde for Stratonovich's."
            )
        other = "euler_maruyama" if own.calculus is Calculus.ITO else "heun_sde"
        return (
            f"{name} solves {self.calculus} equations, and {name_of(own)} states an {own.calculus} drift with general "
            f"noise, for which neither is converted into the other. Use solver={other}."
        )

    def gain(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> Tensor | None:
        """The increment of integrals in a step, (batch, integral), by the integrands at its beginning."""
        along = quadrature.counted(field)
        if along is None:
            return None
        if isinstance(uncounted(field), DenoisingField):
            raise IncompatibleChoice(
                f"{name_of(field)} is solved backwards in time with noise, and no integral is taken on such a way. "
                "Use a solver of ordinary equations, such as solver=dopri5."
            )
        return (t1 - t0) * along.rates(time_tensor(t0, y0), y0, f0)


@dataclass(frozen=True, kw_only=True)
class StochasticSolver(StepwiseSolver, StochasticMethod):
    """A method whose steps depend only on the state at their beginning and the noise within them."""

    @abc.abstractmethod
    def step(self, equation: StochasticEquation, t0: Point, dt: Point, y0: State, noise: Increment) -> Stepped:
        """A step from (t0, y0) to t0 + dt."""

    def repeats(self, field: VectorField) -> bool:
        """Whether all steps along the field, including the last one, are taken by `step`."""
        return not isinstance(uncounted(field), DenoisingField)

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        steps = self.grid_steps(ts)
        if not steps:
            return
        self.check_direction(field, ts)
        driving_noise(field).prepare([(interval.t0, interval.t1) for interval in steps], y0)
        equation = self.equation(field, steps[0].t0, y0)
        for interval in steps:
            step = self.taken(field, equation, interval, y0)
            yield step
            y0 = step.y1

    def grid_steps(self, ts: Times) -> list[AcceptedStep]:
        """The steps of a solve; no step passes over an output time."""
        steps = [
            AcceptedStep(t0=t0, t1=t1, due=[t1] if i == len(grid) - 2 else [])
            for grid in self.grids(ts)
            for i, (t0, t1) in enumerate(pairwise(grid))
        ]
        return [*steps[:-1], *(AcceptedStep(t0=p.t0, t1=p.t1, due=p.due, last=True) for p in steps[-1:])]

    def check_direction(self, field: VectorField, ts: Times) -> None:
        """Also raises RefusedInput if an Ito equation whose noise is not additive is to be solved backwards in time."""
        super().check_direction(field, ts)
        own = cast("StochasticField", uncounted(field))
        times = read_times(ts)
        first, last = times[0], times[-1]
        if self.calculus is Calculus.ITO and own.noise_kind is not NoiseKind.ADDITIVE and last < first:
            raise RefusedInput(
                f"{self.shown_name} solves Ito's equations, which look ahead only: along the same path from "
                f"t = {first:g} to {last:g} it would solve another one. Use solver=heun_sde."
            )

    def equation(self, field: VectorField, t0: float, y0: State) -> StochasticEquation:
        """The equation of the field, in the calculus of the method."""
        return StochasticEquation(field, self.calculus, t0, y0)

    def taken(self, field: VectorField, equation: StochasticEquation, interval: AcceptedStep, y0: State) -> Step:
        """The step from `y0`."""
        t0, t1 = interval.t0, interval.t1
        if t0 == t1:  # repeated output time; formulas may divide by the step length
            gain = None if quadrature.counted(field) is None else quadrature.begin(field, y0)
            return Step(t0=t0, t1=t1, due=interval.due, last=interval.last, y0=y0, y1=y0, ks=[], gain=gain)
        y1, f0 = self.step(equation, t0, t1 - t0, y0, driving_noise(field).increment(t0, t1, y0))
        return self.noted(field, interval, y0, y1, f0)

    def noted(self, field: VectorField, interval: AcceptedStep, y0: State, y1: State, f0: State) -> Step:
        """The `Step` from `y0` to `y1`, with the increment of integrals."""
        gain = self.gain(field, interval.t0, interval.t1, y0, f0)
        return Step(
            t0=interval.t0, t1=interval.t1, due=interval.due, last=interval.last, y0=y0, y1=y1, ks=[], gain=gain
        )

    def recompute(self, field: VectorField, interval: AcceptedStep, y0: State) -> Step:
        """The step recomputed with the same noise."""
        return self.taken(field, self.equation(field, interval.t0, y0), interval, y0)

    def outputs(self, step: Step) -> list[State]:
        return [step.y1 for _ in step.due]

    def gains(self, field: VectorField, step: Step) -> list[Tensor]:
        del field
        return [] if step.gain is None else [step.gain for _ in (step.t1, *step.due)]


@dataclass(frozen=True, kw_only=True)
class StratonovichRungeKutta(StochasticSolver):
    """A Runge-Kutta method applied to increments drift dt + diffusion dW, for Stratonovich equations.

    Because these obey the ordinary chain rule, it also solves the adjoint equation along the same path.

    Ruemelin. Numerical Treatment of Stochastic Differential Equations. SIAM J. Numer. Anal. 1982.
    """

    kind: ClassVar[str] = "of fixed step, for Stratonovich equations"
    fields_in_words: ClassVar[str] = "a stochastic field, whose noise may be of any kind if its drift is Stratonovich's"
    calculus: ClassVar[Calculus] = Calculus.STRATONOVICH

    @abc.abstractmethod
    def advance(self, rise: Any, t0: Point, dt: Point, y0: State, first: State) -> State:
        """The state at t0 + dt. `rise(t, y)` is the increment drift dt + diffusion dW, and `first` that at (t0, y0)."""

    def step(self, equation: StochasticEquation, t0: Point, dt: Point, y0: State, noise: Increment) -> Stepped:
        f0, first = equation.rise(t0, y0, dt, noise)
        return Stepped(self.advance(lambda t, y: equation.rise(t, y, dt, noise)[1], t0, dt, y0, first), f0)


def driving_noise(field: VectorField) -> DrivingNoise:
    """The noise that drives the field in this solve."""
    assert isinstance(field, CountedField)
    return field.driving_noise
