"""Equations with known solutions, with named parameters."""

from typing import final

import torch
from torch import Tensor

from ode_runner.field import VectorField, broadcast_time
from ode_runner.fields.structured_field import KnownEquation, MatrixField, SecondOrderField, SeparableField, SplitField
from ode_runner.types import State, Time


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


class OfRate(KnownEquation):
    """An equation with one parameter, which multiplies the slope."""

    batched_time = True
    numbers = ("rate",)

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate


@final
class Exponential(MatrixField, OfRate):
    """x' = -rate x."""

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        return -self.rate * y.new_ones(1, 1)


@final
class Descent(MatrixField, KnownEquation):
    """(x, y)' = -(flat x, steep y): the gradient flow of a quadratic loss with these curvatures."""

    batched_time = True
    numbers = ("flat", "steep")

    def __init__(self, *, flat: float, steep: float) -> None:
        super().__init__()
        self.flat, self.steep = flat, steep

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        zero = y.new_zeros(())
        return torch.stack([zero - self.flat, zero, zero, zero - self.steep]).view(2, 2)


@final
class Sine(OfRate):
    """x' = rate sin x."""

    def forward(self, t: Time, y: State) -> State:
        return self.rate * y.sin()


@final
class Square(OfRate):
    """x' = rate x^2."""

    def forward(self, t: Time, y: State) -> State:
        return self.rate * y.square()


@final
class Relaxation(VectorField):
    """y' = -rate y + rate (3 - 2 e^-t): fast relaxation to a slowly moving value.

    Ghosh, Behl, Dupont, Torr, Namboodiri. STEER: Simple Temporal Regularization For Neural ODEs. NeurIPS 2020.
    """

    batched_time = True

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, t: Time, y: State) -> State:
        return self.rate * (3 - 2 * torch.exp(-broadcast_time(t, y)) - y)


@final
class Circle(SeparableField, MatrixField, KnownEquation):
    """(x, y)' = frequency (-y, x)."""

    batched_time = True
    numbers = ("frequency",)

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency

    def drift(self, t: Time, p: State) -> State:
        return -self.frequency * p

    def kick(self, t: Time, q: State) -> State:
        return self.frequency * q

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        return self.frequency * y.new_tensor([[0.0, -1.0], [1.0, 0.0]])


@final
class VanDerPol(SecondOrderField, SplitField, KnownEquation):
    """x' = v, v' = mu (1 - x^2) v - x; a splitting separates the oscillator from the damping.

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
    """q' = v, v' = -stiffness q - friction v; a splitting separates the oscillator from the friction."""

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
