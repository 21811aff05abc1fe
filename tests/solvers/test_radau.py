"""Radau IIA of order 5: its own formulas, its dense output, and stiff problems in few steps."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.integrate import solve_ivp

from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.solvers.implicit.radau_iia5 import A, C, E, G, RadauIIA5, collocation
from ode_runner.solvers.one_step import Step
from tests.problems import Compose, Formula, SmallNet, build, linear, relaxation, robertson, sine, slope, van_der_pol

pytestmark = pytest.mark.usefixtures("float64")

RADAU = RadauIIA5(rtol=1e-6, atol=1e-6, max_steps=10_000)


def one_step(problem, start: float, end: float) -> Step:
    y0 = problem.exact(start)
    f0 = problem.function(torch.tensor(start), y0)
    y1, ks = RADAU.step(problem.field(), start, end, y0, f0)
    return RADAU.detailed(problem.field(), Step(t0=start, t1=end, y0=y0, y1=y1, ks=ks, due=[]))


def test_the_coefficients_are_those_of_radaus_quadrature() -> None:
    """Nodes: the zeros of d2/dx2 (x^2 (x - 1)^3); the collocation polynomial makes the matrix of them."""
    for c in C:
        assert 20 * c**3 - 36 * c**2 + 18 * c - 2 == pytest.approx(0, abs=1e-14)
    for c, row in zip(C, A, strict=True):
        assert collocation(c) == pytest.approx(row, abs=1e-15)
    eigenvalues = torch.linalg.eigvals(torch.tensor(A))
    assert float((eigenvalues - G).abs().min()) < 1e-15
    assert G + sum(e * c for e, c in zip(E, C, strict=True)) == pytest.approx(0, abs=1e-15)


def test_a_step_is_of_local_order_six() -> None:
    problem, sizes = sine(), (0.2, 0.1, 0.05)
    errors = [float((one_step(problem, 1.5, 1.5 + dt).y1 - problem.exact(1.5 + dt)).abs().max()) for dt in sizes]
    assert slope(list(sizes), errors) == pytest.approx(6, abs=0.4)


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_dense_output_is_the_collocation_polynomial_bent(backwards: bool) -> None:
    """Through y0 and y1, with the stages' slopes, and within O(dt^5) of the solution: 32 times for half the step."""
    problem, errors = sine(), []
    for length in (0.1, 0.05):
        step = one_step(problem, *((1.5 + length, 1.5) if backwards else (1.5, 1.5 + length)))
        dt = step.t1 - step.t0
        within = [step.t0 + x * dt for x in (0.1, 0.3, 0.5, 0.8)]
        places = RADAU.outputs(replace(step, due=[step.t0, *within, step.t1 - 1e-9 * dt]))
        torch.testing.assert_close(places[0], step.y0)
        torch.testing.assert_close(places[-1], step.y1, rtol=1e-7, atol=1e-7)  # a billionth of a step before it
        errors.append(max(float((y - problem.exact(t)).abs().max()) for y, t in zip(places[1:-1], within, strict=True)))
        h = 1e-6
        for c, slope_there in zip(C, step.ks[1:4], strict=True):
            low, high = RADAU.outputs(replace(step, due=[step.t0 + (c - h) * dt, step.t0 + (c + h) * dt]))
            torch.testing.assert_close((high - low) / (2 * h * dt), slope_there, rtol=1e-7, atol=0)  # differences
    assert math.log2(errors[0] / errors[1]) > 4.7


def test_no_output_is_bent_by_more_than_a_quarter_of_the_error_estimate() -> None:
    """However stiff the field and wherever the step begins: the fourth stage is Newton's, the estimate its first."""
    for rate in (1.0, 1e3, 1e6):
        field, (y0, t1) = relaxation(rate).field(), (torch.tensor([[1.3]]), 0.5)
        y1, ks = RADAU.step(field, 0.0, t1, y0, field(torch.tensor(0.0), y0))
        bare = Step(t0=0.0, t1=t1, y0=y0, y1=y1, ks=ks, due=[x * t1 for x in (0.05, 0.155, 0.4, 0.645, 0.9)])
        bent, unbent = (
            RADAU.outputs(replace(bare, inner=inner)) for inner in (RADAU.detailed(field, bare).inner, [ks[0] * 0])
        )
        estimate = RADAU.estimate(field, 0.0, t1, y0, ks).abs()
        assert all(bool(((one - other).abs() <= estimate / 4).all()) for one, other in zip(bent, unbent, strict=True))
        assert any(bool((one != other).any()) for one, other in zip(bent, unbent, strict=True))


def test_a_fourth_stage_that_is_not_found_leaves_the_collocation_polynomial() -> None:
    step = one_step(sine(), 1.5, 1.6)
    assert not RADAU.detailed(Formula(lambda t, y: y * math.nan), replace(step, inner=())).inner[0].any()


def test_dense_output_stays_smooth_where_the_field_is_stiff() -> None:
    """The cubic through both ends' slopes would swing by the stiffness times the error."""
    problem = relaxation(1e6)
    ts = torch.linspace(0, 2, 101)
    ys = RADAU.solve(problem.field(), torch.ones(1, 1), ts).ys  # from the slow solution
    torch.testing.assert_close(ys[:, 0, 0], ts.cos(), rtol=0, atol=1e-3)  # a cubic's, over steps of 0.6


def test_tight_tolerances_take_few_steps() -> None:
    problem = linear()
    solution = replace(RADAU, rtol=1e-9, atol=1e-9).solve(problem.field(), problem.exact(0.0), problem.times())
    assert solution.accepted < 200
    torch.testing.assert_close(solution.ys[-1], problem.exact(2.0), rtol=0, atol=1e-9)


def test_a_step_over_no_time_has_derivatives() -> None:
    """Of an integral too, which would be made of increments divided by its length."""
    field, y0 = Formula(lambda t, y: -y), torch.ones(2, 1, requires_grad=True)
    penalty = Integral(lambda t, y, dy, vjp: y[:, 0] ** 2, judged=True)
    solution = Integrator(solver=RADAU, gradient=Checkpoint())(
        field, y0, torch.tensor([0.5, 0.5]), integrals={"price": penalty}
    )
    (solution.integrals["price"].sum() + solution.ys[-1].sum()).backward()
    assert torch.equal(y0.grad, torch.ones(2, 1))


@pytest.mark.parametrize(
    ("field", "begin", "end", "expected"),
    [
        (robertson, [1.0, 0.0, 0.0], 40.0, [0.7158270688, 9.185534765e-6, 0.2841637457]),
        (robertson, [1.0, 0.0, 0.0], 1e11, [2.083340149e-8, 8.333360770e-14, 0.9999999792]),
        (van_der_pol, [2.0, 0.0], 2000.0, [1.706167732170483, -0.8928097010247975e-3]),
    ],
    ids=["Robertson at 40", "Robertson at 1e11", "van der Pol"],
)
def test_stiff_problems_of_the_test_set(field, begin: list[float], end: float, expected: list[float]) -> None:
    """Reference: Mazzia, Magherini. Test Set for Initial Value Problem Solvers."""
    solver = replace(RADAU, rtol=1e-4, atol=1e-8)
    with torch.no_grad():
        solution = solver.solve(Formula(field), torch.tensor([begin]), torch.tensor([0.0, end]))
    torch.testing.assert_close(solution.ys[-1], torch.tensor([expected]), rtol=1e-4, atol=1e-10)  # 1e-8 is asked for
    assert solution.accepted + solution.rejected < 500


def test_a_step_is_differentiated_as_the_implicit_function_theorem_says() -> None:
    net = SmallNet(state=2)
    y0 = torch.randn(2, 2, requires_grad=True)

    def step(y0: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        bound = Formula(lambda t, y: torch.func.functional_call(net, {"inner.weight": weight}, (t, y)))
        return RADAU.step(bound, 0.0, 0.5, y0, y0)[0]

    assert torch.autograd.gradcheck(step, (y0, net.inner.weight))


def test_checkpoints_follow_it_through_a_stiff_reaction() -> None:
    """Mass is conserved, so the derivative of the three species together is that of the beginning alone."""
    y0 = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    ts = torch.tensor([0.0, 1.0, 40.0])
    ys = Integrator(solver=replace(RADAU, rtol=1e-4, atol=1e-8), gradient=Checkpoint())(Formula(robertson), y0, ts).ys
    (dy0,) = torch.autograd.grad(ys[-1].sum(), y0)
    torch.testing.assert_close(dy0, torch.ones_like(y0), rtol=1e-9, atol=0)  # sums of cancelling terms of size 1e4


def diffusion(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Heat in a rod of 20 pieces, driven at its end; eigenvalues from -2e2 to -4e4."""
    padded = torch.nn.functional.pad(y, (1, 1))
    return 1e4 * (padded[:, 2:] - 2 * y + padded[:, :-2]) + torch.cos(t)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("field", "begin", "end", "atol"),
    [
        (robertson, [1.0, 0.0, 0.0], 1e3, 1e-6),
        pytest.param(van_der_pol, [2.0, 0.0], 2000.0, 1e-2, marks=pytest.mark.slow),
        (diffusion, [1.0] * 20, 10.0, 1.0),
    ],
    ids=["Robertson", "van der Pol", "diffusion"],
)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_its_work_is_that_of_scipys_radau(field, begin: list[float], end: float, atol: float, tolerance: float) -> None:
    """Evaluations and products with the Jacobian; SciPy is given the Jacobian, and each of its costs as many."""
    ledger, y0, ts = Ledger(), torch.tensor([begin]), torch.tensor([0.0, end])
    solver = RadauIIA5(rtol=tolerance, atol=tolerance * atol, max_steps=10_000, hold=True)
    with torch.no_grad():
        ys = solver.solve(CountedField.around(Formula(field), ledger), y0, ts).ys
    theirs, exact = (by_scipy(field, begin, end, rtol=rtol, atol=rtol * atol) for rtol in (tolerance, 1e-8))
    work = ledger.tally.evaluations + ledger.tally.products
    assert work < 1.6 * (theirs.nfev + len(begin) * theirs.njev)
    off, their_off = (abs(y - exact.y[:, -1]).max() for y in (ys[-1, 0].numpy(), theirs.y[:, -1]))
    assert off < max(10 * their_off, tolerance * atol)


def by_scipy(field, begin: list[float], end: float, **tolerances: float):
    """SciPy's Radau with the exact Jacobian."""

    def right(t, y):
        return field(torch.tensor(t), torch.tensor(y)[None])[0]

    def jacobian(t, y):
        return torch.autograd.functional.jacobian(lambda x: field(torch.tensor(t), x[None])[0], torch.tensor(y)).numpy()

    return solve_ivp(lambda t, y: right(t, y).numpy(), (0, end), begin, method="Radau", jac=jacobian, **tolerances)


def test_one_jacobian_serves_a_linear_field_in_all_its_steps() -> None:
    ledger, y0 = Ledger(), torch.ones(2, 20)
    with torch.no_grad():
        solution = RADAU.solve(CountedField.around(Formula(diffusion), ledger), y0, torch.tensor([0.0, 1.0]))
    assert solution.accepted > 10
    assert ledger.tally.products == 20


def test_a_solve_that_is_differentiated_later_differs_by_a_part_of_the_tolerance() -> None:
    """Its stages are solved to rounding, whichever mode asks for them; others to a part of the tolerance."""
    net, y0, ts = SmallNet(), torch.randn(4, 3), torch.tensor([0.0, 0.4, 1.0])
    found = [Integrator(solver=RADAU, gradient=mode)(net, y0, ts).ys.detach() for mode in (Backprop(), Checkpoint())]
    with torch.no_grad():
        loose = RADAU.solve(net, y0, ts).ys
    torch.testing.assert_close(*found, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(loose, found[0], rtol=0, atol=1e-7)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["radau_iia5", "kvaerno3"])
def test_gradients_of_a_stiff_solve_are_those_of_its_very_steps(composed: Compose, name: str) -> None:
    """By differences of the steps taken anew, and by both exact modes."""
    solver = build(composed, "solver", name, rtol=1e-3, atol=1e-7)
    y0, direction = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1e-5, 1.0]])
    ts, field, found = torch.tensor([0.0, 10.0, 40.0]), Formula(robertson), []
    weights = torch.tensor([1.0, 1e4, -2.0])
    for mode in (Backprop(), Checkpoint()):
        begin = y0.clone().requires_grad_()
        loss = (Integrator(solver=solver, gradient=mode)(field, begin, ts).ys[1:] * weights).sum()
        found.append(float((torch.autograd.grad(loss, begin)[0] * direction).sum()))
    exactly = solver.to_be_recomputed()
    course = [step.interval for step in exactly.steps(field, y0, ts)]

    def along(shift: float) -> float:
        y, outputs = y0 + shift * direction, []
        for interval in course:
            step = exactly.recompute(field, interval, y)
            y, outputs = step.y1, [*outputs, *exactly.outputs(step)]
        return float((torch.stack(outputs) * weights).sum())

    assert found[0] == pytest.approx(
        found[1], rel=1e-9
    )  # the second species is 1e-5 of the others, whose rounding it has
    assert found[0] == pytest.approx((along(1e-4) - along(-1e-4)) / 2e-4, rel=1e-5)  # the differences' own error
