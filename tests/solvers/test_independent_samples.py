"""Fields in which samples interact, by solvers that treat each sample alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.models.density import exact_trace
from ode_runner.solvers.explicit.dopri5 import Dopri5

TIMES = torch.tensor([0.0, 0.3, 0.7])
ALONE: list[dict[str, Any]] = [
    {"solver": "dopri5", "per_sample": True},
    {"solver": "kvaerno3"},
    {"solver": "radau_iia5"},
    {"solver": "implicit_euler", "num_steps": 4},
]


class Interacting(VectorField):
    """Draws every sample to the mean of all, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.tensor(0.5)), 0

    def forward(self, t: Any, y: Tensor) -> Tensor:
        self.calls += 1
        return self.weight * (y.mean(dim=0) - y)


class Normalised(VectorField):
    """Samples interact by the statistics of the batch, in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Tanh())

    def forward(self, t: Any, y: Tensor) -> Tensor:
        return self.layers(y)


@pytest.mark.parametrize("options", ALONE, ids=lambda options: options["solver"])
def test_samples_that_interact_are_refused_by_name(options: dict[str, Any]) -> None:
    """States by per_sample, and gradients by Jacobians of single samples, would be those of other equations."""
    y0, other = torch.randn(3, 2), "solver.per_sample=false" if "per_sample" in options else "an explicit solver"
    for field in (Interacting(), Interacting().forward, lambda t, y: torch.softmax(y @ y.T, dim=1) @ y):
        with pytest.raises(IncompatibleChoice, match=rf"and samples of .+ interact: .* Use {other}, or make"):
            ode.integrate(field, y0, TIMES, **options)
        ode.integrate(field, y0[:1], TIMES, **options)
        ode.integrate(field, y0, TIMES, solver="rk4", num_steps=4)


@pytest.mark.parametrize("options", ALONE, ids=lambda options: options["solver"])
def test_each_mode_of_a_field_is_checked_and_leaves_no_trace(options: dict[str, Any]) -> None:
    field, y0 = Normalised(), torch.randn(3, 2)
    mean, random = field.layers[1].running_mean.clone(), torch.get_rng_state()
    ode.integrate(field.eval(), y0, TIMES, **options)
    with pytest.raises(IncompatibleChoice, match="samples of Normalised interact: .* batch normalisation"):
        ode.integrate(field.train(), y0, TIMES, **options)
    assert torch.equal(field.layers[1].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_plain_function_is_no_module_and_not_checked() -> None:
    solver = Dopri5(rtol=1e-3, atol=1e-3, max_steps=100, per_sample=True)
    ys = Integrator(solver=solver, gradient=Backprop())(lambda t, y: -y, torch.ones(3, 2), TIMES).ys
    torch.testing.assert_close(ys[-1], torch.ones(3, 2) * (-TIMES[-1]).exp(), rtol=1e-3, atol=1e-3)


def test_log_densities_of_samples_that_interact_are_refused() -> None:
    density = Integral(exact_trace, judged=True, treats_samples_alone=True)
    with pytest.raises(IncompatibleChoice, match="the integral of log_p treats each sample alone"):
        ode.integrate(Interacting(), torch.randn(3, 2), TIMES, integrals={"log_p": density})


def test_the_check_is_made_once_and_not_counted() -> None:
    class Alone(Interacting):
        def forward(self, t: Any, y: Tensor) -> Tensor:
            self.calls += 1
            return -self.weight * y

    field, y0 = Alone(), torch.randn(3, 2)
    solver = Dopri5(rtol=1e-3, atol=1e-3, max_steps=100, per_sample=True)
    integrate, calls = Integrator(solver=solver, gradient=Backprop()), []
    for _ in range(2):
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            integrate(field, y0, TIMES)
        calls.append(field.calls - sum(calls))
    assert calls[0] == calls[1] + 1
    assert tally.evaluations == calls[1]
