"""Models of Dissecting Neural ODEs: closed forms, known floors, gradients in every mode."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.fields.structured_field import SeparableField
from ode_runner.integrator import Integrator
from ode_runner.models.base import Model
from ode_runner.models.depth.adaptive_depth import AdaptiveDepth, EndTime, ScaledTimeField, ScaledTimeSeparable
from ode_runner.models.depth.data_controlled import DataControlled
from ode_runner.models.depth.input_layer import InputLayer
from ode_runner.models.depth.second_order import DampedField, SecondOrder, UndampedField
from ode_runner.networks.channels import ChannelMap
from tests.helpers import options, record_of, typed
from tests.problems import Compose, build

PLANE = TaskSpec(input_shape=(2,), output_shape=(2,))
IMAGES = TaskSpec(input_shape=(1, 8, 8), output_shape=(10,))
LINE = TaskSpec(input_shape=(1,), output_shape=(1,), every_time=True, autonomous=True)
TS = torch.tensor([0.0, 1.0])


@pytest.fixture
def integrate(composed: Compose) -> Integrator:
    return integrator(composed, "rk4", "backprop", num_steps=20)


def integrator(composed: Compose, solver: str, gradient: str, **changed: Any) -> Integrator:
    return Integrator(
        solver=build(composed, "solver", solver, **changed), gradient=build(composed, "gradient", gradient)
    )


def gradients(model: Model, inputs: Tensor, integrate: Integrator) -> Tensor:
    model.zero_grad()
    model(inputs, TS, integrate).values.square().sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_a_channel_map_is_a_convolution_of_size_1() -> None:
    ours, images = ChannelMap(3, 5), torch.rand(2, 3, 4, 6)
    theirs = nn.functional.conv2d(images, ours.weight[:, :, None, None], ours.bias)
    torch.testing.assert_close(ours(images), theirs)
    torch.testing.assert_close(
        ours(images)[:, :, 1, 2], nn.functional.linear(images[:, :, 1, 2], ours.weight, ours.bias)
    )


@pytest.mark.parametrize("network", ["mlp", "linear", "separable", "conv", "conv_flat"])
def test_a_field_reads_what_is_given_and_returns_the_state(composed: Compose, network: str) -> None:
    spec = IMAGES if network.startswith("conv") else PLANE
    made = build(composed, "network", network, spec)
    y = made.stem()(torch.rand(3, *spec.input_shape))
    field, z = made.field(extra=2, given=3), torch.rand(3, 3, *y.shape[2:])
    y = torch.cat([y, torch.rand(3, 2, *y.shape[2:])], dim=1)
    out = field(torch.tensor(0.2), y, z)
    assert out.shape == y.shape
    assert not torch.equal(out, field(torch.tensor(0.2), y, z + 1))


def test_second_order_without_force_or_damping_is_the_harmonic_oscillator(composed: Compose) -> None:
    network = build(composed, "network", "linear", TaskSpec(input_shape=(2,), output_shape=(4,)))
    model = SecondOrder(network, damping=False, learned_velocity=False).double()
    model.field.inner.theta.data = -torch.eye(2).double()
    q = torch.tensor([[1.0, -0.5]]).double()
    for solver, error in (("rk4", 1e-6), ("leapfrog", 1e-3), ("yoshida4", 1e-6)):
        integrate = integrator(composed, solver, "backprop", num_steps=20)
        last = model.states(model.encode(q), torch.tensor([0.0, 2.0]).double(), integrate)[-1]
        torch.testing.assert_close(last, torch.cat([math.cos(2) * q, -math.sin(2) * q], dim=1), rtol=0, atol=error)


def test_second_order_with_damping_decays(composed: Compose, integrate: Integrator) -> None:
    network = build(composed, "network", "linear", TaskSpec(input_shape=(1,), output_shape=(1,)))
    model = SecondOrder(network, damping=True, learned_velocity=False).double()
    model.field.inner.theta.data = torch.tensor([[-2.0, -3.0]]).double()  # roots -1 and -2
    q = model.states(model.encode(torch.ones(1, 1).double()), TS.double(), integrate)[-1][0, 0]
    assert q.item() == pytest.approx(2 * math.exp(-1) - math.exp(-2), abs=1e-5)


def test_only_without_damping_is_a_second_order_field_separable(composed: Compose, tmp_path: Path) -> None:
    network = build(composed, "network", "mlp", PLANE)
    assert isinstance(SecondOrder(network, damping=False, learned_velocity=True).field, UndampedField)
    assert not isinstance(SecondOrder(network, damping=True, learned_velocity=True).field, SeparableField)
    ended = typed("task=reflection", "model=second_order", "solver=leapfrog", "network=linear", cwd=tmp_path)
    assert ended.returncode == 2
    assert "model=second_order reads the velocity. Use model.damping=false, or solver=rk4." in ended.stderr


def test_paths_of_different_controls_cross(composed: Compose, integrate: Integrator) -> None:
    model = DataControlled(build(composed, "network", "linear", LINE), control=None)
    model.field.theta.data = torch.tensor([[0.0, -2.0]])  # y' = -2 c takes x to -x
    x = torch.linspace(-1, 1, 5)[:, None]
    torch.testing.assert_close(model(x, TS, integrate).values[-1], -x)


def test_an_input_layer_begins_with_its_map(composed: Compose, integrate: Integrator) -> None:
    model = InputLayer(build(composed, "network", "mlp", PLANE), extra=3)
    x = torch.rand(4, 2)
    first = model.states(model.encode(x), TS, integrate)[0]
    torch.testing.assert_close(first, torch.cat([x, model.input_layer(x)], dim=1))


@pytest.mark.sampled(5)
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("gradient", options("gradient"))
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("input_layer", {"extra": 2}),
        ("data_controlled", {"control": 2}),
        ("adaptive_depth", {}),
        ("second_order", {"learned_velocity": True}),
    ],
)
def test_what_comes_before_the_solve_learns_in_every_mode(
    composed: Compose, name: str, changed: dict[str, Any], gradient: str
) -> None:
    torch.manual_seed(0)
    model = build(composed, "model", name, build(composed, "network", "mlp", PLANE, width=3, depth=1), **changed)
    inputs = torch.rand(3, 2)
    solver = {"reversible": "reversible_heun", "interpolated": "dopri5", "seminorm": "dopri5"}.get(gradient, "rk4")
    tight = {"rtol": 1e-9, "atol": 1e-9} if solver == "dopri5" else {"num_steps": 40}
    found = gradients(model, inputs, integrator(composed, solver, gradient, **tight))
    wanted = gradients(model, inputs, integrator(composed, solver, "backprop", **tight))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.norm()))


def test_an_end_time_is_how_far_the_flow_goes(composed: Compose) -> None:
    """y' = T (y + T t), in closed form, and its derivative by T."""
    model = AdaptiveDepth(build(composed, "network", "linear", LINE), shortest=0.1, longest=10.0).double()
    model.field.inner.theta.data = torch.ones(1, 2).double()
    end = torch.tensor([0.3, 1.0, 2.5]).double().requires_grad_()
    integrate = integrator(composed, "dopri5", "backprop", rtol=1e-10, atol=1e-10)
    last = integrate(model.field, torch.ones(3, 1).double(), TS.double(), given=(end,)).ys[-1][:, 0]
    torch.testing.assert_close(last, 2 * end.exp() - end - 1, rtol=1e-8, atol=0)
    [slope] = torch.autograd.grad(last.sum(), end)
    torch.testing.assert_close(slope, 2 * end.exp() - 1, rtol=1e-7, atol=0)


@pytest.mark.parametrize("network", ["mlp", "separable"])
def test_the_field_of_a_sample_depends_on_time_through_its_depth_alone(composed: Compose, network: str) -> None:
    """Also of a task that is not autonomous; and a separable field stays one, half by half."""
    field = AdaptiveDepth(build(composed, "network", network, PLANE), shortest=0.1, longest=10.0).field
    t, y, end = torch.tensor(0.5), torch.rand(3, 2), torch.full((3,), 1.5)
    torch.testing.assert_close(field(t, y, end), field(t / 2, y, 2 * end) / 2)
    assert isinstance(field, ScaledTimeSeparable) == (network == "separable")
    if isinstance(field, ScaledTimeSeparable):
        halves = [field.drift(t, y[:, 1:], end), field.kick(t, y[:, :1], end)]
        torch.testing.assert_close(field(t, y, end), torch.cat(halves, dim=1))


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_end_times_begin_about_1_and_stay_within_their_bounds(shape: tuple[int, ...]) -> None:
    end_time = EndTime(3, shortest=0.2, longest=4.0)
    torch.testing.assert_close(end_time(torch.zeros(2, *shape)), torch.ones(2))
    for sign in (1, -1):
        end_time.map.bias.data.fill_(sign * 100.0)
        torch.testing.assert_close(end_time(torch.zeros(2, *shape)), torch.full((2,), 4.0 if sign > 0 else 0.2))


def test_end_times_that_have_gone_to_a_bound_are_said(composed: Compose) -> None:
    model, inputs = build(composed, "model", "adaptive_depth", build(composed, "network", "mlp", PLANE)), torch.eye(2)
    assert list(model.remarks(inputs)) == []
    model.end_time.map.weight.data = torch.tensor([[20.0, -20.0]])
    shortest, longest = model.remarks(inputs)
    assert shortest.startswith("50% of the end times have gone to their bound model.shortest=0.1, ")
    assert shortest.endswith("Try a smaller one.")
    assert longest.startswith("50% of the end times have gone to their bound model.longest=10, ")
    assert longest.endswith("Try a larger one.")


@pytest.mark.slow
def test_a_run_says_that_end_times_are_at_a_bound(tmp_path: Path) -> None:
    words = ("task=reflection", "model=adaptive_depth", "model.shortest=0.995", "trainer.max_steps=1", "logger=none")
    ended = typed(*words, cwd=tmp_path)
    assert "of the end times have gone to their bound model.shortest=0.995" in " ".join(ended.stdout.split())


def test_senseless_bounds_of_end_times_are_refused(composed: Compose) -> None:
    for bounds in ({"shortest": 0.0}, {"longest": 0.9}, {"shortest": 1.5}):
        with pytest.raises(RefusedInput, match=r"model.shortest=.* Use model.shortest=0.1 model.longest=10"):
            build(composed, "model", "adaptive_depth", build(composed, "network", "mlp", PLANE), **bounds)


@pytest.mark.parametrize(("name", "option"), [("input_layer", "extra"), ("data_controlled", "control")])
def test_senseless_sizes_are_refused(composed: Compose, name: str, option: str) -> None:
    with pytest.raises(RefusedInput, match=f"model.{option} must be at least 1, not 0"):
        build(composed, "model", name, build(composed, "network", "mlp", PLANE), **{option: 0})


@pytest.mark.parametrize("name", ["input_layer", "data_controlled", "second_order", "adaptive_depth"])
def test_predictions_do_not_depend_on_company(composed: Compose, name: str) -> None:
    model = build(composed, "model", name, build(composed, "network", "mlp", PLANE))
    integrate = integrator(composed, "dopri5", "backprop", per_sample=True)
    x = torch.rand(4, 2)
    torch.testing.assert_close(model(x, TS, integrate).values[:1], model(x[:1], TS, integrate).values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "band"),
    [
        (("odenet",), (0.335, 0.345)),  # a flow on the line keeps the order of points
        (("augmented",), (0, 5e-3)),
        (("input_layer",), (0, 5e-3)),
        (("data_controlled",), (0, 5e-3)),
        (("second_order",), (0, 5e-3)),
        (("adaptive_depth",), (0, 5e-3)),
        (("second_order", "model.damping=false", "solver=leapfrog"), (0, 5e-3)),
    ],
    ids=lambda part: " ".join(map(str, part)),
)
def test_reflection_is_solved_by_those_whose_paths_may_cross(
    model: tuple[str, ...], band: tuple[float, float], tmp_path: Path
) -> None:
    words = ("task=reflection", f"model={model[0]}", *model[1:], "logger=none")
    assert typed(*words, cwd=tmp_path).returncode == 0
    low, high = band
    assert low <= record_of(tmp_path)["metrics"]["test/mse"] <= high


def test_a_field_made_of_another_keeps_to_its_longest_step() -> None:
    class Paced(SeparableField):
        batched_time = True
        longest_step = 0.25  # type: ignore[assignment]  # of a field whose period is 2.5

        def drift(self, t: Tensor, p: Tensor, *given: Tensor) -> Tensor:
            return p

        kick = drift

    inner = Paced()
    for field in [kind(inner) for kind in (DampedField, UndampedField)]:
        assert (field.longest_step, field.batched_time) == (0.25, True), type(field).__name__
    for paced in [kind(inner, depth_given=False, longest=10.0) for kind in (ScaledTimeField, ScaledTimeSeparable)]:
        assert (paced.longest_step, paced.batched_time) == (0.025, True), "its clock may run ten times as fast"


def test_a_field_that_takes_one_time_for_all_has_no_depth_of_each_sample(composed: Compose) -> None:
    network = build(composed, "network", "mlp", PLANE)
    own = network.field()
    own.batched_time = False
    network.field = lambda **_: own
    with pytest.raises(IncompatibleChoice, match="takes one for all. Declare batched_time = True"):
        AdaptiveDepth(network, shortest=0.1, longest=10.0)


@pytest.mark.slow
def test_an_audit_of_the_defaults_finds_the_gradient_of_the_flow(tmp_path: Path) -> None:
    assert typed("audit=true", "task=annuli", "model=galerkin", "trainer.device=cpu", cwd=tmp_path).returncode == 0
    [table] = tmp_path.rglob("gradients.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    errors = {row["mode"]: float(row["flow_error"]) for row in rows if row["flow_error"]}
    assert len(errors) >= 7, errors
    assert max(errors.values()) < 1e-3, errors


def drawn(composed: Compose, model: str, spec: TaskSpec, inputs: Tensor, **changed: Any) -> dict[str, Figure]:
    made = build(composed, "model", model, build(composed, "network", "mlp", spec), **changed)
    with torch.no_grad():
        return {name: figure for name, figure in made.figures(inputs) if isinstance(figure, Figure)}


@pytest.mark.parametrize(("inputs", "panels"), [(1, 1), (2, 2), (3, 1)])
def test_learned_end_times_are_drawn(composed: Compose, inputs: int, panels: int) -> None:
    spec = TaskSpec(input_shape=(inputs,), output_shape=(2,))
    figures = drawn(composed, "adaptive_depth", spec, torch.randn(9, inputs))
    assert list(figures) == ["end_times"]
    assert len(figures["end_times"].axes) == panels, "a plane has a bar of colours beside it"


@pytest.mark.parametrize("model", ["galerkin", "stacked"])
def test_weights_over_depth_are_drawn_as_they_are(composed: Compose, model: str) -> None:
    network = build(composed, "network", "mlp", PLANE, width=4)
    made = build(composed, "model", model, network)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn_like(p))
        ((name, figure),) = made.figures(torch.randn(3, 2))
        pieces = [parameters_to_vector(field.parameters()) for field in made.fields] if model == "stacked" else []
    assert name == "weights"
    some, everything = figure.axes
    curves = [line.get_ydata() for line in some.lines]
    distances = everything.lines[0].get_ydata()
    assert len(curves) == 24
    assert distances[0] == 0
    assert distances.max() > 0
    if pieces:
        assert distances[-1] == pytest.approx(float((pieces[-1] - pieces[0]).norm()), rel=1e-5)
