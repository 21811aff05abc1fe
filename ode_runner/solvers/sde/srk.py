"""Roessler's stochastic Runge-Kutta methods of strong order 3/2."""

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.noise.brownian_path import Calculus, Increment, NoiseKind
from ode_runner.solvers.stochastic import Stepped, StochasticSolver
from ode_runner.solvers.stochastic_equation import StochasticEquation
from ode_runner.solvers.tableau import Point
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class StochasticRungeKutta(StochasticSolver):
    """SRIW1 with diagonal and scalar noise, and SRA1 with additive noise: strong order 3/2.

    They need the increment of W in a step and its integral. SRIW1 evaluates the drift twice and the diffusion four
    times, which counts as 3 evaluations; SRA1 evaluates each twice. Neither needs derivatives of the diffusion.

    Roessler. Runge-Kutta Methods for the Strong Approximation of Solutions of Stochastic Differential Equations. SIAM
    J. Numer. Anal. 2010.
    """

    kind: ClassVar[str] = "of fixed step, for Ito's equations"
    fields_in_words: ClassVar[str] = "a stochastic field with diagonal, additive or scalar noise"
    calculus: ClassVar[Calculus] = Calculus.ITO
    noises: ClassVar[frozenset[NoiseKind]] = frozenset(NoiseKind) - {NoiseKind.GENERAL}
    looks_ahead: ClassVar[bool] = True
    order: int = field(default=1, init=False)  # an int; the strong order is 3/2

    def step(self, equation: StochasticEquation, t0: Point, dt: Point, y0: State, noise: Increment) -> Stepped:
        additive = equation.kind is NoiseKind.ADDITIVE
        return (_additive_step if additive else _step)(equation, t0, dt, y0, noise)


def _step(equation: StochasticEquation, t0: Point, dt: Point, y0: State, noise: Increment) -> Stepped:
    """SRIW1."""
    root, w = dt**0.5, noise.w
    mean = _mean(noise)
    f0, g0 = equation.both(t0, y0)
    f1 = equation.drift(t0 + 0.75 * dt, y0 + 0.75 * dt * f0 + 1.5 * g0 * mean)
    g1 = equation.diffusion(t0 + 0.25 * dt, y0 + 0.25 * dt * f0 + 0.5 * root * g0)
    g2 = equation.diffusion(t0 + dt, y0 + dt * f0 - root * g0)
    g3 = equation.diffusion(t0 + 0.25 * dt, y0 + 0.25 * dt * f1 + root * (-5 * g0 + 3 * g1 + 0.5 * g2))
    twice = (w * w - dt) / (2 * root)  # I_11 / sqrt(dt)
    thrice = (w * w - 3 * dt) * w / (6 * dt)  # I_111 / dt
    weights = (
        -w - twice + 2 * mean - 2 * thrice,
        4 / 3 * (w + twice - mean) + 5 / 3 * thrice,
        2 / 3 * (w - mean - thrice) - twice / 3,
        thrice,
    )
    y1 = y0 + dt * (f0 / 3 + 2 / 3 * f1)
    for weight, g in zip(weights, (g0, g1, g2, g3), strict=True):
        y1 = torch.addcmul(y1, weight, g)
    return Stepped(y1, f0)


def _additive_step(equation: StochasticEquation, t0: Point, dt: Point, y0: State, noise: Increment) -> Stepped:
    """SRA1."""
    mean = _mean(noise)
    f0 = equation.drift(t0, y0)
    end, begin = equation.diffusion(t0 + dt, y0), equation.diffusion(t0, y0)
    f1 = equation.drift(t0 + 0.75 * dt, y0 + 0.75 * dt * f0 + 1.5 * end * mean)
    return Stepped(y0 + dt * (f0 / 3 + 2 / 3 * f1) + end * (noise.w - mean) + begin * mean, f0)


def _mean(noise: Increment) -> Tensor:
    """I_10 / dt: the mean of W(t) - W(t0) over the step."""
    return noise.w / 2 + noise.h
