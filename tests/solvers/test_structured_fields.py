"""Fields of several kinds, and the solvers that ask for their parts, their force or their matrix."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Phase
from ode_runner.fields.structured_field import MatrixField, SecondOrderField, SeparableField, SplitField, kind_of
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.symplectic import Symplectic
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.problem import Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.ab2 import AB2
from ode_runner.solvers.explicit.fixed_point_euler import FixedPointEuler
from ode_runner.solvers.markov_chains.expm import Expm
from ode_runner.solvers.splitting.lie import Lie
from ode_runner.solvers.splitting.semi_implicit_euler import SemiImplicitEuler
from ode_runner.solvers.splitting.strang import Strang
from ode_runner.tasks.dynamics.known_problems import HeavyBall
from ode_runner.types import State, Time
from tests.problems import Compose, build, slope

pytestmark = pytest.mark.usefixtures("float64")

GRID = {"step_size": None}
Y0 = ((1.0, 0.5), (-0.3, 0.8))
TS = torch.tensor([0.0, 0.7, 2.0], dtype=torch.float64)


class Driven(SecondOrderField, SplitField):
    """q'' = -k sin q - c q' + a cos 3t, parts of which are the pendulum, and friction with the force from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.c, self.a = (nn.Parameter(torch.tensor(x)) for x in (1.5, 0.4, 0.7))

    def force(self, t: Time, y: State, *given: Tensor) -> State:
        return -self.k * y[:, :1].sin() + self._second(t, y)

    def first_part(self, t: Time, y: State, *given: Tensor) -> State:
        return torch.cat([y[:, 1:], -self.k * y[:, :1].sin()], dim=1)

    def second_part(self, t: Time, y: State, *given: Tensor) -> State:
        second = self._second(t, y)
        return torch.cat([torch.zeros_like(second), second], dim=1)

    def _second(self, t: Time, y: State) -> Tensor:
        return -self.c * y[:, 1:] + self.a * torch.cos(3 * t)


class Learned(MatrixField):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([[-0.2, 1.0], [-0.7, 0.1]]))

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        return self.theta


class Plain(VectorField):
    def forward(self, t: Time, y: State) -> State:
        return -y


def makers() -> dict[str, Any]:
    """Each solver by its number of steps, its order, and its evaluations a step."""
    return {
        "lie": (lambda n: Lie(num_steps=n, substep="heun", **GRID), 1, 2.0),
        "strang": (lambda n: Strang(num_steps=n, substep="heun", **GRID), 2, 3.0),
        "strang by rk4": (lambda n: Strang(num_steps=n, substep="rk4", **GRID), 2, 6.0),
        "strang by euler": (lambda n: Strang(num_steps=n, substep="euler", **GRID), 1, 1.5),
        "semi_implicit_euler": (lambda n: SemiImplicitEuler(num_steps=n, **GRID), 1, 1.0),
    }


each_maker = pytest.mark.parametrize("name", makers())


def solved(solver: Solver, field: VectorField, mode: GradientMode | None = None, **options: Any) -> Solution:
    ts = options.pop("ts", TS)
    return Integrator(solver=solver, gradient=mode or Backprop())(field, torch.tensor(Y0), ts, **options)


def reference(composed: Compose, field: VectorField, **options: Any) -> Solution:
    solver = build(composed, "solver", "dopri8", rtol=1e-12, atol=1e-12, max_steps=10_000)
    return solved(solver, field, **options)


def squares() -> Integral:
    return Integral(lambda t, y, dy, vjp: (y * dy).sum(dim=1) + t * y.square().sum(dim=1), judged=False)


@pytest.mark.sampled(3)
@each_maker
@pytest.mark.parametrize(
    "backwards", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["forwards", "backwards"]
)
def test_errors_of_states_and_integrals_fall_at_the_order_claimed(
    name: str, backwards: bool, composed: Compose
) -> None:
    make, order, _ = makers()[name]
    ts, counts = (TS.flip(0) if backwards else TS), (20, 40, 80, 160)
    assert make(8).order == order
    with torch.no_grad():
        true = reference(composed, Driven(), ts=ts, integrals={"q": squares()})
        found = [solved(make(n), Driven(), ts=ts, integrals={"q": squares()}) for n in counts]
    errors = [float((solution.ys - true.ys).abs().max()) for solution in found]
    of_integrals = [float((solution.integrals["q"] - true.integrals["q"]).abs().max()) for solution in found]
    assert slope([1 / n for n in counts], errors) == pytest.approx(order, abs=0.15)
    assert slope([1 / n for n in counts], of_integrals) > order - 0.15


@each_maker
def test_evaluations_are_those_predicted_and_taking_steps_anew_is_exact(name: str) -> None:
    make, _, each = makers()[name]
    grads, counts = [], []
    for mode in (Backprop(), Checkpoint()):
        field, integrate = Driven(), Integrator(solver=make(10), gradient=mode)
        y0 = torch.tensor(Y0, requires_grad=True)
        with integrate.ledger.phase(Phase.FORWARD) as there:
            solution = integrate(field, y0, TS, integrals={"q": squares()})
        with integrate.ledger.phase(Phase.BACKWARD) as back:
            loss = solution.ys[1:].sin().sum() + solution.integrals["q"][-1].sum()
            grads.append(torch.autograd.grad(loss, [y0, *field.parameters()]))
        counts.append((there.evaluations, there.accepted, back.evaluations))
    assert counts == [(20 * each, 20, 0), (20 * each, 20, 20 * each)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@each_maker
def test_the_gradient_is_that_of_the_solve(name: str) -> None:
    solver, field = makers()[name][0](8), Driven()
    [found] = torch.autograd.grad(solved(solver, field).ys[-1].sum(), field.k)
    ends = []
    for shift in (1e-6, -1e-6):
        moved = Driven()
        with torch.no_grad():
            moved.k += shift
            ends.append(float(solved(solver, moved).ys[-1].sum()))
    assert float(found) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-7)


def test_a_matrix_exponential_is_exact_and_differentiable(composed: Compose) -> None:
    field = Learned()
    true, found = reference(composed, field).ys, solved(Expm(), field).ys
    torch.testing.assert_close(found, true, rtol=1e-10, atol=1e-10)
    assert torch.equal(found[0], torch.tensor(Y0))
    grads = [torch.autograd.grad(ys[1:].square().sum(), field.theta)[0] for ys in (found, true)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)
    backwards = solved(Expm(), field, ts=TS.flip(0)).ys
    torch.testing.assert_close(backwards, reference(composed, field, ts=TS.flip(0)).ys, rtol=1e-10, atol=1e-10)


def test_a_matrix_is_evaluated_once_a_solve() -> None:
    integrate = Integrator(solver=Expm(), gradient=Backprop())
    with integrate.ledger.phase(Phase.FORWARD) as tally:
        integrate(Learned(), torch.tensor(Y0), TS)
    assert (tally.evaluations, tally.accepted) == (1, 2)
    with integrate.ledger.phase(Phase.FORWARD) as tally:
        CountedField.around(Learned(), integrate.ledger)(TS[0], torch.tensor(Y0))
    assert tally.evaluations == 1, "and so is its derivative"


class Halves(SeparableField):
    def drift(self, t: Time, p: State) -> State:
        return 2 * p

    def kick(self, t: Time, q: State) -> State:
        return -3 * q


class Braked(SecondOrderField):
    def force(self, t: Time, y: State, *given: Tensor) -> State:
        q, v = y[:, :3], y[:, 3:]
        return -q - v


def test_states_are_halved_along_the_first_axis_after_the_batch() -> None:
    """Of images too, and into halves of an odd length."""
    y, t = torch.randn(2, 6, 4), torch.tensor(0.0)
    q, p = y[:, :3], y[:, 3:]
    none = torch.zeros_like(q)
    assert torch.equal(Halves()(t, y), torch.cat([2 * p, -3 * q], dim=1))
    assert torch.equal(Halves().first_part(t, y), torch.cat([2 * p, none], dim=1))
    assert torch.equal(Halves().second_part(t, y), torch.cat([none, -3 * q], dim=1))
    assert torch.equal(Braked()(t, y), torch.cat([p, -q - p], dim=1))


def test_a_field_of_several_kinds_offers_the_calls_of_each_and_counts_them() -> None:
    field, ledger = HeavyBall(stiffness=4.0, friction=1.0), Ledger()
    counted, t, y = CountedField.around(field, ledger), torch.tensor(0.0), torch.tensor(Y0)
    assert isinstance(counted, SecondOrderField)
    assert isinstance(counted, SplitField)
    assert isinstance(counted, MatrixField)
    assert kind_of(counted) is kind_of(field)
    counted.force(t, y), counted.first_part(t, y), counted.second_part(t, y), counted.matrix(t, y), counted(t, y)
    assert ledger.tally.evaluations == 4
    torch.testing.assert_close(counted(t, y), field(t, y))


@pytest.mark.parametrize(("solver", "kind"), [("lie", "SplitField"), ("semi_implicit_euler", "SecondOrderField")])
def test_other_fields_are_refused_by_name(solver: str, kind: str, composed: Compose) -> None:
    with pytest.raises(IncompatibleChoice, match=r"and Plain is a VectorField, which is evaluated by forward"):
        solved(build(composed, "solver", solver), Plain())
    assert kind in {cls.__name__ for cls in kind_of(Driven()).__mro__}


@pytest.mark.parametrize(
    ("solver", "call"),
    [
        ("lie", "second_part"),
        ("strang", "first_part"),
        ("kencarp3", "second_part"),
        ("leapfrog", "kick"),
        ("semi_implicit_euler", "force"),
    ],
)
def test_a_part_of_another_shape_is_refused(solver: str, call: str, composed: Compose) -> None:
    """It would be broadcast, without a word where there are as many samples as elements."""
    field = Halves() if call == "kick" else Driven()
    setattr(field, call, lambda t, y, *given: -y.sum(dim=1))
    with pytest.raises(RefusedInput, match="must give a derivative in the shape of its state"):
        Integrator(solver=build(composed, "solver", solver), gradient=Backprop())(field, torch.ones(2, 2), TS)


def test_what_has_no_rule_is_refused_by_name() -> None:
    with pytest.raises(IncompatibleChoice, match="solver=expm is a matrix exponential, and has no rule for integrals"):
        solved(Expm(), Learned(), integrals={"q": squares()})
    for mode in (Checkpoint, Symplectic, Adjoint):
        assert not mode.takes(Expm)
    for solver in (Lie, Strang, SemiImplicitEuler):
        assert not Adjoint.takes(solver)
        assert not Symplectic.takes(solver)
    assert not Checkpoint.takes(AB2)
    with pytest.raises(RefusedInput, match=r"solver.sweeps must be from 0 to 64, not -1"):
        FixedPointEuler(num_steps=4, step_size=None, sweeps=-1)


@pytest.mark.parametrize(("sweeps", "limit"), list(enumerate((2.0, 1.0, 1.353, 1.0, 1.215, 1.0, 1.154))))
def test_iterated_implicit_euler_is_stable_no_further_than_is_known(sweeps: int, limit: float) -> None:
    """On y' = -y: from the known limit on, a step makes y no smaller."""
    solver = FixedPointEuler(num_steps=1, step_size=None, sweeps=sweeps)
    grown = [
        float(solver.step(Plain(), 0.0, h, torch.ones(1, 1), -torch.ones(1, 1))[0])
        for h in (limit - 2e-3, limit + 2e-3)
    ]
    assert abs(grown[0]) < 1 < abs(grown[1])


def ends(friction: float, size: float, steps: int) -> float:
    """The size of a heavy ball's state after so many steps of semi-implicit Euler."""
    solver = SemiImplicitEuler(num_steps=None, step_size=size)
    ts = torch.tensor([0.0, size * steps])
    field = HeavyBall(stiffness=4.0, friction=friction)
    return float(solver.solve(field, torch.tensor([[1.0, 0.0]]), ts).ys[-1].norm())


@pytest.mark.parametrize(("friction", "limit"), [(0.0, 1.0), (1.0, math.sqrt(4.25) / 2 - 0.25)])
def test_momentum_is_stable_up_to_the_known_step(friction: float, limit: float) -> None:
    """h^2 w^2 < 2 (1 + mu) with mu = 1 - friction h: h < 1, and h < 0.78."""
    assert ends(friction, 0.98 * limit, 400) < 10
    assert ends(friction, 1.02 * limit, 400) > 1e3


def test_energy_stays_bounded_by_the_methods_that_keep_to_areas(composed: Compose) -> None:
    """Over thirty periods of a frictionless oscillator; Euler's method multiplies it."""
    field, ts = HeavyBall(stiffness=4.0, friction=0.0), torch.linspace(0, 30 * math.pi, 31)
    found = {}
    for name in ("semi_implicit_euler", "strang", "euler"):
        ys = build(composed, "solver", name, num_steps=20).solve(field, torch.tensor([[1.0, 0.0]]), ts).ys[:, 0]
        energy = (ys[:, 1].square() + 4 * ys[:, 0].square()) / 2
        found[name] = float((energy / 2 - 1).abs().max())
    assert found["semi_implicit_euler"] < 0.06
    assert found["strang"] < 0.06
    assert found["euler"] > 1e3
