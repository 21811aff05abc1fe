"""The layers: the numbers of parameters that the papers report, time in a convolution, shapes."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from ode_runner.batch import TaskSpec
from ode_runner.building.input_choices import check_inputs, takes_inputs
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import LinearizableField
from ode_runner.models.depth.ode_transformer import ODETransformer
from ode_runner.models.depth.odenet import ODENet
from ode_runner.networks.base import Network
from ode_runner.networks.conv import Conv
from ode_runner.networks.conv_flat import ConvFlat
from ode_runner.networks.mlp import MLP
from ode_runner.networks.recognition import normal_points
from ode_runner.networks.recurrent_vae import RecurrentVAE
from ode_runner.networks.sequence import SequenceNetwork
from ode_runner.networks.time_conv import TimeConv2d
from ode_runner.networks.time_features import TimeFeatures
from ode_runner.networks.transformer import Transformer
from ode_runner.networks.unet import UNet
from ode_runner.tasks.base import Task
from ode_runner.tasks.dynamics.spiral_vae import SpiralVAE
from ode_runner.tasks.images.digits import Digits
from ode_runner.tasks.points.half_moons import HalfMoons
from ode_runner.tasks.series.area import Area
from ode_runner.tasks.texts.sequence_sort import SequenceSort
from tests.helpers import typed
from tests.problems import Compose, build

MNIST = TaskSpec(input_shape=(1, 28, 28), output_shape=(10,))
DIGITS = TaskSpec(input_shape=(1, 8, 8), output_shape=(10,))
PLANE = TaskSpec(input_shape=(2,), output_shape=(2,))
SPECS = {"mnist": MNIST, "digits": DIGITS, "plane": PLANE}


@pytest.fixture(params=["mlp", "conv", "conv_flat"])  # of layers that any data may pass; tests of the others are below
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["mlp", "conv"])  # those whose depth can be chosen
def deep(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def network_for(composed: Compose, name: str, spec: TaskSpec, **changed: object) -> Network:
    try:
        return build(composed, "network", name, spec, **changed)
    except IncompatibleChoice as refusal:
        pytest.skip(str(refusal))


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("model", "model_options", "stem", "parameters"),
    [
        ("odenet", {}, "conv", 208_266),  # Chen et al. 2018, examples/odenet_mnist.py: the paper's 0.22 M
        ("resnet", {"blocks": 6}, "conv", 576_778),
        ("resnet", {"blocks": 6}, "res", 601_482),
        ("resnet", {"blocks": 0}, "conv", 132_874),
    ],
)
def test_on_mnist_models_have_the_papers_numbers_of_parameters(
    composed: Compose, model: str, model_options: dict[str, int], stem: str, parameters: int
) -> None:
    network = build(composed, "network", "conv", MNIST, stem=stem)
    assert size(build(composed, "model", model, network, **model_options)) == parameters


@pytest.mark.parametrize(
    ("shape", "model", "extra", "width", "parameters"),
    [
        ((1, 28, 28), "augmented", 5, 64, 85_462),  # Dupont et al. 2019, conv_models.py: MNIST and CIFAR-10
        ((1, 28, 28), "odenet", 0, 92, 85_316),
        ((3, 32, 32), "augmented", 10, 64, 172_452),
        ((3, 32, 32), "odenet", 0, 125, 173_611),
    ],
)
def test_anodes_image_models_have_its_numbers_of_parameters(
    composed: Compose, shape: tuple[int, ...], model: str, extra: int, width: int, parameters: int
) -> None:
    network = build(composed, "network", "conv_flat", TaskSpec(input_shape=shape, output_shape=(10,)), width=width)
    assert size(build(composed, "model", model, network, **{"extra": extra} if extra else {})) == parameters


@pytest.mark.parametrize(
    ("model", "options", "network", "parameters"),
    [
        ("odenet", {}, {"width": 62, "head": 3}, 37_091),  # Massaroli et al. 2020, notebooks of its code: CIFAR-10
        ("augmented", {"extra": 39}, {}, 34_954),
        ("odenet", {}, {"stem": 42}, 36_088),
        ("second_order", {}, {"stem": 21}, 34_618),
    ],
)
def test_image_models_of_dissecting_neural_odes_have_its_numbers_of_parameters(
    composed: Compose, model: str, options: dict[str, int], network: dict[str, int], parameters: int
) -> None:
    spec = TaskSpec(input_shape=(3, 32, 32), output_shape=(10,))
    made = build(composed, "model", model, build(composed, "network", "conv_norm", spec, **network), **options)
    assert size(made) == parameters


def test_conv_norm_normalises_each_channel_before_the_first_and_the_last_convolution(composed: Compose) -> None:
    network = build(composed, "network", "conv_norm", TaskSpec(input_shape=(2, 5, 7), output_shape=(3,)), width=4)
    field, y, given = network.field(extra=1, given=2), torch.rand(6, 3, 5, 7), torch.rand(6, 2, 5, 7)
    out = torch.cat([y, given], dim=1)
    for place, layer in enumerate(field.layers):
        out = nn.functional.instance_norm(out) if place in (0, 5) else layer(out)
    assert field.layers[1].in_channels == 5
    assert field.layers[-1].out_channels == 3
    torch.testing.assert_close(field(torch.tensor(0.3), y, given), out, rtol=1e-4, atol=1e-5)


def test_conv_flat_is_a_1x1_a_3x3_and_a_1x1_convolution_with_relu_on_the_image_itself(composed: Compose) -> None:
    network = build(composed, "network", "conv_flat", TaskSpec(input_shape=(2, 5, 7), output_shape=(3,)), width=4)
    images, t = torch.rand(3, 2, 5, 7), torch.tensor(0.7)
    assert torch.equal(network.stem()(images), images)
    field, y = network.field(), images
    for place, layer in enumerate((field.first, field.middle, field.last)):
        y = joined(layer)(torch.cat([t.expand(3, 1, 5, 7), y.relu() if place else y], dim=1))
    torch.testing.assert_close(field(t, images), y)
    assert [tuple(layer.weight.shape[2:]) for layer in (field.first, field.middle, field.last)] == [
        (1, 1),
        (3, 3),
        (1, 1),
    ]
    head = network.head(extra=1)
    assert head(torch.rand(3, 3, 5, 7)).shape == (3, 3)
    assert size(head) == 3 * (3 * 5 * 7 + 1)


def test_more_channels_within_make_a_larger_field_and_block(composed: Compose) -> None:
    small, large = (build(composed, "network", "conv_flat", DIGITS, width=width) for width in (2, 3))
    assert size(large.field()) > size(small.field())
    assert size(large.block()) > size(small.block())
    assert size(large.head()) == size(small.head())
    with pytest.raises(RefusedInput, match="network.width must be at least 1"):
        build(composed, "network", "conv_flat", DIGITS, width=0)


def joined(convolution: TimeConv2d) -> nn.Conv2d:
    """The same weights as an ordinary convolution over the channels [t, y]."""
    outputs, inputs, size, _ = convolution.weight.shape
    ordinary = nn.Conv2d(inputs + 1, outputs, size, padding=size // 2)
    with torch.no_grad():
        ordinary.weight.copy_(torch.cat([convolution.time_weight, convolution.weight], dim=1))
        ordinary.bias.copy_(convolution.bias)
    return ordinary


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [1, 3])
def test_a_time_convolution_equals_one_over_time_and_state_together(size: int) -> None:
    ours = TimeConv2d(4, 6, size=size)
    theirs, t, y = joined(ours), torch.tensor(0.7, requires_grad=True), torch.randn(3, 4, 5, 7, requires_grad=True)
    out, weights = ours(t, y), torch.randn(3, 6, 5, 7)
    expected = theirs(torch.cat([t.expand(3, 1, 5, 7), y], dim=1))
    torch.testing.assert_close(out, expected)
    found = torch.autograd.grad((out * weights).sum(), [t, y, ours.time_weight, ours.weight, ours.bias])
    wanted = torch.autograd.grad((expected * weights).sum(), [t, y, theirs.weight, theirs.bias])
    pairs = zip(found, [wanted[0], wanted[1], wanted[2][:, :1], wanted[2][:, 1:], wanted[3]], strict=True)
    for gradient, reference in pairs:
        torch.testing.assert_close(gradient, reference)


def test_a_time_convolution_begins_like_torchs_over_as_many_channels() -> None:
    ours, theirs = TimeConv2d(15, 40, size=3), nn.Conv2d(16, 40, 3)
    bound = float(theirs.weight.detach().abs().max())
    assert bound == pytest.approx(1 / math.sqrt(16 * 9), rel=1e-2)  # the largest of 5,760 draws
    for parameter in (ours.weight, ours.time_weight):
        assert float(parameter.detach().abs().max()) == pytest.approx(bound, rel=2e-2)  # of 360 draws at least
        assert float(parameter.detach().mean()) == pytest.approx(0, abs=bound / 5)
    assert float(ours.bias.detach().abs().max()) <= 1 / math.sqrt(16 * 9)
    assert ours.bias.any()


@pytest.mark.parametrize(
    ("side", "halvings"), [(3, 0), (8, 0), (13, 0), (14, 1), (25, 1), (26, 2), (28, 2), (32, 2), (64, 2), (224, 2)]
)
@pytest.mark.parametrize("stem", ["conv", "res"])
def test_the_stem_halves_twice_at_most_and_not_below_the_smallest_side(
    composed: Compose, stem: str, side: int, halvings: int
) -> None:
    spec = TaskSpec(input_shape=(1, side, side), output_shape=(10,))
    state = build(composed, "network", "conv", spec, stem=stem, width=4, smallest_side=6).stem()(
        torch.rand(2, 1, side, side)
    )
    expected = (side - 2) // 2**halvings if stem == "conv" else math.ceil((side - 2) / 2**halvings)
    assert state.shape[:2] == (2, 4)
    assert abs(state.shape[2] - expected) <= 1  # where a side is odd, the two stems round differently
    assert state.shape[2] >= min(6, side - 2)


def test_smallest_side_forbids_halving(composed: Compose) -> None:
    assert [
        build(composed, "network", "conv", MNIST, smallest_side=least).stem()(torch.rand(1, 1, 28, 28)).shape[2]
        for least in (1, 6, 7, 13, 14)
    ] == [6, 6, 13, 13, 26]


@pytest.mark.parametrize("shape", [(1, 6, 9), (3, 12, 8)])
def test_images_may_be_oblong_and_coloured(composed: Compose, shape: tuple[int, ...]) -> None:
    network = build(composed, "network", "conv", TaskSpec(input_shape=shape, output_shape=(4,)), width=4)
    y = network.stem()(torch.rand(2, *shape))
    assert network.field()(torch.tensor(0.5), y).shape == y.shape
    assert network.head()(y).shape == (2, 4)


@pytest.mark.parametrize("network", [Conv, ConvFlat, UNet, MLP, SequenceNetwork, RecurrentVAE])
def test_tokens_are_for_attention_whatever_else_a_network_asks_for(network: type[Network]) -> None:
    spec, choices = TaskSpec(input_shape=(12,), output_shape=(12, 5), tokens=5), {"network": "this", "task": "that"}
    with pytest.raises(IncompatibleChoice, match="inputs of task=that are tokens, and network=this takes numbers"):
        check_inputs(choices, spec, model=ODENet, network=network)
    assert not takes_inputs(SequenceSort, ODENet, network)


@pytest.mark.parametrize(
    ("task", "able"), [(HalfMoons, {MLP}), (Digits, {MLP, Conv, UNet}), (Area, {MLP, SequenceNetwork})]
)
def test_which_networks_read_a_tasks_inputs_is_known_by_their_classes(task: type[Task], able: set[type]) -> None:
    assert {one for one in (MLP, Conv, UNet, SequenceNetwork) if takes_inputs(task, ODENet, one)} == able


def test_attention_is_not_named_for_rows_of_observations() -> None:
    assert not takes_inputs(SpiralVAE, ODETransformer, Transformer)
    assert takes_inputs(SpiralVAE, ODENet, RecurrentVAE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "advice"),  # each piece of advice was a network that is refused, but for the first
    [
        ("task=half_moons network=conv", "needs images .* Use network=mlp.$"),
        ("task=spiral_vae network=unet", "needs images .* Use network=mlp, sequence or recurrent_vae.$"),
        ("task=half_moons network=conv_norm", "needs images .* Use network=mlp.$"),
        ("task=area model=cde network=conv_flat", "needs images .* Use network=sequence.$"),
        ("task=digits_tokens network=conv", "needs images .* Use network=mlp or transformer.$"),
        ("task=digits network=sequence", "Use task=spiral_vae or series_forecast, or network=mlp or transformer.$"),
        ("task=sequence_sort network=conv", "are tokens, and network=conv takes numbers. Use network=transformer.$"),
        ("task=sequence_sort network=recurrent_vae", "are tokens, and .* takes numbers. Use network=transformer.$"),
        ("task=series_classes model=odernn solver=strang", "network=sequence is none. Use solver=rk4.$"),
        ("task=sequence_sort network=linear", "sets network.width, and .* no such option. Use network=transformer.$"),
    ],
)
def test_a_network_that_does_not_read_the_inputs_names_those_that_do(words: str, advice: str, tmp_path: Path) -> None:
    assert re.search(advice, typed(*words.split(), cwd=tmp_path).stderr)


def test_a_convolution_refuses_images_below_three_pixels(composed: Compose) -> None:
    with pytest.raises(IncompatibleChoice, match="at least 3x3 pixels.*Use network=mlp"):
        build(composed, "network", "conv", TaskSpec(input_shape=(1, 2, 5), output_shape=(2,)))


@pytest.mark.parametrize("option", ["width", "depth"])
def test_width_and_depth_change_every_piece_that_has_them(composed: Compose, deep: str, option: str) -> None:
    small, large = (network_for(composed, deep, DIGITS, **{option: value}) for value in (2, 3))
    assert size(large.field()) > size(small.field())
    assert size(large.block()) > size(small.block())


def test_depth_counts_the_layers_of_the_field(composed: Compose, deep: str) -> None:
    for depth in (1, 2, 4):
        network = network_for(composed, deep, DIGITS, depth=depth)
        layers = [m for m in network.field().modules() if isinstance(m, TimeConv2d | nn.Linear)]
        assert len(layers) == depth + (0 if isinstance(network, Conv) else 1)  # an MLP has an output layer besides


@pytest.mark.parametrize("option", ["width", "depth"])
@pytest.mark.parametrize("value", [0, -1])
def test_senseless_sizes_are_refused(composed: Compose, deep: str, option: str, value: int) -> None:
    with pytest.raises(RefusedInput, match=f"network.{option} must be at least 1"):
        build(composed, "network", deep, DIGITS, **{option: value})


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("extra", [0, 1, 3])
def test_pieces_fit_together(composed: Compose, name: str, spec: TaskSpec, extra: int) -> None:
    network = network_for(composed, name, spec)
    y = network.stem()(torch.rand(3, *spec.input_shape))
    enlarged = torch.cat([y, y.new_zeros(3, extra, *y.shape[2:])], dim=1)
    assert network.block()(y, 0.5).shape == y.shape
    assert network.field(extra=extra)(torch.tensor(0.3), enlarged).shape == enlarged.shape
    assert network.head(extra=extra)(enlarged).shape == (3, *spec.output_shape)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_fields_depend_on_time(composed: Compose, name: str, spec: TaskSpec) -> None:
    network = network_for(composed, name, spec)
    field, y = network.field(), network.stem()(torch.rand(2, *spec.input_shape))
    assert not torch.equal(field(torch.tensor(0.0), y), field(torch.tensor(1.0), y))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_samples_do_not_see_each_other(composed: Compose, name: str, spec: TaskSpec) -> None:
    network = network_for(composed, name, spec)
    inputs, t = torch.rand(4, *spec.input_shape), torch.tensor(0.3)
    stem, field, block, head = network.stem(), network.field(), network.block(), network.head()

    def through(part: torch.Tensor) -> torch.Tensor:
        y = stem(part)
        return head(block(y, 0.5) + field(t, y))

    torch.testing.assert_close(through(inputs)[:1], through(inputs[:1]))


def test_each_piece_is_made_anew(composed: Compose, name: str) -> None:
    network = network_for(composed, name, DIGITS)
    first, second = network.block(), network.block()
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


def test_small_inputs_are_the_state_of_an_mlp_themselves(composed: Compose) -> None:
    points = torch.rand(5, 2)
    assert torch.equal(build(composed, "network", "mlp", PLANE).stem()(points), points)
    brought_down = build(composed, "network", "mlp", DIGITS, width=16).stem()(torch.rand(5, 1, 8, 8))
    assert brought_down.shape == (5, 16)


def test_concatsquash_layers_are_those_of_ffjord(composed: Compose) -> None:
    """(W y + b) * sigmoid(g t + c) + h t; its toy flow has 9,224 parameters."""
    field = build(composed, "network", "concatsquash", PLANE).field()
    assert size(field) == 9224
    y, t = torch.randn(5, 2), torch.tensor(0.7)
    gates = torch.sigmoid(field.gates.weight[:, 0] * t + field.gates.bias).split([64, 64, 64, 2])
    shifts = (field.shifts.weight[:, 0] * t).split([64, 64, 64, 2])
    expected = y
    for i, layer in enumerate(field.maps):
        expected = layer(expected if i == 0 else expected.tanh()) * gates[i] + shifts[i]
    torch.testing.assert_close(field(t, y), expected)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("given", [0, 3])
@pytest.mark.parametrize("name", ["linear", "mlp", "concatsquash"])
def test_tangents_are_pushed_as_autograd_pushes_them(name: str, given: int, composed: Compose) -> None:
    field = build(composed, "network", name, PLANE).field(given=given).double()
    assert isinstance(field, LinearizableField)
    y, z, v = torch.randn(5, 2), [torch.randn(5, given)] * bool(given), torch.randn(3, 5, 2)
    for t in (torch.tensor(0.7), torch.linspace(0, 1, 5)):
        dy, jvp = field.linearize(t, y, *z)
        torch.testing.assert_close(dy, field(t, y, *z), rtol=0, atol=0)
        jacobian = torch.autograd.functional.jacobian(lambda y, t=t: field(t, y, *z).sum(dim=0), y)
        torch.testing.assert_close(jvp(v), torch.einsum("ibj,kbj->kbi", jacobian, v))
        torch.testing.assert_close(jvp(v[:, :1]).expand_as(v), jvp(v[:, :1].expand_as(v)))


@pytest.mark.usefixtures("float64")
def test_what_is_given_is_read_smoothly_where_it_is_zero(name: str, composed: Compose) -> None:
    """A velocity begins there; a normalisation over it alone would make of a millionth part something of size 1."""
    network = network_for(composed, name, DIGITS)
    field, y0 = network.field(given=network.state), network.stem()(torch.rand(3, 1, 8, 8))
    z, t = torch.randn_like(y0), torch.tensor(0.3)
    at_zero = field(t, y0, 0 * z)
    near, nearer = ((field(t, y0, size * z) - at_zero).norm() for size in (1e-4, 1e-5))
    torch.testing.assert_close(near / nearer, torch.tensor(10.0), rtol=0.05, atol=0)


def test_features_of_a_time_are_of_periods_from_four_spans_to_a_third_of_one() -> None:
    frequencies = TimeFeatures(4).frequencies.double()
    torch.testing.assert_close(2 * math.pi / frequencies[0], torch.tensor(4.0, dtype=torch.float64))
    torch.testing.assert_close(frequencies[1:] / frequencies[:-1], torch.full((7,), math.sqrt(2), dtype=torch.float64))


@pytest.mark.parametrize(("count", "dimensions"), [(8, 4), (9, 4), (32, 4), (2, 1), (20, 10)])
def test_points_in_place_of_a_normal_law_have_its_mean_and_covariance(count: int, dimensions: int) -> None:
    """All sequences share them: those of a generator left a forecast's band half as wide, and a bound a nat off."""
    points = normal_points(count, dimensions)
    torch.testing.assert_close(points.mean(dim=0), torch.zeros(dimensions), rtol=0, atol=1e-6)
    torch.testing.assert_close(points.T @ points / count, torch.eye(dimensions), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("count", "dimensions"), [(2, 4), (3, 4), (7, 4)])
def test_too_few_points_for_every_direction_have_the_size_of_a_normal_law(count: int, dimensions: int) -> None:
    points = normal_points(count, dimensions)
    torch.testing.assert_close(points.mean(dim=0), torch.zeros(dimensions), rtol=0, atol=1e-6)
    assert float(points.square().sum(dim=1).mean()) == pytest.approx(dimensions)
