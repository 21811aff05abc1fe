"""Milstein's method."""

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch

from ode_runner.noise.brownian_path import Calculus, Increment, NoiseKind
from ode_runner.solvers.stochastic import Stepped, StochasticSolver
from ode_runner.solvers.stochastic_equation import StochasticEquation, gained
from ode_runner.solvers.tableau import Point
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Milstein(StochasticSolver):
    """y1 = y0 + dt drift + g dW + g g' (dW^2 - dt) / 2: strong order 1; one evaluation and one product with g'.

    General noise is refused, because the last term would need Levy areas, which are expensive to simulate.

    Milstein. Approximate Integration of Stochastic Differential Equations. Theory Probab. Appl. 1974. · Kloeden,
    Platen. Numerical Solution of Stochastic Differential Equations. Springer 1992, 10.3.
    """

    kind: ClassVar[str] = "of fixed step, for Ito's equations"
    fields_in_words: ClassVar[str] = "a stochastic field with diagonal, additive or scalar noise"
    calculus: ClassVar[Calculus] = Calculus.ITO
    noises: ClassVar[frozenset[NoiseKind]] = frozenset(NoiseKind) - {NoiseKind.GENERAL}
    order: int = field(default=1, init=False)

    def step(self, equation: StochasticEquation, t0: Point, dt: Point, y0: State, noise: Increment) -> Stepped:
        f0, g, along = equation.with_derivative(t0, y0)
        w = noise.w
        y1 = torch.addcmul(gained(y0, dt, f0), g, w)
        return Stepped(y1 if along is None else torch.addcmul(y1, along, w * w - dt, value=0.5), f0)
