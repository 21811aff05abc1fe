"""The Transformer whose blocks are steps of a scheme: gains, orders, identities, masks, counts, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.depth.depth_blocks import LayerField
from ode_runner.models.depth.ode_transformer import ODETransformer
from ode_runner.models.depth.odenet import ODENet
from ode_runner.networks.attention import Layer
from ode_runner.objectives.regularized_solves import RegularizedSolves
from ode_runner.regularizers.smooth_parameters import SmoothParameters
from ode_runner.regularizers.smooth_states import SmoothStates
from ode_runner.solvers.explicit.euler import Euler
from tests.helpers import typed
from tests.problems import Compose, build, slope

pytestmark = pytest.mark.usefixtures("float64")

TS = torch.tensor([0.0, 1.0])
TOKENS = TaskSpec(input_shape=(6,), output_shape=(6, 5), tokens=5)
SCHEMES: dict[str, dict[str, Any]] = {
    "prenorm": {},
    "parallel": {},
    "macaron": {},
    "macaron-own": {"block": "macaron", "feedforwards": "own"},
    "rk2": {},
    "rk2-learned": {"block": "rk2", "gamma": "learned"},
    "rk2-gated": {"block": "rk2", "gamma": "gated"},
    "rk4": {},
    "pc": {},
    "pc-4": {"block": "pc", "stages": 4, "history": 2},
    "iiet": {"sweeps": 2},
    "multistep": {"history": 3},
}


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(composed: Compose) -> Callable[..., ODETransformer]:
    def made(scheme: str = "prenorm", *, causal: bool = False, **changed: Any) -> ODETransformer:
        network = build(composed, "network", "transformer", TOKENS, width=8, heads=2, causal=causal)
        options = {"block": scheme, "depth": 3, **SCHEMES.get(scheme, {}), **changed}
        return build(composed, "model", "ode_transformer", network, **options)

    return made


def plain(field: LayerField, t: Tensor, x: Tensor, call: str = "forward") -> Tensor:
    """An evaluation that nobody counts."""
    return field(t, x) if call == "forward" else getattr(field, call)(t, x)


class Known(nn.Module):
    """A function in the place of a part of a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        assert told is None
        return self.function(x)


def replace_parts(
    model: ODETransformer, attend: Callable[[Tensor], Tensor], transform: Callable[[Tensor], Tensor]
) -> None:
    """A(x) and M(x) of every layer by functions."""
    for module in model.modules():
        if isinstance(module, Layer):
            module.attend, module.transform = Known(attend), Known(transform)


def through(model: ODETransformer, x: Tensor) -> Tensor:
    """The state after all blocks."""
    slopes: list[Tensor] = []
    for block in model.blocks:
        x, found = block(x, slopes, plain)
        slopes.insert(0, found)
    return x


def test_a_layer_without_increment_leaves_the_state_alone(make: Callable[..., ODETransformer], scheme: str) -> None:
    model, x = make(scheme), torch.randn(2, 6, 8)
    replace_parts(model, torch.zeros_like, torch.zeros_like)
    torch.testing.assert_close(through(model, x), x, rtol=0, atol=0)


Z = 0.3


def predictor_corrector(z: float, stages: int) -> float:
    """x + F(p) of pc with b = 1/2 and a = 1, for F(x) = z x and x = 1."""
    slopes = [z]
    for place in (1.0,) if stages == 2 else (0.5, 0.5, 1.0):
        slopes.append(z * (1 + place * slopes[-1]))
    return 1 + z * (1 + sum(0.5 * 0.5 ** (stages - 1 - i) * each for i, each in enumerate(slopes)))


GAINS = {
    "prenorm": 1 + Z,
    "parallel": 1 + Z,
    "macaron": (1 + Z / 2) ** 2,
    "macaron-own": (1 + Z / 2) ** 2,
    "rk2": 1 + Z + Z**2 / 2,
    "rk2-learned": 1 + 2 * Z + Z**2,  # weights of 1 to begin with
    "rk4": 1 + Z + Z**2 / 2 + Z**3 / 6 + Z**4 / 24,
    "pc": predictor_corrector(Z, 2),
    "pc-4": predictor_corrector(Z, 4),
    "iiet": 1 + Z + Z**2 + Z**3,
    "multistep": 1 + Z,
}


@pytest.mark.parametrize("scheme", GAINS)
def test_gains_of_a_linear_increment(make: Callable[..., ODETransformer], scheme: str) -> None:
    model, x = make(scheme, depth=1), torch.randn(2, 6, 8)
    replace_parts(model, torch.zeros_like, lambda x: Z * x)
    torch.testing.assert_close(through(model, x), GAINS[scheme] * x)


@pytest.mark.parametrize(
    ("scheme", "order"),
    [("prenorm", 1), ("parallel", 1), ("macaron", 1), ("rk2", 2), ("rk4", 4), ("iiet", 1), ("multistep", 2)],
)
def test_orders_on_a_smooth_increment_that_all_blocks_share(
    make: Callable[..., ODETransformer], scheme: str, order: int
) -> None:
    """x' = sin x - x on [0, 1], in steps of 1 / depth; where A and M are apart, they are -x and sin x."""
    x, depths = torch.linspace(0.5, 2, 8).expand(1, 1, 8), [8, 16, 32, 64]

    def end(scheme: str, depth: int, **changed: Any) -> Tensor:
        model, h, split = (
            make(scheme, depth=depth, shared=True, **changed),
            1 / depth,
            scheme in ("parallel", "macaron"),
        )
        parts = (lambda x: -h * x, lambda x: h * x.sin()) if split else (torch.zeros_like, lambda x: h * (x.sin() - x))
        replace_parts(model, *parts)
        return through(model, x)

    changed = {"gamma": "fixed", "history": 2} if scheme == "multistep" else {}
    exact = end("rk4", 512)
    errors = [float((end(scheme, depth, **changed) - exact).abs().max()) for depth in depths]
    assert slope([1 / depth for depth in depths], errors) == pytest.approx(order, abs=0.15)


def test_schemes_that_are_one(make: Callable[..., ODETransformer]) -> None:
    x = torch.randn(2, 6, 8)
    fixed, learned = make("rk2"), make("rk2", gamma="learned")
    learned.load_state_dict(fixed.state_dict(), strict=False)
    for block in learned.blocks:
        nn.init.constant_(block.weights.learned, 0.5)
    assert torch.equal(through(learned, x), through(fixed, x)), "weights of 1/2 are Heun's"
    gated = make("rk2", gamma="gated")
    gated.load_state_dict(fixed.state_dict(), strict=False)
    for name, parameter in gated.named_parameters():
        if name not in fixed.state_dict():
            nn.init.zeros_(parameter)
    torch.testing.assert_close(through(gated, x), through(fixed, x))  # a gate that knows nothing is half open
    plain_blocks = make("prenorm")
    for scheme, changed in (("iiet", {"sweeps": 0}), ("multistep", {"history": 1})):
        other = make(scheme, **changed)
        other.load_state_dict(plain_blocks.state_dict(), strict=False)
        assert torch.equal(through(other, x), through(plain_blocks, x)), scheme
    macaron = make("macaron")
    for module in macaron.modules():
        if isinstance(module, Layer):
            module.transform = Known(torch.zeros_like)
    alone = x
    for piece in macaron.pieces:
        alone = alone + piece.layer.attend(alone)
    torch.testing.assert_close(through(macaron, x), alone)


def test_with_one_layer_it_is_an_ode_net_by_euler_s_method(
    composed: Compose, make: Callable[..., ODETransformer]
) -> None:
    network = build(composed, "network", "transformer", TOKENS, width=8, heads=2, time=False)
    model, twin = make(depth=4, shared=True), ODENet(network)
    twin.stem.load_state_dict(model.stem.state_dict())
    twin.head.load_state_dict(model.head.state_dict())
    twin.field.layers.layers[0].load_state_dict(model.pieces[0].layer.state_dict())
    tokens, integrate = (
        torch.randint(5, (3, 6)),
        Integrator(solver=Euler(num_steps=1, step_size=None), gradient=Backprop()),
    )
    ours, theirs = model(tokens, TS, integrate).values, twin(tokens, 4 * TS, integrate).values
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for values, one in ((ours, model), (theirs, twin)):
        values.square().sum().backward()
        assert all(p.grad is not None for p in one.parameters())
    for p, q in zip(model.pieces[0].parameters(), twin.field.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)


def test_no_position_sees_a_later_one_in_any_stage(make: Callable[..., ODETransformer], scheme: str) -> None:
    tokens = torch.randint(5, (3, 6))
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 5
    for causal in (True, False):
        model = make(scheme, causal=causal)
        before, after = (model(x, TS, integrator()).values[:, :4] for x in (tokens, changed))
        assert torch.equal(before, after) == causal


def integrator() -> Integrator:
    return Integrator(solver=Euler(num_steps=1, step_size=None), gradient=Backprop())


EVALUATIONS = {
    "prenorm": 1, "parallel": 1, "macaron": 1.5, "macaron-own": 1.5, "rk2": 2, "rk2-learned": 2, "rk2-gated": 2,
    "rk4": 4, "pc": 3, "pc-4": 5, "iiet": 3, "multistep": 1,
}  # fmt: skip
MORE_PARAMETERS = {  # of three blocks, than prenorm
    "macaron-own": 3 * (2 * 8 * 16 + 16 + 8 + 16), "rk2-learned": 3 * 2, "rk2-gated": 3 * 17, "pc": 3 * 2,
    "pc-4": 3 * 2 + 0 + 1 + 2, "multistep": 1 + 2 + 3,
}  # fmt: skip


def test_evaluations_are_counted_and_parameters_are_those_that_are_used(
    make: Callable[..., ODETransformer], scheme: str
) -> None:
    model, integrate = make(scheme), integrator()
    with integrate.ledger.phase(next(iter(integrate.ledger.totals))) as tally:
        values = model(torch.randint(5, (16, 6)), TS, integrate).values
    assert tally.evaluations == 3 * EVALUATIONS[scheme]
    values.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    count = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in make().parameters())
    assert count == MORE_PARAMETERS.get(scheme, 0)


def test_sweeps_that_move_little_are_shown_and_left_out_in_the_test(make: Callable[..., ODETransformer]) -> None:
    """F(x) = z x: the i-th sweep moves 1 + .. + z^i by z^(i+1)."""
    model, tokens = make("iiet", sweeps=3, test_sweeps=[1, 0, 2]), torch.randint(5, (4, 6))
    replace_parts(model, torch.zeros_like, lambda x: Z * x)
    sums = torch.tensor([Z**i for i in range(5)]).cumsum(0)
    expected = torch.tensor([Z ** (i + 1) for i in (1, 2, 3)]) / sums[2:]
    torch.testing.assert_close(model.residuals(tokens), expected.expand(3, 3))
    assert [float(value) >= 0.1 for value in expected] == [False] * 3
    [remark] = model.remarks(tokens)
    assert "model.test_sweeps=[0,0,0] leaves them out" in remark
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(through(model, x), (sums[4] ** 3) * x)
    model.begin_test()
    torch.testing.assert_close(through(model, x), (sums[2] * sums[1] * sums[3]) * x)
    assert model.residuals(tokens).isnan().sum(dim=1).tolist() == [1, 2, 0]
    assert [name for name, _ in model.figures(tokens)] == ["sweeps"]
    for other in (make("prenorm"), make("iiet", sweeps=0)):
        assert not list(other.figures(tokens))
        assert not list(other.remarks(tokens))
    for block, history, told in (("pc", 2, []), ("pc", 50, ["=50 is as model.history=2"]), ("multistep", 3, [])):
        found = list(make("prenorm", block=block, history=history).remarks(tokens))
        assert len(found) == len(told)
        assert all(words in remark for words, remark in zip(told, found, strict=True))


def test_states_and_parameters_are_priced_by_how_much_they_change(make: Callable[..., ODETransformer]) -> None:
    model, tokens = make(), torch.randint(5, (4, 6))
    along = RegularizedSolves(
        integrator(), lambda y0: {}, of_states=lambda ts, ys: {"smooth": SmoothStates(weight=1.0).of_states(ts, ys)}
    )
    states = model.path(model.encode(tokens), TS, along, times=9)
    assert not along.sums
    assert states.shape == (4, 4, 8, 6)
    model(tokens, TS, along)
    torch.testing.assert_close(along.sums["smooth"], states.diff(dim=0).square().sum(dim=(0, 2, 3)).mean())
    smooth = SmoothParameters(weight=1.0)
    vectors = [nn.utils.parameters_to_vector(piece.parameters()) for piece in model.pieces]
    expected = 3 * sum((b - a).square().sum() for a, b in zip(vectors, vectors[1:], strict=False))
    torch.testing.assert_close(smooth.penalty(model), expected)
    smooth.check(model)
    torch.testing.assert_close(smooth.penalty(model), expected, rtol=0, atol=0, msg="the check has changed weights")
    with pytest.raises(IncompatibleChoice, match="is 0 whatever the parameters"):
        smooth.check(make(shared=True))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"block": "prenorm", "gamma": "learned"},
            "model.gamma=learned is an option of model.block=rk2 and rk4 and pc",
        ),
        ({"block": "rk4", "gamma": "gated"}, "model.gamma=gated weighs two stages.*Use model.block=rk2"),
        (
            {"block": "rk2", "sweeps": 3},
            "model.sweeps=3 is an option of model.block=iiet, and model.block=rk2 has none",
        ),
        ({"block": "pc", "stages": 3}, "model.stages must be 2 or 4, not 3"),
        ({"block": "multistep", "history": 5}, "model.history of model.block=multistep must be from 1 to 4, not 5"),
        ({"block": "iiet", "sweeps": -1}, "model.sweeps must be 0 or more"),
        ({"block": "iiet", "test_sweeps": [1, -1, 1]}, "model.test_sweeps must be 0 or more, not -1"),
        ({"block": "iiet", "test_sweeps": [1]}, "model.test_sweeps has 1 numbers, and there are model.depth=3 blocks"),
        ({"block": "rk2", "test_sweeps": 1}, "model.test_sweeps=1 is an option of model.block=iiet"),
        ({"depth": 0}, "model.depth must be at least 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    make: Callable[..., ODETransformer], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(RefusedInput, match=message):
        make(**changed)


@pytest.mark.parametrize("task", ["half_moons", "spiral_vae"])
def test_a_task_without_positions_is_refused_for_the_model_and_not_for_the_network_it_names(
    tmp_path: Path, task: str
) -> None:
    ended = typed(f"task={task}", "model=ode_transformer", cwd=tmp_path)
    assert ended.returncode == 2
    assert "see each other, and this task's inputs are" in ended.stderr
    assert ended.stderr.rstrip().endswith("Use task=digits_tokens, or model=odenet.")


def test_networks_and_tasks_that_do_not_go_with_it_are_refused(composed: Compose) -> None:
    digits = TaskSpec(input_shape=(1, 8, 8), output_shape=(10,))
    with pytest.raises(IncompatibleChoice, match="is made of layers of positions.*Use network=transformer"):
        build(composed, "model", "ode_transformer", build(composed, "network", "conv", digits))
    with pytest.raises(IncompatibleChoice, match="network.depth=3 is of fields. Use model.depth=3"):
        build(composed, "model", "ode_transformer", build(composed, "network", "transformer", digits, depth=3))
    several = TaskSpec(input_shape=(6, 2), output_shape=(6, 2), every_time=True)
    with pytest.raises(IncompatibleChoice, match="passes its blocks once, and this task asks for outputs at several"):
        build(composed, "model", "ode_transformer", build(composed, "network", "transformer", several))
