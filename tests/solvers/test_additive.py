"""The additive Runge-Kutta pair: conditions, order on a split field, stiffness, derivatives, counts, refusals."""

import math
from fractions import Fraction
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice
from ode_runner.fields.ledger import Phase
from ode_runner.fields.structured_field import SeparableField, SplitField
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.symplectic import Symplectic
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.problem import Solution
from ode_runner.solvers.implicit.kencarp3 import EXPLICIT, IMPLICIT, JUDGE, B, KenCarp3
from ode_runner.solvers.stability import amplification
from ode_runner.types import State, Time, Times
from tests.problems import Compose, Formula, build, slope

pytestmark = pytest.mark.usefixtures("float64")

EXACT = Fraction(1, 10**14)
Y0 = ((1.0, 0.5), (-0.3, 0.8))
TS = torch.tensor([0.0, 0.7, 2.0], dtype=torch.float64)
Matrix = list[list[Fraction]]


class Mixed(SplitField):
    """Both parts depend on the time and on the state, and neither is linear in it; counts its own calls."""

    def __init__(self, rate: float = 1.5) -> None:
        super().__init__()
        self.a, self.rate = nn.Parameter(torch.tensor(0.8)), nn.Parameter(torch.tensor(rate))
        self.calls = {"first": 0, "second": 0}

    def first_part(self, t: Time, y: State, *given: Tensor) -> State:
        self.calls["first"] += 1
        return self.a * y.roll(1, dims=1).sin() + torch.cos(3 * t) * y

    def second_part(self, t: Time, y: State, *given: Tensor) -> State:
        self.calls["second"] += 1
        return -self.rate * (y + y.sin() / 2) * (1 + torch.sin(2 * t) / 2) + torch.sin(t)


class Relaxing(SplitField):
    """y' = -rate (y - cos t) - sin t: the first part is -sin t, and y = cos t the slow solution."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def first_part(self, t: Time, y: State, *given: Tensor) -> State:
        return -torch.sin(t) * torch.ones_like(y)

    def second_part(self, t: Time, y: State, *given: Tensor) -> State:
        return -self.rate * (y - torch.cos(t))


class Swinging(SeparableField):
    """A pendulum, the Jacobians of whose parts are nilpotent."""

    def drift(self, t: Time, p: State) -> State:
        return p

    def kick(self, t: Time, q: State) -> State:
        return -q.sin()


@pytest.fixture
def solver(composed: Compose) -> KenCarp3:
    made = build(composed, "solver", "kencarp3")
    assert isinstance(made, KenCarp3)
    return made


def solved(
    solver: KenCarp3, field: SplitField, mode: GradientMode | None = None, *, y0: Tensor | None = None, ts: Times = TS
) -> Solution:
    beginning = torch.tensor(Y0) if y0 is None else y0
    return Integrator(solver=solver, gradient=mode or Backprop())(field, beginning, ts, integrals={"q": squares()})


def squares() -> Integral:
    return Integral(lambda t, y, dy, vjp: (y * dy).sum(dim=1) + t * y.square().sum(dim=1), judged=False)


def square(rows: tuple[tuple[Fraction, ...], ...]) -> Matrix:
    return [[*row, *[Fraction(0)] * (len(rows) - len(row))] for row in rows]


def conditions(b: tuple[Fraction, ...]) -> dict[str, list[Fraction]]:
    """By how much each condition of order 1, 2 and 3 is missed, whichever tableau each of its branches is of."""
    tableaus = [square(EXPLICIT), square(IMPLICIT)]
    places = [[sum(row, Fraction(0)) for row in a] for a in tableaus]

    def against(x: list[Fraction]) -> Fraction:
        return sum((weight * value for weight, value in zip(b, x, strict=True)), Fraction(0))

    def times(a: Matrix, c: list[Fraction]) -> list[Fraction]:
        return [sum((x * y for x, y in zip(row, c, strict=True)), Fraction(0)) for row in a]

    bushes = [against([x * y for x, y in zip(c, d, strict=True)]) for c, d in product(places, places)]
    return {
        "1": [sum(b, Fraction(0)) - 1],
        "2": [against(c) - Fraction(1, 2) for c in places],
        "3": [bush - Fraction(1, 3) for bush in bushes],
        "3, tall": [against(times(a, c)) - Fraction(1, 6) for a, c in product(tableaus, places)],
    }


def test_conditions_of_the_whole_pair_hold_up_to_order_three() -> None:
    """As fractions, couplings of the two tableaus among them; eleven conditions."""
    missed = [defect for defects in conditions(B).values() for defect in defects]
    assert len(missed) == 1 + 2 + 4 + 4
    assert max(map(abs, missed)) < EXACT


def test_the_judge_is_of_order_two_and_no_more() -> None:
    missed = conditions(JUDGE)
    assert max(abs(defect) for defect in [*missed["1"], *missed["2"]]) < EXACT
    assert max(abs(defect) for defect in missed["3"]) > Fraction(1, 100)


def test_both_tableaus_have_their_stages_at_the_same_times() -> None:
    for explicit, implicit in zip(EXPLICIT, IMPLICIT, strict=True):
        assert abs(sum(explicit) - sum(implicit)) < EXACT


def growth(weights: tuple[Fraction, ...], z: complex) -> complex:
    a = torch.tensor([[float(x) for x in row] for row in square(IMPLICIT)], dtype=torch.complex128)
    b, ones = torch.tensor([float(x) for x in weights], dtype=torch.complex128), torch.ones(4, dtype=torch.complex128)
    return 1 + z * complex(b @ torch.linalg.solve(torch.eye(4) - z * a, ones))


def test_the_implicit_part_is_l_stable() -> None:
    """|R| is at most 1 on the imaginary axis, and 0 at infinity."""
    assert max(abs(growth(B, 1j * y)) for y in torch.logspace(-2, 4, 200).tolist()) < 1 + 1e-12
    assert abs(growth(B, -1e8)) < 1e-6
    assert abs(growth(JUDGE, -1e8)) < 0.1  # what has died away is no error


def test_errors_fall_at_order_three_where_both_parts_depend_on_time_and_state(
    solver: KenCarp3, composed: Compose
) -> None:
    """On equal steps, forwards and backwards."""
    exactly, fine = solver.to_be_recomputed(), build(composed, "solver", "dopri8", rtol=1e-12, atol=1e-12)
    for ends in ([0.0, 0.75], [0.75, 0.0]):
        errors, counts = [], (12, 24, 48)
        with torch.no_grad():
            true = fine.solve(Mixed(), torch.tensor(Y0), torch.tensor(ends)).ys[-1]
            for count in counts:
                y, field = torch.tensor(Y0), Mixed()
                for t0, t1 in pairwise(torch.linspace(*ends, count + 1).tolist()):
                    y, _ = exactly.step(field, t0, t1, y, exactly.slope(field, t0, y))
                errors.append(float((y - true).abs().max()))
        assert slope([1 / count for count in counts], errors) == pytest.approx(3, abs=0.15)


def test_states_and_integrals_come_closer_with_the_tolerance(solver: KenCarp3, composed: Compose) -> None:
    """An integral is taken from the slopes of the step, at the places of its stages."""
    fine = build(composed, "solver", "dopri8", rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        true = Integrator(solver=fine, gradient=Backprop())(Mixed(), torch.tensor(Y0), TS, integrals={"q": squares()})
        for tolerance in (1e-4, 1e-6):
            tight = build_at(composed, tolerance)
            found = solved(tight, Mixed())
            assert float((found.ys - true.ys).abs().max()) < 20 * tolerance
            assert float((found.integrals["q"] - true.integrals["q"]).abs().max()) < 50 * tolerance


def build_at(composed: Compose, tolerance: float) -> KenCarp3:
    made = build(composed, "solver", "kencarp3", rtol=tolerance, atol=tolerance, max_steps=5000)
    assert isinstance(made, KenCarp3)
    return made


@pytest.mark.parametrize("rate", [1e2, 1e5, 1e8])
def test_a_stiff_second_part_takes_few_steps(rate: float, solver: KenCarp3) -> None:
    """From off the slow solution; an explicit method would need about rate / 2 steps a unit of time."""
    solution = solver.solve(Relaxing(rate), torch.full((1, 1), 2.0), torch.tensor([0.0, 2.0]))
    assert solution.accepted + solution.rejected <= 80
    assert float(solution.ys[-1]) == pytest.approx(math.cos(2), abs=10e-3)  # ten times the tolerance


def test_the_order_is_two_where_the_second_part_is_very_stiff(solver: KenCarp3) -> None:
    """A step misses its last stage by dt^2 (1/2 - a c) y'', which the next one forgets: a c of the explicit tableau."""
    exactly, field, counts, errors = solver.to_be_recomputed(), Relaxing(1e8), (16, 32, 64), list[float]()
    for count in counts:
        y = torch.ones(1, 1)
        for t0, t1 in pairwise(torch.linspace(0, 2, count + 1).tolist()):
            y, _ = exactly.step(field, t0, t1, y, exactly.slope(field, t0, y))
        errors.append(abs(float(y) - math.cos(2)))
    assert slope([1 / count for count in counts], errors) == pytest.approx(2, abs=0.15)
    c = [sum(row) for row in IMPLICIT]
    missed = float(Fraction(1, 2) - sum(a * x for a, x in zip(EXPLICIT[-1], c, strict=True)))
    assert errors[-1] == pytest.approx(abs(missed * math.cos(2)) / 32**2, rel=0.05)


def test_taking_steps_anew_is_exact_and_every_call_is_counted(solver: KenCarp3) -> None:
    """A first part for each stage of an attempt, and a whole field at the start, its first size and each step's end."""
    grads = []
    for mode in (Backprop(), Checkpoint()):
        field, y0 = Mixed(), torch.tensor(Y0, requires_grad=True)
        integrate = Integrator(solver=solver, gradient=mode)
        integrate(field, y0, TS)  # the first solve checks that samples do not interact, by an uncounted call
        field.calls.update(first=0, second=0)
        with integrate.ledger.phase(Phase.FORWARD) as there:
            solution = integrate(field, y0, TS, integrals={"q": squares()})
        attempts = solution.accepted + solution.rejected
        assert field.calls["first"] == 2 + 4 * attempts + solution.accepted
        assert there.evaluations == sum(field.calls.values()) / 2
        assert there.products > 0, "Jacobians are counted, though they are of a part"
        assert (there.accepted, there.rejected) == (solution.accepted, solution.rejected)
        before = sum(field.calls.values())
        with integrate.ledger.phase(Phase.BACKWARD) as back:
            loss = solution.ys[1:].sin().sum() + solution.integrals["q"][-1].sum()
            grads.append(torch.autograd.grad(loss, [y0, *field.parameters()]))
        assert back.evaluations == (sum(field.calls.values()) - before) / 2
    torch.testing.assert_close(*grads, rtol=1e-11, atol=1e-12)


def test_the_gradient_is_that_of_the_solution(composed: Compose) -> None:
    """By another method, to the order of the tolerance."""
    fine, field = build(composed, "solver", "dopri8", rtol=1e-10, atol=1e-10), Mixed()
    true = Integrator(solver=fine, gradient=Backprop())(field, torch.tensor(Y0), TS).ys[-1].sum()
    found = solved(build_at(composed, 1e-5), field, Checkpoint()).ys[-1].sum()
    wanted = [field.a, field.rate]
    grads = [torch.autograd.grad(end, wanted) for end in (found, true)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_steps_to_a_part_of_the_tolerance_are_as_good_as_those_to_rounding(composed: Compose) -> None:
    """Newton's method ends after two iterations here, and then must not expect to end after one."""
    solver, y0, ts = build_at(composed, 1e-4), torch.tensor([[1.5, 0.0]]), torch.tensor([0.0, 10.0])
    loose, exact = (each.solve(Swinging(), y0, ts) for each in (solver, solver.to_be_recomputed()))
    assert float((loose.ys[-1] - exact.ys[-1]).abs().max()) < 20 * 1e-4
    assert loose.accepted < 1.2 * exact.accepted


def test_a_solve_over_no_time_and_one_backwards(composed: Compose) -> None:
    solver, y0 = build_at(composed, 1e-5), torch.tensor(Y0, requires_grad=True)
    still = solved(solver, Mixed(), Checkpoint(), y0=y0, ts=torch.tensor([0.3, 0.3]))
    assert torch.equal(still.ys[-1], y0)
    assert torch.equal(torch.autograd.grad(still.ys[-1].sum(), y0)[0], torch.ones(2, 2))
    there = solved(solver, Mixed(), ts=TS / 4).ys
    back = solved(solver, Mixed(), y0=there[-1], ts=TS.flip(0) / 4).ys
    torch.testing.assert_close(back.flip(0), there, rtol=1e-3, atol=1e-3)


def test_what_has_no_parts_and_modes_without_a_rule_are_refused_by_name(solver: KenCarp3) -> None:
    with pytest.raises(
        IncompatibleChoice, match="solver=kencarp3 evaluates a field by forward, first_part, second_part"
    ):
        Integrator(solver=solver, gradient=Backprop())(Formula(lambda t, y: -y), torch.tensor(Y0), TS)
    with pytest.raises(IncompatibleChoice, match=r"a sum of two parts\. Use solver=kvaerno3"):
        solver.solve(Formula(lambda t, y: -y), torch.tensor(Y0), TS)
    assert not Adjoint.takes(KenCarp3)
    assert not Symplectic.takes(KenCarp3)
    assert amplification(solver, torch.zeros(1, dtype=torch.complex128)) is None
