"""Initial value problems whose answers are known: the fields, where they begin, and their solutions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.structured_field import KnownEquation, MatrixField, SecondOrderField, SeparableField, SplitField
from ode_runner.types import State, Time, Times

RATE = 2.0  # of the exponential
CURVATURES = (1.0, 10.0)  # of the loss that the gradient flow descends
FREQUENCY = 2.0  # of the heavy ball without friction
RATES = {"slow": 0.04, "fast": 1e4, "fastest": 3e7}  # of Robertson's reactions
STIFF_FROM = 30.0  # mu of van der Pol's equation, from which an explicit method takes too many steps


@dataclass(frozen=True, kw_only=True)
class KnownProblem:
    """dy/dt = f(t, y) from y0 at t = 0, and what is known of its solution."""

    field: VectorField
    names: tuple[str, ...]  # of the state's coordinates, as they are set in pictures
    y0: tuple[float, ...]
    horizon: float  # the last time, unless another is asked for
    exact: Callable[[Times], Tensor] | None = None  # at times (time,): (time, state); None: there is no formula
    stiff: bool = False  # a reference in place of a formula is then by an implicit method
    decades: bool = False  # it happens over many orders of magnitude in time, and is drawn so
    bound: float = math.inf  # the time at which the solution leaves all bounds
    invariant: Callable[[Tensor], Tensor] | None = None  # of states (..., state): what the solution conserves


@final
class Car(SeparableField, SecondOrderField, MatrixField):
    """x' = v, v' = 0."""

    batched_time = True

    def drift(self, t: Time, p: State) -> State:
        return p

    def kick(self, t: Time, q: State) -> State:
        return torch.zeros_like(q)

    def force(self, t: Time, y: State, *given: Tensor) -> State:
        return torch.zeros_like(y[:, :1])

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        return y.new_tensor([[0.0, 1.0], [0.0, 0.0]])


@final
class Decay(MatrixField):
    """y_i' = -rate_i y_i."""

    batched_time = True

    def __init__(self, *rates: float) -> None:
        super().__init__()
        self.rates = rates

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        return torch.diag(-y.new_tensor(self.rates))


@final
class Sine(VectorField):
    """x' = sin x."""

    batched_time = True

    def forward(self, t: Time, y: State) -> State:
        return y.sin()


@final
class Square(VectorField):
    """x' = x^2."""

    batched_time = True

    def forward(self, t: Time, y: State) -> State:
        return y.square()


@final
class Circle(SeparableField, MatrixField):
    """(x, y) to (-y, x)."""

    batched_time = True

    def drift(self, t: Time, p: State) -> State:
        return -p

    def kick(self, t: Time, q: State) -> State:
        return q

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        return y.new_tensor([[0.0, -1.0], [1.0, 0.0]])


@final
class VanDerPol(SecondOrderField, SplitField, KnownEquation):
    """x' = v, v' = mu (1 - x^2) v - x; the parts are the oscillator and its damping.

    van der Pol. On relaxation-oscillations. Phil. Mag. 2, 1926.
    """

    batched_time = True
    numbers = ("mu",)

    def __init__(self, mu: float) -> None:
        super().__init__()
        self.mu = mu

    def force(self, t: Time, y: State, *given: Tensor) -> State:
        return self._damping(y) - y[:, :1]

    def first_part(self, t: Time, y: State, *given: Tensor) -> State:
        return torch.cat([y[:, 1:], -y[:, :1]], dim=1)

    def second_part(self, t: Time, y: State, *given: Tensor) -> State:
        damping = self._damping(y)
        return torch.cat([torch.zeros_like(damping), damping], dim=1)

    def _damping(self, y: State) -> Tensor:
        x, v = y[:, :1], y[:, 1:]
        return self.mu * (1 - x.square()) * v


@final
class HeavyBall(SecondOrderField, SplitField, MatrixField, KnownEquation):
    """q' = v, v' = -stiffness q - friction v; the parts are the oscillator and the friction."""

    batched_time = True
    numbers = ("stiffness", "friction")

    def __init__(self, *, stiffness: float, friction: float) -> None:
        super().__init__()
        self.stiffness, self.friction = stiffness, friction

    def force(self, t: Time, y: State, *given: Tensor) -> State:
        return -self.stiffness * y[:, :1] - self.friction * y[:, 1:]

    def first_part(self, t: Time, y: State, *given: Tensor) -> State:
        return torch.cat([y[:, 1:], -self.stiffness * y[:, :1]], dim=1)

    def second_part(self, t: Time, y: State, *given: Tensor) -> State:
        return torch.cat([torch.zeros_like(y[:, :1]), -self.friction * y[:, 1:]], dim=1)

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        zero = y.new_zeros(())
        return torch.stack([zero, zero + 1, zero - self.stiffness, zero - self.friction]).view(2, 2)


@final
class Robertson(KnownEquation):
    """Three reactions whose rates differ by nine orders of magnitude.

    Robertson. The solution of a set of reaction rate equations. 1966. · Hairer, Wanner. Solving Ordinary Differential
    Equations II. Springer 1996, IV.1 (1.4).
    """

    batched_time = True
    numbers = ("slow", "fast", "fastest")

    def __init__(self, *, slow: float, fast: float, fastest: float) -> None:
        super().__init__()
        self.slow, self.fast, self.fastest = slow, fast, fastest

    def forward(self, t: Time, y: State) -> State:
        a, b, c = y.unbind(dim=1)
        gained, lost = self.fast * b * c - self.slow * a, self.fastest * b.square()
        return torch.stack([gained, -gained - lost, lost], dim=1)


def _car() -> KnownProblem:
    def exact(ts: Times) -> Tensor:
        return torch.stack([ts, torch.ones_like(ts)], dim=1)

    return KnownProblem(
        field=Car(), names=("x", "v"), y0=(0.0, 1.0), horizon=1.0, exact=exact, invariant=lambda y: y[..., 1]
    )


def _exponential() -> KnownProblem:
    return KnownProblem(
        field=Decay(RATE), names=("x",), y0=(1.0,), horizon=1.0, exact=lambda ts: torch.exp(-RATE * ts)[:, None]
    )


def _sine() -> KnownProblem:
    return KnownProblem(
        field=Sine(),
        names=("x",),
        y0=(1.0,),
        horizon=1.0,
        exact=lambda ts: 2 * torch.atan(ts.exp() * math.tan(0.5))[:, None],
    )


def _square() -> KnownProblem:
    return KnownProblem(
        field=Square(), names=("x",), y0=(1.0,), horizon=0.9, exact=lambda ts: 1 / (1 - ts)[:, None], bound=1.0
    )


def _circle() -> KnownProblem:
    return KnownProblem(
        field=Circle(),
        names=("x_1", "x_2"),
        y0=(1.0, 0.0),
        horizon=2 * math.pi,
        exact=lambda ts: torch.stack([ts.cos(), ts.sin()], dim=1),
        invariant=lambda y: y.norm(dim=-1),
    )


def _gradient_flow() -> KnownProblem:
    return KnownProblem(
        field=Decay(*CURVATURES),
        names=(r"\theta_1", r"\theta_2"),
        y0=(1.0, 1.0),
        horizon=20.0,
        exact=lambda ts: torch.exp(-ts[:, None] * ts.new_tensor(CURVATURES)),
    )


def van_der_pol(mu: float) -> KnownProblem:
    """From (2, 0), over a little more than two periods, of about 2 pi + 1.614 mu each."""
    return KnownProblem(
        field=VanDerPol(mu),
        names=("x", "v"),
        y0=(2.0, 0.0),
        horizon=2.4 * (2 * math.pi + (3 - 2 * math.log(2)) * mu),
        stiff=mu >= STIFF_FROM,
    )


def heavy_ball(friction: float) -> KnownProblem:
    """From (1, 0) to t = 4, underdamped, critical or overdamped."""
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


PLAIN: Mapping[str, Callable[[], KnownProblem]] = {  # those without a parameter
    "car": _car,
    "exponential": _exponential,
    "sine": _sine,
    "square": _square,
    "circle": _circle,
    "gradient_flow": _gradient_flow,
    "robertson": _robertson,
}
