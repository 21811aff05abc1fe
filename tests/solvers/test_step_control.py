"""Step control: the controllers, their limits, and that the usual one is what it has always been."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from ode_runner.config.help import conf_dir
from ode_runner.errors import RefusedInput, SolverFailed
from ode_runner.solvers.embedded import AdaptiveRungeKutta, EmbeddedRungeKutta
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.dopri8 import Dopri8
from ode_runner.solvers.step_control import FILTERS, Controller, RowControllers, StepControl
from tests.detest import DETEST, END
from tests.problems import Compose, Formula, build, offering, oscillating_growth, relaxation

pytestmark = pytest.mark.usefixtures("float64")

each_adaptive = pytest.mark.parametrize("name", offering(AdaptiveRungeKutta))
each_explicit = pytest.mark.parametrize("name", offering(EmbeddedRungeKutta))


@pytest.fixture
def solver(composed: Compose, name: str) -> AdaptiveRungeKutta:
    return build(composed, "solver", name)


def controller(order: int = 5, **options: Any) -> Controller:
    return Controller(StepControl(**options), order=order)


def test_the_yaml_and_the_class_say_the_same() -> None:
    assert dict(OmegaConf.load(conf_dir() / "solver" / "control" / "default.yaml")) == vars(StepControl())


@each_adaptive
def test_every_adaptive_one_step_solver_offers_every_option(solver: AdaptiveRungeKutta) -> None:
    assert {option.name for option in fields(StepControl)} <= {option.name for option in fields(solver)}


@pytest.mark.parametrize("order", [2, 3, 5, 8])
def test_the_usual_controller_is_torchdiffeqs(order: int) -> None:
    usual = controller(order)
    for error in (0.0, 1e-9, 0.01, 0.5, 0.7, 1.0, 1.001, 3.0, 1e4, math.inf):
        expected = 10.0 if error == 0 else min(10.0, max(0.9 * error ** (-1 / order), 1.0 if error <= 1 else 0.2))
        assert usual.next(0.1, error) == 0.1 * expected


@pytest.mark.parametrize("control", FILTERS)
def test_a_constant_error_settles_at_a_constant_step(control: str) -> None:
    """At the error where safety and filter cancel, whatever the controller's memory; 0.9 ** (5 / sum of powers)."""
    settled = 0.9 ** (5 / sum(FILTERS[control]))
    steady, dt = controller(control=control), 0.1
    for _ in range(4):
        dt = steady.next(dt, settled)
    assert steady.next(dt, settled) == pytest.approx(dt)


@pytest.mark.parametrize("control", ["pi", "pid"])
def test_a_rising_error_holds_the_step_back(control: str) -> None:
    """The usual controller does not see whether an error of a half was reached from below or from above."""
    rising, falling = controller(control=control), controller(control=control)
    for error in (0.1, 0.3):
        rising.next(0.1, error)
    for error in (0.9, 0.7):
        falling.next(0.1, error)
    assert rising.next(0.1, 0.5) < falling.next(0.1, 0.5)


@pytest.mark.parametrize("options", [{"control": "pi"}, {"control": "pid"}, {"control": "i", "hold": True}])
def test_no_step_grows_right_after_a_rejected_one(options: dict[str, Any]) -> None:
    careful = controller(**options)
    dt = careful.next(0.1, 4.0)
    assert dt < 0.1
    assert careful.next(dt, 1e-3) == dt
    assert careful.next(dt, 1e-3) > dt


def evaluations(field: Formula, end: float, **options: Any) -> int:
    """Of dopri8 at 1e-10, on one component from 1."""
    solver = Dopri8(rtol=1e-10, atol=1e-10, max_steps=10_000, **options)
    solver.solve(field, torch.ones(1, 1), torch.tensor([0.0, end]))
    return field.calls


def test_a_jump_in_time_takes_less_where_steps_are_held_back(composed: Compose) -> None:
    """DOP853, which does so, takes 770 evaluations."""

    def jump() -> Formula:
        return Formula(lambda t, y: torch.where(t < 1, -y, 10 - y))

    assert evaluations(jump(), 2.0, hold=True) < 0.7 * evaluations(jump(), 2.0)
    assert build(composed, "solver", "dopri8").hold
    assert not build(composed, "solver", "dopri5").hold, "torchdiffeq's counts"


@pytest.mark.parametrize("problem", ["B1", "D5"])
def test_a_smooth_problem_takes_no_more_where_steps_are_held_back(problem: str) -> None:
    posed, found = DETEST[problem], []
    for hold in (False, True):
        field, solver = posed.field(), Dopri8(rtol=1e-5, atol=1e-5, max_steps=10_000, hold=hold)
        solver.solve(field, posed.y0(), torch.tensor([0.0, END]))
        found.append(field.calls)
    assert found[1] <= found[0]


@pytest.mark.parametrize("control", FILTERS)
@pytest.mark.parametrize("error", [0.0, 1e-12, 1e12, math.inf])
def test_a_step_changes_within_its_limits(control: str, error: float) -> None:
    limited = controller(control=control, shrink=0.5, grow=3.0)
    assert limited.next(1.0, error) == (0.5 if error > 1 else 3.0)


@pytest.mark.sampled(1)
@each_explicit
def test_the_trend_settles_at_the_stability_limit_where_the_last_error_alone_swings(solver: EmbeddedRungeKutta) -> None:
    problem, rejected, calls = relaxation(1000.0), {}, {}
    blindness = 1 / max(map(abs, solver.tableau.b_error))  # Fehlberg's pair sees 1/512 of a difference
    for control in FILTERS:
        field = problem.field()
        fine = replace(solver, rtol=1e-4, atol=1e-4, max_steps=10_000, control=control)
        solution = fine.solve(field, problem.exact(0.0), problem.times())
        rejected[control], calls[control] = solution.rejected, field.calls
        assert float((solution.ys[-1] - problem.exact(2.0)).abs()) < 10 * blindness * 1e-4  # ten times the tolerance
    assert max(rejected["pi"], rejected["pid"]) < rejected["i"] / 3  # Fehlberg's pair; 1 for the others
    assert max(calls["pi"], calls["pid"]) < calls["i"]


@each_explicit
@pytest.mark.parametrize("control", ["pi", "pid"])
def test_one_solver_serves_many_solves_alike(solver: AdaptiveRungeKutta, control: str) -> None:
    """What control remembers belongs to a solve, not to the solver."""
    solver, problem = replace(solver, control=control), oscillating_growth()
    first, second = (solver.solve(problem.field(), problem.exact(0.0), problem.times(0.3)) for _ in range(2))
    assert torch.equal(first.ys, second.ys)
    assert first.next_step == second.next_step


@each_adaptive
def test_no_step_is_longer_than_allowed(solver: AdaptiveRungeKutta) -> None:
    problem = oscillating_growth()
    solver = replace(solver, max_step=0.03, rtol=1e-2, atol=1e-2)
    steps = list(solver.steps(problem.field(), problem.exact(0.0), problem.times()))
    assert max(step.t1 - step.t0 for step in steps) <= 0.03 * 1.01  # the last one may take a sliver along
    assert len(steps) >= 66


@each_adaptive
def test_a_step_that_would_have_to_be_shorter_than_allowed_ends_the_solve(solver: AdaptiveRungeKutta) -> None:
    field = Formula(lambda t, y: 1000 * torch.cos(1000 * t).expand_as(y))
    solver = replace(solver, min_step=0.05, rtol=1e-5, atol=1e-5)
    with pytest.raises(SolverFailed, match=r"asks for steps shorter than solver\.min_step=0\.05"):
        solver.solve(field, torch.ones(1, 1), torch.tensor([0.0, 1.0]))
    assert solver.refined().min_step is None


def test_a_first_step_keeps_to_the_limits() -> None:
    limits = {"rtol": 1e-3, "atol": 1e-3, "max_steps": 100}
    for options, expected in (({"min_step": 0.02}, 0.02), ({"max_step": 1e-4, "max_steps": 20_000}, 1e-4)):
        solver = Dopri5(**{**limits, **options}, first_step=1e-3)
        first = next(iter(solver.steps(Formula(lambda t, y: -y), torch.ones(1, 1), torch.tensor([0.0, 1.0]))))
        assert first.t1 - first.t0 == pytest.approx(expected)


@pytest.mark.parametrize("name", offering(AdaptiveRungeKutta)[:1])  # all inherit what refuses
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"control": "pd"}, "solver.control=pd is no i or pi or pid"),
        ({"safety": 0.0}, "solver.safety must be above 0 and below 1, not 0.0"),
        ({"safety": 1.0}, "solver.safety must be above 0 and below 1"),
        ({"shrink": 1.0}, "solver.shrink must be above 0 and below 1"),
        ({"shrink": math.nan}, "solver.shrink=nan is no finite number"),
        ({"grow": 1.0}, "solver.grow must be above 1 and finite"),
        ({"grow": math.inf}, "solver.grow=inf is no finite number"),
        ({"min_step": 0.0}, "solver.min_step must be positive or null"),
        ({"max_step": -1.0}, "solver.max_step must be positive or null"),
        ({"min_step": 0.2, "max_step": 0.1}, "solver.min_step=0.2 is longer than solver.max_step=0.1"),
    ],
)
def test_senseless_control_is_refused(composed: Compose, name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedInput) as refusal:
        build(composed, "solver", name, **options)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("limits", [{}, {"min_step": 1e-3, "max_step": 0.5}], ids=["free", "limited"])
@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("control", FILTERS)
def test_control_of_rows_is_control_of_each_to_the_bit(control: str, hold: bool, limits: dict[str, float]) -> None:
    """Also where some rows are left out of a round, and where some have left."""
    options = StepControl(control=control, hold=hold, **limits)
    rows, order, draw = 37, 5, torch.Generator().manual_seed(1)
    dts = torch.rand(rows, generator=draw, dtype=torch.float64)
    each = [Controller(options, order=order) for _ in range(rows)]
    together = RowControllers(options, order=order, rows=rows)
    dts = together.first(dts)
    sizes = [one.first(float(dt)) for one, dt in zip(each, dts, strict=True)]
    for turn in range(8):
        errors = torch.exp(6 * torch.randn(len(each), generator=draw, dtype=torch.float64))
        errors[::7], errors[1::9] = 0.0, torch.inf
        judged = torch.arange(len(each)) % 3 != turn % 3 if turn % 2 else torch.ones(len(each), dtype=torch.bool)
        places = judged.nonzero().flatten()
        some = together.of(places)
        dts = dts.index_put((places,), some.next(dts[places], errors[places]))
        together.put(places, some)
        for i in places.tolist():
            sizes[i] = each[i].next(sizes[i], float(errors[i]))
        assert dts.tolist() == sizes
        stuck = [False] * len(each) if together.stuck is None else together.stuck.tolist()
        assert [stuck[i] for i in places.tolist()] == [each[i].stuck for i in places.tolist()]
        left = torch.arange(turn % 2, len(each))
        together, dts, each, sizes = together.of(left), dts[left], each[turn % 2 :], sizes[turn % 2 :]
