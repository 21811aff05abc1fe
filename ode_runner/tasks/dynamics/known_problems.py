"""Initial value problems with known solutions: their fields, initial states and solutions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.tasks.dynamics.known_equations import (
    Car,
    Circle,
    Descent,
    Exponential,
    HeavyBall,
    Relaxation,
    Robertson,
    Sine,
    Square,
    VanDerPol,
)
from ode_runner.types import Times

RATE = 2.0  # of the exponential
CURVATURES = (1.0, 10.0)  # of the loss whose gradient flow is solved
FREQUENCY = 2.0  # of the heavy ball without friction
FASTEST = 1000.0  # rate of the relaxation
RATES = {"slow": 0.04, "fast": 1e4, "fastest": 3e7}  # of Robertson's reactions
STIFF_FROM = 30.0  # mu of van der Pol's equation above which an explicit method takes too many steps


@dataclass(frozen=True, kw_only=True)
class KnownProblem:
    """dy/dt = f(t, y) from y0 at t = 0, and properties of its solution."""

    field: VectorField
    names: tuple[str, ...]  # names of the state's coordinates in pictures, in LaTeX
    y0: tuple[float, ...]
    horizon: float  # the default last time
    exact: Callable[[Times], Tensor] | None = None  # solution at (time,): (time, state); None: no formula
    stiff: bool = False  # whether an implicit method computes the reference solution
    decades: bool = False  # whether time has a logarithmic axis in pictures
    bound: float = math.inf  # the time at which the solution diverges
    invariant: Callable[[Tensor], Tensor] | None = None  # conserved quantity of states (..., state)


def _car() -> KnownProblem:
    def exact(ts: Times) -> Tensor:
        return torch.stack([ts, torch.ones_like(ts)], dim=1)

    return KnownProblem(
        field=Car(), names=("x", "v"), y0=(0.0, 1.0), horizon=1.0, exact=exact, invariant=lambda y: y[..., 1]
    )


def _exponential() -> KnownProblem:
    return KnownProblem(
        field=Exponential(RATE), names=("x",), y0=(1.0,), horizon=1.0, exact=lambda ts: torch.exp(-RATE * ts)[:, None]
    )


def _sine() -> KnownProblem:
    return KnownProblem(
        field=Sine(1.0),
        names=("x",),
        y0=(1.0,),
        horizon=1.0,
        exact=lambda ts: 2 * torch.atan(ts.exp() * math.tan(0.5))[:, None],
    )


def _square() -> KnownProblem:
    return KnownProblem(
        field=Square(1.0), names=("x",), y0=(1.0,), horizon=0.9, exact=lambda ts: 1 / (1 - ts)[:, None], bound=1.0
    )


def _relaxation() -> KnownProblem:
    def exact(ts: Times) -> Tensor:
        lag = 1 / (FASTEST - 1)
        return (3 - 2 * (1 + lag) * torch.exp(-ts) - (1 - 2 * lag) * torch.exp(-FASTEST * ts))[:, None]

    return KnownProblem(field=Relaxation(FASTEST), names=("y",), y0=(0.0,), horizon=1.0, exact=exact, stiff=True)


def _circle() -> KnownProblem:
    return KnownProblem(
        field=Circle(1.0),
        names=("x_1", "x_2"),
        y0=(1.0, 0.0),
        horizon=2 * math.pi,
        exact=lambda ts: torch.stack([ts.cos(), ts.sin()], dim=1),
        invariant=lambda y: y.norm(dim=-1),
    )


def _gradient_flow() -> KnownProblem:
    return KnownProblem(
        field=Descent(flat=CURVATURES[0], steep=CURVATURES[1]),
        names=(r"\theta_1", r"\theta_2"),
        y0=(1.0, 1.0),
        horizon=20.0,
        exact=lambda ts: torch.exp(-ts[:, None] * ts.new_tensor(CURVATURES)),
    )


def van_der_pol(mu: float) -> KnownProblem:
    """From (2, 0), over somewhat more than two periods of about 2 pi + 1.614 mu each."""
    return KnownProblem(
        field=VanDerPol(mu),
        names=("x", "v"),
        y0=(2.0, 0.0),
        horizon=2.4 * (2 * math.pi + (3 - 2 * math.log(2)) * mu),
        stiff=mu >= STIFF_FROM,
    )


def heavy_ball(friction: float) -> KnownProblem:
    """From (1, 0) to t = 4; underdamped, critically damped or overdamped."""
    field = HeavyBall(stiffness=FREQUENCY**2, friction=friction)

    def exact(ts: Times) -> Tensor:
        matrix = field.matrix(ts.new_zeros(()), ts.new_zeros(1, 2))
        return torch.linalg.matrix_exp(ts[:, None, None] * matrix)[:, :, 0]

    def energy(y: Tensor) -> Tensor:
        return (y[..., 1].square() + FREQUENCY**2 * y[..., 0].square()) / 2

    return KnownProblem(
        field=field,
        names=("q", "v"),
        y0=(1.0, 0.0),
        horizon=4.0,
        exact=exact,
        invariant=None if friction else energy,
    )


def _robertson() -> KnownProblem:
    return KnownProblem(
        field=Robertson(**RATES),
        names=("y_1", "y_2", "y_3"),
        y0=(1.0, 0.0, 0.0),
        horizon=40.0,
        stiff=True,
        decades=True,
        invariant=lambda y: y.sum(dim=-1),
    )


PLAIN: Mapping[str, Callable[[], KnownProblem]] = {  # problems without a parameter
    "car": _car,
    "exponential": _exponential,
    "sine": _sine,
    "square": _square,
    "relaxation": _relaxation,
    "circle": _circle,
    "gradient_flow": _gradient_flow,
    "robertson": _robertson,
}
