"""Integrals along a solve: right in every mode and solver family, and without effect on the steps unless judged."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.analysis.same_steps import RecordSteps, ReplaySteps
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Ledger, Phase, Tally
from ode_runner.fields.structured_field import SeparableField
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.integral import VJP, Integral, trace
from ode_runner.integrator import Integrator
from ode_runner.problem import Solution
from ode_runner.solvers.adams_bashforth import AdamsBashforth
from ode_runner.solvers.base import AdaptiveSolver, FixedStepSolver, Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.types import State, Time, Times
from tests.pairs import PAIRS, SEPARABLE, Conditioned, ConditionedHalves, difference, is_slow, solver_of
from tests.problems import Compose, accepted_pairs, build, named_class, offering, slope

pytestmark = pytest.mark.usefixtures("float64")
TS = (0.0, 0.3, 0.6, 1.2)
DOPRI5 = Dopri5(rtol=1e-7, atol=1e-7, max_steps=1000)


class Price(nn.Module):
    """An integrand with parameters of its own, which reads what is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, 1.2, -0.4]))

    def forward(self, t: Time, y: State, dy: State, vjp: VJP, z: Tensor, *others: Tensor) -> Tensor:
        return ((y[:, :3] * self.weight).sum(dim=1) * torch.cos(3 * t) * z[:, 0]).square()


def kinetic(t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
    return dy.flatten(1).square().sum(dim=1)


def divergence(t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
    return trace(y, vjp)


def solved(
    solver: Solver, mode: GradientMode, *, judged: bool | None = False, ts: tuple[float, ...] = TS
) -> tuple[list[Tensor], Solution, Tally]:
    """Gradients of y0, field, encoder and price, the solution and its cost; `judged` None: without integrals."""
    torch.manual_seed(0)
    field: Any = Conditioned() if isinstance(Conditioned(), solver.fields) else ConditionedHalves()
    encoder, penalty, x = nn.Linear(3, 2), Price(), torch.randn(4, 3)
    y0 = torch.randn(4, 3 if isinstance(field, Conditioned) else 4, requires_grad=True)
    given = (torch.tanh(encoder(x)), torch.rand(4, 3) + 0.5, torch.tensor([1, 0, -1, 2]))
    integrands = {} if judged is None else {"kinetic": kinetic, "price": penalty, "divergence": divergence}
    integrals = {name: Integral(g, bool(judged)) for name, g in integrands.items()}
    integrate = Integrator(solver=solver, gradient=mode)
    with integrate.ledger.phase(Phase.FORWARD) as tally:
        solution = integrate(field, y0, torch.tensor(ts), given=given, integrals=integrals)
    parts = [solution.ys, *solution.integrals.values()]
    loss = sum((i + 1) * (x * torch.linspace(0.5, 1.5, x.numel()).view_as(x)).sum() for i, x in enumerate(parts))
    wanted = [y0, *field.parameters(), *encoder.parameters(), *penalty.parameters()]
    return list(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)), solution, tally


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "pair", [pytest.param(p, marks=pytest.mark.slow if is_slow(p) else (), id="-".join(p)) for p in PAIRS]
)
def test_every_mode_differentiates_integrals(pair: tuple[str, str], composed: Compose) -> None:
    loose = {"rtol": 1e-5, "atol": 1e-5} if pair[0] in ("adaptive_heun", "fehlberg2") else {}  # they take many steps
    solver, mode = replace(solver_of(pair[0], composed), **loose), build(composed, "gradient", pair[1])
    if pair[0] == "implicit_adams":
        pytest.skip("has no rule for integrals")
    found, solution, _ = solved(solver, mode)
    reference, same, _ = solved(solver, Backprop())
    assert float(found[-1].abs().max()) > 1e-3, "the price's own parameters learn"
    limit = 1e-11 if mode.exact else 1e-2 if loose else 1e-4 if isinstance(solver, AdaptiveSolver) else 0.3
    assert difference(found, reference) < limit
    for name, q in solution.integrals.items():
        torch.testing.assert_close(q, same.integrals[name], rtol=1e-9, atol=1e-9)
        assert not q[0].any()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["backprop", "checkpoint"])
@pytest.mark.parametrize("solver", ["dopri5", "dopri8"])
@pytest.mark.parametrize("judged", [False, True])
def test_samples_that_step_on_their_own_have_integrals_of_their_own(
    name: str, solver: str, judged: bool, composed: Compose
) -> None:
    apart = solver_of(solver, composed, per_sample=True)
    found, solution, _ = solved(apart, build(composed, "gradient", name), judged=judged)
    assert difference(found, solved(apart, Backprop(), judged=judged)[0]) < 1e-11
    _, without, _ = solved(apart, Backprop(), judged=None)
    assert solution.each is not None
    assert without.each is not None
    assert torch.equal(solution.each.accepted, without.each.accepted) != judged
    _, common, _ = solved(replace(solver_of(solver, composed), rtol=1e-10, atol=1e-10), Backprop())
    for key, q in solution.integrals.items() if judged else ():
        torch.testing.assert_close(q, common.integrals[key], rtol=1e-4, atol=1e-4)


ALL = [name for name in offering(Solver, SeparableField) if name != "implicit_adams"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if is_slow((n, "")) else ()) for n in ALL])
def test_what_is_not_judged_has_no_effect_on_the_steps(name: str, composed: Compose) -> None:
    solver = solver_of(name, composed)
    _, found, cost = solved(solver, Backprop())
    _, without, cheaper = solved(solver, Backprop(), judged=None)
    assert (found.accepted, found.rejected) == (without.accepted, without.rejected)
    assert cost.evaluations == cheaper.evaluations
    torch.testing.assert_close(found.ys, without.ys, rtol=1e-13, atol=1e-13)
    assert cost.products > cheaper.products, "those of the divergence are in the ledger"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["lsoda", "bdf", "radau"])
@pytest.mark.parametrize("judged", [False, True])
def test_scipys_solvers_take_them_as_quadratures(name: str, judged: bool, composed: Compose) -> None:
    solver, adjoint = build(composed, "solver", name, rtol=1e-6, atol=1e-6), build(composed, "gradient", "adjoint")
    found, solution, _ = solved(solver, adjoint, judged=judged)
    _, without, _ = solved(solver, adjoint, judged=None)
    assert (solution.accepted == without.accepted) != judged
    fine, exact, _ = solved(build(composed, "solver", "dopri8", rtol=1e-9, atol=1e-9), Backprop())
    assert difference(found, fine) < 1e-4
    for key, q in solution.integrals.items():
        torch.testing.assert_close(q, exact.integrals[key], rtol=1e-4, atol=1e-4)


class Linear(VectorField):
    """y' = A y, of which everything is known."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[-0.3, 1.0], [-1.0, -0.1]]))

    def forward(self, t: Time, y: State) -> State:
        return y @ self.matrix.T


Y0 = torch.tensor([[1.0, 0.5], [-0.5, 2.0], [0.1, -1.0]], dtype=torch.float64)
KNOWN = {"kinetic": Integral(kinetic, False), "divergence": Integral(divergence, False)}


def closed_forms(ts: Times) -> dict[str, Tensor]:
    """By the solution P of A^T P + P A = A^T A: the integral of |A y|^2 from 0 to t is y^T P y at t less that at 0."""
    a = Linear().matrix.detach()
    unit = torch.eye(2)
    p = torch.linalg.solve(torch.kron(a.T.contiguous(), unit) + torch.kron(unit, a.T.contiguous()), (a.T @ a).flatten())
    ys = torch.stack([Y0 @ torch.linalg.matrix_exp(a * t).T for t in ts])
    energy = ((ys @ p.view(2, 2)) * ys).sum(dim=-1)
    return {"kinetic": energy - energy[0], "divergence": a.trace() * ts[:, None].expand(-1, len(Y0))}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if is_slow((n, "")) else ()) for n in offering(AdaptiveSolver)]
)
def test_closed_forms_at_every_output_within_steps_too(name: str, composed: Compose) -> None:
    ts = torch.tensor([0.0, 0.01, 0.35, 0.7, 1.1, 1.5])
    integrate = Integrator(solver=solver_of(name, composed), gradient=Backprop())
    found = integrate(Linear(), Y0, ts, integrals=KNOWN).integrals
    for key, expected in closed_forms(ts).items():
        torch.testing.assert_close(found[key], expected, rtol=1e-4, atol=2e-5)


FIXED = [name for name in offering(Solver) if not issubclass(named_class("solver", name), AdaptiveSolver)]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", [n for n in FIXED if not n.endswith("adams")])
def test_they_are_of_the_order_of_the_method(name: str, composed: Compose) -> None:
    ts, errors, sizes = torch.tensor([0.0, 1.0]), [], [8, 16, 32]
    if name in offering(AdamsBashforth):
        sizes = [32, 64, 128]  # its start by another method must be a small part of every interval
    for steps in sizes:
        solver = build(composed, "solver", name, num_steps=steps)
        found = Integrator(solver=solver, gradient=Backprop())(Linear(), Y0, ts, integrals=KNOWN).integrals["kinetic"]
        errors.append(float((found - closed_forms(ts)["kinetic"])[-1].abs().max().detach()))
    assert slope([1 / steps for steps in sizes], errors) > solver.order - 0.3


class Oscillator(SeparableField):
    """q' = p, p' = -q: the integral of q^2 is that of a cosine's square."""

    def drift(self, t: Time, p: State) -> State:
        return p

    def kick(self, t: Time, q: State) -> State:
        return -q


@pytest.mark.parametrize("name", [name for name in SEPARABLE if name in offering(FixedStepSolver, SeparableField)])
def test_the_third_flow_of_a_splitting_is_of_its_order(name: str, composed: Compose) -> None:
    def potential(t: Time, y: State, dy: State, vjp: VJP) -> Tensor:
        return y[:, 0].square() + dy[:, 0].pow(4)

    end, errors, sizes = 1.3, [], [8, 16, 32]
    expected = end / 2 + math.sin(2 * end) / 4 + 3 * end / 8 - math.sin(2 * end) / 4 + math.sin(4 * end) / 32
    for steps in sizes:
        integrate = Integrator(solver=build(composed, "solver", name, num_steps=steps), gradient=Backprop())
        y0, integrals = torch.tensor([[1.0, 0.0]]), {"q": Integral(potential, False)}
        found = integrate(Oscillator(), y0, torch.tensor([0.0, end]), integrals=integrals)
        errors.append(abs(float(found.integrals["q"][-1, 0]) - expected))
    assert slope([1 / steps for steps in sizes], errors) > integrate.solver.order - 0.3


@pytest.mark.parametrize("name", ["dopri5", "dopri8", "bosh3", "torchdiffeq"])
def test_step_control_keeps_the_error_of_what_it_judges(name: str, composed: Compose) -> None:
    def clock(t: Time, y: State, dy: State, vjp: VJP) -> Tensor:
        return torch.cos(40 * t).expand(len(y))

    taken, errors = [], []
    for judged in (False, True):
        integrate = Integrator(solver=build(composed, "solver", name, rtol=1e-6, atol=1e-6), gradient=Backprop())
        solution = integrate(Linear(), Y0, torch.tensor([0.0, 1.0]), integrals={"q": Integral(clock, judged)})
        taken.append(solution.accepted)
        errors.append(abs(float(solution.integrals["q"][-1, 0].detach()) - math.sin(40) / 40))
    assert taken[1] > 2 * taken[0]
    assert errors[1] < 1e-5 < errors[0]


class Galerkin(VectorField):
    """A field 2-16-2 whose weights vary with depth by one harmonic."""

    def __init__(self) -> None:
        super().__init__()
        self.alphas = nn.ParameterList([0.5 * torch.randn(3, *shape) for shape in ((16, 2), (16,), (2, 16), (2,))])

    def forward(self, t: Time, y: State) -> State:
        basis = torch.stack([torch.ones_like(t), torch.cos(2 * math.pi * t), torch.sin(2 * math.pi * t)])
        a, b, c, d = (torch.tensordot(basis, alpha, dims=1) for alpha in self.alphas)
        return torch.tanh(y @ a.T + b) @ c.T + d


def tracking(t: Time, y: State, dy: State, vjp: VJP | None) -> Tensor:
    """l = |z - gamma(s)|^2 + 0.1 |f|^2."""
    gamma = torch.stack([torch.cos(2 * math.pi * t), torch.sin(2 * math.pi * t)])
    return (y - gamma).square().sum(dim=1) + 0.1 * dy.square().sum(dim=1)


class Augmented(VectorField):
    """A field's state with the cost behind it."""

    def __init__(self, field: VectorField) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Time, y: State) -> State:
        dy = self.field(t, y[:, :2])
        return torch.cat([dy, tracking(t, y[:, :2], dy, None)[:, None]], dim=1)


def by_hand(field: Galerkin, ends: State, terminal: Tensor, *, sign: float, direct: float, steps: int) -> list[Tensor]:
    """The generalised adjoint, with its second term times `sign` and the cost's own dependence on weights `direct`."""
    parameters, y, a = list(field.parameters()), ends, terminal
    sums = [torch.zeros_like(p) for p in parameters]

    def slopes(t: float, y: State, a: State) -> tuple[State, State, list[Tensor]]:
        y, t1 = y.detach().requires_grad_(), torch.tensor(t)
        dy = field(t1, y)
        of_dy = torch.autograd.grad(dy, [y, *parameters], a, retain_graph=True)
        of_cost = torch.autograd.grad(tracking(t1, y, dy, None).sum(), [y, *parameters])
        dtheta = [one + direct * other for one, other in zip(of_dy[1:], of_cost[1:], strict=True)]
        return dy.detach(), -of_dy[0] - sign * of_cost[0], dtheta

    h = 1 / steps
    for i in range(steps, 0, -1):
        t, stages = i * h, []
        for shift in (0, h / 2, h / 2, h):
            last = stages[-1] if stages else (torch.zeros_like(y), torch.zeros_like(a), sums)
            stages.append(slopes(t - shift, y - shift * last[0], a - shift * last[1]))
        for weight, (dy, da, dtheta) in zip((1, 2, 2, 1), stages, strict=True):
            y, a = y - h * weight / 6 * dy, a - h * weight / 6 * da
            sums = [one + h * weight / 6 * other for one, other in zip(sums, dtheta, strict=True)]
    return sums


def test_the_generalised_adjoint_has_its_direct_term_and_its_sign() -> None:
    """As it is, 3e-8 from the augmented state's; 0.15 without the direct term; 1.1 with the other sign."""
    torch.manual_seed(1)
    field, y0, ts = Galerkin(), torch.randn(8, 2), torch.tensor([0.0, 1.0])
    fine = Dopri5(rtol=1e-8, atol=1e-8, max_steps=10_000)
    adjoint = named_class("gradient", "adjoint")(rtol=None, atol=None)

    def gradient(ends: State, cost: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(0.3 * ends.square().sum() + cost.sum(), list(field.parameters())))

    solution = Integrator(solver=fine, gradient=adjoint)(field, y0, ts, integrals={"l": Integral(tracking, True)})
    found = gradient(solution.ys[-1], solution.integrals["l"][-1])
    begun = torch.cat([y0, torch.zeros(8, 1)], dim=1)
    augmented = Integrator(solver=fine, gradient=Backprop())(Augmented(field), begun, ts).ys[-1]
    expected = gradient(augmented[:, :2], augmented[:, 2])

    def off(some: list[Tensor]) -> float:
        one, other = (torch.cat([part.flatten() for part in parts]) for parts in (some, expected))
        return float((one - other).norm() / other.norm())

    assert off(found) < 2e-7
    ends = solution.ys[-1].detach()
    assert off(by_hand(field, ends, 0.6 * ends, sign=1, direct=1, steps=40)) < 4e-6
    assert 1e-3 < off(by_hand(field, ends, 0.6 * ends, sign=1, direct=0, steps=10)) < 0.3
    assert off(by_hand(field, ends, 0.6 * ends, sign=-1, direct=1, steps=10)) > 0.5


@pytest.mark.parametrize("mode", ["backprop", "checkpoint", "adjoint"])
def test_an_integral_moves_with_the_ends_of_its_span(mode: str, composed: Compose) -> None:
    solver = build(composed, "solver", "dopri8", rtol=1e-10, atol=1e-10)
    integrate, field = Integrator(solver=solver, gradient=build(composed, "gradient", mode)), Linear()

    def total(ts: Times) -> Tensor:
        q = integrate(field, Y0, ts, integrals=KNOWN).integrals["kinetic"]
        return (q * torch.tensor([[0.0], [0.7], [1.3]])).sum()

    ts = torch.tensor([0.1, 0.5, 1.2], requires_grad=True)
    (found,) = torch.autograd.grad(total(ts), ts)
    for i in range(3):
        shift = 1e-4 * torch.eye(3)[i]
        with torch.no_grad():
            expected = float(total(ts.detach() + shift) - total(ts.detach() - shift)) / 2e-4
        assert float(found[i]) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_several_products_count_each_and_an_integrand_that_pulls_none_counts_none() -> None:
    ledger = Ledger()
    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=Backprop(), ledger=ledger)
    with ledger.phase(Phase.FORWARD) as tally:
        integrate(Linear(), Y0, torch.tensor([0.0, 1.0]), integrals={"kinetic": KNOWN["kinetic"]})
    assert (tally.evaluations, tally.products) == (8, 0)
    with ledger.phase(Phase.FORWARD) as tally:
        integrate(Linear(), Y0, torch.tensor([0.0, 1.0]), integrals={"divergence": KNOWN["divergence"]})
    assert (tally.evaluations, tally.products) == (8, 8 * 2), "two elements, eight stages"


def test_an_integrand_that_is_not_one_number_a_sample_is_refused_by_name() -> None:
    integrate = Integrator(solver=DOPRI5, gradient=Backprop())
    for wrong in (lambda t, y, dy, vjp: dy, lambda t, y, dy, vjp: dy.sum(dim=1, keepdim=True), lambda *_: 1.0):
        with pytest.raises(RefusedInput, match=r"the integrand of 'cost' must give one number for every sample"):
            integrate(Linear(), Y0, torch.tensor([0.0, 1.0]), integrals={"cost": Integral(wrong, False)})


def test_a_solver_without_a_rule_refuses_by_name(composed: Compose) -> None:
    class Plain(Solver):
        kind = "of one's own"

        def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
            return Solution(ys=torch.stack([y0] * len(ts)))

        def refined(self) -> "Plain":
            return self

    for solver, name in (
        (build(composed, "solver", "implicit_adams"), "implicit_adams corrects"),
        (Plain(), "Plain is"),
    ):
        with pytest.raises(IncompatibleChoice, match=rf"{name} .* no rule for integrals"):
            Integrator(solver=solver, gradient=Backprop())(Linear(), Y0, torch.tensor([0.0, 1.0]), integrals=KNOWN)


def test_a_gradient_mode_that_leaves_them_out_is_refused_by_name() -> None:
    class Careless(Backprop.__base__):  # type: ignore[name-defined, misc]
        exact, through_autograd = True, True

        def solve(self, solver: Solver, problem: Any) -> Solution:
            return Solution(ys=solver.solve(problem.field, problem.y0, problem.ts).ys)

    with pytest.raises(
        IncompatibleChoice, match=r"Careless with solver=dopri5 does not take integrals .*: kinetic, diverg"
    ):
        Integrator(solver=DOPRI5, gradient=Careless())(Linear(), Y0, torch.tensor([0.0, 1.0]), integrals=KNOWN)


@pytest.mark.parametrize("mode", ["checkpoint", "symplectic", "adjoint", "interpolated", "forward"])
def test_an_integrand_that_reads_a_tensor_with_a_history_or_draws_is_refused(mode: str, composed: Compose) -> None:
    integrate = Integrator(solver=DOPRI5, gradient=build(composed, "gradient", mode))
    scale = torch.ones((), requires_grad=True) * 2
    for g, said in (
        (lambda t, y, dy, vjp: scale * dy.sum(dim=1), "reads a tensor"),
        (lambda t, y, dy, vjp: torch.randn(len(y)) * dy.sum(dim=1), "an integral along Linear draws random numbers"),
    ):
        with pytest.raises(IncompatibleChoice, match=said):
            integrate(Linear(), Y0, torch.tensor([0.0, 1.0]), integrals={"q": Integral(g, False)})


def test_the_jacobian_of_a_field_that_draws_is_refused() -> None:
    class Dropping(Linear):
        def forward(self, t: Time, y: State) -> State:
            return nn.functional.dropout(super().forward(t, y), 0.5)

    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=Backprop())
    with pytest.raises(IncompatibleChoice, match=r"Dropping draws random numbers, .* products with its Jacobian"):
        integrate(Dropping(), Y0, torch.tensor([0.0, 1.0]), integrals=KNOWN)
    integrate(Dropping(), Y0, torch.tensor([0.0, 1.0]), integrals={"kinetic": KNOWN["kinetic"]})


def test_compiled_steps_are_not_those_of_a_solve_with_integrals(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(self: Backprop, *where: object, **how: object) -> Any:
        return lambda *problem: pytest.fail("compiled steps know no integrals")

    monkeypatch.setattr(Backprop, "compiled", compiled)
    integrate, field = Integrator(solver=DOPRI5, gradient=Backprop()), Linear()
    integrate.compile(field, Y0)
    found = integrate(field, Y0, torch.tensor([0.0, 1.0]), integrals=KNOWN).integrals
    torch.testing.assert_close(
        found["kinetic"], closed_forms(torch.tensor([0.0, 1.0]))["kinetic"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("options", [{}, {"per_sample": True}])
def test_an_audits_reference_takes_them_along(options: dict[str, bool], composed: Compose) -> None:
    solver = solver_of("dopri5", composed, **options)
    recorded = RecordSteps()
    with torch.no_grad():
        Integrator(solver=solver, gradient=recorded)(Linear(), Y0, torch.tensor(TS), integrals=KNOWN)
    field = Linear()
    replayed = ReplaySteps(solves=iter(recorded.solves), rounds=iter(recorded.rounds))
    found, expected = (
        Integrator(solver=solver, gradient=mode)(field, Y0, torch.tensor(TS), integrals=KNOWN).integrals["kinetic"]
        for mode in (replayed, Backprop())
    )
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(
        *(torch.autograd.grad(q.sum(), field.matrix)[0] for q in (found, expected)), rtol=1e-12, atol=1e-12
    )


def test_an_empty_batch_has_integrals_of_no_samples() -> None:
    integrate = Integrator(solver=DOPRI5, gradient=Backprop())
    found = integrate(Linear(), Y0[:0], torch.tensor([0.0, 1.0]), integrals=KNOWN).integrals
    assert {name: q.shape for name, q in found.items()} == dict.fromkeys(KNOWN, (2, 0))


def test_pulls_are_products_with_the_jacobian() -> None:
    field, y = Linear(), Y0.clone()
    entered: list[int] = []
    vjp = VJP(field, torch.tensor(0.0), y, entered.append)
    torch.testing.assert_close(vjp(Y0), Y0 @ field.matrix)
    torch.testing.assert_close(vjp(torch.stack([Y0, 2 * Y0])), torch.stack([Y0, 2 * Y0]) @ field.matrix)
    assert entered == [1, 2]


def test_pairs_cover_every_family() -> None:
    """The product above is that of all that go together."""
    assert {pair for pair in accepted_pairs() if pair[1] != "backprop"} <= set(PAIRS)
