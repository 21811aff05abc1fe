"""The Euler-Maruyama method."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.field import VectorField
from ode_runner.fields.counted_field import uncounted
from ode_runner.noise.brownian_path import Calculus, Increment
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.solvers.one_step import AcceptedStep, Step
from ode_runner.solvers.stochastic import Stepped, StochasticSolver
from ode_runner.solvers.stochastic_equation import StochasticEquation, gained
from ode_runner.solvers.tableau import Point
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(StochasticSolver):
    """y1 = y0 + dt drift + diffusion dW: strong order 1/2, or 1 if the diffusion does not depend on the state.

    Args:
        last_noise: whether the last step has noise. None: yes, except for the field of a Gaussian path, whose samples
            are better without.

    Maruyama. Continuous Markov processes and stochastic equations. 1955. · Song et al. Score-Based Generative Modeling
    through SDEs. ICLR 2021, for the reverse equation.
    """

    kind: ClassVar[str] = "of fixed step, for Ito's equations"
    fields_in_words: ClassVar[str] = (
        "a stochastic field, or that of a Gaussian path, such as that of task=density2d model=exact"
    )
    calculus: ClassVar[Calculus] = Calculus.ITO
    order: int = field(default=1, init=False)  # weak order
    last_noise: bool | None

    def step(self, equation: StochasticEquation, t0: Point, dt: Point, y0: State, noise: Increment) -> Stepped:
        f0, g0 = equation.both(t0, y0)
        return Stepped(equation.added(gained(y0, dt, f0), g0, noise.w), f0)

    def repeats(self, field: VectorField) -> bool:
        return super().repeats(field) and self._noisy_to_the_end(field)

    def taken(self, field: VectorField, equation: StochasticEquation, interval: AcceptedStep, y0: State) -> Step:
        if not interval.last or self._noisy_to_the_end(field):
            return super().taken(field, equation, interval, y0)
        f0 = equation.drift(interval.t0, y0)
        return self.noted(field, interval, y0, gained(y0, interval.t1 - interval.t0, f0), f0)

    def _noisy_to_the_end(self, field: VectorField) -> bool:
        return not isinstance(uncounted(field), DenoisingField) if self.last_noise is None else self.last_noise
