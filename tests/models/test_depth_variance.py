"""Weights that change with depth: bases by their definitions, the spectral gradient under the defaults, pieces."""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ode_runner.batch import TaskSpec
from ode_runner.build import build_experiment
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import SeparableField
from ode_runner.integrator import Integrator
from ode_runner.models.base import Model
from ode_runner.models.depth.basis_functions import BASES, Basis
from ode_runner.models.depth.galerkin import Galerkin, expanded
from ode_runner.models.depth.stacked import Stacked
from ode_runner.solvers.mapped_field import MappedField
from tests.helpers import options
from tests.problems import Compose, Formula, build

PLANE = TaskSpec(input_shape=(2,), output_shape=(2,), autonomous=True)
SPECS = {
    "mlp": PLANE,
    "linear": PLANE,
    "separable": PLANE,
    "conv": TaskSpec(input_shape=(1, 8, 8), output_shape=(10,)),
}
TS = torch.tensor([0.0, 1.0])
SIZE = 5

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(params=BASES)
def basis(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def integrator(composed: Compose, solver: str, gradient: str = "backprop", **changed: Any) -> Integrator:
    return Integrator(
        solver=build(composed, "solver", solver, **changed), gradient=build(composed, "gradient", gradient)
    )


def values(basis: Basis, places: Tensor) -> Tensor:
    """(places, functions)."""
    return torch.stack([basis.functions(u) for u in places])


def gradient_of(model: Model, inputs: Tensor, integrate: Integrator) -> Tensor:
    model.zero_grad()
    model(inputs, TS, integrate).values.square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_a_basis_has_as_many_functions_as_asked_for_and_a_constant(basis: str) -> None:
    for size in (3, 5, 7):
        made = BASES[basis](size)
        found = values(made, torch.linspace(0, 1, 13))
        assert found.shape == (13, size)
        assert torch.linalg.matrix_rank(found) == size
        torch.testing.assert_close(found @ made.constant().double(), torch.ones(13))


@pytest.mark.parametrize(("name", "weight"), [("fourier", 1.0), ("legendre", 1.0), ("chebyshev", 0.0)])
def test_bases_are_orthogonal(name: str, weight: float) -> None:
    places = (torch.arange(4000) + 0.5) / 4000
    if weight == 0:  # Chebyshev's, whose weight is 1 / sqrt(1 - x^2): even in the angle
        places = (1 + (math.pi * places).cos()) / 2
    found = values(BASES[name](5), places)
    products = found.T @ found / 4000
    expected = {
        "fourier": torch.ones(5),
        "legendre": 1 / (2 * torch.arange(5.0) + 1),
        "chebyshev": torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5]),
    }
    torch.testing.assert_close(products, expected[name].double().diag(), rtol=0, atol=1e-5)


def test_bases_are_what_their_formulas_say() -> None:
    u = torch.tensor(0.3)
    torch.testing.assert_close(BASES["monomials"](4).functions(u), torch.tensor([1, 0.3, 0.09, 0.027]))
    torch.testing.assert_close(BASES["hats"](3).functions(u), torch.tensor([0.4, 0.6, 0]))
    wanted = [1.0, *(math.exp(-(((0.3 - c) / 0.5) ** 2)) for c in (0, 0.5, 1))]
    torch.testing.assert_close(BASES["rbf"](4).functions(u), torch.tensor(wanted))
    torch.testing.assert_close(BASES["fourier"](3).functions(u + 1), BASES["fourier"](3).functions(u))
    assert BASES["hats"](3).kinks() == [0.5]


@pytest.mark.parametrize(
    ("name", "size"), [("fourier", 4), ("fourier", 0), ("monomials", 13), ("rbf", 2), ("hats", 1), ("legendre", 257)]
)
def test_a_basis_that_is_too_small_or_too_large_is_refused(name: str, size: int) -> None:
    with pytest.raises(RefusedInput, match=f"model.size={size}: "):
        BASES[name](size)


@pytest.mark.parametrize("network", SPECS)
def test_an_expansion_begins_as_the_network_itself(composed: Compose, network: str, basis: str) -> None:
    template = build(composed, "network", network, SPECS[network], **({"width": 8} if network == "mlp" else {})).field()
    y = torch.rand(3, 64 if network == "conv" else 2, *([4, 4] if network == "conv" else []))
    field = expanded(template, BASES[basis](SIZE), 1.0)
    assert isinstance(field, SeparableField) == isinstance(template, SeparableField)
    for t in (torch.tensor(0.0), torch.tensor(0.37)):
        torch.testing.assert_close(field(t, y), template(t, y), rtol=0, atol=0 if basis != "hats" else 1e-12)
    assert [p.shape for p in field.parameters()] == [(SIZE, sum(p.numel() for p in template.parameters()))]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("size", [5, 9])
def test_the_gradient_of_harmonics_is_right_under_the_defaults(composed: Compose, basis: str, size: int) -> None:
    torch.manual_seed(0)
    network = build(composed, "network", "mlp", PLANE, width=16, depth=1)
    model = build(composed, "model", "galerkin", network, basis=basis, size=size)
    x = torch.randn(20, 2)
    reference = gradient_of(model, x, integrator(composed, "rk4", num_steps=400))
    found = gradient_of(model, x, integrator(composed, "dopri5"))
    assert float((found - reference).norm() / reference.norm()) < 1e-5


def test_without_a_longest_step_it_would_be_wrong(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build(composed, "model", "galerkin", build(composed, "network", "mlp", PLANE, width=16, depth=1))
    x = torch.randn(20, 2)
    reference = gradient_of(model, x, integrator(composed, "rk4", num_steps=400))
    monkeypatch.setattr(type(model.field), "longest_step", None)
    found = gradient_of(model, x, integrator(composed, "dopri5"))
    assert float((found - reference).norm() / reference.norm()) > 1e-2


def test_the_longest_step_is_a_tenth_of_the_shortest_period(composed: Compose) -> None:
    network = build(composed, "network", "mlp", PLANE)
    assert build(composed, "model", "galerkin", network).field.longest_step == pytest.approx(0.05)
    assert build(composed, "model", "galerkin", network, period=6.0).field.longest_step == pytest.approx(0.3)
    assert build(composed, "model", "galerkin", network, size=1).field.longest_step is None


@pytest.mark.parametrize("gradient", options("gradient"))
@pytest.mark.parametrize(("name", "changed"), [("galerkin", {"size": 3}), ("stacked", {"pieces": 2})])
def test_weights_of_all_depths_learn_in_every_mode(
    composed: Compose, name: str, changed: dict[str, Any], gradient: str
) -> None:
    torch.manual_seed(0)
    model = build(composed, "model", name, build(composed, "network", "linear", PLANE), **changed)
    solver = {"reversible": "reversible_heun", "interpolated": "dopri5", "seminorm": "dopri5"}.get(gradient, "rk4")
    tight = {"rtol": 1e-9, "atol": 1e-9} if solver == "dopri5" else {"num_steps": 40}
    x = torch.rand(3, 2)
    found = gradient_of(model, x, integrator(composed, solver, gradient, **tight))
    wanted = gradient_of(model, x, integrator(composed, solver, **tight))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.norm()))


@pytest.mark.parametrize("name", ["galerkin", "stacked"])
def test_predictions_do_not_depend_on_company(composed: Compose, name: str) -> None:
    model = build(composed, "model", name, build(composed, "network", "mlp", PLANE))
    integrate = integrator(composed, "dopri5", per_sample=True)
    x = torch.rand(4, 2)
    torch.testing.assert_close(model(x, TS, integrate).values[:1], model(x[:1], TS, integrate).values)


def test_weights_that_change_with_time_have_the_flow_of_their_integral(composed: Compose) -> None:
    line = TaskSpec(input_shape=(1,), output_shape=(1,), every_time=True)
    model = Galerkin(build(composed, "network", "linear", line), basis="monomials", size=3, period=2.0)
    model.field.coefficients.data = torch.tensor([[0.5], [-1.0], [3.0]])  # theta = 0.5 - u + 3 u^2, u = t / 2
    ts = torch.tensor([0.0, 1.0, 2.0])
    found = model(torch.ones(1, 1), ts, integrator(composed, "dopri5", rtol=1e-9, atol=1e-9)).values[:, 0, 0]
    u = ts / 2
    torch.testing.assert_close(found, (2 * (0.5 * u - u**2 / 2 + u**3)).exp(), rtol=1e-7, atol=0)


def test_times_beyond_a_basis_are_refused_unless_it_is_endless(composed: Compose) -> None:
    network, integrate = build(composed, "network", "mlp", PLANE), integrator(composed, "dopri5")
    beyond, x = torch.tensor([0.0, 1.5]), torch.rand(2, 2)
    for name in BASES:
        model = build(composed, "model", "galerkin", network, basis=name)
        if name == "fourier":
            assert model(x, beyond, integrate).values.isfinite().all()
            continue
        with pytest.raises(RefusedInput, match=f"model.basis={name} is defined from time 0 to .* Use model.period=1.5"):
            model(x, beyond, integrate)


@pytest.mark.parametrize("name", ["fourier", "monomials", "hats"])
def test_functions_that_the_data_cannot_tell_apart_are_refused_in_training(composed: Compose, name: str) -> None:
    path = TaskSpec(input_shape=(2,), output_shape=(2,), every_time=True)
    network, integrate, x = build(composed, "network", "linear", path), integrator(composed, "dopri5"), torch.rand(2, 2)
    fits, beyond = (build(composed, "model", "galerkin", network, basis=name, size=n, period=1.2) for n in (7, 9))
    seven_times = torch.linspace(0, 1.2, 7)
    assert fits(x, seven_times, integrate).values.isfinite().all()
    with pytest.raises(RefusedInput, match=r"model.size=9 is too large for the data: .* within 0.3,.* are 0.2 apart"):
        beyond(x, seven_times, integrate)
    assert beyond.eval()(x, seven_times, integrate).values.isfinite().all()
    classifier = build(composed, "model", "galerkin", build(composed, "network", "linear", PLANE), basis=name, size=9)
    assert classifier(x, TS, integrate).values.isfinite().all()


def test_a_basis_that_ends_before_the_test_s_last_time_is_refused_before_training(composed: Compose) -> None:
    small = ("task.train=2", "task.validation=2", "task.test=2", "trainer.device=cpu")
    cfg = composed("task=linear", "model=galerkin", "model.basis=hats", *small)
    with pytest.raises(RefusedInput, match=r"times here go from 0 to 18.9. Use model.period=18.9"):
        build_experiment(cfg, cfg.hydra.runtime.choices)


def test_a_basis_too_large_for_its_data_is_refused_before_training(composed: Compose) -> None:
    small = ("task.train=2", "task.validation=2", "task.test=2", "trainer.device=cpu")
    cfg = composed("task=lotka_volterra", "model=galerkin", "model.size=201", "model.period=5", *small)
    with pytest.raises(RefusedInput, match=r"model.size=201 is too large for the data"):
        build_experiment(cfg, cfg.hydra.runtime.choices)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("network", SPECS)
def test_rows_with_times_of_their_own_are_those_that_vmap_gives(composed: Compose, network: str, basis: str) -> None:
    template = build(composed, "network", network, SPECS[network]).field(given=1)
    y = torch.rand(17, 64 if network == "conv" else 2, *([4, 4] if network == "conv" else []))
    ts, z = torch.linspace(0, 1, 17), torch.rand(17, 1, *y.shape[2:])
    field, mapped = (expanded(template, BASES[basis](SIZE), 1.0) for _ in range(2))
    for one in (field, mapped):
        one.coefficients.data += 0.1 * torch.linspace(-1, 1, one.coefficients.numel()).view_as(one.coefficients)
    mapped.batched_time = False
    assert field.batched_time
    torch.testing.assert_close(MappedField(field, [z])(ts, y), MappedField(mapped, [z])(ts, y), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_steps_of_each_sample_have_one_gradient_whether_declared_or_mapped(composed: Compose, gradient: str) -> None:
    model = build(composed, "model", "galerkin", build(composed, "network", "mlp", PLANE, width=4, depth=1))
    integrate, x = integrator(composed, "dopri5", gradient, per_sample=True), torch.rand(20, 2)
    declared = gradient_of(model, x, integrate)
    model.field.batched_time = False
    torch.testing.assert_close(declared, gradient_of(model, x, integrate), rtol=1e-12, atol=1e-12)


def test_a_template_keeps_its_own_weights_even_where_a_call_fails() -> None:
    class Shared(VectorField):
        """One weight in two places."""

        def __init__(self) -> None:
            super().__init__()
            self.first = self.second = nn.Linear(2, 2, bias=False)
            self.weight = self.first.weight

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.second(self.first(y)) + y @ self.weight

    template, y = Shared(), torch.rand(3, 2)
    weight, field = template.weight, expanded(template, BASES["fourier"](3), 1.0)
    torch.testing.assert_close(field(torch.tensor(0.3), y), template(torch.tensor(0.3), y))
    field.coefficients.data *= 2
    doubled = 2 * template.weight
    torch.testing.assert_close(field(torch.tensor(0.3), y), y @ doubled.T @ doubled.T + y @ doubled)
    with pytest.raises(RuntimeError):
        field(torch.tensor(0.3), torch.rand(3, 5))
    assert template.weight is template.first.weight is weight


def test_what_evaluates_a_field_with_other_tensors_replaces_its_buffers_too(composed: Compose) -> None:
    spec = TaskSpec(input_shape=(3,), output_shape=(3, 5), tokens=5)
    template = build(composed, "network", "transformer", spec, width=4, heads=2).field().to(torch.float32)
    field, y = expanded(template, BASES["fourier"](3), 1.0), torch.randn(2, 4, 3)
    doubled = {name: one.double() for name, one in (*field.named_parameters(), *field.named_buffers())}
    found = functional_call(field, doubled, (torch.tensor(0.3), y))  # as SciPy's solvers evaluate it
    assert torch.equal(found, deepcopy(field).double()(torch.tensor(0.3), y))
    assert {one.dtype for one in template.buffers()} == {torch.float32}, "what was put there is not left behind"


def test_fields_without_weights_and_of_other_kinds_are_not_expanded() -> None:
    class Other(VectorField):
        call_weights = {"drift": 1}

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return y

    basis = BASES["fourier"](3)
    with pytest.raises(IncompatibleChoice, match="Formula is without weights"):
        expanded(Formula(lambda t, y: y), basis, 1.0)
    with pytest.raises(IncompatibleChoice, match="Other is a Other"):
        expanded(Other(), basis, 1.0)


def test_pieces_that_are_equal_are_one_field(composed: Compose) -> None:
    model = build(composed, "model", "stacked", build(composed, "network", "mlp", PLANE), pieces=3)
    for field in model.fields[1:]:
        field.load_state_dict(model.fields[0].state_dict())
    integrate, x = integrator(composed, "dopri5", rtol=1e-9, atol=1e-9), torch.rand(3, 2)
    ts = torch.tensor([-0.2, 0.1, 1 / 3, 0.5, 0.9, 1.7])
    for times in (ts, ts.flip(0), ts[2:3], ts[1:2].expand(2)):
        found, wanted = model.states(model.encode(x), times, integrate), integrate(model.fields[0], x, times).ys
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("solver", ["rk4", "dopri5", "reversible_heun"])
def test_each_piece_has_its_own_weights(composed: Compose, solver: str) -> None:
    """A piecewise constant rotation, forwards and back, at times that are edges and others."""
    model = Stacked(build(composed, "network", "linear", PLANE), pieces=2, period=1.0)
    for field, rate in zip(model.fields, (1.0, -3.0), strict=True):
        field.theta.data = rate * torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    tight = {"rtol": 1e-9, "atol": 1e-9} if solver == "dopri5" else {"num_steps": 200}
    integrate = integrator(composed, solver, **tight)
    ts = torch.tensor([0.0, 0.25, 0.5, 0.6, 1.5])
    angles = torch.tensor([0.0, 0.25, 0.5, 0.5 - 0.3, 0.5 - 3.0])
    wanted = torch.stack([angles.cos(), angles.sin()], dim=1)
    error = 1e-3 if solver == "reversible_heun" else 1e-6
    found = model.states(model.encode(wanted[:1]), ts, integrate)[:, 0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=error)
    back = model.states(model.encode(wanted[-1:]), ts.flip(0), integrate)[:, 0]
    torch.testing.assert_close(back, wanted.flip(0), rtol=0, atol=error)


@pytest.mark.parametrize(("option", "value"), [("pieces", 0), ("period", 0.0)])
def test_senseless_pieces_are_refused(composed: Compose, option: str, value: float) -> None:
    with pytest.raises(RefusedInput, match=f"model.{option} must be"):
        build(composed, "model", "stacked", build(composed, "network", "mlp", PLANE), **{option: value})
