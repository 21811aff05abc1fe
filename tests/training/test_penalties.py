"""Each regulariser's number: known answers in double precision, gradients in every mode, no step more."""

import math
from dataclasses import replace
from itertools import product
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import Batch, Outputs
from ode_runner.build import build_experiment
from ode_runner.building.instantiate import construct
from ode_runner.building.regularization import _check_changes
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField, broadcast_time
from ode_runner.fields.ledger import Phase
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.models.depth.basis_functions import BASES
from ode_runner.models.depth.galerkin import expanded
from ode_runner.objectives.base import Loss, Objective
from ode_runner.objectives.own_times import OwnTimes
from ode_runner.objectives.regularized import Regularized
from ode_runner.objectives.regularized_solves import RegularizedSolves
from ode_runner.problem import Integrate, Solution
from ode_runner.regularizers.base import PathRegularizer, Regularizer
from ode_runner.regularizers.depth_varying import squared_differences
from ode_runner.regularizers.singular_values import squared_norm
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.types import State, Time
from tests.conftest import Compose
from tests.helpers import TINY
from tests.problems import build

pytestmark = pytest.mark.usefixtures("float64")
MATRIX = torch.tensor([[-0.3, 1.0, 0.2], [-1.0, -0.1, 0.5], [0.4, 0.0, 0.7]], dtype=torch.float64)
Y0 = torch.tensor([[1.0, 0.5, -0.2], [-0.5, 2.0, 0.3], [0.1, -1.0, 0.8], [0.6, 0.1, 0.4]], dtype=torch.float64)
END = 1.2
DOPRI5 = Dopri5(rtol=1e-8, atol=1e-8, max_steps=1000)


class Linear(VectorField):
    """y' = A y."""

    def __init__(self, matrix: Tensor = MATRIX) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, t: Time, y: State) -> State:
        return y @ self.matrix.T


class Clock(VectorField):
    """y' = cos 3 t, in every element."""

    def forward(self, t: Time, y: State) -> State:
        return torch.cos(3 * t).expand_as(y)


class Bent(VectorField):
    """Depends on all that it may depend on."""

    batched_time = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.map = nn.Linear(4, 3)

    def forward(self, t: Time, y: State) -> State:
        clock = broadcast_time(torch.sin(2 * t), y).expand(len(y), 1)
        return torch.tanh(self.map(torch.cat([y, clock], dim=1))) - 0.3 * y


def regularizer(composed: Compose, name: str, **options: Any) -> Any:
    """As its yaml says, but for `options`."""
    cfg = composed(f"regularizer={name}", *(f"regularizer.{name}.{key}={value}" for key, value in options.items()))
    cfg = cfg.regularizer.copy()
    return construct(type(cfg)({f"regularizer.{name}": cfg[name]}), f"regularizer.{name}")


def penalty(made: PathRegularizer, field: VectorField, y0: State = Y0, *, end: float = END, **how: Any) -> Tensor:
    """Of every sample, (batch,), in training."""
    return solved(made, field, y0, end=end, **how).integrals["price"][-1].detach()


def solved(
    made: PathRegularizer, field: VectorField, y0: State = Y0, *, end: float = END, solver: Any = DOPRI5, mode: Any
) -> Solution:
    integrals = {"price": made.integral(y0, training=True)}
    return Integrator(solver=solver, gradient=mode)(field, y0, torch.tensor([0.0, end]), integrals=integrals)


@pytest.fixture
def backprop(composed: Compose) -> Any:
    return build(composed, "gradient", "backprop")


def squares(power: int) -> Tensor:
    """The integral of |A^power y|^2 along y' = A y, of every sample, by Simpson's rule on 2,000 intervals."""
    ts = torch.linspace(0, END, 2001)
    moved = torch.linalg.matrix_exp(ts[:, None, None] * MATRIX) @ Y0.T
    rates = (torch.linalg.matrix_power(MATRIX, power) @ moved).square().sum(dim=1)
    weights = torch.tensor([1.0, *[4.0, 2.0] * 999, 4.0, 1.0]) * END / 6000
    return weights @ rates


def test_the_jacobian_of_a_linear_field_is_known(composed: Compose, backprop: Any, monkeypatch: Any) -> None:
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=3)))
    monkeypatch.setattr("ode_runner.regularizers.estimates.probe", lambda *asked: signs)
    found = penalty(regularizer(composed, "jacobian"), Linear(), torch.zeros(8, 3), mode=backprop)
    expected = END * float(MATRIX.square().sum())
    assert float(found.mean()) == pytest.approx(expected, rel=1e-12)
    assert float((found - expected).abs().max()) > 0.1 * expected


@pytest.mark.parametrize("noise", ["rademacher", "normal"])
def test_hutchinsons_mean_is_the_squared_norm(noise: str, composed: Compose, backprop: Any) -> None:
    torch.manual_seed(0)
    many = torch.zeros(10_000, 3)
    found = penalty(regularizer(composed, "jacobian", noise=noise), Linear(), many, mode=backprop)
    error = float(found.std()) / math.sqrt(len(many))
    assert float(found.mean()) == pytest.approx(END * float(MATRIX.square().sum()), abs=3 * error)


def test_rnode_is_kinetic_and_jacobian_in_one(composed: Compose, backprop: Any) -> None:
    found = []
    for name in ("rnode", "jacobian", "kinetic"):
        torch.manual_seed(0)
        found.append(penalty(regularizer(composed, name), Bent(), mode=backprop))
    torch.testing.assert_close(found[0], found[1] + found[2], rtol=1e-12, atol=0)
    torch.testing.assert_close(penalty(regularizer(composed, "kinetic"), Linear(), mode=backprop), squares(1) / 2)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_taylor_prices_the_derivative_of_its_order(order: int, composed: Compose, backprop: Any) -> None:
    made = regularizer(composed, "taylor", order=order)
    torch.testing.assert_close(penalty(made, Linear(), mode=backprop), squares(order), rtol=1e-7, atol=0)
    growth = penalty(made, Linear(torch.eye(3)), mode=backprop)  # every derivative of e^t is e^t
    torch.testing.assert_close(growth, Y0.square().sum(dim=1) * (math.exp(2 * END) - 1) / 2, rtol=1e-7, atol=0)


def test_taylor_sees_the_fields_own_clock_and_nothing_of_a_straight_line(composed: Compose, backprop: Any) -> None:
    fine = build(composed, "solver", "rk4", num_steps=200)
    made = regularizer(composed, "taylor", order=2)
    expected = 3 * 9 * (END / 2 - math.sin(6 * END) / 12)
    torch.testing.assert_close(
        penalty(made, Clock(), mode=backprop, solver=fine), torch.full((4,), expected), rtol=1e-6, atol=0
    )
    still = Linear(torch.zeros(3, 3))
    assert not penalty(made, still, mode=backprop).any()


EXACT = [("rk4", "symplectic"), ("rk4", "forward"), ("alf", "reversible"), ("dopri5", "checkpoint")]
MODES = [*EXACT, ("radau_iia5", "checkpoint"), *(("dopri5", mode) for mode in ("adjoint", "seminorm", "interpolated"))]
TAYLOR = [pytest.param("taylor", *pair, id="-".join(pair), marks=pytest.mark.slow) for pair in MODES]
QUICK = [("rnode", *pair) for pair in MODES] + [("taylor", *EXACT[1]), ("taylor", *EXACT[3])]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("name", "solver", "mode"), [*(pytest.param(*one, id="-".join(one)) for one in QUICK), *TAYLOR]
)
def test_every_mode_differentiates_it_and_takes_no_step_more(
    name: str, solver: str, mode: str, composed: Compose, backprop: Any
) -> None:
    tight = {"rtol": 1e-6, "atol": 1e-6} if solver in ("dopri5", "radau_iia5") else {}
    method, asked = build(composed, "solver", solver, **tight), build(composed, "gradient", mode)
    made, found, accepted = regularizer(composed, name), [], []
    for how in (backprop, asked):
        torch.manual_seed(0)
        field, y0 = Bent(), Y0.clone().requires_grad_()
        solution = solved(made, field, y0, solver=method, mode=how)
        loss = (solution.integrals["price"][-1] * torch.arange(1, 5)).sum() + solution.ys[-1].sum()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, [y0, *field.parameters()])]))
        without = Integrator(solver=method, gradient=how)(field, y0, torch.tensor([0.0, END]))
        accepted.append((solution.accepted, solution.rejected) == (without.accepted, without.rejected))
    assert float((found[1] - found[0]).norm() / found[0].norm()) < (1e-11 if asked.exact else 1e-4)
    assert all(accepted)


@pytest.mark.parametrize("name", ["backprop", "checkpoint"])
def test_noise_stays_with_its_sample_where_each_steps_on_its_own(name: str, composed: Compose) -> None:
    y0 = torch.linspace(-3, 3, 60).view(20, 3)  # they arrive one after another, so that fewer rows than 20 are left
    found = []
    for solver, mode in ((replace(DOPRI5, per_sample=True), name), (DOPRI5, "backprop")):
        torch.manual_seed(0)
        made = regularizer(composed, "jacobian")
        found.append(penalty(made, Bent(), y0, solver=solver, mode=build(composed, "gradient", mode)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "products"), [("jacobian", 1), ("rnode", 1), ("taylor", 1), ("kinetic", 0)])
def test_products_are_in_the_ledger_and_evaluations_as_they_were(
    name: str, products: int, composed: Compose, backprop: Any
) -> None:
    integrate = Integrator(solver=build(composed, "solver", "rk4", num_steps=5), gradient=backprop)
    with integrate.ledger.phase(Phase.FORWARD) as tally:
        integrals = {"price": regularizer(composed, name).integral(Y0, training=True)}
        integrate(Bent(), Y0, torch.tensor([0.0, 1.0]), integrals=integrals)
    assert (tally.evaluations, tally.products) == (20, 20 * products)


@pytest.mark.parametrize(("noise", "fourth"), [("rademacher", 1.0), ("normal", 3.0)])
def test_outside_training_noise_is_known_by_samples_and_nobody_elses(
    noise: str, fourth: float, composed: Compose
) -> None:
    made, before = regularizer(composed, "jacobian", noise=noise), torch.get_rng_state()
    [one], [other] = (made.reported(Y0[some], torch.arange(4)[some]).given for some in (slice(0, 4), slice(2, 4)))
    assert torch.equal(one[2:], other)
    [twice] = made.reported(torch.cat([Y0, Y0]), torch.arange(4)).given
    assert torch.equal(twice[:4], one)
    assert not torch.equal(twice[4:], one)
    [many] = made.reported(torch.zeros(20_000, 3), None).given
    assert float(many.mean()) == pytest.approx(0, abs=0.02)
    assert float(many.square().mean()) == pytest.approx(1, abs=0.02)
    assert float(many.pow(4).mean()) == pytest.approx(fourth, abs=0.15)
    assert torch.equal(torch.get_rng_state(), before)
    [drawn] = made.integral(Y0, training=True).given
    assert drawn.dtype == Y0.dtype
    assert not torch.equal(torch.get_rng_state(), before)


class Solves(Objective[Any]):
    def loss(self, model: Any, task: Any, batch: Batch, integrate: Integrate) -> Loss:
        return Loss(integrate(model, batch.inputs, batch.ts).ys.mean(), {}, Outputs(batch.inputs))


class Owned(Regularizer):
    def of_states(self, ts: Tensor, ys: Tensor) -> Tensor:
        return ys[-1]


class Plain(Regularizer):
    def penalty(self, model: nn.Module) -> Any:
        return 1.0


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            Owned,
            r"Owned.of_states gives one number for every sample, a tensor of shape \(4,\), and gave one of \(4, 3\)",
        ),
        (Plain, r"Plain.penalty gives one number, a tensor of shape \(\), and gave a float"),
    ],
)
def test_a_price_of_another_shape_is_refused(kind: type[Regularizer], said: str, backprop: Any) -> None:
    """Its mean over all elements would be another price, without a word."""
    priced, task = Regularized(Solves(), {"own": kind(weight=1.0)}), cast("Any", None)
    with pytest.raises(RefusedInput, match=said):
        priced.loss(
            Linear(), task, Batch(Y0, torch.tensor([0.0, END]), Y0), Integrator(solver=DOPRI5, gradient=backprop)
        )


def test_a_regularizer_that_changes_nothing_is_refused() -> None:
    class Idle(Regularizer):
        pass

    with pytest.raises(RefusedInput, match="Idle changes nothing: a regulariser defines last_time, of_states or"):
        _check_changes(Idle)


@pytest.mark.parametrize("span", [(0.0, 0.4, 1.0), (1.0, 0.4, 0.0)])
def test_steer_draws_the_last_time_evenly(span: tuple[float, ...], composed: Compose) -> None:
    made, ts = regularizer(composed, "steer", spread=0.5), torch.tensor(span)
    torch.manual_seed(0)
    drawn = torch.stack([made.last_time(ts) for _ in range(5000)])
    assert torch.equal(drawn[:, :2], ts[:2].expand(5000, 2))
    last = abs(span[2] - span[1])
    places = ((drawn[:, 2] - ts[2]) / last).sort().values  # from -0.5 to 0.5
    expected = torch.linspace(-0.5, 0.5, 5000)
    assert float((places - expected).abs().max()) < 1.63 / math.sqrt(5000), "Kolmogorov and Smirnov, at 1 %"
    assert torch.equal(ts, torch.tensor(span)), "the task's own times stay"
    assert torch.equal(made.last_time(ts[:1]), ts[:1])


def test_states_that_move_at_an_even_pace_have_twice_their_kinetic_energy(composed: Compose, backprop: Any) -> None:
    made = regularizer(composed, "smooth_states")
    ts = torch.tensor([0.0, 0.3, 0.3, 1.5])
    ys = Y0 + ts[:, None, None] * torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(made.of_states(ts, ys), torch.full((4,), 1.5 * 5.25))
    along = RegularizedSolves(
        Integrator(solver=DOPRI5, gradient=backprop), no_integrals, of_states=lambda *of: {"q": made.of_states(*of)}
    )
    ys = along(Linear().requires_grad_(False), Y0, torch.tensor([1.0, 0.0])).ys
    assert float(along.sums["q"]) == pytest.approx(float((ys[1] - ys[0]).square().sum(dim=1).mean()))


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint", "adjoint", "interpolated"])
def test_prices_reach_to_the_last_time_that_is_asked_for_of_each_sample(gradient: str, composed: Compose) -> None:
    """And so do their gradients: they are those of solves of each sample by itself."""
    kinetic, smooth = regularizer(composed, "kinetic"), regularizer(composed, "smooth_states")
    ts = torch.tensor([0.0, 0.5, 0.8, 1.2])
    asked = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]]) > 0

    def priced(field: Linear, y0: Tensor, times: Tensor, own: OwnTimes | None) -> tuple[Tensor, Tensor]:
        integrate = Integrator(solver=DOPRI5, gradient=build(composed, "gradient", gradient))
        along = RegularizedSolves(
            integrate, lambda y: {"kinetic": kinetic.integral(y, training=True)},
            of_states=lambda *of: {"smooth": smooth.of_states(*of)}, own=own,
        )  # fmt: skip
        along(field, y0, times)
        total = along.sums["kinetic"] + along.sums["smooth"]
        return torch.stack(list(along.sums.values())), torch.autograd.grad(total, field.matrix)[0]

    together = priced(Linear(), Y0, ts, OwnTimes(ts=ts, asked=asked))
    alone = [priced(Linear(), Y0[i : i + 1], ts[asked[:, i]], None) for i in range(3)]  # of the last none is asked for
    for found, each in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(4 * found, torch.stack(each).sum(dim=0), rtol=1e-5, atol=1e-7)


def no_integrals(y0: State) -> dict[str, Integral]:
    return {}


@pytest.mark.parametrize("name", list(BASES))
def test_smooth_parameters_of_every_basis_is_the_integral_of_their_slope(name: str) -> None:
    basis, period = BASES[name](5), 2.5
    field = expanded(Bent(), basis, period)
    field.coefficients.requires_grad_(False).normal_()
    ts = torch.linspace(0, period, 4001)  # four kinks lie on it
    thetas = torch.stack([basis.functions(t / period) for t in ts]) @ field.coefficients
    slopes = thetas.diff(dim=0) / ts.diff()[:, None]
    expected = float((slopes.square() * ts.diff()[:, None]).sum())
    assert float(field.roughness()) == pytest.approx(expected, rel=1e-5)
    if name == "fourier":  # 1, two cosines, two sines, all orthonormal
        harmonics = torch.tensor([0, 1, 2, 1, 2]) * 2 * math.pi / period
        formula = period * (harmonics.square()[:, None] * field.coefficients.square()).sum()
        torch.testing.assert_close(field.roughness(), formula)


def test_smooth_parameters_of_pieces_are_their_squared_differences(composed: Compose) -> None:
    pieces = nn.ModuleList(nn.Linear(2, 2) for _ in range(3)).requires_grad_(False)
    flat = [torch.cat([p.flatten() for p in piece.parameters()]) for piece in pieces]
    expected = (flat[1] - flat[0]).square().sum() + (flat[2] - flat[1]).square().sum()
    torch.testing.assert_close(squared_differences(pieces), expected)
    assert float(squared_differences(pieces[:1])) == 0


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (3, 2, 3), (3, 2, 3, 3)])
def test_spectral_is_the_largest_singular_value_of_the_map_itself(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape, requires_grad=True)
    if weight.dim() == 2:
        matrix = weight.detach()
    else:
        inputs = torch.eye(2 * 8 ** (weight.dim() - 2)).view(-1, 2, *[8] * (weight.dim() - 2))
        around = nn.functional.pad(inputs, [1, 1] * (weight.dim() - 2), mode="circular")
        convolved = (nn.functional.conv1d if weight.dim() == 3 else nn.functional.conv2d)(around, weight.detach())
        matrix = convolved.flatten(1)
    expected = torch.linalg.matrix_norm(matrix, 2).square()
    torch.testing.assert_close(squared_norm(weight).detach(), expected)
    assert torch.autograd.gradcheck(squared_norm, weight)
    zero = torch.zeros(shape, requires_grad=True)
    assert not torch.autograd.grad(squared_norm(zero), zero)[0].any(), "and none is NaN"


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("smooth_parameters",), "needs parameters that change with depth, and model=odenet has none. Use model="),
        (("steer", "task=chirality", "model=cde"), "needs solves that can end later than the data, and model=cde has"),
        (("smooth_parameters", "model=stacked", "model.pieces=1"), "is 0 whatever the parameters"),
        (("spectral", "model=galerkin"), "needs weights that do not change with depth, and model=galerkin has none."),
        (("steer", "model=galerkin", "model.basis=legendre"), "Use model.basis=fourier."),
        (("steer", "regularizer.steer.spread=1"), "regularizer.steer.spread must be above 0 and below 1, not 1."),
        (("taylor", "regularizer.taylor.order=0"), "regularizer.taylor.order must be from 1 to 6, not 0."),
        (("jacobian", "regularizer.jacobian.noise=uniform"), "noise=uniform is no rademacher or normal."),
        (("jacobian", "solver=implicit_adams"), "regularizer=jacobian is an integral along the solve."),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_refused_in_a_sentence(words: tuple[str, ...], sentence: str, composed: Compose) -> None:
    cfg = composed(f"regularizer={words[0]}", *words[1:], *TINY)
    with pytest.raises((IncompatibleChoice, RefusedInput)) as refusal:
        build_experiment(cfg, cfg.hydra.runtime.choices)
    assert sentence in str(refusal.value)
