"""Fields that a gradient mode would differentiate wrongly."""

import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.types import State, Time
from tests.helpers import options

TS = torch.linspace(0, 1, 3)
AGAIN = {mode: "reversible_heun" if mode == "reversible" else "dopri5" for mode in options("gradient")}
del AGAIN["backprop"]


class Normed(nn.Module):
    """A step of power iteration in every call changes the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.utils.spectral_norm(nn.Linear(3, 3))

    def forward(self, t: Time, y: State) -> State:
        return torch.tanh(self.layer(y)) - y


class Averaging(nn.Module):
    """Every call changes the running mean, which has no effect on what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, t: Time, y: State) -> State:
        self.mean.lerp_(y.detach().mean(dim=0), 0.1)
        return torch.tanh(self.layer(y)) - y


def gradient(field: nn.Module, mode: str, solver: str) -> Tensor:
    field.zero_grad()
    y0 = torch.linspace(-1, 1, 12).view(4, 3)
    ode.integrate(field, y0, TS, solver=solver, gradient=mode).ys.square().sum().backward()
    return torch.cat([p.grad.flatten() for p in field.parameters() if p.grad is not None])


@pytest.mark.parametrize(("mode", "solver"), AGAIN.items(), ids=AGAIN)
def test_calls_may_change_buffers_but_not_with_them_what_a_field_computes(mode: str, solver: str) -> None:
    field = Normed()
    with pytest.raises(
        IncompatibleChoice, match=rf"^gradient={mode} evaluates the field again .* calls of Normed change"
    ):
        gradient(field, mode, solver)
    assert gradient(field, "backprop", solver).isfinite().all()
    gradient(field.eval(), mode, solver)
    averaging = Averaging()
    if mode == "forward":
        with pytest.raises(IncompatibleChoice, match="does not allow"):
            gradient(averaging, mode, solver)
        return
    torch.testing.assert_close(
        gradient(averaging, mode, solver), gradient(averaging, "backprop", solver), rtol=0.01, atol=0.01
    )


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, t: Time, y: State) -> State:
        return self.scale * torch.tanh(self.layer(y))


@pytest.mark.parametrize(("mode", "solver"), AGAIN.items(), ids=AGAIN)
def test_a_buffer_may_not_change_before_the_backward_pass(mode: str, solver: str) -> None:
    field, y0 = Scaled(), torch.ones(2, 3)
    loss = ode.integrate(field, y0, TS, solver=solver, gradient=mode).ys.sum()
    ode.integrate(field, y0, TS, solver=solver, gradient=mode)
    loss.backward()
    loss = ode.integrate(field, y0, TS, solver=solver, gradient=mode).ys.sum()
    field.scale.mul_(2)
    if mode == "forward":  # which has its derivative from the forward pass
        loss.backward()
        return
    with pytest.raises(RefusedInput, match="written into between the solve and its backward pass"):
        loss.backward()
