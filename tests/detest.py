"""The non-stiff problems of Hull, Enright, Fellen, Sedgwick. Comparing numerical methods for ordinary differential
equations. SIAM J. Numer. Anal. 9, 1972: classes A to E on [0, 20], all but C5 (five planets, whose constants are many).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from tests.problems import Formula

END = 20.0
Derivative = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Posed:
    """An initial value problem: dy/dt of each component from time and components, and initial values."""

    derivative: Derivative
    begin: tuple[float, ...]

    def field(self) -> Formula:
        return Formula(lambda t, y: torch.stack(self.derivative(t, y.unbind(dim=1)), dim=1))

    def y0(self) -> Tensor:
        return torch.tensor([self.begin], dtype=torch.float64)


def scalar(function: Callable[[Tensor, Tensor], Tensor], begin: float) -> Posed:
    return Posed(lambda t, y: (function(t, y[0]),), (begin,))


def spiral(t: Tensor, y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    r = torch.hypot(y[0], y[1])
    return -y[1] - y[0] * y[2] / r, y[0] - y[1] * y[2] / r, y[0] / r


def chain(*, decay: Callable[[int], float], size: int = 10) -> Posed:
    """Radioactive decay from each component to the next."""

    def derivative(t: Tensor, y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        lost = [decay(i + 1) * y[i] for i in range(size - 1)]
        return (-lost[0], *(lost[i - 1] - lost[i] for i in range(1, size - 1)), lost[-1])

    return Posed(derivative, (1.0, *[0.0] * (size - 1)))


def diffusion(size: int) -> Posed:
    def derivative(t: Tensor, y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        padded = (torch.zeros_like(y[0]), *y, torch.zeros_like(y[0]))
        return tuple(padded[i - 1] - 2 * padded[i] + padded[i + 1] for i in range(1, size + 1))

    return Posed(derivative, (1.0, *[0.0] * (size - 1)))


def orbit(eccentricity: float) -> Posed:
    def derivative(t: Tensor, y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        cubed = torch.hypot(y[0], y[1]) ** 3
        return y[2], y[3], -y[0] / cubed, -y[1] / cubed

    return Posed(derivative, (1 - eccentricity, 0.0, 0.0, math.sqrt((1 + eccentricity) / (1 - eccentricity))))


def second_order(force: Callable[[Tensor, Tensor, Tensor], Tensor], begin: float, speed: float) -> Posed:
    return Posed(lambda t, y: (y[1], force(t, y[0], y[1])), (begin, speed))


BESSEL = math.sqrt(2 / math.pi) * math.sin(1), math.sqrt(2 / math.pi) * (math.cos(1) - math.sin(1) / 2)

DETEST: dict[str, Posed] = {
    "A1": scalar(lambda t, y: -y, 1.0),
    "A2": scalar(lambda t, y: -(y**3) / 2, 1.0),
    "A3": scalar(lambda t, y: y * torch.cos(t), 1.0),
    "A4": scalar(lambda t, y: y / 4 * (1 - y / 20), 1.0),
    "A5": scalar(lambda t, y: (y - t) / (y + t), 4.0),
    "B1": Posed(lambda t, y: (2 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])), (1.0, 3.0)),
    "B2": Posed(lambda t, y: (-y[0] + y[1], y[0] - 2 * y[1] + y[2], y[1] - y[2]), (2.0, 0.0, 1.0)),
    "B3": Posed(lambda t, y: (-y[0], y[0] - y[1] ** 2, y[1] ** 2), (1.0, 0.0, 0.0)),
    "B4": Posed(spiral, (3.0, 0.0, 0.0)),
    "B5": Posed(lambda t, y: (y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]), (0.0, 1.0, 1.0)),
    "C1": chain(decay=lambda i: 1.0),
    "C2": chain(decay=float),
    "C3": diffusion(10),
    "C4": diffusion(51),
    "D1": orbit(0.1),
    "D2": orbit(0.3),
    "D3": orbit(0.5),
    "D4": orbit(0.7),
    "D5": orbit(0.9),
    "E1": second_order(lambda t, y, v: -(v / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * y), *BESSEL),
    "E2": second_order(lambda t, y, v: (1 - y**2) * v - y, 2.0, 0.0),
    "E3": second_order(lambda t, y, v: y**3 / 6 - y + 2 * torch.sin(2.78535 * t), 0.0, 0.0),
    "E4": second_order(lambda t, y, v: 0.032 - 0.4 * v**2, 30.0, 0.0),
    "E5": second_order(lambda t, y, v: torch.sqrt(1 + v**2) / (25 - t), 0.0, 0.0),
}


@cache
def reference(name: str) -> Tensor:
    """The state at the end, by SciPy's method of order 8 at the tightest tolerance that it accepts."""
    posed, field = DETEST[name], DETEST[name].field()

    def right(t: float, y: object) -> object:
        return field(torch.tensor(t, dtype=torch.float64), torch.as_tensor(y, dtype=torch.float64)[None])[0].numpy()

    solved = solve_ivp(right, (0, END), posed.begin, method="DOP853", rtol=1e-13, atol=1e-14)
    assert solved.success
    return torch.tensor(solved.y[:, -1], dtype=torch.float64)
