"""The Transformer: its layers beside torch's, masks and positions, what it reads, and its fields in every mode."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import jvp, vjp
from torch.nn import functional as F

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.depth.augmented import Augmented
from ode_runner.models.depth.odenet import ODENet
from ode_runner.networks import attention
from ode_runner.networks.attention import Layer, LayerSizes, Norm, attended, turned
from ode_runner.networks.embeddings import FromPatches, ToPatches
from ode_runner.networks.mlp import MLP
from ode_runner.networks.tokens import token_network
from ode_runner.networks.transformer import Transformer
from ode_runner.solvers.explicit.midpoint import Midpoint
from ode_runner.solvers.implicit import linearised
from tests.problems import Compose, build

pytestmark = pytest.mark.usefixtures("float64")

TS = torch.tensor([0.0, 1.0])
MIDPOINT = Midpoint(num_steps=10, step_size=None)
TOKENS = TaskSpec(input_shape=(6,), output_shape=(6, 5), tokens=5)
ROWS = TaskSpec(input_shape=(6, 3), output_shape=(4,))
IMAGES = TaskSpec(input_shape=(2, 4, 8), output_shape=(4,))
OF_IMAGES = TaskSpec(input_shape=(2, 4, 8), output_shape=())
SPECS = {"tokens": TOKENS, "rows": ROWS, "images": IMAGES, "of_images": OF_IMAGES}
DIGITS = TaskSpec(input_shape=(1, 8, 8), output_shape=(10,))
PLANE = TaskSpec(input_shape=(2,), output_shape=(2,))
SIZES = LayerSizes(inner=8, heads=2, hidden=16, causal=False, rotary=False)


def network(composed: Compose, spec: TaskSpec = TOKENS, **changed: object) -> Transformer:
    made = build(composed, "network", "transformer", spec, **({"width": 8, "heads": 2, "patch": 2} | changed))
    assert isinstance(made, Transformer)
    return made


def inputs_of(spec: TaskSpec, batch: int = 3) -> Tensor:
    if spec.tokens:
        return torch.randint(spec.tokens, (batch, *spec.input_shape))
    return torch.rand(batch, *spec.input_shape)


def test_a_layer_is_torchs_with_the_normalisation_first() -> None:
    ours = Layer(8, SIZES)
    theirs = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(ours.attend.inner.read.weight)
        theirs.self_attn.in_proj_bias.zero_()
    pairs = [
        (theirs.self_attn.out_proj, ours.attend.inner.write),
        (theirs.linear1, ours.transform.inner[0]),
        (theirs.linear2, ours.transform.inner[2]),
        (theirs.norm1, ours.attend.norm.norm),
        (theirs.norm2, ours.transform.norm.norm),
    ]
    for module, source in pairs:
        nn.init.normal_(source.bias)
        module.load_state_dict(source.state_dict())
    x = torch.randn(3, 6, 8)
    torch.testing.assert_close(x + ours(x), theirs(x))
    causal = Layer(8, LayerSizes(inner=8, heads=2, hidden=16, causal=True, rotary=False))
    causal.load_state_dict(ours.state_dict())
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    torch.testing.assert_close(x + causal(x), theirs(x, src_mask=mask, is_causal=True))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("causal", [False, True])
def test_attention_under_torch_func_is_the_fused_one_and_has_second_derivatives(causal: bool) -> None:
    q, k, v, along = torch.randn(4, 2, 2, 5, 4)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def of(q: Tensor) -> Tensor:
        return attended(q, k, v, causal=causal)

    found, tangent = jvp(of, (q,), (along,))
    torch.testing.assert_close(found, expected)
    pulled = vjp(of, q)[1](torch.ones_like(q))[0]
    torch.testing.assert_close((pulled * along).sum(), tangent.sum())
    q.requires_grad_()
    [fused] = torch.autograd.grad(of(q).sum(), q)
    torch.testing.assert_close(fused, pulled)
    (vjp(of, q)[1](along)[0] ** 2).sum().backward()
    assert q.grad is not None
    assert q.grad.abs().max() > 0


@pytest.mark.parametrize("positions", ["absolute", "relative", "none"])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_causal_field_does_not_look_ahead(composed: Compose, positions: str, depth: int) -> None:
    made = network(composed, causal=True, positions=positions, depth=depth)
    field, y, t = made.field(), made.stem()(inputs_of(TOKENS)), torch.tensor(0.3)
    changed = y.clone()
    changed[:, :, 4:] = torch.randn(3, 8, 2)
    before, after = field(t, y), field(t, changed)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.allclose(before[:, :, 4:], after[:, :, 4:])
    free = network(composed, positions=positions, depth=depth).field()
    assert not torch.allclose(free(t, y)[:, :, :4], free(t, changed)[:, :, :4])


def test_without_positions_the_order_does_not_matter(composed: Compose) -> None:
    tokens, order = inputs_of(TOKENS), torch.randperm(6)
    for positions in ("none", "absolute", "relative"):
        made = network(composed, positions=positions)
        stem, field = made.stem(), made.field()
        moved, straight = (field(torch.tensor(0.0), stem(x)) for x in (tokens[:, order], tokens))
        assert torch.allclose(moved, straight[:, :, order]) == (positions == "none")


def test_relative_positions_are_distances() -> None:
    """Scores of two vectors turned by their positions depend on the distance between these, whatever they are."""
    q, k, pairs = torch.randn(4), torch.randn(4), torch.tensor([[1.0, 0.01]])

    def score(of_q: int, of_k: int) -> float:
        return float((turned(q[None], of_q * pairs) * turned(k[None], of_k * pairs)).sum())

    assert [score(place, place + 3) for place in range(4)] == pytest.approx([score(0, 3)] * 4)
    assert abs(score(0, 3) - score(0, 1)) > 1e-3
    assert score(0, 0) == pytest.approx(float(q @ k))


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("extra", [0, 3])
def test_pieces_fit_together(composed: Compose, kind: str, extra: int) -> None:
    spec = SPECS[kind]
    made = network(composed, spec)
    y = made.stem()(inputs_of(spec))
    assert y.shape[1] == made.state
    enlarged = torch.cat([y, y.new_zeros(3, extra, *y.shape[2:])], dim=1)
    assert made.block()(y, 0.5).shape == y.shape
    out = made.field(extra=extra)(torch.tensor(0.3), enlarged)
    assert out.shape == enlarged.shape
    if spec.output_shape:
        assert made.head(extra=extra)(enlarged).shape == (3, *spec.output_shape)


@pytest.mark.parametrize("kind", SPECS)
def test_every_parameter_has_a_gradient(composed: Compose, kind: str) -> None:
    spec = SPECS[kind]
    made = network(composed, spec, depth=2)
    stem, field, block = made.stem(), made.field(given=2), made.block()
    inputs, z, t = inputs_of(spec, batch=8), torch.rand(8, 2), torch.rand(8)
    out = block(field(t, stem(inputs), z), 0.5)
    out = made.head()(out) if spec.output_shape else out
    out.square().sum().backward()
    for module in (stem, field, block):
        assert all(p.grad is not None and p.grad.abs().max() > 1e-12 for p in module.parameters())


def test_what_is_given_may_differ_from_position_to_position(composed: Compose) -> None:
    made = network(composed)
    field, y, t, z = made.field(given=2), made.stem()(inputs_of(TOKENS)), torch.tensor(0.5), torch.rand(3, 2)
    same = z[:, :, None].expand(3, 2, 6).clone()
    torch.testing.assert_close(field(t, y, z), field(t, y, same))
    same[:, :, 2] += 1
    assert not torch.allclose(field(t, y, z), field(t, y, same))


def test_time_scales_and_shifts_unless_it_is_not_told(composed: Compose) -> None:
    y, times = network(composed).stem()(inputs_of(TOKENS)), torch.tensor([0.0, 0.4, 1.0])
    told, untold = network(composed).field(), network(composed, time=False).field()
    each = torch.cat([told(t, one[None]) for t, one in zip(times, y, strict=True)])
    torch.testing.assert_close(told(times, y), each)
    assert not torch.allclose(told(times[0], y), told(times[1], y))
    assert torch.equal(untold(times[0], y), untold(times[1], y))
    norm = Norm(4, conditioning=0)
    assert {name for name, _ in norm.named_parameters()} == {"norm.weight", "norm.bias"}


def test_a_denoiser_reads_symbols_or_weights_of_symbols(composed: Compose) -> None:
    denoiser = network(composed, causal=True).denoiser(symbols=6, outputs=5, given=2)
    tokens, z, t = torch.randint(6, (3, 6)), torch.rand(3, 2), torch.rand(3)
    found = denoiser(t, tokens, z)
    assert found.shape == (3, 6, 5)
    torch.testing.assert_close(denoiser(t, F.one_hot(tokens, 6).double(), z), found)
    torch.testing.assert_close(denoiser(t, tokens[:, :4], z), found[:, :4]), "a beginning is read as it is"


def test_patches_come_back_as_the_image() -> None:
    images = torch.rand(3, 2, 4, 8)
    patches = ToPatches(2)(images)
    assert patches.shape == (3, 8, 8)
    assert torch.equal(patches[:, 1].view(3, 2, 2, 2), images[:, :, :2, 2:4]), "the second is right of the first"
    assert torch.equal(FromPatches(2, height=2)(patches), images)


@pytest.mark.parametrize("mode", ["checkpoint", "adjoint", "forward", "symplectic"])
def test_an_ode_net_of_attention_is_differentiated_in_every_mode(composed: Compose, mode: str) -> None:
    rows = TaskSpec(input_shape=(3, 2), output_shape=(2,))
    model = ODENet(network(composed, rows, width=2 if mode == "forward" else 4, heads=1, expansion=1, time=False))
    inputs, tolerance = torch.rand(2, 3, 2), 5e-3 if mode == "adjoint" else 1e-9

    def gradients(mode: str) -> list[Tensor]:
        outputs = model(inputs, TS, Integrator(solver=MIDPOINT, gradient=build(composed, "gradient", mode)))
        return list(torch.autograd.grad(outputs.values.square().sum(), list(model.parameters())))

    for found, expected in zip(gradients(mode), gradients("backprop"), strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def step_by_step(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """Attention without torch's fused function."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return (scores.masked_fill(later, -torch.inf) if causal else scores).softmax(dim=-1) @ v


@pytest.mark.parametrize("largest", [512, 8], ids=["factorised", "products"])
def test_implicit_stages_of_attention_are_solved_and_differentiated(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    """Above so many equations, Newton's updates ask for second derivatives, which fused attention has not."""
    monkeypatch.setattr(linearised, "LARGEST", largest)
    model, inputs = ODENet(network(composed, ROWS, causal=True)), torch.rand(2, 6, 3)
    solver = build(composed, "solver", "implicit_euler", num_steps=1)

    def found() -> list[Tensor]:
        values = model(inputs, TS, Integrator(solver=solver, gradient=Backprop())).values
        return [values, *torch.autograd.grad(values.square().sum(), list(model.parameters()))]

    fused = found()
    monkeypatch.setattr(attention, "attended", step_by_step)
    for one, other in zip(fused, found(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_samples_may_have_steps_of_their_own(composed: Compose) -> None:
    made = network(composed, ROWS)
    field, y = made.field(), made.stem()(inputs_of(ROWS))
    solver = build(composed, "solver", "dopri5", rtol=1e-4, atol=1e-4, per_sample=True)
    apart = torch.cat([solver.solve(field, one[None], TS).ys[-1] for one in y])
    torch.testing.assert_close(solver.solve(field, y, TS).ys[-1], apart)


def test_an_augmented_state_has_more_features_at_each_position(composed: Compose) -> None:
    model = Augmented(network(composed), extra=3)
    outputs = model(inputs_of(TOKENS), TS, Integrator(solver=MIDPOINT, gradient=Backprop()))
    assert outputs.values.shape == (3, 6, 5)


@pytest.mark.parametrize(
    ("spec", "changed", "message"),
    [
        (TaskSpec(input_shape=(2,), output_shape=(2,)), {}, r"needs positions that see each other.*Use network=mlp"),
        (TaskSpec(input_shape=(5, 4), output_shape=(2,), sequence=True), {}, r"gives series .* Use network=sequence"),
        (IMAGES, {"patch": 3}, r"network.patch=3 does not divide images of 4x8 pixels. Use network.patch=2"),
        (TOKENS, {"heads": 3}, r"network.heads=3 does not divide network.width=8"),
        (TOKENS, {"heads": 8, "positions": "relative"}, r"turn pairs of numbers, .* an odd number"),
        (TOKENS, {"depth": 0}, r"network.depth must be at least 1"),
    ],
)
def test_what_it_cannot_read_is_refused(
    composed: Compose, spec: TaskSpec, changed: dict[str, object], message: str
) -> None:
    with pytest.raises((IncompatibleChoice, RefusedInput), match=message):
        network(composed, spec, **changed)


def test_a_model_of_tokens_refuses_a_network_without_positions(composed: Compose) -> None:
    images, plane = build(composed, "network", "conv", DIGITS), MLP(PLANE, width=4, depth=1)
    with pytest.raises(IncompatibleChoice, match="model=d3pm is made of layers of positions.*Use network=transformer"):
        token_network(images, "d3pm")
    with pytest.raises(IncompatibleChoice, match="this task's inputs are vectors of 2 numbers. Use task=digits_tokens"):
        token_network(plane, "d3pm")


@pytest.mark.parametrize(("positions", "apart"), [("relative", False), ("both", True), ("absolute", True)])
def test_equal_tokens_are_told_apart_by_absolute_positions_alone(
    composed: Compose, positions: str, apart: bool
) -> None:
    """What attention takes the mean of is the same at every place, whatever its weights."""
    spec = TaskSpec(input_shape=(6,), output_shape=(6, 4), tokens=4)
    network = build(composed, "network", "transformer", spec, width=16, heads=2, depth=2, positions=positions)
    found = network.denoiser(symbols=5, outputs=4)(torch.zeros(()), torch.full((1, 6), 4))[0]
    assert (float((found - found[:1]).abs().max().detach()) > 1e-4) == apart
