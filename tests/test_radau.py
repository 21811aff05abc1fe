"""Radau IIA of order 5: its own formulas, its dense output, and stiff problems in few steps."""

import math
from dataclasses import replace

import pytest
import torch

from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.one_step import Step
from ode_runner.solvers.radau_iia5 import A, C, E, G, RadauIIA5, collocation
from tests.problems import Formula, SmallNet, linear, relaxation, sine, slope
from tests.test_implicit import robertson, van_der_pol

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
        estimate = RADAU.difference(y0, t1, ks).abs()
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
    torch.testing.assert_close(solution.ys[-1], torch.tensor([expected]), rtol=1e-4, atol=0)
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
    ys = Integrator(solver=replace(RADAU, rtol=1e-4, atol=1e-8), gradient=Checkpoint())(Formula(robertson), y0, ts)
    (dy0,) = torch.autograd.grad(ys[-1].sum(), y0)
    torch.testing.assert_close(dy0, torch.ones_like(y0), rtol=1e-9, atol=0)  # sums of cancelling terms of size 1e4
