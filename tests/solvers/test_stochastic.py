"""A field with drift and diffusion, and a solver for it of a few lines, as somebody outside the tree writes it."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.event import Event
from ode_runner.field import StochasticField, VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.noise.brownian_path import BrownianPath, Noise
from ode_runner.problem import Solution
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Time, Times
from tests.problems import slope

pytestmark = pytest.mark.usefixtures("float64")


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(FixedStepSolver):
    """y1 = y0 + dt drift + diffusion dW. Strong order 1/2; Maruyama 1955."""

    fields = StochasticField
    fields_in_words = "a stochastic field"
    order = 1

    def solve(self, field: Any, y0: State, ts: Times) -> Solution:
        y, ys, steps = y0, [y0], 0
        for grid in self.grids(ts):
            for t0, t1 in pairwise(grid):
                t, dw = time_tensor(t0, y), field.driving_noise.increment(t0, t1, y).w
                y = y + (t1 - t0) * field.drift(t, y) + field.diffusion(t, y) * dw
                steps += 1
            ys.append(y)
        return Solution(ys=torch.stack(ys), accepted=steps)


class Geometric(StochasticField):
    """dy = a y dt + b y dW, of which the path is known: y0 exp((a - b^2 / 2) t + b W)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.4))

    def drift(self, t: Time, y: State, *given: Tensor) -> State:
        return self.a * y + sum(given, torch.zeros(()))

    def diffusion(self, t: Time, y: State, *given: Tensor) -> Tensor:
        return self.b * y


TS = torch.tensor([0.0, 0.25, 1.0])
PATH = BrownianPath(seed=3, cells=256, depth=0)
NUMBERS = torch.arange(200)


def solved(steps: int, numbers: Tensor = NUMBERS, field: Geometric | None = None, **options: Any) -> Solution:
    integrate = Integrator(solver=EulerMaruyama(num_steps=steps, step_size=None), gradient=Backprop())
    noise = Noise(path=PATH, samples=numbers)
    return integrate(field or Geometric(), torch.ones(len(numbers), 2), TS.double(), noise=noise, **options)


def test_it_follows_the_path_at_strong_order_one_half() -> None:
    field = Geometric()
    w = torch.stack([PATH.increment(0.0, float(t), PATH.keys(NUMBERS, (2,)), dtype=torch.float64).w for t in TS])
    a, b = field.a.detach(), field.b.detach()
    exact = torch.exp((a - b**2 / 2) * TS.double()[:, None, None] + b * w)
    errors = [float((solved(n).ys.detach() - exact)[-1].abs().mean()) for n in (16, 64, 256)]
    assert 0.4 < slope([1 / n for n in (16, 64, 256)], errors) < 0.75
    assert errors[-1] < 0.02


def test_a_sample_keeps_its_path_in_any_batch() -> None:
    whole = solved(16).ys
    order = torch.randperm(len(NUMBERS))
    assert torch.equal(solved(16, NUMBERS[order]).ys, whole[:, order])
    assert torch.equal(solved(16, NUMBERS[5:9]).ys, whole[:, 5:9])


def test_drift_and_diffusion_together_count_one() -> None:
    integrate = Integrator(solver=EulerMaruyama(num_steps=8, step_size=None), gradient=Backprop())
    with integrate.ledger.phase(Phase.FORWARD) as tally:
        integrate(Geometric(), torch.ones(4, 2), TS.double(), noise=Noise(path=PATH, samples=NUMBERS[:4]))
    assert (tally.evaluations, tally.accepted) == (8, 8)


def test_its_gradient_is_that_of_the_path() -> None:
    field, z = Geometric(), torch.tensor(0.1, requires_grad=True)
    given = (z.expand(len(NUMBERS), 1),)
    found = torch.autograd.grad(solved(16, field=field, given=given).ys[-1].sum(), [field.a, field.b, z])
    for i, x in enumerate((field.a, field.b, z)):
        ends = []
        for shift in (1e-6, -1e-6):
            with torch.no_grad():
                x += shift
                ends.append(float(solved(16, field=field, given=given).ys[-1].sum()))
                x -= shift
        assert float(found[i]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


def test_nonsense_pairs_are_refused_by_a_sentence() -> None:
    y0, ts, noise = torch.ones(4, 2), TS.double(), Noise(path=PATH, samples=NUMBERS[:4])
    ordinary = Integrator(solver=Dopri5(rtol=1e-3, atol=1e-3, max_steps=99), gradient=Backprop())
    stochastic = Integrator(solver=EulerMaruyama(num_steps=8, step_size=None), gradient=Backprop())
    with pytest.raises(
        IncompatibleChoice, match=r"solver=dopri5 evaluates a field by forward, and Geometric is a Stoch"
    ):
        ordinary(Geometric(), y0, ts, noise=noise)

    class Plain(VectorField):
        def forward(self, t: Time, y: State) -> State:
            return -y

    with pytest.raises(
        IncompatibleChoice, match=r"solver=dopri5 solves ordinary differential equations, and noise drives"
    ):
        ordinary(Plain(), y0, ts, noise=noise)
    with pytest.raises(IncompatibleChoice, match=r"EulerMaruyama evaluates a field by drift, diffusion, and Plain is"):
        stochastic(Plain(), y0, ts, noise=noise)
    with pytest.raises(RefusedInput, match=r"Geometric is driven by noise, and the solve was given none"):
        stochastic(Geometric(), y0, ts)
    with pytest.raises(IncompatibleChoice, match="EulerMaruyama finds no events"):
        stochastic(Geometric(), y0, ts, noise=noise, event=Event(lambda t, y: y[:, 0]))
    assert not Adjoint.takes(EulerMaruyama)
    with pytest.raises(IncompatibleChoice, match=r"EulerMaruyama takes a stochastic field alone"):
        Integrator(solver=stochastic.solver, gradient=Adjoint(rtol=None, atol=None))(Geometric(), y0, ts, noise=noise)


def test_the_wrapper_offers_the_calls_of_the_kind() -> None:
    integrate = Integrator(solver=EulerMaruyama(num_steps=8, step_size=None), gradient=Backprop())
    counted = CountedField.around(Geometric(), integrate.ledger)
    assert isinstance(counted, StochasticField)
