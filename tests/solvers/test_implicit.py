"""Implicit solvers: stiff problems, Newton's method, and derivatives that do not pass through it."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.implicit.diagonally_implicit import FixedImplicit
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.implicit.implicit_euler import ImplicitEuler
from ode_runner.solvers.implicit.implicit_midpoint import ImplicitMidpoint
from ode_runner.solvers.implicit.kvaerno5 import Kvaerno5
from ode_runner.solvers.implicit.newton import Equations, Newton, StageTolerance, differentiable
from tests.problems import (
    PROBLEMS,
    Compose,
    Formula,
    SmallNet,
    build,
    offering,
    relaxation,
    robertson,
    slope,
    van_der_pol,
)

pytestmark = pytest.mark.usefixtures("float64")

FINAL = torch.tensor([0.0, 1.0], dtype=torch.float64)

IMPLICIT = offering(ImplicitSolver)
each_implicit = pytest.mark.parametrize("name", IMPLICIT)
each_fixed = pytest.mark.parametrize("name", offering(FixedImplicit))
each_adaptive = pytest.mark.parametrize("name", [name for name in offering(AdaptiveRungeKutta) if name in IMPLICIT])


def solve_stage(field: VectorField, t: Tensor, known: Tensor, weight: float, guess: Tensor) -> Tensor:
    """The y of y = known + weight f(t, y), to rounding."""
    equation = Equations(ts=[t], known=known[None], weights=((weight,),))
    bare = replace(equation, known=known.detach()[None])
    newton, begin = Newton.along(field), (t, guess.detach())
    y = newton.solve(bare, guess.detach()[None], begin=begin, tolerance=StageTolerance.rounding(guess))
    return differentiable(field, equation, y)[0] if torch.is_grad_enabled() else y[0]


@pytest.fixture
def solver(composed: Compose, name: str) -> ImplicitSolver:
    return build(composed, "solver", name)


@each_implicit
@pytest.mark.parametrize("rate", [1e2, 1e5, 1e8])
def test_stiff_relaxation_takes_few_steps(solver: ImplicitSolver, rate: float) -> None:
    """An explicit method would need about rate / 2 steps a unit of time."""
    problem = relaxation(rate)
    if isinstance(solver, FixedImplicit):  # from the slow solution: what is A-stable only never forgets a transient
        solution = solver.solve(problem.field(), torch.ones(1, 1), problem.times())
    else:
        solution = solver.solve(problem.field(), problem.exact(0.0), problem.times())
    assert solution.accepted <= 50
    assert float(solution.ys[-1]) == pytest.approx(math.cos(2), abs=0.02)  # implicit Euler's, with 16 steps per unit


@each_adaptive
@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
def test_every_step_of_a_stiff_solve_is_within_tolerance(solver: AdaptiveRungeKutta, tolerance: float) -> None:
    problem = relaxation(1e5)
    solver = replace(solver, rtol=tolerance, atol=tolerance)
    steps = list(solver.steps(problem.field(), problem.exact(0.0), problem.times()))
    allowed = 3 if isinstance(solver, Kvaerno5) else 1  # whose judge sees less of what is stiff
    assert max(float((step.y1 - problem.exact(step.t1)).abs()) for step in steps) < allowed * tolerance


@pytest.mark.parametrize(("name", "order"), [("kvaerno3", 3), ("kvaerno5", 5)])
def test_pairs_on_equal_steps_are_of_their_order(name: str, order: int, composed: Compose) -> None:
    """On a problem of time and state: a stage beyond the step is evaluated where it lies."""
    solver, problem, errors = build(composed, "solver", name).to_be_recomputed(), PROBLEMS["oscillating_growth"](), []
    for count in (8, 16, 32):
        ts = torch.linspace(*problem.span, count + 1).tolist()
        y, field = problem.exact(ts[0]), problem.field()
        for t0, t1 in pairwise(ts):
            y, _ = solver.step(field, t0, t1, y, solver.slope(field, t0, y))
        errors.append(float((y - problem.exact(ts[-1])).abs()))
    assert slope([1 / 8, 1 / 16, 1 / 32], errors) == pytest.approx(order, abs=0.15)


@pytest.mark.sampled(2)
@each_fixed
@pytest.mark.parametrize(
    "backwards", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["forwards", "backwards"]
)
def test_error_falls_with_the_step_at_the_order_claimed(composed: Compose, name: str, backwards: bool) -> None:
    problem, counts = PROBLEMS["sine"](), (20, 40, 80)
    ts, errors = problem.times(0.1234, 0.5, backwards=backwards), []
    for count in counts:
        exact = problem.solution(ts)
        ys = build(composed, "solver", name, num_steps=count).solve(problem.field(), exact[0], ts).ys
        errors.append(float(((ys - exact).abs() / (1 + exact.abs())).max()))
    order = build(composed, "solver", name).order
    assert slope([1 / count for count in counts], errors) == pytest.approx(order, abs=0.3)


@each_implicit
def test_backpropagation_and_checkpoints_agree(solver: ImplicitSolver) -> None:
    net, y0, states, found = SmallNet(), torch.randn(4, 3, requires_grad=True), [], []
    for mode in (Backprop(), Checkpoint()):
        ys = Integrator(solver=solver, gradient=mode)(net, y0, torch.tensor([0.0, 0.4, 1.0])).ys
        wanted = [y0, *net.parameters()]
        states.append(ys.detach())
        found.append(torch.autograd.grad(ys.sin().sum(), wanted, allow_unused=True, materialize_grads=True))
    assert torch.equal(*states)
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-13)


def test_implicit_euler_forgets_what_is_stiff_in_one_step() -> None:
    solver = ImplicitEuler(num_steps=1, step_size=None)
    ys = solver.solve(Formula(lambda t, y: -1e6 * y), torch.ones(1, 1), FINAL).ys
    assert float(ys[-1]) == pytest.approx(1 / (1 + 1e6))


def test_the_implicit_midpoint_rule_conserves_a_quadratic_energy() -> None:
    solver = ImplicitMidpoint(num_steps=5, step_size=None)
    field = Formula(lambda t, y: torch.stack([y[:, 1], -y[:, 0]], dim=1))
    ys = solver.solve(field, torch.tensor([[1.0, 0.0]]), torch.linspace(0, 60, 31)).ys
    torch.testing.assert_close(ys.square().sum(-1), torch.ones(31, 1), rtol=1e-12, atol=0)  # rounding of 300 steps


def cubic(rate: Tensor) -> Formula:
    field = Formula(lambda t, y: -rate * y**3 + torch.sin(t) * y.roll(1, dims=1))
    field.rate = torch.nn.Parameter(rate) if rate.is_leaf and not rate.requires_grad else rate
    return field


def test_a_stage_solves_its_equation_to_rounding() -> None:
    field, known, t = cubic(torch.tensor(3.0)), torch.randn(4, 3), torch.tensor(0.4)
    y = solve_stage(field, t, known, 0.7, guess=known)
    torch.testing.assert_close(y, known + 0.7 * field(t, y), rtol=1e-14, atol=1e-14)


def test_a_linear_stage_takes_a_jacobian_two_iterations_and_two_evaluations_for_the_derivative() -> None:
    field = Formula(lambda t, y: -1e4 * y)
    with torch.no_grad():
        solve_stage(field, torch.tensor(0.0), torch.ones(2, 3), 0.1, guess=torch.zeros(2, 3))
    assert field.calls == 3
    solve_stage(field, torch.tensor(0.0), torch.ones(2, 3), 0.1, guess=torch.zeros(2, 3))
    assert field.calls == 3 + 5  # its graph must not contain the iterate


def test_a_stage_is_differentiated_as_the_implicit_function_theorem_says() -> None:
    known, rate = torch.randn(2, 3, requires_grad=True), torch.tensor(3.0, requires_grad=True)

    def stage(known: Tensor, rate: Tensor) -> Tensor:
        return solve_stage(cubic(rate), torch.tensor(0.4), known, 0.7, guess=known.detach())

    assert torch.autograd.gradcheck(stage, (known, rate))


@each_implicit
def test_nothing_is_recorded_where_nothing_has_a_gradient(solver: ImplicitSolver) -> None:
    assert not solver.solve(Formula(lambda t, y: -y), torch.ones(1, 2), FINAL).ys.requires_grad


@each_fixed
def test_a_step_without_a_solution_is_a_solver_failure(solver: FixedImplicit) -> None:
    """y1 = y0 + dt (1 + y1^2) has no real root for long steps."""
    solver = replace(solver, num_steps=None, step_size=1.0)
    with pytest.raises(SolverFailed, match="Newton's method found no solution of the step.*Take smaller steps"):
        solver.solve(Formula(lambda t, y: 5 + 5 * y * y), torch.ones(1, 1), FINAL)


@pytest.mark.parametrize(("rest", "undefined"), [(1.0, False), (math.nan, True)])
def test_newtons_method_knows_whether_it_failed_itself_or_the_field(rest: float, undefined: bool) -> None:
    """y = 1 + y^2 has no real root."""
    newton = Newton(Formula(lambda t, y: rest + y * y), patient=True)
    start, t = torch.zeros(1, 1, 1), torch.tensor(0.0)
    equations = Equations(ts=[t], known=start, weights=[[1.0]])
    assert equations.coupling is equations.coupling, "a transfer to a GPU, once"
    assert (
        newton.solve(equations, start, begin=(t, start[0]), tolerance=StageTolerance.rounding(start[0])).isnan().all()
    )
    assert newton.undefined == undefined


@each_implicit
def test_samples_do_not_see_each_others_jacobians(solver: ImplicitSolver) -> None:
    if isinstance(solver, AdaptiveRungeKutta):
        pytest.skip("shares its step sizes")
    net, y0 = SmallNet(), torch.randn(4, 3)
    together = solver.solve(net, y0, FINAL).ys
    alone = torch.cat([solver.solve(net, y[None], FINAL).ys for y in y0], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)  # stops one iteration sooner or later


@each_adaptive
def test_robertsons_kinetics_at_forty(solver: AdaptiveRungeKutta) -> None:
    """Reference: Mazzia, Magherini. Test Set for Initial Value Problem Solvers, ROBER; also LSODE's demonstration."""
    solver = replace(solver, rtol=1e-4, atol=1e-8)
    solution = solver.solve(Formula(robertson), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.0, 40.0]))
    expected = torch.tensor([[0.7158270688, 9.185534765e-6, 0.2841637457]])
    torch.testing.assert_close(solution.ys[-1], expected, rtol=1e-3, atol=0)  # ten times the tolerance
    assert float(solution.ys[-1].sum()) == pytest.approx(1, abs=1e-12)  # mass


@pytest.mark.slow
@each_adaptive
def test_robertsons_kinetics_are_followed_to_the_end_of_time(solver: AdaptiveRungeKutta) -> None:
    solver = replace(solver, rtol=1e-5, atol=1e-10, max_steps=5000)
    solution = solver.solve(Formula(robertson), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.0, 1e11]))
    expected = torch.tensor([[2.083340149e-8, 8.333360770e-14, 0.9999999792]])  # the test set's, at 1e11
    torch.testing.assert_close(solution.ys[-1], expected, rtol=1e-2, atol=1e-10)
    assert solution.accepted + solution.rejected < 1500


@pytest.mark.slow
@each_adaptive
def test_van_der_pols_oscillator_at_mu_1000(solver: AdaptiveRungeKutta) -> None:
    """Reference: Mazzia, Magherini. Test Set for Initial Value Problem Solvers, VDPOL, in the time of mu = 1000."""
    solver = replace(solver, rtol=1e-4, atol=1e-7, max_steps=5000)
    solution = solver.solve(Formula(van_der_pol), torch.tensor([[2.0, 0.0]]), torch.tensor([0.0, 2000.0]))
    expected = torch.tensor([[1.706167732170483, -0.8928097010247975e-3]])
    torch.testing.assert_close(solution.ys[-1], expected, rtol=1e-3, atol=0)  # ten times the tolerance
    assert solution.accepted + solution.rejected < 1500


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tolerance", "off"), [("radau_iia5", 1e-6, 0.01), ("kvaerno5", 1e-8, 0.1)])
def test_the_gradient_through_a_jump_of_van_der_pols_oscillator(
    name: str, tolerance: float, off: float, composed: Compose
) -> None:
    """By differences of solves on steps of their own; states are within 1e-7, and a gradient is much further off."""

    def end(begin: float, *, tolerance: float, name: str = "radau_iia5") -> tuple[Tensor, Tensor]:
        solver = build(composed, "solver", name, rtol=tolerance, atol=tolerance, max_steps=5000)
        y0 = torch.tensor([[begin, 0.0]], requires_grad=begin == 2.0)
        x = Integrator(solver=solver, gradient=Backprop())(Formula(van_der_pol), y0, torch.tensor([0.0, 1200.0])).ys
        return x[-1, 0, 0], y0

    x, y0 = end(2.0, tolerance=tolerance, name=name)
    above, below = (end(2.0 + shift, tolerance=1e-8)[0] for shift in (1e-3, -1e-3))
    assert float(x.detach()) == pytest.approx(float(above + below) / 2, abs=1e-5)
    assert float(torch.autograd.grad(x, y0)[0][0, 0]) == pytest.approx(float(above - below) / 2e-3, rel=off)


def test_rate_constants_of_a_stiff_reaction_are_differentiated() -> None:
    """The sensitivity of Robertson's slow reaction against a difference of two solves on the same steps."""

    def end(rate: Tensor) -> Tensor:
        def reaction(t: Tensor, y: Tensor) -> Tensor:
            return robertson(t, y) + (field.rate - 0.04) * torch.stack([-y[:, 0], y[:, 0], 0 * y[:, 0]], dim=1)

        field = Formula(reaction)
        field.rate = torch.nn.Parameter(rate)
        solver = ImplicitEuler(num_steps=2, step_size=None)
        ys = Integrator(solver=solver, gradient=Checkpoint())(field, torch.tensor([[1.0, 0.0, 0.0]]), 10 * FINAL).ys
        return torch.stack([ys[-1, 0, 2], *torch.autograd.grad(ys[-1, 0, 2], field.rate)]).detach()

    (above, _), (below, _), (_, slope) = (end(torch.tensor(0.04 + shift)) for shift in (1e-6, -1e-6, 0.0))
    assert float(slope) == pytest.approx(float(above - below) / 2e-6, rel=1e-6)  # cancellation at 1e-6


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["kvaerno3", "kvaerno5", "radau_iia5"])
def test_one_solve_that_converged_at_once_says_nothing_of_the_next(name: str, composed: Compose) -> None:
    """The Jacobian of (cos t, q^3) is nilpotent: an iteration is exact where q stands still, and elsewhere is not."""
    field = Formula(lambda t, y: torch.cat([5 * (5 * t).cos() * torch.ones_like(y[:, :1]), 10 * y[:, :1] ** 3], dim=1))
    solver = build(composed, "solver", name, rtol=1e-3, atol=1e-3)
    solution = Integrator(solver=solver, gradient=Backprop())(
        field, torch.tensor([[0.1, 0.0]]), torch.tensor([0.0, 3.0])
    )
    assert solution.rejected < solution.accepted, "most steps were rejected"
    assert float(solution.ys[-1, 0, 0]) == pytest.approx(0.1 + math.sin(15), abs=1e-2)
