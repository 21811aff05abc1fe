"""Flows of finitely many layers: closed forms, determinants, inverses, samples, the estimate of residual flows."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian as jacobian_of
from zuko.nn import MaskedMLP

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.models.density import normal_log_density
from ode_runner.models.flows import residual_flow
from ode_runner.models.flows.discrete_flow import DiscreteFlow
from ode_runner.models.flows.flow_layers import ActNorm
from ode_runner.models.flows.glow import InvertibleConvolution
from ode_runner.models.flows.lipschitz import LipschitzMLP
from ode_runner.models.flows.residual_flow import Roulette
from ode_runner.networks.dense import AffineMap
from tests.problems import Compose, build

pytestmark = pytest.mark.usefixtures("float64")
TS = torch.tensor([0.0, 1.0], dtype=torch.float64)
SMALL = {"width": 6, "depth": 1}
FLOWS: dict[str, dict[str, Any]] = {
    "coupling_flow": {"layers": 3, **SMALL},
    "coupling_flow nice": {"layers": 3, "kind": "nice", **SMALL},
    "autoregressive_flow": {"layers": 2, **SMALL},
    "autoregressive_flow iaf": {"layers": 2, "kind": "iaf", **SMALL},
    "spline_flow": {"layers": 2, "bins": 4, **SMALL},
    "residual_flow": {"blocks": 3, **SMALL},
}
GLOW = {"levels": 2, "steps": 2, "width": 4}


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing is to be solved")


def flow(composed: Compose, name: str, shape: tuple[int, ...] = (2,), condition: int = 0) -> DiscreteFlow:
    """In float64, far from the identity, and not in training."""
    torch.manual_seed(0)
    spec = TaskSpec(input_shape=shape, output_shape=(), condition=condition)
    options = GLOW if name == "glow" else FLOWS[name]
    made = build(composed, "model", name.partition(" ")[0], build(composed, "network", "mlp", spec), **options)
    made = made.double().eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return made


def data(shape: tuple[int, ...], condition: int = 0, count: int = 5) -> Tensor:
    return torch.randn(count, math.prod(shape) + condition) if condition else torch.randn(count, *shape)


def log_density(model: DiscreteFlow, inputs: Tensor) -> Tensor:
    found: Tensor = model(inputs, TS, never).values
    return found


EVERY = [*((name, (5,), 0) for name in FLOWS), *((name, (3,), 2) for name in FLOWS), ("glow", (1, 4, 4), 0)]


@pytest.mark.parametrize(("name", "shape", "condition"), EVERY)
def test_a_flow_is_inverted_and_knows_its_determinant(
    name: str, shape: tuple[int, ...], condition: int, composed: Compose
) -> None:
    model = flow(composed, name, shape, condition)
    x, given = model.encode(data(shape, condition))[:2]
    with torch.no_grad():
        z, log_det = model.chain(x, given)
    back, log_det_back = model.chain.inverse(z, given)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-9)

    def of_one(x: Tensor, *given: Tensor) -> Tensor:
        moved: Tensor = model.chain(x.view(1, *shape), [c[None] for c in given]).state.flatten()
        return moved

    for i in range(len(x)):
        condition_of_one = [c[i] for c in given]
        jacobian = jacobian_of(lambda one, told=condition_of_one: of_one(one, *told), x[i].flatten())
        expected = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(log_det[i], expected, rtol=0, atol=1e-9)
    assert not torch.allclose(z, x, atol=0.1), "far from the identity"


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_in_the_plane_has_mass_one_under_every_condition(name: str, composed: Compose) -> None:
    model = flow(composed, name, condition=2)
    middles = torch.linspace(-15, 15, 241)
    cells = torch.cartesian_prod(middles, middles)
    masses, densities = [], []
    for condition in torch.eye(2):
        with torch.no_grad():
            density = log_density(model, torch.cat([cells, condition.expand(len(cells), 2)], dim=1)).exp()
        masses.append(float(density.sum()) * 0.125**2)
        densities.append(density)
    assert masses == pytest.approx([1, 1], abs=1e-3)
    assert float((densities[0] - densities[1]).abs().max()) > 1e-3, "the condition is heard"


@pytest.mark.parametrize(("name", "shape", "condition"), EVERY)
def test_the_density_of_samples_is_that_which_sampling_reports(
    name: str, shape: tuple[int, ...], condition: int, composed: Compose
) -> None:
    model = flow(composed, name, shape, condition)
    given = [torch.randn(6, condition)] if condition else []
    with torch.no_grad():
        drawn = model.sample(6, torch.linspace(0, 1, 3), never, given=given)
        found = log_density(model, torch.cat([drawn.path[-1], *given], dim=1) if condition else drawn.path[-1])
    assert drawn.path.shape == (3, 6, *shape)
    torch.testing.assert_close(found, drawn.log_density, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in FLOWS if "residual" not in name and "spline" not in name])
def test_affine_layers_without_weights_make_a_normal_law(name: str, composed: Compose) -> None:
    """Every layer is then a shift and a scale by the last biases, the same for all points."""
    model, x = flow(composed, name), torch.randn(6, 2)
    with torch.no_grad():
        for parameter, value in model.named_parameters():
            value.zero_() if "weight" in parameter else value
    begin, scale = (model.chain(p, []).state for p in (torch.zeros(1, 2), torch.eye(2)))
    matrix = scale - begin
    assert torch.equal(matrix, matrix.diagonal().diag()), "a scale of each number"
    expected = normal_log_density(x @ matrix + begin) + matrix.diagonal().log().sum()
    torch.testing.assert_close(log_density(model, x), expected, rtol=0, atol=1e-12)


def test_a_normalisation_standardises_the_first_data_and_keeps_constants() -> None:
    for shape in ((3,), (3, 4, 4)):
        x = 5 + 3 * torch.randn(50, *shape)
        x[:, 2] = 7.0
        layer = ActNorm(shape)
        layer.initialise(x, [])
        y = layer(x, []).state.movedim(1, 0).flatten(1)
        torch.testing.assert_close(y.mean(dim=1), torch.zeros(3), rtol=0, atol=1e-9)
        torch.testing.assert_close(y.std(dim=1, correction=0), torch.tensor([1.0, 1.0, 0.0]), rtol=0, atol=1e-9)


def test_a_convolution_begins_as_a_rotation_and_has_the_determinant_of_its_matrix() -> None:
    torch.manual_seed(0)
    layer = InvertibleConvolution(4).double()
    x = torch.eye(4)[:, :, None, None].expand(-1, -1, 2, 3)
    matrix, log_det = layer(x, []).state[:, :, 0, 0], layer(x, []).log_det
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(4), rtol=0, atol=1e-6)
    with torch.no_grad():
        layer.factors.add_(torch.randn(4, 4))
    matrix, log_det = layer(x, []).state[:, :, 0, 0], layer(x, []).log_det
    torch.testing.assert_close(log_det, 6 * torch.linalg.slogdet(matrix).logabsdet.expand(4), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["maf", "iaf"])
def test_a_layer_is_triangular_in_the_direction_of_its_kind(kind: str, composed: Compose) -> None:
    network = build(composed, "network", "mlp", TaskSpec(input_shape=(4,), output_shape=()))
    model = build(composed, "model", "autoregressive_flow", network, kind=kind, layers=1, **SMALL).double()
    jacobian = jacobian_of(lambda x: model.chain(x[None], []).state[0], torch.randn(4))
    assert torch.equal(jacobian, jacobian.tril())
    assert jacobian.tril(-1).count_nonzero() == 6


@pytest.mark.parametrize(("kind", "density", "sample"), [("maf", 1, 5), ("iaf", 5, 1)])
def test_one_direction_takes_a_pass_for_every_number(kind: str, density: int, sample: int, composed: Compose) -> None:
    """Of four numbers, and one pass more for their log densities."""
    network, calls = build(composed, "network", "mlp", TaskSpec(input_shape=(4,), output_shape=())), list[int]()
    model = build(composed, "model", "autoregressive_flow", network, kind=kind, layers=1, **SMALL).double()
    [inner] = [module for module in model.modules() if isinstance(module, MaskedMLP)]
    inner.register_forward_hook(lambda *_: calls.append(1))
    log_density(model, torch.randn(3, 4))
    assert len(calls) == density
    model.sample(3, TS, never)
    assert len(calls) == density + sample


@pytest.mark.parametrize("bound", [0.5, 0.97])
def test_the_change_of_a_residual_block_keeps_its_bound(bound: float) -> None:
    torch.manual_seed(0)
    change = LipschitzMLP(4, given=2, width=16, depth=2, bound=bound).double()
    with torch.no_grad():
        for p in change.parameters():
            p.mul_(5.0)
    x, given = 2 * torch.randn(300, 4), [torch.randn(300, 2)]

    def jacobians(maps: Sequence[AffineMap]) -> Tensor:
        whole = jacobian_of(lambda x: change.value(maps, x, given).sum(dim=0), x)  # (row, sample, column)
        return whole.movedim(1, 0)

    found = jacobians(change.bounded())
    assert float(torch.linalg.matrix_norm(found, ord=2).max()) <= bound
    unbounded = jacobians([AffineMap(layer.weight, layer.bias) for layer in change.maps])
    assert float(torch.linalg.matrix_norm(unbounded, ord=2).max()) > 1
    _, jvp = change.linearize(change.bounded(), x, given)
    torch.testing.assert_close(jvp(x), (found @ x[:, :, None])[..., 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("exact_terms", [0, 2])
def test_roulette_is_right_in_the_mean(exact_terms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all signs, and all numbers of terms with their probabilities, up to one that is never reached."""
    jacobian = torch.tensor([[0.5, -0.4], [0.6, 0.3]])
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    monkeypatch.setattr(residual_flow, "probe", lambda x, distribution: signs)
    roulette, total = Roulette(exact_terms=exact_terms, stop=0.4), 0.0
    for further in range(1, 120):
        monkeypatch.setattr(Roulette, "further", lambda self, further=further: further)
        found = roulette.estimate(lambda v: v @ jacobian.T, signs).mean()
        total += 0.4 * 0.6 ** (further - 1) * float(found)
    assert total == pytest.approx(float(torch.linalg.slogdet(torch.eye(2) + jacobian).logabsdet), abs=1e-9)


def test_the_number_of_terms_is_geometric() -> None:
    torch.manual_seed(0)
    drawn = torch.tensor([Roulette(exact_terms=2, stop=0.4).further() for _ in range(20_000)])
    for further in (1, 2, 5):
        share = 0.4 * 0.6 ** (further - 1)
        assert float((drawn == further).double().mean()) == pytest.approx(share, abs=4 * (share / 20_000) ** 0.5)


def test_a_residual_flow_is_estimated_in_training_alone(composed: Compose) -> None:
    model, x = flow(composed, "residual_flow"), torch.randn(200, 2)
    exact = log_density(model, x)
    assert torch.equal(exact, log_density(model, x))
    model.train()
    torch.manual_seed(1)
    estimates = torch.stack([log_density(model, x).detach() for _ in range(200)])
    assert float(estimates.std(dim=0).mean()) > 1e-3
    error = (estimates.mean(dim=0) - exact.detach()).mean()
    assert abs(float(error)) < 4 * float(estimates.mean(dim=1).std()) / 200**0.5


@pytest.mark.parametrize(
    ("name", "shape", "options", "sentence"),
    [
        ("coupling_flow", (1,), {}, "need two numbers or more"),
        ("coupling_flow", (2,), {"dropout": 1.0}, "model.dropout must be 0 or more and less than 1"),
        ("spline_flow", (2,), {"bins": 1}, "model.bins must be at least 2"),
        ("residual_flow", (2,), {"lipschitz": 1.0}, "model.lipschitz must be above 0 and below 1"),
        ("glow", (2,), {}, r"model=glow halves the sides of images 2 times .* Use model=coupling_flow\.$"),
        ("glow", (1, 6, 8), {}, r"Use model=coupling_flow, or model\.levels=1\.$"),
        ("glow", (1, 7, 8), {}, r"Use model=coupling_flow\.$"),
        ("glow", (1,), {}, "Use model=cnf"),
    ],
)
def test_what_a_flow_cannot_be_is_refused(
    name: str, shape: tuple[int, ...], options: dict[str, Any], sentence: str, composed: Compose
) -> None:
    network = build(composed, "network", "mlp", TaskSpec(input_shape=shape, output_shape=()))
    with pytest.raises((IncompatibleChoice, RefusedInput), match=sentence):
        build(composed, "model", name, network, **options)


def test_every_weight_learns(composed: Compose) -> None:
    for name, shape, condition in EVERY:
        model = flow(composed, name, shape, condition).train()
        log_density(model, data(shape, condition, 20)).mean().backward()
        idle = [p for p, value in model.named_parameters() if value.grad is None or not value.grad.any()]
        assert idle == [], name
    assert isinstance(model, nn.Module)
