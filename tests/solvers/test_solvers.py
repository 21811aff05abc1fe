"""Every solver against exact solutions, torchdiffeq, and its own promises about cost."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torchdiffeq
from torch import Tensor

from ode_runner.errors import RefusedInput, SolverFailed
from ode_runner.fields.ledger import Phase
from ode_runner.integrator import Integrator
from ode_runner.solvers.adams_bashforth import AdamsBashforth
from ode_runner.solvers.base import AdaptiveSolver, FixedStepSolver, Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.implicit.diagonally_implicit import AdaptiveImplicit
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.libraries.adams import Adams
from ode_runner.solvers.libraries.torchdiffeq_pair import TorchdiffeqPair
from ode_runner.solvers.one_step import ExplicitRungeKutta, RungeKutta, Step
from ode_runner.solvers.reversible import ReversibleSolver
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from tests.helpers import options
from tests.problems import (
    PROBLEMS,
    Compose,
    Formula,
    Problem,
    SmallNet,
    build,
    family,
    linear,
    looks_beyond,
    offering,
    oscillating_growth,
    own_options,
    relaxation,
    sine,
    slope,
)

pytestmark = pytest.mark.usefixtures("float64")

EVEN = ()
TELLING = ("oscillating_growth", "logistic", "linear")  # of time and state, nonlinear, of several numbers
UNEVEN = (0.1234, 0.5, 0.5005, 0.77)  # fractions of the span that no grid hits


each_solver = pytest.mark.parametrize("name", family(Solver))
each_fixed = pytest.mark.parametrize("name", family(FixedStepSolver))
each_runge_kutta = pytest.mark.parametrize("name", family(FixedStepRungeKutta))
each_adaptive = pytest.mark.parametrize("name", family(AdaptiveSolver))
each_embedded = pytest.mark.parametrize("name", family(EmbeddedRungeKutta))
each_reversible = pytest.mark.parametrize("name", family(ReversibleSolver))
each_explicit_step = pytest.mark.parametrize("name", family(ExplicitRungeKutta))
each_one_step = pytest.mark.parametrize("name", family(RungeKutta))


@pytest.fixture
def solver(composed: Compose, name: str) -> Solver:
    return build(composed, "solver", name)


def exactly_corrected(solver: Solver) -> dict[str, float]:
    """Options under which a corrector is iterated as far as it goes."""
    return {"rtol": 1e-13, "atol": 1e-14} if isinstance(solver, Adams) else {}


def error_of(solver: Solver, problem: Problem, ts: torch.Tensor) -> float:
    """Largest error at the output times, relative to 1 + |y|."""
    exact = problem.solution(ts)
    ys = solver.solve(problem.field(), exact[0], ts).ys
    return float(((ys - exact).abs() / (1 + exact.abs())).max())


def measured_order(composed: Compose, name: str, solver: FixedStepSolver, problem: Problem, ts: torch.Tensor) -> float:
    counts = (8, 16, 32, 64) if solver.order > 3 else (20, 40, 80, 160)
    if isinstance(solver, Adams | AdamsBashforth):
        counts = (40, 80, 160, 320)  # its start by another method must be a small part of every interval
    variants = [build(composed, "solver", name, num_steps=n, **exactly_corrected(solver)) for n in counts]
    return slope([1 / n for n in counts], [error_of(variant, problem, ts) for variant in variants])


@pytest.mark.sampled(30)
@each_fixed
@pytest.mark.parametrize(
    "backwards", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["forwards", "backwards"]
)
@pytest.mark.parametrize(
    "problem", [pytest.param(name, marks=() if name in TELLING else pytest.mark.slow) for name in PROBLEMS]
)
def test_error_falls_with_the_step_at_the_order_claimed(
    composed: Compose, name: str, solver: FixedStepSolver, problem: str, backwards: bool
) -> None:
    posed = PROBLEMS[problem]()
    found = measured_order(composed, name, solver, posed, posed.times(backwards=backwards))
    if problem == "quadrature":
        assert found > solver.order - 0.3  # Ralston's nodes and weights are Radau's, of order 3
    else:
        assert found == pytest.approx(solver.order, abs=0.3)


@each_fixed
@pytest.mark.parametrize("problem", ["oscillating_growth", pytest.param("linear", marks=pytest.mark.slow)])
def test_the_order_survives_output_times_that_no_even_grid_hits(
    composed: Compose, name: str, solver: FixedStepSolver, problem: str
) -> None:
    posed = PROBLEMS[problem]()
    found = measured_order(composed, name, solver, posed, posed.times(*UNEVEN))
    assert found > solver.order - 0.5  # the smallest intervals have a grid coarser than asked for, or finer


@pytest.mark.sampled(30)
@each_adaptive
@pytest.mark.parametrize("places", [EVEN, UNEVEN], ids=["at the end", "off the grid"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("problem", ["sine", "oscillating_growth", "linear"])
def test_error_falls_with_the_tolerance(
    composed: Compose, name: str, solver: AdaptiveSolver, problem: str, backwards: bool, places: tuple[float, ...]
) -> None:
    posed = PROBLEMS[problem]()
    tolerances = [1e-3, 1e-4, 1e-5, 1e-6] if solver.order > 2 else [1e-2, 1e-3, 1e-4]
    errors = [
        error_of(
            build(composed, "solver", name, rtol=tolerance, atol=tolerance, max_steps=100_000),
            posed,
            posed.times(*places, backwards=backwards),
        )
        for tolerance in tolerances
    ]
    assert errors[-1] < errors[0]
    if places:
        assert slope(tolerances, errors) > 0.5  # half: at the loose end a few lucky steps do better than asked


@each_embedded
def test_error_stays_near_the_tolerance(composed: Compose, name: str, solver: EmbeddedRungeKutta) -> None:
    posed, tolerance = linear(), 1e-5
    solver = build(composed, "solver", name, rtol=tolerance, atol=tolerance, max_steps=100_000)
    blindness = 1 / max(map(abs, solver.tableau.b_error))  # Fehlberg's pair sees 1/512 of a difference
    assert error_of(solver, posed, posed.times()) < 4 * blindness * tolerance  # 4: errors of many steps add up


@pytest.mark.sampled(28)
@pytest.mark.filterwarnings("ignore:the two states that")  # the field decays
@each_solver
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_no_solver_evaluates_beyond_the_last_output_time(solver: Solver, backwards: bool) -> None:
    if isinstance(solver, TorchdiffeqPair):
        pytest.skip("chooses its first step by a look far ahead")
    if looks_beyond(solver):
        pytest.skip("has a stage beyond the step")
    for start, end in ((0.3, 1.1), (0.1, 0.7), (0.0, 1e-7), (1.0, math.pi), (0.0, 3.3)):
        for rate in (1e-4, 1.0, 30.0):
            ts = torch.tensor([end, start] if backwards else [start, end])
            field = Formula(lambda t, y, rate=rate: -rate * y * torch.cos(t))
            solver.solve(field, torch.ones(1, 2), ts)
            assert start <= min(field.times)
            assert max(field.times) <= end


@each_solver
@pytest.mark.parametrize("times", [1, 2, 3])
def test_no_time_leaves_the_state_as_it_is(solver: Solver, times: int) -> None:
    y0 = torch.randn(2, 3, requires_grad=True)
    ys = solver.solve(Formula(lambda t, y: 100 * y), y0, torch.full((times,), 0.5)).ys
    assert torch.equal(ys, y0.expand(times, 2, 3))
    [dy0] = torch.autograd.grad(ys.sum(), y0)
    assert torch.equal(dy0, torch.full_like(y0, times))


@each_solver
def test_a_field_that_ends_with_the_span_is_solved(solver: Solver) -> None:
    """sqrt(T - t) has no value beyond T."""
    if looks_beyond(solver):
        pytest.skip("has a stage beyond the step")
    problem = Problem(
        lambda t, y: torch.sqrt(1.1 - t).expand_as(y), lambda t: torch.tensor([[-2 / 3 * (1.1 - t) ** 1.5]]), (0.3, 1.1)
    )
    assert error_of(solver, problem, problem.times()) < 0.05  # the slope is infinite at the end: no method has an order


@pytest.mark.parametrize(
    ("ours", "theirs"), [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2"), ("rk38", "rk4")]
)
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_agrees_with_torchdiffeq_on_the_same_grid(composed: Compose, ours: str, theirs: str, backwards: bool) -> None:
    problem = PROBLEMS["sine"]()
    ts = problem.times(0.25, 0.5, backwards=backwards)
    y0 = problem.solution(ts)[0]
    solver = build(composed, "solver", ours, num_steps=8)
    expected = torchdiffeq.odeint(problem.field(), y0, ts, method=theirs, options={"step_size": 1 / 8})
    torch.testing.assert_close(solver.solve(problem.field(), y0, ts).ys, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:the two states that")  # the field decays
@each_fixed
@pytest.mark.parametrize(
    ("option", "value", "span", "steps"),
    [
        ("step_size", 0.1, (0.0, 1.0), 10),  # 1 / 0.1 rounds to 10, 3 * 0.1 does not to 0.3
        ("step_size", 0.1, (0.0, 0.3), 3),
        ("step_size", 0.1, (1.0, 0.0), 10),
        ("step_size", 0.1, (5.0, 6.0), 10),
        ("step_size", 0.05, (0.0, 1.0), 20),
        ("step_size", 1 / 3, (0.0, 1.0), 3),
        ("step_size", 0.3333333, (0.0, 1.0), 3),  # as one types a third
        ("step_size", 0.7, (0.0, 4.9), 7),
        ("step_size", 0.3, (0.0, 1.0), 4),
        ("step_size", 2.0, (0.0, 1.0), 1),
        ("num_steps", 1, (0.0, 1.0), 1),
        ("num_steps", 7, (0.0, 1.0), 7),
        ("num_steps", 49, (0.0, 1.0), 49),  # 49 * (1 / 49) < 1
        ("num_steps", 10, (0.0, 0.1), 1),
        ("num_steps", 10, (0.2, 0.3), 1),
        ("num_steps", 10, (0.0, 0.25), 3),
        ("num_steps", 5, (0.0, 4.0), 20),
    ],
)
def test_step_counts_are_exact(
    composed: Compose,
    name: str,
    solver: FixedStepSolver,
    option: str,
    value: float,
    span: tuple[float, float],
    steps: int,
) -> None:
    solver = build(composed, "solver", name, **({"num_steps": None, "step_size": None} | {option: value}))
    assert solver.solve(Formula(lambda t, y: -y), torch.ones(1, 1), torch.tensor(span)).accepted == steps


@each_fixed
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounded_output_times_add_no_steps(
    composed: Compose, name: str, solver: FixedStepSolver, dtype: torch.dtype
) -> None:
    ts = torch.linspace(0, 25, 1001, dtype=dtype)
    solver = build(composed, "solver", name, num_steps=None, step_size=0.025)
    assert sum(len(grid) - 1 for grid in solver.grids(ts)) == 1000


@each_fixed
def test_grids_end_exactly_on_the_output_times(solver: FixedStepSolver) -> None:
    ts = torch.tensor([0.1, 0.3, 1.1, math.pi])
    grids = solver.grids(ts)
    assert [(grid[0], grid[-1]) for grid in grids] == [(0.1, 0.3), (0.3, 1.1), (1.1, math.pi)]


@each_runge_kutta
@pytest.mark.parametrize("between", [(), (0.123, 0.5)], ids=["final time", "many times"])
def test_a_fixed_step_costs_its_stages(
    composed: Compose, solver: FixedStepRungeKutta, between: tuple[float, ...]
) -> None:
    problem = oscillating_growth()
    field, ts = problem.field(), problem.times(*between)
    solution = solver.solve(field, problem.exact(0.0), ts)
    assert field.calls == len(solver.tableau.b) * solution.accepted
    assert solution.rejected == 0


def test_explicit_adams_costs_one_evaluation_a_step_after_its_start(composed: Compose) -> None:
    for num_steps in (5, 20):
        field = Formula(lambda t, y: -y)
        solver = build(composed, "solver", "explicit_adams", num_steps=num_steps)
        solver.solve(field, torch.ones(1, 1), torch.tensor([0.0, 1.0]))
        assert field.calls == num_steps + 2 * 3  # two steps of the 3/8 rule, with three more stages each


@each_embedded
@pytest.mark.parametrize("problem", ["oscillating_growth", "linear"])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_an_embedded_pair_costs_what_its_formula_says(
    composed: Compose, name: str, solver: EmbeddedRungeKutta, problem: str, tolerance: float
) -> None:
    posed = PROBLEMS[problem]()
    field, ts = posed.field(), posed.times(*UNEVEN)
    solver = build(composed, "solver", name, rtol=tolerance, atol=tolerance, max_steps=100_000)
    solution = solver.solve(field, posed.solution(ts)[0], ts)
    attempts = solution.accepted + solution.rejected
    afresh = 0 if solver.tableau.first_same_as_last else solution.accepted
    within = sum(step.dense for step in solver.steps(posed.field(), posed.solution(ts)[0], ts))
    expected = 2 + (len(solver.tableau.b) - 1) * attempts + afresh + len(solver.tableau.extra_stages) * within
    assert field.calls == expected


@each_one_step
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_the_steps_of_a_solve_are_its_solution(solver: RungeKutta, backwards: bool) -> None:
    problem = oscillating_growth()
    ts = problem.times(*UNEVEN, backwards=backwards)
    y0 = problem.solution(ts)[0]
    solution, steps = solver.solve(problem.field(), y0, ts), list(solver.steps(problem.field(), y0, ts))
    assert [t for step in steps for t in step.due] == ts.tolist()[1:]
    assert all(before.t1 == after.t0 and before.y1 is after.y0 for before, after in pairwise(steps))
    assert torch.equal(torch.stack([y0, *(y for step in steps for y in solver.outputs(step))]), solution.ys)
    assert (len(steps), sum(step.rejected for step in steps)) == (solution.accepted, solution.rejected)


@each_one_step
def test_a_step_taken_anew_is_the_same_to_the_bit(solver: RungeKutta) -> None:
    problem, solver = linear(), solver.to_be_recomputed()
    for step in solver.steps(problem.field(), problem.exact(0.0), problem.times(*UNEVEN)):
        anew = solver.recompute(problem.field(), step, step.y0)
        assert torch.equal(anew.y1, step.y1)
        pairs = zip(solver.outputs(anew), solver.outputs(step), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


@each_explicit_step
def test_a_step_taken_anew_costs_its_stages(solver: ExplicitRungeKutta) -> None:
    problem = linear()
    for step in solver.steps(problem.field(), problem.exact(0.0), problem.times(*UNEVEN)):
        field = problem.field()
        solver.recompute(field, step, step.y0)
        assert field.calls == solver.tableau.stages + step.dense * (1 + len(solver.tableau.extra_stages))


@pytest.mark.parametrize("name", [*offering(ExplicitRungeKutta), *offering(AdaptiveImplicit)])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_dense_output_is_smooth_and_of_its_order(solver: RungeKutta, backwards: bool) -> None:
    """Exact at both ends and in their slopes; in between as close as so many data allow."""
    problem, errors, tableau = oscillating_growth(), [], solver.tableau
    solver = solver.to_be_recomputed()  # stages to rounding
    longest = 0.4 if tableau.extra_stages else 0.05 if looks_beyond(solver) else 0.1
    for length in (longest, longest / 2):
        start, end = (0.5 + length, 0.5) if backwards else (0.5, 0.5 + length)
        y0, y1 = problem.exact(start), problem.exact(end)
        f0, f1 = (problem.function(torch.tensor(t), y) for t, y in ((start, y0), (end, y1)))
        _, ks = solver.step(problem.field(), start, end, y0, f0)
        step = solver.detailed(problem.field(), Step(t0=start, t1=end, y0=y0, y1=y1, ks=ks, due=[], f1=f1))
        curve = curve_of(solver, step)
        torch.testing.assert_close(torch.cat([curve(start), curve(end)]), torch.cat([y0, y1]))
        slopes = [
            (curve(t + d) - curve(t)) / d for t, d in ((start, (end - start) * 1e-7), (end, (start - end) * 1e-7))
        ]
        torch.testing.assert_close(torch.cat(slopes), torch.cat([f0, f1]), rtol=1e-6, atol=0)  # one-sided differences
        within = [start + (end - start) * x for x in (0.2, 0.4, 0.5, 0.6, 0.8)]
        errors.append(max(float((curve(t) - problem.exact(t)).abs()) for t in within))
    data = 4 + (tableau.middle is not None) + len(tableau.extra_stages)
    assert math.log2(errors[0] / errors[1]) > data - 0.3


@pytest.mark.parametrize("name", [*offering(ExplicitRungeKutta), *offering(AdaptiveImplicit)])
def test_outputs_within_a_step_are_its_dense_output(solver: RungeKutta) -> None:
    problem, within = oscillating_growth(), [0.52, 0.55, 0.59]
    y0 = problem.exact(0.5)
    y1, ks = solver.step(problem.field(), 0.5, 0.6, y0, problem.function(torch.tensor(0.5), y0))
    f1 = problem.function(torch.tensor(0.6), y1)
    bare = Step(t0=0.5, t1=0.6, y0=y0, y1=y1, ks=ks, due=[*within, 0.6], f1=f1)
    step = solver.detailed(problem.field(), bare)
    curve = curve_of(solver, step)
    torch.testing.assert_close(torch.stack(solver.outputs(step)), torch.stack([*map(curve, within), y1]))


def curve_of(solver: RungeKutta, step: Step) -> Callable[[float], Tensor]:
    """As `interpolated` follows it: through the states and slopes at both ends, and what else there is."""
    assert step.f1 is not None
    ends, slopes, middle = (step.y0, step.y1), (step.ks[0], step.f1), solver.middle(step)
    dense = solver.tableau.dense
    curve = dense.curve(step.t1 - step.t0, ends=ends, slopes=slopes, middle=middle, inner=step.inner)
    return lambda t: curve(step.fraction(t))


def test_dense_output_without_the_slope_at_the_end_is_refused(composed: Compose) -> None:
    solver, y0 = build(composed, "solver", "rk4"), torch.ones(1, 1)
    (step,) = build(composed, "solver", "rk4", num_steps=1).steps(
        Formula(lambda t, y: -y), y0, torch.tensor([0.0, 1.0])
    )
    with pytest.raises(ValueError, match="needs the derivative at its end"):
        solver.outputs(replace(step, due=[0.5]))


@each_solver
def test_one_time_point_is_the_beginning_and_costs_nothing(solver: Solver) -> None:
    field = Formula(lambda t, y: -y)
    solution = solver.solve(field, torch.ones(1, 1), torch.tensor([0.3]))
    assert torch.equal(solution.ys, torch.ones(1, 1, 1))
    assert (solution.accepted, field.calls) == (0, 0)


@each_reversible
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("problem", ["sine", "linear", "logistic"])
def test_what_a_reversible_solver_did_can_be_undone(
    composed: Compose, name: str, solver: ReversibleSolver, problem: str, backwards: bool
) -> None:
    posed = PROBLEMS[problem]()
    field, ts = posed.field(), posed.times(*UNEVEN, backwards=backwards)
    solver = build(composed, "solver", name, num_steps=30)
    before = solver.begin(field, float(ts[0]), posed.solution(ts)[0])
    _, carried = solver.solve_noting_steps(field, before[0], ts)
    for grid in reversed(solver.grids(ts)):
        for t1, t0 in pairwise(reversed(grid)):
            carried = solver.reverse_step(field, t0, t1, carried)
    torch.testing.assert_close(carried, before, rtol=1e-10, atol=1e-10)


@each_reversible
def test_a_reversible_step_costs_the_same_either_way(solver: ReversibleSolver) -> None:
    field, y0 = Formula(lambda t, y: -y), torch.ones(1, 1)
    carried = solver.begin(field, 0.0, y0)
    beginning = field.calls
    carried = solver.reversible_step(field, 0.0, 0.1, carried)
    step = field.calls - beginning
    solver.reverse_step(field, 0.0, 0.1, carried)
    assert field.calls == beginning + 2 * step
    again = Formula(lambda t, y: -y)
    accepted = solver.solve(again, y0, torch.tensor([0.0, 0.7, 1.0])).accepted
    assert again.calls == beginning + step * accepted


@each_reversible
def test_a_solve_whose_two_states_part_warns(name: str, solver: ReversibleSolver) -> None:
    """A decay takes them apart, whatever the steps; a rotation does not."""
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    y0, ts = torch.ones(3, 2), torch.tensor([0.0, 4.0, 8.0])
    assert solver.solve(Formula(lambda t, y: y @ turn), y0, ts).ys.abs().max() < 2
    with pytest.warns(UserWarning, match=f"the two states that {solver.shown_name} carries are more than half"):
        ys = solver.solve(Formula(lambda t, y: -6 * y), y0, ts).ys
    assert ys[-1].abs().max() > 0.1, "a warning that nobody needed"


@pytest.mark.parametrize("base", offering(FixedStepRungeKutta))
def test_a_coupling_has_the_order_of_its_base_at_twice_the_price(composed: Compose, base: str) -> None:
    posed, counts = PROBLEMS["sine"](), (20, 40, 80)
    made = [
        build(composed, "solver", "mccallum_foster", num_steps=n, base=own_options(composed, "solver", base))
        for n in counts
    ]
    found = slope([1 / n for n in counts], [error_of(solver, posed, posed.times()) for solver in made])
    assert found == pytest.approx(made[0].base.order, abs=0.3)
    field = posed.field()
    solution = made[0].solve(field, posed.solution(posed.times())[0], posed.times())
    assert field.calls == 2 * made[0].base.tableau.stages * solution.accepted


@pytest.mark.parametrize("coupling", [0.0, -0.1, 1.01, math.nan])
def test_a_senseless_coupling_is_refused(composed: Compose, coupling: float) -> None:
    with pytest.raises(
        RefusedInput, match=r"solver\.coupling must be above 0 and at most 1|solver\.coupling=nan is no finite number"
    ):
        build(composed, "solver", "mccallum_foster", coupling=coupling)


def test_a_coupling_couples_fixed_step_methods_only(composed: Compose) -> None:
    with pytest.raises(
        RefusedInput,
        match=r"solver\.base takes an explicit Runge-Kutta method of fixed step, and dopri5 is adaptive\. Use solver@",
    ):
        build(composed, "solver", "mccallum_foster", base=own_options(composed, "solver", "dopri5"))
    with pytest.raises(RefusedInput, match=r"solver\.base\.num_steps must be at least 1"):
        build(composed, "solver", "mccallum_foster", base=own_options(composed, "solver", "rk4") | {"num_steps": 0})


@each_adaptive
def test_a_sudden_change_is_met_with_rejected_steps(solver: AdaptiveSolver) -> None:
    field = Formula(lambda t, y: torch.where(t > 0.6, 50.0, 0.0).expand_as(y))
    solution = solver.solve(field, torch.ones(1, 1), torch.tensor([0.0, 1.0]))
    assert solution.rejected > 0


@each_adaptive
def test_output_times_move_no_step_and_cost_the_places_of_dense_output_at_most(solver: AdaptiveSolver) -> None:
    problem = linear()
    few, many = problem.field(), problem.field()
    y0, ts = problem.exact(0.0), problem.times(*UNEVEN)
    alone = solver.solve(few, y0, problem.times())
    within = solver.solve(many, y0, ts)
    assert torch.equal(alone.ys[-1], within.ys[-1])
    assert (alone.accepted, alone.rejected) == (within.accepted, within.rejected)
    if isinstance(solver, ImplicitSolver):
        assert many.calls >= few.calls  # as many as Newton's method needs
        return
    places = len(solver.tableau.extra_stages) if isinstance(solver, RungeKutta) else 0
    dense = sum(step.dense for step in solver.steps(problem.field(), y0, ts)) if places else 0
    assert many.calls == few.calls + places * dense


@pytest.mark.sampled(3)
@each_solver
def test_thousands_of_output_times_are_served(solver: Solver) -> None:
    problem = oscillating_growth()
    ts = torch.linspace(*problem.span, 2001)
    assert error_of(solver, problem, ts) < 0.1  # at the tolerance or step of the yaml, which are loose


@each_solver
def test_many_outputs_end_where_one_does(solver: Solver) -> None:
    problem = linear()
    y0 = problem.exact(0.0)
    alone = solver.solve(problem.field(), y0, problem.times()).ys
    halves = solver.solve(problem.field(), y0, problem.times(0.25, 0.5)).ys
    torch.testing.assert_close(alone[-1], halves[-1])
    assert torch.equal(halves[0], y0)


@each_solver
@pytest.mark.parametrize("start", [0.0, 1.0, -3.0])
@pytest.mark.parametrize("length", [1e-9, -1e-9, 1e-12])
def test_a_tiny_span_is_one_small_step(solver: Solver, start: float, length: float) -> None:
    field = Formula(lambda t, y: 2 * y)
    solution = solver.solve(field, torch.ones(1, 1), torch.tensor([start, start + length]))
    assert solution.accepted == 1
    assert float(solution.ys[-1]) - 1 == pytest.approx(2 * length, abs=1e-14)


@each_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_field_sees_time_and_state_in_the_states_type(solver: Solver, dtype: torch.dtype) -> None:
    field = Formula(lambda t, y: -y * t)
    ys = solver.solve(field, torch.ones(2, 3, dtype=dtype), torch.tensor([0.0, 0.4, 1.0], dtype=dtype)).ys
    assert field.dtypes == {dtype}
    assert ys.dtype is dtype


@each_solver
def test_images_are_solved_like_vectors(solver: Solver) -> None:
    y0, ts = torch.rand(2, 3, 4, 5), torch.tensor([0.0, 0.4, 1.0])
    images = solver.solve(Formula(lambda t, y: -y * torch.cos(t)), y0, ts).ys
    vectors = solver.solve(Formula(lambda t, y: -y * torch.cos(t)), y0.flatten(1), ts).ys
    torch.testing.assert_close(images.flatten(2), vectors)


@pytest.mark.sampled(14)
@each_solver
def test_there_and_back_again(composed: Compose, name: str, solver: Solver) -> None:
    finer: dict[str, Any] = {"num_steps": 200} if isinstance(solver, FixedStepSolver) else {"rtol": 1e-6, "atol": 1e-6}
    solver = build(composed, "solver", name, **finer, **({} if "num_steps" in finer else {"max_steps": 100_000}))
    problem = oscillating_growth()
    there = solver.solve(problem.field(), problem.exact(0.0), problem.times()).ys[-1]
    back = solver.solve(problem.field(), there, problem.times(backwards=True)).ys[-1]
    torch.testing.assert_close(back, problem.exact(0.0), rtol=0, atol=0.02)  # Euler's, with 200 steps per unit


@each_adaptive
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("onset", [0.0, 0.4], ids=["at once", "later"])
def test_a_field_that_is_not_finite_is_named_as_the_cause(solver: AdaptiveSolver, bad: float, onset: float) -> None:
    field = Formula(lambda t, y: y * bad if t >= onset else -y)
    with pytest.raises(SolverFailed, match=r"stopped at t=.*\|y\|=.*last steps.*: the field returned NaN or infinity"):
        solver.solve(field, torch.ones(1, 1), torch.tensor([0.0, 1.0]))
    assert field.calls < 14 * 200  # it gives up long before solver.max_steps


@each_adaptive
def test_a_state_that_is_not_finite_is_refused_at_once(solver: AdaptiveSolver) -> None:
    field = Formula(lambda t, y: -y)
    with pytest.raises(SolverFailed, match="NaN or infinity"):
        solver.solve(field, torch.full((1, 1), math.nan), torch.tensor([0.0, 1.0]))
    assert field.calls <= 2


@each_adaptive
def test_a_field_too_large_to_square_is_a_solver_failure(solver: AdaptiveSolver) -> None:
    with pytest.raises(SolverFailed, match="steps shrank to nothing"):
        solver.solve(Formula(lambda t, y: y * 1e200), torch.ones(1, 1), torch.tensor([0.0, 1.0]))


@each_adaptive
def test_a_solution_that_runs_away_shrinks_the_steps_to_nothing(
    composed: Compose, name: str, solver: AdaptiveSolver
) -> None:
    solver = build(composed, "solver", name, max_steps=100_000)
    with pytest.raises(SolverFailed, match="steps shrank to nothing, so the .*Loosen the tolerances"):
        solver.solve(Formula(lambda t, y: y * y), torch.ones(1, 1), torch.tensor([0.0, 2.0]))


@each_embedded
def test_a_stiff_field_reaches_the_step_limit(composed: Compose, name: str, solver: EmbeddedRungeKutta) -> None:
    problem = relaxation(rate=1e6)
    field = problem.field()
    solver = build(composed, "solver", name, max_steps=50)
    with pytest.raises(SolverFailed, match="limit solver.max_steps=50 was reached"):
        solver.solve(field, problem.exact(0.0), problem.times())
    assert field.calls <= 2 + 14 * 50


@each_adaptive
def test_exactly_the_step_limit_suffices(composed: Compose, name: str, solver: AdaptiveSolver) -> None:
    problem = linear()
    taken = solver.solve(problem.field(), problem.exact(0.0), problem.times())
    attempts = taken.accepted + taken.rejected
    exact = build(composed, "solver", name, max_steps=attempts)
    assert torch.equal(exact.solve(problem.field(), problem.exact(0.0), problem.times()).ys, taken.ys)
    with pytest.raises(SolverFailed, match="max_steps"):
        build(composed, "solver", name, max_steps=attempts - 1).solve(
            problem.field(), problem.exact(0.0), problem.times()
        )


@each_embedded
def test_a_first_step_that_is_given_saves_the_search_for_it(solver: EmbeddedRungeKutta) -> None:
    problem = oscillating_growth()
    sought, given = problem.field(), problem.field()
    before = solver.solve(sought, problem.exact(0.0), problem.times())
    solution = replace(solver, first_step=1e-4).solve(given, problem.exact(0.0), problem.times())
    assert 0 < given.times[1] <= 1e-4 < before.next_step
    stages, attempts = len(solver.tableau.b) - 1, solution.accepted + solution.rejected
    afresh = 0 if solver.tableau.first_same_as_last else solution.accepted
    assert given.calls == 1 + stages * attempts + afresh


@each_adaptive
def test_step_control_goes_on_where_another_solve_ended(solver: AdaptiveSolver) -> None:
    if isinstance(solver, TorchdiffeqPair):
        pytest.skip("keeps the next step to itself")
    problem = linear()
    first = solver.solve(problem.field(), problem.exact(0.0), torch.tensor([0.0, 1.0]))
    field = problem.field()
    second = replace(solver, first_step=first.next_step).solve(field, first.ys[-1], torch.tensor([1.0, 1.01]))
    assert (second.accepted, second.rejected) == (1, 0)
    assert second.next_step >= first.next_step  # a step cut short by the end does not count against the next


@each_adaptive
@pytest.mark.parametrize("value", [0.0, -1e-3, math.nan, math.inf])
@pytest.mark.parametrize("option", ["rtol", "atol", "first_step"])
def test_senseless_tolerances_are_refused(
    composed: Compose, name: str, solver: AdaptiveSolver, option: str, value: float
) -> None:
    with pytest.raises(
        RefusedInput, match=rf"solver\.{option} must be positive|solver\.{option}=(nan|inf) is no finite number"
    ):
        build(composed, "solver", name, **{option: value})


def test_what_is_said_to_make_steps_finer_is_an_option_of_the_solver(composed: Compose) -> None:
    for name in options("solver"):
        solver: Solver = build(composed, "solver", name)
        said = re.findall(r"solver\.(\w+)=", solver.finer)
        assert set(said) <= own_options(composed, "solver", name).keys(), name
        assert ("tolerance" in solver.finer) == isinstance(solver, AdaptiveSolver), name


@each_fixed
@pytest.mark.parametrize(
    ("num_steps", "step_size", "sentence"),
    [
        (None, None, "exactly one"),
        (10, 0.1, "exactly one"),
        (0, None, "num_steps must be at least 1"),
        (-3, None, "num_steps must be at least 1"),
        (None, 0.0, "step_size must be positive"),
        (None, -0.1, "step_size must be positive"),
        (None, math.nan, "step_size=nan is no finite number"),
        (None, math.inf, "step_size=inf is no finite number"),
    ],
)
def test_senseless_grids_are_refused(
    composed: Compose,
    name: str,
    solver: FixedStepSolver,
    num_steps: int | None,
    step_size: float | None,
    sentence: str,
) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        build(composed, "solver", name, num_steps=num_steps, step_size=step_size)


EXPLICIT = offering(FixedStepRungeKutta)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", EXPLICIT)
@pytest.mark.parametrize("backwards", [False, True])
def test_outputs_do_not_move_the_steps_of_an_explicit_fixed_grid(composed: Compose, name: str, backwards: bool) -> None:
    solver, problem = build(composed, "solver", name, num_steps=5), sine()
    alone, many = (problem.times(*places, backwards=backwards) for places in ((), (0.1, 0.23, 0.5, 0.501, 0.97)))
    counts, lasts = [], []
    for ts in (alone, many):
        field = problem.field()
        lasts.append(solver.solve(field, problem.exact(float(ts[0])), ts).ys[-1])
        counts.append(field.calls)
    torch.testing.assert_close(lasts[0], lasts[1])
    assert counts == [10 * len(solver.tableau.b), 10 * len(solver.tableau.b) + 1], (
        "the slope at the end of the last step"
    )


@pytest.mark.sampled(5)
@each_one_step
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_outputs_within_even_steps_are_of_the_methods_order(solver: RungeKutta, backwards: bool) -> None:
    if isinstance(solver, ImplicitSolver) and isinstance(solver, AdaptiveSolver):
        solver = replace(solver, rtol=1e-12, atol=1e-12)  # of Newton's method, whose error would be seen
    counts = (8, 16, 32) if solver.order > 5 else (32, 64, 128)
    errors = [error_within(solver, sine(), steps, backwards=backwards) for steps in counts]
    assert slope([1 / n for n in counts], errors) > solver.order - 0.3


def error_within(solver: RungeKutta, problem: Problem, steps: int, *, backwards: bool) -> float:
    """Largest error of the dense output of so many even steps, one after another."""
    field, ends, errors = problem.field(), torch.linspace(*problem.times(backwards=backwards).tolist(), steps + 1), []
    y0 = problem.exact(float(ends[0]))
    for t0, t1 in pairwise(ends.tolist()):
        due = [t0 + x * (t1 - t0) for x in (0.1, 0.23, 0.5, 0.64, 0.9)]
        y1, ks = solver.step(field, t0, t1, y0, field(torch.tensor(t0), y0))
        bare = Step(t0=t0, t1=t1, y0=y0, y1=y1, ks=ks, due=due, f1=field(torch.tensor(t1), y1))
        ys = solver.outputs(solver.detailed(field, bare))
        errors += [float((y - problem.exact(t)).abs().max()) for y, t in zip(ys, due, strict=True)]
        y0 = y1
    return max(errors)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", EXPLICIT)
def test_outputs_within_the_steps_of_a_fixed_grid_are_of_the_methods_order(composed: Compose, name: str) -> None:
    problem, errors, sizes = sine(), [], (16, 32, 64, 128)
    ts = problem.times(0.1234, 0.4567, 0.8901)
    for steps in sizes:
        ys = build(composed, "solver", name, num_steps=steps).solve(problem.field(), problem.exact(1.0), ts).ys
        errors.append(float((ys - problem.solution(ts))[1:-1].abs().max()))
    order = build(composed, "solver", name).order
    assert -slope(list(map(float, sizes)), errors) > order - 0.3


@pytest.mark.parametrize("mode", options("gradient"))
def test_the_smallest_step_is_that_of_the_steps_chosen(composed: Compose, mode: str) -> None:
    solver = build(composed, "solver", "dopri5", rtol=1e-6, atol=1e-6)
    gradient, field, ts = build(composed, "gradient", mode), SmallNet(), torch.tensor([0.0, 3.0])
    if not gradient.takes(type(solver)):
        pytest.skip("the two do not go together")
    y0 = torch.randn(2, 3)
    with torch.no_grad():
        lengths = [step.t1 - step.t0 for step in solver.steps(field, y0, ts)]
    integrate = Integrator(solver=solver, gradient=gradient)
    with integrate.ledger.phase(Phase.FORWARD) as tally:
        integrate(field, y0, ts)
        assert tally.smallest_step == min(lengths[:-1])
        integrate(field, y0, ts.flip(0))
    assert len(lengths) > 2
    assert 0 < tally.smallest_step <= min(lengths[:-1])
    assert integrate.ledger.totals[Phase.FORWARD].smallest_step == tally.smallest_step


def test_a_fixed_grid_chooses_no_step(composed: Compose) -> None:
    solver, ts = build(composed, "solver", "rk4"), torch.tensor([0.0, 1.0])
    assert solver.solve(SmallNet(), torch.randn(2, 3), ts).smallest_step is None
