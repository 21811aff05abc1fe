"""Flows with a log density: closed forms, the estimated trace, mass, samples, gradients in every mode."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import WrappedField
from ode_runner.integral import probe
from ode_runner.integrator import Integrator
from ode_runner.models.density import normal_log_density
from ode_runner.models.flows import cnf
from ode_runner.models.flows.cnf import ContinuousFlow
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.types import State, Time
from tests.pairs import SEPARABLE, is_slow, solver_of
from tests.problems import Compose, accepted_pairs, build

pytestmark = pytest.mark.usefixtures("float64")
PLANE = TaskSpec(input_shape=(2,), output_shape=(2,))
TS = torch.tensor([0.0, 1.0], dtype=torch.float64)
TIGHT = Dopri5(rtol=1e-9, atol=1e-9, max_steps=10_000)


def flow(composed: Compose, network: str = "mlp", spec: TaskSpec = PLANE, **options: Any) -> ContinuousFlow:
    """In float64, with the weights of seed 0; of a network with four units where it has any."""
    torch.manual_seed(0)
    sizes = {} if network == "linear" else {"width": 6, "depth": 2}
    made = build(composed, "model", "cnf", build(composed, "network", network, spec, **sizes), **options)
    return made.double()


def affine(composed: Compose, matrix: Tensor, **options: Any) -> ContinuousFlow:
    made = flow(composed, "linear", TaskSpec(input_shape=(len(matrix),), output_shape=(1,)), **options)
    with torch.no_grad():
        made.field.theta.copy_(matrix)
    return made


def integrator(composed: Compose, solver: Any = TIGHT, mode: str = "backprop") -> Integrator:
    return Integrator(solver=solver, gradient=build(composed, "gradient", mode))


def test_an_affine_flow_is_known_in_closed_form(composed: Compose) -> None:
    matrix = torch.tensor([[0.3, -1.0, 0.2], [0.8, -0.5, 0.0], [0.1, 0.4, 0.6]])
    x = torch.randn(7, 3)
    expected = normal_log_density(x @ torch.linalg.matrix_exp(matrix).T) + matrix.trace()
    found = affine(composed, matrix)(x, TS, integrator(composed)).values
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("noise", ["rademacher", "normal"])
def test_the_estimated_trace_is_right_in_the_mean(
    noise: str, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = flow(composed, trace="hutchinson", noise=noise), torch.randn(5, 2)
    integrate = integrator(composed)
    exact = model.eval()(x, TS, integrate).values
    model.train()
    if noise == "normal":  # e1 and e2 times sqrt(2), half each: e e^T has the mean of normal e, the identity
        signs = math.sqrt(2) * torch.eye(2)
    else:
        signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    estimates = []
    for sign in signs:
        monkeypatch.setattr(cnf, "probe", lambda y0, distribution, sign=sign: sign.expand_as(y0))
        estimates.append(model(x, TS, integrate).values)
    assert not torch.allclose(estimates[0], exact, atol=1e-3)
    torch.testing.assert_close(torch.stack(estimates).mean(dim=0), exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("noise", "fourth"), [("rademacher", 1.0), ("normal", 3.0)])
def test_noise_has_its_law_and_is_drawn_once_a_solve(noise: str, fourth: float, composed: Compose) -> None:
    model = flow(composed, trace="hutchinson", noise=noise)
    drawn = probe(torch.zeros(50_000, 2), noise)  # type: ignore[arg-type]
    assert float(drawn.mean()) == pytest.approx(0, abs=0.02)
    assert float(drawn.square().mean()) == pytest.approx(1, abs=0.02)
    assert float(drawn.pow(4).mean()) == pytest.approx(fourth, abs=0.15)
    torch.manual_seed(3)
    model(torch.zeros(4, 2), TS, integrator(composed))
    after = torch.rand(1)
    torch.manual_seed(3)
    probe(torch.zeros(4, 2), noise)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(1), after)


def test_a_flow_has_mass_one_and_passes_through_halves(composed: Compose) -> None:
    model, integrate = flow(composed), integrator(composed)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)  # far from the identity
        middles = torch.linspace(-10, 10, 161)
        cells = torch.cartesian_prod(middles, middles)
        density = model(cells, TS, integrate).values
        assert float(density.exp().sum()) * 0.125**2 == pytest.approx(1, abs=1e-4)
        assert float((density.exp() - normal_log_density(cells).exp()).abs().max()) > 0.02
        halves = model(cells[::50], torch.tensor([0.0, 0.5, 1.0]), integrate).values
        torch.testing.assert_close(halves, density[::50], rtol=0, atol=1e-6)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["dopri5", "rk4", "reversible_heun", "torchdiffeq", "radau", *SEPARABLE])
def test_the_density_of_samples_is_that_which_sampling_reports(name: str, composed: Compose) -> None:
    model = flow(composed, "separable" if name in SEPARABLE else "concatsquash").eval()
    solver = solver_of(name, composed)
    fixed = isinstance(solver, FixedStepSolver)
    integrate = integrator(composed, replace(solver, num_steps=60) if fixed else solver)
    with torch.no_grad():
        drawn = model.sample(6, torch.linspace(0, 1, 3), integrate)
        found = model(drawn.path[-1], TS, integrate).values
    assert drawn.path.shape == (3, 6, 2)
    torch.testing.assert_close(found, drawn.log_density, rtol=0, atol=2e-3 if fixed else 1e-5)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_a_conditional_flow_is_affine_in_data_that_its_condition_moves(trace: str, composed: Compose) -> None:
    """x' = A x + B c: the condition has no part in the trace, and log p(x | c) is that of a normal distribution."""
    spec = TaskSpec(input_shape=(2,), output_shape=(2,), condition=2)
    model, matrix = flow(composed, "linear", spec, trace=trace), 0.3 * torch.randn(2, 4)
    with torch.no_grad():
        model.field.theta.copy_(matrix)
    inputs = torch.randn(6, 4)
    still = torch.cat([matrix, torch.zeros(2, 4)])
    end = (inputs @ torch.linalg.matrix_exp(still).T)[:, :2]
    expected = normal_log_density(end) + matrix[:2, :2].trace()
    integrate = integrator(composed)
    torch.testing.assert_close(model.eval()(inputs, TS, integrate).values, expected, rtol=0, atol=1e-7)
    model.train()
    estimates = torch.stack([model(inputs, TS, integrate).values for _ in range(200 if trace == "hutchinson" else 1)])
    torch.testing.assert_close(estimates.mean(dim=0), expected, rtol=0, atol=0.15 if trace == "hutchinson" else 1e-7)
    with torch.no_grad():
        drawn = model.eval().sample(6, TS, integrate, given=[inputs[:, 2:]])
        found = model(torch.cat([drawn.path[-1], inputs[:, 2:]], dim=1), TS, integrate).values
    torch.testing.assert_close(found, drawn.log_density, rtol=0, atol=1e-6)


def test_samples_of_an_affine_flow_have_its_covariance(composed: Compose) -> None:
    model = affine(composed, torch.tensor([[-0.7, 0.0], [0.5, 0.2]]))
    with torch.no_grad():
        samples = model.sample(20_000, TS, integrator(composed)).path[-1]
    back = torch.linalg.matrix_exp(-model.field.theta.detach())
    torch.testing.assert_close(samples.T.cov(), back @ back.T, rtol=0.05, atol=0.05)


@pytest.mark.sampled(10)
@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(p, marks=pytest.mark.slow if is_slow(p) else (), id="-".join(p))
        for p in accepted_pairs()
        if p[0] != "implicit_adams"  # which takes no integrals
    ],
)
def test_a_log_density_is_differentiable_by_the_data_in_every_mode(pair: tuple[str, str], composed: Compose) -> None:
    std = 1.5
    model = affine(composed, -math.log(std) * torch.eye(2))
    x = torch.randn(5, 2, requires_grad=True)
    integrate = integrator(composed, solver_of(pair[0], composed), pair[1])
    (found,) = torch.autograd.grad(model(x, TS, integrate).values.sum(), x)
    coarse = pair[0] in ("euler", "implicit_euler", "fixed_point_euler")
    torch.testing.assert_close(found, -x.detach() / std**2, rtol=0, atol=0.1 if coarse else 5e-3)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize("network", ["linear", "mlp", "concatsquash"])
def test_a_flow_over_every_network_has_the_gradient_of_backpropagation(
    network: str, trace: str, composed: Compose
) -> None:
    found = {}
    for mode in ("backprop", "checkpoint", "symplectic", "adjoint"):
        model = flow(composed, network, trace=trace)
        loss = model(torch.linspace(-2, 2, 12).view(6, 2), TS, integrator(composed, TIGHT, mode)).values.mean()
        found[mode] = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    for mode, gradients in found.items():
        for one, other in zip(gradients, found["backprop"], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7 if mode == "adjoint" else 1e-12)


class Opaque(WrappedField):
    """Another field that does not say how it pushes tangents."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.inner(t, y, *given)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_tangents_through_the_layers_give_what_products_with_the_jacobian_give(trace: str, composed: Compose) -> None:
    """Value, gradient and the count of products, in modes that keep the graph and that make it anew."""
    found = []
    for opaque in (False, True):
        for mode in ("backprop", "checkpoint") if trace == "exact" else ("backprop", "symplectic", "forward"):
            model = flow(composed, "concatsquash", trace=trace)
            gradient = build(composed, "gradient", mode, **({"max_directions": 200} if mode == "forward" else {}))
            integrate = Integrator(solver=replace(TIGHT, rtol=1e-5, atol=1e-5), gradient=gradient)
            weights = [p for name, p in model.named_parameters() if name.startswith("field.")]
            if opaque:
                model.field = Opaque(model.field)
            torch.manual_seed(1)
            loss = model(torch.linspace(-2, 2, 12).view(6, 2), TS, integrate).values.mean()
            slopes = torch.autograd.grad(loss, weights)
            found.append((integrate.ledger.tally.products if mode == "backprop" else 0, loss.detach(), *slopes))
    for other in found[1:]:
        assert other[0] in (0, found[0][0])
        for one, same in zip(found[0][1:], other[1:], strict=True):
            torch.testing.assert_close(one, same, rtol=0, atol=1e-11)


def test_a_network_that_makes_features_is_refused(composed: Compose) -> None:
    with pytest.raises(IncompatibleChoice, match="network.width"):
        flow(composed, spec=TaskSpec(input_shape=(7,), output_shape=(7,)))
    images = TaskSpec(input_shape=(1, 8, 8), output_shape=(10,))
    with pytest.raises(IncompatibleChoice, match="moves the data themselves, 64 numbers each"):
        build(composed, "model", "cnf", build(composed, "network", "conv", images))
