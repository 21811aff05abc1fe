"""Splitting solvers: separable fields, conserved energy, and what they are refused with."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.meters import SavedBytes
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Phase, Tally
from ode_runner.fields.structured_field import SeparableField
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.reversible import Reversible
from ode_runner.integrator import Integrator
from ode_runner.networks.separable import Separable, SeparableMLP
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.splitting.symplectic import SplittingSolver
from ode_runner.tasks.dynamics.pendulum import PendulumField
from tests.helpers import options
from tests.problems import Compose, Formula, build, named_class, offering, slope

pytestmark = pytest.mark.usefixtures("float64")

SPLITTING = offering(SplittingSolver, fields=SeparableField)
each_splitting = pytest.mark.parametrize("name", SPLITTING)
SWING = torch.tensor([[1.5, 0.0], [0.3, -0.4]], dtype=torch.float64)


@pytest.fixture
def solver(composed: Compose, name: str) -> SplittingSolver:
    return build(composed, "solver", name)


def energy(y: Tensor) -> Tensor:
    theta, p = y.unbind(-1)
    return p.square() / 2 - theta.cos()


class Driven(SeparableField):
    """q'' = -q with a drive that moves both halves: q' = p + sin t, p' = -q + cos 2t."""

    def drift(self, t: Tensor, p: Tensor) -> Tensor:
        return p + torch.sin(t)

    def kick(self, t: Tensor, q: Tensor) -> Tensor:
        return -q + torch.cos(2 * t)


def driven_solution(t: float) -> Tensor:
    """From (0, 0): q'' + q = cos t + cos 2t, with q'(0) = 0."""
    q = t * math.sin(t) / 2 + (math.cos(t) - math.cos(2 * t)) / 3
    dq = (math.sin(t) + t * math.cos(t)) / 2 + (2 * math.sin(2 * t) - math.sin(t)) / 3
    return torch.tensor([[q, dq - math.sin(t)]])


def test_some_solvers_are_for_separable_fields() -> None:
    assert {"leapfrog", "yoshida4"} <= set(SPLITTING)
    assert not set(SPLITTING) & set(offering(Solver))


@each_splitting
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_error_falls_with_the_step_at_the_order_claimed_though_time_matters(
    composed: Compose, name: str, solver: SplittingSolver, backwards: bool
) -> None:
    errors, counts = [], (10, 20, 40, 80)
    ends = (2.0, 0.0) if backwards else (0.0, 2.0)
    for count in counts:
        made = build(composed, "solver", name, num_steps=count)
        ys = made.solve(Driven(), driven_solution(ends[0]), torch.tensor(ends)).ys
        errors.append(float((ys[-1] - driven_solution(ends[1])).abs().max()))
    assert slope([1 / count for count in counts], errors) == pytest.approx(solver.order, abs=0.3)


@pytest.mark.slow
@each_splitting
def test_the_energy_of_a_pendulum_stays_bounded_over_ten_thousand_steps(solver: SplittingSolver) -> None:
    """Another method, of order 4 like the better of the two, loses or gains energy with every swing."""
    errors = {}
    for each, end in ((solver, 2500), (RK4(num_steps=None, step_size=0.25), 400)):
        fixed = replace(each, num_steps=None, step_size=0.25)
        ys = fixed.solve(PendulumField(1.0), SWING, torch.linspace(0, end, 101)).ys
        drift = (energy(ys) - energy(SWING)).abs().amax(dim=1)
        errors[type(each)] = float(drift[:11].max()), float(drift[-11:].max())
    early, late = errors[type(solver)]
    assert late < 1.5 * early  # looked at at a hundred places of a periodic error
    assert errors[RK4][1] > 5 * errors[RK4][0]


@each_splitting
def test_a_step_is_undone_by_the_same_formulas(solver: SplittingSolver) -> None:
    field, before = PendulumField(1.0), None
    before = solver.begin(field, 0.0, SWING)
    after = solver.reversible_step(field, 0.0, 0.3, before)
    torch.testing.assert_close(solver.reverse_step(field, 0.0, 0.3, after), before, rtol=1e-14, atol=1e-14)


@each_splitting
def test_the_map_conserves_area(solver: SplittingSolver) -> None:
    """The determinant of a step's derivative is 1, for a learned field too."""
    torch.manual_seed(0)
    for field in (PendulumField(1.0), SeparableMLP([1, 8, 1], time=True)):
        step = torch.func.jacrev(
            lambda y, f=field: solver.reversible_step(f, 0.0, 0.5, solver.begin(f, 0.0, y[None]))[0][0]
        )
        assert float(torch.linalg.det(step(SWING[0]).detach())) == pytest.approx(1, abs=1e-13)


@each_splitting
def test_a_leap_costs_one_evaluation_and_the_beginning_half(solver: SplittingSolver) -> None:
    ledger = Ledger()
    solution = solver.solve(CountedField.around(Driven(), ledger), SWING, torch.tensor([0.0, 0.3, 1.0]))
    assert ledger.tally.evaluations == 0.5 + len(solver.leaps) * solution.accepted


def test_a_whole_evaluation_of_a_separable_field_counts_as_one() -> None:
    ledger = Ledger()
    CountedField.around(Driven(), ledger)(torch.tensor(0.0), SWING)
    assert ledger.tally == Tally(evaluations=1)


def test_wrappers_hide_nothing() -> None:
    field = SeparableMLP([1, 4, 1], time=False).float()
    wrapped = CountedField.around(field, Ledger(), dtype=torch.bfloat16)
    assert isinstance(wrapped, SeparableField)
    assert not isinstance(CountedField.around(Formula(lambda t, y: y), Ledger()), SeparableField)
    t, y = torch.tensor(0.0), SWING.float()
    torch.testing.assert_close(
        wrapped.drift(t, y[:, 1:]), field.float().drift(t, y[:, 1:]), rtol=0.05, atol=0.01
    )  # bf16
    assert wrapped.kick(t, y[:, :1]).dtype is torch.float32
    torch.testing.assert_close(wrapped(t, y), field(t, y), rtol=0.05, atol=0.01)  # bf16


def learned(solver: SplittingSolver, mode: GradientMode, span: tuple[float, ...]) -> tuple[list[Tensor], Tally, Tally]:
    """Gradients of y0, of every parameter and of the times, and what they took forward and backward."""
    torch.manual_seed(0)
    field, y0, ts = SeparableMLP([1, 8, 1], time=True), SWING.clone().requires_grad_(), torch.tensor(span)
    integrate = Integrator(solver=solver, gradient=mode)
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        loss = integrate(field, y0, ts).ys.sin().sum()
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        gradients = torch.autograd.grad(loss, [y0, *field.parameters()])
    ts.requires_grad_()
    of_times = torch.autograd.grad(integrate(field, y0, ts).ys.sin().sum(), ts)
    return [*gradients, *of_times], forward, backward


each_span = pytest.mark.parametrize(
    "span", [(0.0, 1.0), (0.0, 0.3, 1.2), (1.0, 0.5, 0.0), (0.0, 0.4, 0.4, 0.4)], ids=["final", "many", "back", "twice"]
)


@each_splitting
@each_span
@pytest.mark.parametrize("mode", [Checkpoint(), Reversible()], ids=["checkpoint", "reversible"])
def test_exact_modes_give_the_gradient_of_backpropagation(
    solver: SplittingSolver, mode: GradientMode, span: tuple[float, ...]
) -> None:
    found, expected = learned(solver, mode, span)[0], learned(solver, Backprop(), span)[0]
    assert all(bool(gradient.any()) for gradient in found)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@each_splitting
@each_span
def test_undoing_and_retaking_steps_costs_what_their_formulas_say(
    solver: SplittingSolver, span: tuple[float, ...]
) -> None:
    _, forward, backward = learned(solver, Reversible(), span)
    assert backward == Tally(evaluations=2 * (forward.evaluations - 0.5) + 0.5, accepted=forward.accepted)
    _, forward, backward = learned(solver, Checkpoint(), span)
    assert forward.evaluations == 0.5 + len(solver.leaps) * forward.accepted
    assert backward == Tally(evaluations=(0.5 + len(solver.leaps)) * forward.accepted, accepted=forward.accepted)


@each_splitting
def test_retaking_steps_gives_the_derivative_of_differences(composed: Compose, name: str) -> None:
    torch.manual_seed(0)
    integrate = Integrator(solver=build(composed, "solver", name, num_steps=4), gradient=Checkpoint())
    field, y0 = SeparableMLP([1, 4, 1], time=True), SWING.clone().requires_grad_()

    def solution(y0: Tensor, *_: Tensor) -> Tensor:
        return integrate(field, y0, torch.tensor([0.0, 0.3, 1.2])).ys

    assert torch.autograd.gradcheck(solution, (y0, *field.parameters()))


@each_splitting
def test_checkpoint_changes_nothing_and_keeps_a_state_a_step(composed: Compose, name: str) -> None:
    ys, kept = [], []
    for mode, count in ((Backprop(), 8), (Checkpoint(), 8), (Checkpoint(), 16)):
        torch.manual_seed(0)
        field, solver = SeparableMLP([1, 8, 1], time=True), build(composed, "solver", name, num_steps=count)
        with SavedBytes(field.parameters()) as memory:
            ys.append(Integrator(solver=solver, gradient=mode)(field, SWING, torch.tensor([0.0, 0.5, 1.0])).ys)
        kept.append(memory.bytes())
    assert torch.equal(ys[0], ys[1])
    assert kept[2] - kept[1] == 8 * SWING.nbytes


@each_splitting
@pytest.mark.parametrize("times", [(0.3,), (0.3, 0.3, 0.3)], ids=["one time", "no time"])
def test_no_time_has_the_gradient_of_the_beginning(solver: SplittingSolver, times: tuple[float, ...]) -> None:
    y0 = SWING.clone().requires_grad_()
    ys = Integrator(solver=solver, gradient=Checkpoint())(PendulumField(1.0), y0, torch.tensor(times)).ys
    torch.testing.assert_close(torch.autograd.grad(ys.sum(), y0)[0], torch.full_like(y0, len(times)))


@each_splitting
def test_which_gradient_modes_take_a_splitting_solver(solver: SplittingSolver) -> None:
    modes: dict[str, type[GradientMode]] = {mode: named_class("gradient", mode) for mode in options("gradient")}
    taking = {mode for mode, made in modes.items() if made.takes(type(solver))}
    assert taking == {"backprop", "checkpoint", "reversible"}


@each_splitting
def test_a_field_that_is_not_separable_is_refused_by_the_solver_itself(solver: SplittingSolver) -> None:
    with pytest.raises(IncompatibleChoice, match="needs a separable field"):
        solver.solve(Formula(lambda t, y: -y), SWING, torch.tensor([0.0, 1.0]))


def test_a_state_without_two_halves_is_refused() -> None:
    network = Separable(TaskSpec(input_shape=(3,), output_shape=(3,)), width=4, depth=1)
    with pytest.raises(IncompatibleChoice, match="one of 3 numbers has none"):
        network.field()
    assert network.field(extra=1)(torch.tensor(0.0), torch.ones(2, 4)).shape == (2, 4)
