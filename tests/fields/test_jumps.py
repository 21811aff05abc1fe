"""States that jump at known times: doses of what decays, whose answers are known."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.event import Event, Jumps
from ode_runner.field import VectorField
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.symplectic import Symplectic
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.types import State, Time

pytestmark = pytest.mark.usefixtures("float64")
TIGHT = Dopri5(rtol=1e-10, atol=1e-10, max_steps=10_000)
DOSES = (0.3, 1.0, 1.5)
TS = torch.tensor([0.0, 0.5, 1.0, 2.0])


class Decay(VectorField):
    """y' = -k y."""

    batched_time = True

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(1.3))

    def forward(self, t: Time, y: State) -> State:
        return -self.k * y


class Dose(nn.Module):
    """A dose more."""

    def __init__(self) -> None:
        super().__init__()
        self.dose = nn.Parameter(torch.tensor(0.7))

    def forward(self, t: Time, y: State) -> State:
        return y + self.dose


def known(k: Tensor, dose: Tensor, y0: Tensor, t: float) -> Tensor:
    """At t, and before a dose that is then."""
    return y0 * torch.exp(-k * t) + sum(dose * torch.exp(-k * (t - at)) for at in DOSES if at < t)


@pytest.mark.parametrize("solver", [TIGHT, replace(TIGHT, per_sample=True), RK4(num_steps=200, step_size=None)])
def test_doses_add_up_and_an_output_at_one_is_the_state_before(solver: Any) -> None:
    field, dose, y0 = Decay(), Dose(), torch.tensor([[1.0], [2.0]])
    jumps = Jumps([1.5, 0.3, 1.0, 7.0], dose)
    penalty = {"area": Integral(lambda t, y, dy, vjp: y[:, 0], judged=False)}
    solution = Integrator(solver=solver, gradient=Backprop())(field, y0, TS, jumps=jumps, integrals=penalty)
    expected = torch.stack([known(field.k, dose.dose, y0, t) for t in TS.tolist()])
    torch.testing.assert_close(solution.ys, expected, rtol=0, atol=1e-8)
    area = (y0[:, 0] + 3 * dose.dose - solution.ys[-1, :, 0]) / field.k  # what has been given and is gone
    torch.testing.assert_close(solution.integrals["area"][-1], area, rtol=0, atol=1e-8)


def test_a_jump_that_writes_into_its_state_changes_no_output() -> None:
    outputs = [
        Integrator(solver=TIGHT, gradient=Backprop())(Decay(), torch.ones(2, 1), TS, jumps=Jumps([0.5], to)).ys
        for to in (lambda t, y: y.add_(1), lambda t, y: y + 1)
    ]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("mode", [Backprop(), Checkpoint(), Symplectic(), Adjoint(rtol=1e-10, atol=1e-10)])
def test_every_mode_differentiates_through_jumps(mode: GradientMode) -> None:
    field, dose, y0 = Decay(), Dose(), torch.tensor([[1.0]], requires_grad=True)
    asked = [field.k, dose.dose, y0]
    solution = Integrator(solver=TIGHT, gradient=mode)(field, y0, TS, jumps=Jumps(DOSES, dose))
    found = torch.autograd.grad(solution.ys[-1].sum() + solution.ys[1].sum(), asked)
    expected = torch.autograd.grad(sum(known(*asked, t).sum() for t in (2.0, 0.5)), asked)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_what_cannot_be_followed_is_refused() -> None:
    def solved(jumps: Any, ts: Tensor = TS, **more: Any) -> None:
        Integrator(solver=TIGHT, gradient=Backprop())(Decay(), torch.ones(1, 1), ts, jumps=jumps, **more)

    doses = Jumps(DOSES, Dose())
    with pytest.raises(RefusedInput, match="a jump cannot be followed back"):
        solved(doses, TS.flip(0))
    with pytest.raises(IncompatibleChoice, match="a solve with an event takes no jumps"):
        solved(doses, event=Event(lambda t, y: y[:, 0] - 0.5))
    with pytest.raises(RefusedInput, match=r"jumps are ode_runner.event.Jumps"):
        solved((0.3,))
    with pytest.raises(RefusedInput, match="a jump must give a state in the shape of the one before"):
        solved(Jumps([0.3], lambda t, y: y[:, 0]))
    with pytest.raises(RefusedInput, match="must be finite numbers, and one is nan"):
        Jumps([math.nan], Dose())
