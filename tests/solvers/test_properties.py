"""What every solver owes, whatever its kind: put to the symplectic and SciPy's as well, on separable fields."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.func import functional_call, jacrev, jvp, vmap

from ode_runner.errors import SolverFailed
from ode_runner.fields.structured_field import SeparableField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.solvers.base import FixedStepSolver, Solver
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.libraries.torchdiffeq_pair import TorchdiffeqPair
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from tests.helpers import options
from tests.problems import Compose, Formula, SmallNet, build, named_class, offering

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning"),  # torch's own, at its first jvp
]

SOLVERS = [name for name in options("solver") if issubclass(SeparableField, named_class("solver", name).fields)]
each_solver = pytest.mark.parametrize("name", SOLVERS)  # that solves ordinary equations: samplers step elsewhere
IMPLICIT = [name for name in SOLVERS if issubclass(named_class("solver", name), ImplicitSolver)]
each_patiently = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in IMPLICIT else name for name in SOLVERS]
)
each_adaptive = pytest.mark.parametrize("name", offering(AdaptiveRungeKutta))
each_fixed_explicit = pytest.mark.parametrize("name", offering(FixedStepRungeKutta))
QUARTER = (0.0, 0.5, 1.0)


class Newtonian(SeparableField):
    """q' = p, p' = force(q)."""

    def __init__(self, force: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.force = force
        self.calls = 0

    def drift(self, t: Tensor, p: Tensor) -> Tensor:
        self.calls += 1
        return p

    def kick(self, t: Tensor, q: Tensor) -> Tensor:
        self.calls += 1
        return self.force(q)


@pytest.fixture
def solver(composed: Compose, name: str) -> Solver:
    return build(composed, "solver", name)


@pytest.fixture
def fine(composed: Compose, name: str, solver: Solver) -> Solver:
    """So that Euler's method is within two hundredths."""
    if isinstance(solver, FixedStepSolver):
        return build(composed, "solver", name, num_steps=100)
    return build(composed, "solver", name, rtol=1e-5, atol=1e-5, max_steps=100_000)


def oscillator() -> Newtonian:
    return Newtonian(lambda q: -q)


def rotated(t: Tensor) -> Tensor:
    """The oscillator from (0, 1): (time, 1, 2)."""
    return torch.stack([t.sin(), t.cos()], dim=-1)[:, None]


BEGIN = torch.tensor([[0.0, 1.0]], dtype=torch.float64)


@each_solver
@pytest.mark.parametrize("times", [2, 3])
def test_no_time_leaves_the_state_as_it_is(solver: Solver, times: int) -> None:
    ys = solver.solve(oscillator(), BEGIN, torch.full((times,), 0.5)).ys
    assert torch.equal(ys, BEGIN.expand(times, 1, 2))


@each_solver
def test_one_time_is_the_beginning_and_costs_nothing(solver: Solver) -> None:
    field = oscillator()
    solution = solver.solve(field, BEGIN, torch.tensor([0.5]))
    assert torch.equal(solution.ys, BEGIN[None])
    assert (solution.accepted, field.calls) == (0, 0)


@pytest.mark.sampled(7)
@each_patiently
def test_thousands_of_outputs_lie_on_the_solution(fine: Solver) -> None:
    ts = torch.linspace(0, 1, 2001)
    torch.testing.assert_close(fine.solve(oscillator(), BEGIN, ts).ys, rotated(ts), rtol=0, atol=0.02)


@each_patiently
@pytest.mark.parametrize("start", [pytest.param(-1e4, marks=pytest.mark.slow), 1e6])
def test_a_clock_far_from_zero_does_not_disturb_what_ignores_it(fine: Solver, start: float) -> None:
    """In single precision a time of a million is known to a sixteenth; the steps must not be."""
    if isinstance(fine, TorchdiffeqPair):
        pytest.skip("its clock ticks in the type of the times")
    ts = torch.tensor([start + t for t in QUARTER], dtype=torch.float32)
    ys = fine.solve(oscillator(), BEGIN.float(), ts).ys
    torch.testing.assert_close(ys, rotated(torch.tensor(QUARTER)).float(), rtol=0, atol=0.02)


@cache
def past_a_kink() -> Tensor:
    solved = solve_ivp(
        lambda t, y: (y[1], -abs(y[0]) - 0.5), (0, 2), (0.3, 0.4), method="DOP853", rtol=1e-10, atol=1e-12
    )
    return torch.tensor(solved.y[:, -1])[None]


@each_patiently
def test_a_kink_on_the_way_is_passed(fine: Solver) -> None:
    ys = fine.solve(Newtonian(lambda q: -q.abs() - 0.5), torch.tensor([[0.3, 0.4]]), torch.tensor([0.0, 2.0])).ys
    torch.testing.assert_close(ys[-1], past_a_kink(), rtol=0, atol=0.05)  # Euler's at 100 steps a unit


@pytest.mark.sampled(6)
@each_solver
def test_a_region_without_values_is_never_crossed_in_silence(solver: Solver) -> None:
    """From q = 0 at speed 1 to where the force is NaN: a failure in words, or NaN from there on."""
    field = Newtonian(lambda q: torch.where(q > 0.5, torch.nan, 0.0 * q))
    try:
        ys = solver.solve(field, BEGIN, torch.tensor([0.0, 0.25, 1.0])).ys
    except SolverFailed as failure:
        ys, said = None, str(failure)
    if ys is None:
        assert "NaN" in said or "last steps" in said
        return
    torch.testing.assert_close(ys[1], torch.tensor([[0.25, 1.0]]))
    assert not ys[-1].isfinite().all()


@each_adaptive
def test_a_step_that_stumbles_into_such_a_region_is_taken_back(solver: AdaptiveRungeKutta) -> None:
    field = Formula(lambda t, y: torch.where(y < -0.2, torch.nan, -10 * y))
    solution = replace(solver, first_step=1.0, rtol=1e-5, atol=1e-5).solve(
        field, torch.ones(1, 1), torch.tensor([0.0, 1.0])
    )
    assert float(solution.ys[-1]) == pytest.approx(
        math.exp(-10), abs=0.01
    )  # a thousand times the tolerance: Fehlberg's eye


@each_fixed_explicit
@pytest.mark.parametrize(
    "times", [pytest.param((0.0, 1.0), marks=pytest.mark.slow), (0.0, 0.37, 1.0)], ids=["final time", "off the grid"]
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch 2.11's own, at its first jvp
class TestFunctorch:
    """torch.func goes through explicit solves on a fixed grid."""

    def test_solves_are_mapped_over_beginnings(self, solver: Solver, times: tuple[float, ...]) -> None:
        net, y0, ts = SmallNet(), torch.randn(5, 2, 3), torch.tensor(times)
        together = vmap(lambda y: solver.solve(net, y, ts).ys)(y0)
        torch.testing.assert_close(together, torch.stack([solver.solve(net, y, ts).ys for y in y0]))

    def test_solves_are_mapped_over_parameters(self, solver: Solver, times: tuple[float, ...]) -> None:
        net, y0, ts = SmallNet(), torch.randn(2, 3), torch.tensor(times)
        many = {
            name: torch.stack([p.detach() * scale for scale in (0.5, 1.0, 2.0)]) for name, p in net.named_parameters()
        }
        together = vmap(solved(solver, net, y0, ts))(many)
        one_by_one = [solved(solver, net, y0, ts)({name: p[i] for name, p in many.items()}) for i in range(3)]
        torch.testing.assert_close(together, torch.stack(one_by_one))

    def test_tangents_are_pushed_from_the_beginning_and_the_parameters(
        self, solver: Solver, times: tuple[float, ...]
    ) -> None:
        net, y0, ts = SmallNet(), torch.randn(2, 3), torch.tensor(times)
        named = {name: p.detach() for name, p in net.named_parameters()}
        units = {name: torch.randn_like(p) for name, p in named.items()}
        direction = torch.randn_like(y0)

        def moved(shift: float) -> Tensor:
            shifted = {name: p + shift * units[name] for name, p in named.items()}
            return solved(solver, net, y0 + shift * direction, ts)(shifted)

        def solve(y: Tensor, own: dict[str, Tensor]) -> Tensor:
            return solved(solver, net, y, ts)(own)

        _, tangent = jvp(solve, (y0, named), (direction, units))
        torch.testing.assert_close(tangent, (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-6, atol=1e-8)  # cancellation

    def test_an_integrator_is_mapped_and_has_a_jacobian(self, solver: Solver, times: tuple[float, ...]) -> None:
        net, y0, ts = SmallNet(), torch.randn(2, 3), torch.tensor(times)
        integrate = Integrator(solver=solver, gradient=Backprop())
        mapped = vmap(lambda y: integrate(net, y[None], ts).ys[:, 0], out_dims=1)(y0)
        torch.testing.assert_close(mapped, integrate(net, y0, ts).ys)
        jacobian = jacrev(lambda y: integrate(net, y, ts).ys[-1])(y0)
        assert not jacobian[0, :, 1].any()  # samples do not interact


def solved(solver: Solver, net: SmallNet, y0: Tensor, ts: Tensor) -> Callable[[dict[str, Tensor]], Any]:
    """The solve as a function of the network's parameters."""
    return lambda named: solver.solve(Formula(lambda t, y: functional_call(net, named, (t, y))), y0, ts).ys
