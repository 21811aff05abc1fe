"""Fields that jump at known times, and fields that know their shortest period."""

import math
import warnings
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Phase
from ode_runner.fields.structured_field import SeparableField
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.problem import Solution
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.types import State, Time, Times
from tests.pairs import PAIRS, is_slow, solver_of
from tests.problems import Compose, build, named_class, offering

pytestmark = pytest.mark.usefixtures("float64")
BREAKS = (0.25, 0.5, 0.75)
JUMPING = ("dopri5", "rk4", "dopri8", "tsit5", "reversible_heun", "torchdiffeq", "leapfrog", "kvaerno3", "radau_iia5")


class Pieces(VectorField):
    """y' = w_i + m y on the i-th of four pieces; closed on the left, or on the right."""

    def __init__(self, *, right: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5]))
        self.rate, self.right = nn.Parameter(torch.tensor(-0.7)), right
        self.seen: list[float] = []

    def forward(self, t: Time, y: State) -> State:
        self.seen.append(float(t.detach()))
        piece = torch.bucketize(t.detach(), t.new_tensor(BREAKS), right=self.right)
        return self.weight[piece] + self.rate * y


class SeparablePieces(SeparableField):
    """p' = w_i, q' = p."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.rate = nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5])), nn.Parameter(torch.ones(()))

    def drift(self, t: Time, p: State) -> State:
        return self.rate * p

    def kick(self, t: Time, q: State) -> State:
        return self.weight[torch.bucketize(t.detach(), t.new_tensor(BREAKS), right=True)].expand_as(q)


def exact(field: Pieces, y: Tensor, edges: tuple[float, ...], *, backwards: bool = False) -> Tensor:
    """At the last of the edges."""
    weights = field.weight.flip(0) if backwards else field.weight
    for (start, end), w in zip(pairwise(edges), weights, strict=True):
        y = (y + w / field.rate) * torch.exp(field.rate * (end - start)) - w / field.rate
    return y


EDGES = (0.0, *BREAKS, 1.0)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", [name for name in JUMPING if name != "leapfrog"])
def test_no_step_spans_a_jump(name: str, backwards: bool, right: bool, composed: Compose) -> None:
    if name == "leapfrog":
        pytest.skip("another field")
    solver = build(
        composed, "solver", name, **({} if name in ("rk4", "reversible_heun") else {"rtol": 1e-8, "atol": 1e-8})
    )
    if name in ("rk4", "reversible_heun"):
        solver = replace(solver, num_steps=400)
    field, y0 = Pieces(right=right), torch.tensor([[0.3], [-1.0]])
    ts = torch.tensor([1.0, 0.6, 0.5, 0.0] if backwards else [0.0, 0.5, 0.6, 1.0])
    solution = Integrator(solver=solver, gradient=Backprop())(field, y0, ts, breaks=(0.75, 0.25, 0.5, 3.0))
    expected = exact(field, y0, EDGES[::-1] if backwards else EDGES, backwards=backwards)
    torch.testing.assert_close(solution.ys[-1], expected, rtol=1e-5, atol=1e-5)
    assert len(solution.ys) == len(ts)
    middle = (EDGES[::-1] if backwards else EDGES)[:3]
    halfway = Pieces()
    halfway.weight.data = (field.weight.flip(0) if backwards else field.weight).detach()[:2]
    torch.testing.assert_close(solution.ys[2 if backwards else 1], exact(halfway, y0, middle), rtol=1e-5, atol=1e-5)


def test_the_four_piece_field_of_the_reference() -> None:
    """Through the jumps at 1e-3: an error of a tenth; a solve a piece: 1e-10, for few evaluations more."""
    y0, ts, found = torch.tensor([[0.3]]), torch.tensor([0.0, 1.0]), {}
    for breaks in ((), BREAKS):
        integrate = Integrator(solver=Dopri5(rtol=1e-3, atol=1e-3, max_steps=1000), gradient=Backprop())
        field = Pieces()
        field.rate.data.zero_()
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            y1 = integrate(field, y0, ts, breaks=breaks).ys[-1]
        found[breaks] = abs(float((y1 - y0).detach()) - 0.25 * 2.5), tally.evaluations, tally.accepted
    assert found[()][0] > 1e-4
    assert found[BREAKS][0] < 1e-10
    assert found[BREAKS][1] <= 60
    fixed = Integrator(solver=RK4(num_steps=4, step_size=None), gradient=Backprop())
    field = Pieces()
    field.rate.data.zero_()
    assert abs(float(fixed(field, y0, ts).ys[-1].detach()) - 0.925) > 1e-2, "the last stage sees the next piece"
    assert abs(float(fixed(field, y0, ts, breaks=BREAKS).ys[-1].detach()) - 0.925) < 1e-12


MODES = [pair for pair in PAIRS if pair[0] in JUMPING]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "pair", [pytest.param(p, marks=pytest.mark.slow if is_slow(p) else (), id="-".join(p)) for p in MODES]
)
def test_every_mode_differentiates_piece_by_piece(pair: tuple[str, str], composed: Compose) -> None:
    solver, mode = solver_of(pair[0], composed), build(composed, "gradient", pair[1])
    found, reference = (gradients(solver, one) for one in (mode, Backprop()))
    limit = 1e-11 if mode.exact else 1e-5 if isinstance(solver, AdaptiveSolver) else 0.1
    scale = max(float(part.abs().max()) for part in reference)
    assert max(float((a - b).abs().max()) for a, b in zip(found, reference, strict=True)) < limit * scale
    if isinstance(solver, AdaptiveSolver):
        field, y0 = Pieces(), torch.tensor([[0.3, 1.0], [-1.0, 0.5]], requires_grad=True)
        ends = exact(field, y0, EDGES)
        expected = torch.autograd.grad(ends.square().sum(), [y0, *field.parameters()])
        for part, other in zip(found[:3], expected, strict=True):
            torch.testing.assert_close(part, other, rtol=1e-4, atol=1e-4)


def gradients(solver: Solver, mode: GradientMode) -> list[Tensor]:
    """Of y0 and the field's parameters; then the integral of |y|^2's."""
    field: Any = Pieces() if isinstance(Pieces(), solver.fields) else SeparablePieces()
    y0 = torch.tensor([[0.3, 1.0], [-1.0, 0.5]], requires_grad=True)
    penalty = {"q": Integral(lambda t, y, dy, vjp: y.square().sum(dim=1), False)}
    ts = torch.tensor([0.0, 0.4, 0.5, 1.0])
    solution = Integrator(solver=solver, gradient=mode)(field, y0, ts, breaks=BREAKS, integrals=penalty)
    wanted = [y0, *field.parameters()]
    of_ends = torch.autograd.grad(solution.ys[-1].square().sum(), wanted, retain_graph=True)
    of_price = torch.autograd.grad(
        solution.integrals["q"].square().sum(), wanted, allow_unused=True, materialize_grads=True
    )
    return [*of_ends, *of_price]


@pytest.mark.parametrize("options", [{}, {"per_sample": True}])
def test_integrals_and_counts_go_on_over_breaks(options: dict[str, bool], composed: Compose) -> None:
    integrate = Integrator(solver=solver_of("dopri5", composed, **options), gradient=Backprop())

    class Sine(VectorField):
        def forward(self, t: Time, y: State) -> State:
            return torch.cos(t) + 0 * y

    penalty = {"q": Integral(lambda t, y, dy, vjp: y.square().sum(dim=1), True)}
    ts = torch.tensor([0.0, 0.1, 0.25, 0.6, 1.0])
    with integrate.ledger.each_sample() as each, integrate.ledger.phase(Phase.FORWARD) as tally:
        found = integrate(Sine(), torch.zeros(3, 1), ts, breaks=BREAKS, integrals=penalty)
    torch.testing.assert_close(found.ys[:, :, 0], torch.sin(ts)[:, None].expand(-1, 3), rtol=1e-6, atol=1e-6)
    expected = ts / 2 - torch.sin(2 * ts) / 4
    torch.testing.assert_close(found.integrals["q"], expected[:, None].expand(-1, 3), rtol=1e-6, atol=1e-6)
    assert tally.accepted == found.accepted >= 4
    if options:
        assert torch.equal(each[0].accepted, torch.full((3,), found.accepted))


def test_single_precision_keeps_to_its_side() -> None:
    field = Pieces().float()
    field.rate.data.zero_()
    solver = RK4(num_steps=8, step_size=None)
    ts = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float32)
    y1 = Integrator(solver=solver, gradient=Backprop())(
        field, torch.zeros(1, 1, dtype=torch.float32), ts, breaks=BREAKS
    )
    assert float(y1.ys[-1].detach()) == pytest.approx(0.625, abs=1e-6)
    for t in field.seen:
        assert all(t != b for b in BREAKS), "a break itself belongs to neither piece"


def test_times_of_lower_precision_than_the_state_do_not_move_a_jump() -> None:
    class Step(VectorField):
        def forward(self, t: Time, y: State) -> State:
            return torch.where(t < 0.3, 1.0, -1.0) + 0 * y

    ts = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float32)
    integrate = Integrator(solver=RK4(num_steps=10, step_size=None), gradient=Backprop())
    ys = integrate(Step(), torch.zeros(1, 1), ts, breaks=(0.3,)).ys
    torch.testing.assert_close(ys[:, 0, 0], torch.tensor([0.0, 0.3, -0.4]), rtol=0, atol=1e-7)


def test_end_times_move_and_breaks_stay(composed: Compose) -> None:
    field, y0 = Pieces(), torch.tensor([[0.3]])
    ts = torch.tensor([0.1, 0.9], requires_grad=True)
    integrate = Integrator(solver=solver_of("dopri5", composed), gradient=build(composed, "gradient", "adjoint"))
    (found,) = torch.autograd.grad(integrate(field, y0, ts, breaks=BREAKS).ys[-1].sum(), ts)
    with torch.no_grad():

        def end(begin: float, stop: float) -> float:
            return float(exact(field, y0, (begin, *BREAKS, stop)))

        expected = [(end(0.1 + h, 0.9) - end(0.1 - h, 0.9)) / (2 * h) for h in (1e-5,)]
        expected += [(end(0.1, 0.9 + h) - end(0.1, 0.9 - h)) / (2 * h) for h in (1e-5,)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("breaks", [(math.nan,), (math.inf,), ("0.5",)])
def test_breaks_that_are_no_times_are_refused(breaks: Any) -> None:
    integrate = Integrator(solver=RK4(num_steps=4, step_size=None), gradient=Backprop())
    with pytest.raises(RefusedInput, match="breaks must be finite numbers, and number 1 of 1 is"):
        integrate(Pieces(), torch.zeros(1, 1), torch.tensor([0.0, 1.0]), breaks=breaks)


def test_breaks_elsewhere_change_nothing() -> None:
    integrate = Integrator(solver=Dopri5(rtol=1e-6, atol=1e-6, max_steps=99), gradient=Backprop())
    ts, y0 = torch.tensor([0.0, 0.2]), torch.tensor([[1.0]])
    assert torch.equal(integrate(Pieces(), y0, ts, breaks=(0.25, -1.0)).ys, integrate(Pieces(), y0, ts).ys)


class Harmonics(VectorField):
    """A field whose weights vary with depth by two harmonics, which begin at zero; it knows its shortest period."""

    def __init__(self, *, longest: float | None = 0.05) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.alphas = nn.ParameterList([torch.zeros(5, *shape) for shape in ((16, 2), (16,), (2, 16), (2,))])
        for alpha in self.alphas:
            nn.init.normal_(alpha.data[0], std=0.5)
        self.longest = longest

    @property
    def longest_step(self) -> float | None:
        return self.longest

    def forward(self, t: Time, y: State) -> State:
        phases = [2 * math.pi * k * t for k in (1, 2)]
        basis = torch.stack([torch.ones_like(t), *(f(p) for p in phases for f in (torch.cos, torch.sin))])
        a, b, c, d = (torch.tensordot(basis, alpha, dims=1) for alpha in self.alphas)
        return torch.tanh(y @ a.T + b) @ c.T + d


def harmonic_gradient(solver: Solver, mode: GradientMode, *, longest: float | None) -> tuple[Tensor, Solution]:
    field = Harmonics(longest=longest)
    y0 = torch.linspace(-1, 1, 16).view(8, 2)
    solution = Integrator(solver=solver, gradient=mode)(field, y0, torch.tensor([0.0, 1.0]))
    found = torch.autograd.grad(solution.ys[-1].square().sum(), list(field.parameters()))
    return torch.cat([part.flatten() for part in found]), solution


@pytest.mark.sampled(1)
@pytest.mark.parametrize("mode", ["backprop", "checkpoint", "symplectic", "adjoint", "seminorm", "interpolated"])
@pytest.mark.parametrize("name", ["dopri5", "bosh3", "torchdiffeq"])
def test_an_aliased_harmonic_has_a_gradient_of_its_own(name: str, mode: str, composed: Compose) -> None:
    """Under defaults it is off by half its size: two steps from 0 to 1 do not see a field that does not yet move."""
    if not named_class("gradient", mode).takes(named_class("solver", name)):
        pytest.skip("the two do not go together")
    solver, made = build(composed, "solver", name, rtol=1e-3, atol=1e-3), build(composed, "gradient", mode)
    reference, _ = harmonic_gradient(RK4(num_steps=400, step_size=None), Backprop(), longest=None)
    found, solution = harmonic_gradient(solver, made, longest=0.05)
    assert solution.accepted >= 20
    assert float((found - reference).norm() / reference.norm()) < 2e-3
    if (name, mode) == ("dopri5", "backprop"):
        aliased, few = harmonic_gradient(solver, made, longest=None)
        assert few.accepted < 5
        assert float((aliased - reference).norm() / reference.norm()) > 0.1


def test_samples_that_step_on_their_own_keep_to_the_longest_step(composed: Compose) -> None:
    solver = build(composed, "solver", "dopri5", per_sample=True)
    _, solution = harmonic_gradient(solver, Backprop(), longest=0.05)
    assert solution.each is not None
    assert int(solution.each.accepted.min()) >= 20


@pytest.mark.parametrize("name", ["lsoda", "bdf", "radau"])
def test_scipys_solvers_keep_to_the_longest_step(name: str, composed: Compose) -> None:
    integrate = Integrator(solver=build(composed, "solver", name), gradient=build(composed, "gradient", "adjoint"))
    with torch.no_grad():
        assert integrate(Harmonics(), torch.ones(1, 2), torch.tensor([0.0, 1.0])).accepted >= 20


def test_a_longest_step_below_the_shortest_prevails(composed: Compose) -> None:
    solver = build(composed, "solver", "dopri5", min_step=0.2, max_step=0.5)
    assert harmonic_gradient(solver, Backprop(), longest=0.05)[1].accepted >= 20


def test_a_fixed_grid_is_taken_as_typed_and_warned_of_where_it_is_coarse() -> None:
    def taken(steps: int) -> int:
        return harmonic_gradient(RK4(num_steps=steps, step_size=None), Backprop(), longest=0.05)[1].accepted

    with pytest.warns(
        UserWarning, match=r"solver=rk4 takes steps of 0.2, .* a fifth of the shortest period, 0.5, that Harmonics"
    ):
        assert taken(5) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert taken(10) == 10


def test_an_adaptive_solver_of_ones_own_that_cannot_keep_to_it_refuses() -> None:
    class Free(AdaptiveSolver):
        kind, order = "of one's own", 1

        def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
            return Solution(ys=torch.stack([y0] * len(ts)))

    integrate = Integrator(solver=Free(rtol=1e-3, atol=1e-3, max_steps=9), gradient=Backprop())
    with pytest.raises(IncompatibleChoice, match="Free cannot be kept from steps longer than 0.05"):
        integrate(Harmonics(), torch.ones(1, 2), torch.tensor([0.0, 1.0]))


def test_offering_is_of_solvers_that_answer() -> None:
    """Every adaptive solver here can be kept to a longest step."""
    for name in offering(AdaptiveSolver):
        assert named_class("solver", name).within is not AdaptiveSolver.within
