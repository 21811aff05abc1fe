"""Jacobians of fields, and gradients through implicit solvers that go by them, where a field hands the cotangent on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.analysis.spectrum import ritz_values
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.explicit.dopri8 import Dopri8
from ode_runner.solvers.implicit import linearised
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.implicit.jacobian import AT_ONCE, BATCHED_FROM, JacobianProducts, jacobian
from tests.problems import Compose, Formula, build, offering

pytestmark = pytest.mark.usefixtures("float64")


class Unmappable(torch.autograd.Function):
    """Twice its argument, by an operation that torch.func knows no rule for."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return 2 * y

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        return 2 * cotangent


Equation = Callable[[Tensor, Tensor, Tensor], Tensor]  # parameters k, time and state
HANDING_ON: dict[str, Equation] = {
    "y + k sin t": lambda k, t, y: y + k * torch.sin(t),
    "y - k": lambda k, t, y: y - k,
    "y": lambda k, t, y: y,
    "2 (y + k t) / 2": lambda k, t, y: 2 * (y + k * t) / 2,
    "y seen otherwise": lambda k, t, y: y.flatten().view_as(y) + k,
    "y and its neighbour": lambda k, t, y: y.roll(1, dims=1) + y + k,
}
OTHERS: dict[str, Equation] = {
    "k y^3": lambda k, t, y: k * y**3 + y.flip(1),
    "of time alone": lambda k, t, y: (k * t).expand_as(y),
    "constant in y": lambda k, t, y: 0 * y + k,
    "unmappable": lambda k, t, y: Unmappable.apply(y) + k * y,
}


@pytest.mark.parametrize("size", [1, 3, BATCHED_FROM, AT_ONCE + 6])
@pytest.mark.parametrize("name", [*HANDING_ON, *OTHERS])
def test_every_row_is_its_own(size: int, name: str) -> None:
    equation, k, t = (HANDING_ON | OTHERS)[name], torch.randn(size, requires_grad=True), torch.tensor(0.7)
    y = torch.randn(3, size, requires_grad=True)
    expected = torch.stack([torch.autograd.functional.jacobian(lambda x: equation(k, t, x[None])[0], one) for one in y])
    torch.testing.assert_close(jacobian(equation(k, t, y), y), expected.detach())


def test_states_of_any_shape_have_one() -> None:
    size = 20
    y = torch.randn(2, 2, size // 2, requires_grad=True)
    found = jacobian(y.roll(1, dims=1) * y, y)
    expected = torch.autograd.functional.jacobian(lambda x: x.roll(1, dims=0) * x, y[1].detach()).view(size, size)
    torch.testing.assert_close(found[1], expected)


class Field(Formula):
    def __init__(self, equation: Equation) -> None:
        super().__init__(lambda t, y: equation(self.k, t, y))
        self.k = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))


def gradient(solver: Any, mode: GradientMode, equation: Equation) -> Tensor:
    """dL/d(y0, k)."""
    field, y0 = Field(equation), torch.tensor([[1.0, 2.0, -1.0], [0.3, 0.0, 1.0]], requires_grad=True)
    ys = Integrator(solver=solver, gradient=mode)(field, y0, torch.tensor([0.0, 0.4])).ys
    loss = (ys[-1] * torch.tensor([[1.0, 3.0, -2.0], [0.5, 1.0, 4.0]])).sum()
    found = torch.autograd.grad(loss, [y0, field.k], allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("largest", [linearised.LARGEST, 0], ids=["factorised", "products"])
@pytest.mark.parametrize("name", offering(ImplicitSolver))
def test_implicit_solvers_have_the_gradient_of_fields_that_hand_the_cotangent_on(
    composed: Compose, name: str, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = build(composed, "solver", name)
    monkeypatch.setattr(linearised, "LARGEST", largest)
    for equation in (HANDING_ON["y + k sin t"], HANDING_ON["y and its neighbour"]):
        expected = gradient(Dopri8(rtol=1e-9, atol=1e-9, max_steps=1000), Backprop(), equation)
        for mode in (Backprop(), Checkpoint()):
            found = gradient(solver, mode, equation)
            assert float((found - expected).norm() / expected.norm()) < 0.05  # implicit Euler's own error


def test_the_spectrum_of_a_field_that_hands_the_cotangent_on_is_seen() -> None:
    y = torch.randn(2, 4, requires_grad=True)
    derivative = JacobianProducts(y + 3.0, y)
    values = ritz_values(derivative.jvp, y, products=4)
    torch.testing.assert_close(values, torch.ones_like(values))
    torch.testing.assert_close(derivative.vjp(torch.ones(2, 4)), torch.ones(2, 4))
