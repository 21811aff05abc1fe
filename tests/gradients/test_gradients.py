"""Every gradient mode, with every solver it accepts, against finite differences and the exact derivative."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice, RefusedInput, SolverFailed
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Phase, Tally
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.continuous import block_norm
from ode_runner.gradients.forward import Forward
from ode_runner.gradients.interpolated import Interpolated
from ode_runner.gradients.reversible import Reversible
from ode_runner.gradients.seminorm import Seminorm
from ode_runner.gradients.symplectic import Symplectic
from ode_runner.integrator import Integrator
from ode_runner.solvers.adams_bashforth import AdamsBashforth
from ode_runner.solvers.base import AdaptiveSolver, FixedStepSolver, Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.dopri8 import Dopri8
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.one_step import ExplicitRungeKutta
from ode_runner.solvers.reversible import ReversibleSolver
from tests.problems import (
    Compose,
    Formula,
    SmallNet,
    accepted_pairs,
    build,
    is_first_of_its_family,
    named_class,
    offering,
)

pytestmark = pytest.mark.usefixtures("float64")

FINAL, MANY, BACK = (0.0, 1.0), (0.0, 0.3, 0.6, 1.2), (1.0, 0.5, 0.0)
SPANS = {"final time": FINAL, "many times": MANY, "backwards": BACK}

Continuous = type[Adjoint | Seminorm | Interpolated]
each_continuous = pytest.mark.parametrize("mode", [Adjoint, Seminorm, Interpolated])

Gradients = list[Tensor]  # of y0, then of each parameter
MakeSolver = Callable[..., Solver]


def marked(slow: Callable[[tuple[str, str]], bool]) -> list[Any]:
    """Every pair of solver and mode; the `slow` ones marked so."""
    return [
        pytest.param(pair, marks=pytest.mark.slow if slow(pair) else (), id="-".join(pair)) for pair in accepted_pairs()
    ]


def is_implicit(pair: tuple[str, str]) -> bool:
    return issubclass(named_class("solver", pair[0]), ImplicitSolver)


each_family = pytest.mark.parametrize(
    "pair", marked(lambda pair: not is_first_of_its_family(pair) or is_implicit(pair)), indirect=True
)


@pytest.fixture(params=marked(is_implicit))
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
def make_solver(pair: tuple[str, str], composed: Compose) -> MakeSolver:
    return lambda **changed: build(composed, "solver", pair[0], **changed)


@pytest.fixture
def mode(pair: tuple[str, str], composed: Compose) -> GradientMode:
    return build(composed, "gradient", pair[1])


def finely(solver: Solver, fineness: int) -> dict[str, Any]:
    """Options that make a solve finer with each level of fineness."""
    if isinstance(solver, AdaptiveSolver):
        tolerance = 1e-2 * (1e-3 if solver.order > 2 else 0.03) ** fineness
        return {"rtol": tolerance, "atol": tolerance, "max_steps": 100_000}
    return {"num_steps": 8 * 4**fineness} | ({"rtol": 1e-12, "atol": 1e-12} if hasattr(solver, "rtol") else {})


def net_and_state() -> tuple[SmallNet, Tensor]:
    torch.manual_seed(1)
    net = SmallNet()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 3  # else one long step does
    return net, torch.randn(4, 3, requires_grad=True)


def loss_of(ys: Tensor) -> Tensor:
    """Depends on every state in its own way."""
    weights = torch.linspace(-1, 2, ys.numel()).view_as(ys)
    return (weights * torch.sin(ys)).sum()


def gradients(integrate: Integrator, span: tuple[float, ...]) -> Gradients:
    net, y0 = net_and_state()
    loss = loss_of(integrate(net, y0, torch.tensor(span)).ys)
    return list(torch.autograd.grad(loss, [y0, *net.parameters()], allow_unused=True, materialize_grads=True))


@cache
def true_gradients(span: tuple[float, ...]) -> Gradients:
    """Through a solve as exact as double precision allows."""
    solver = Dopri8(rtol=1e-12, atol=1e-12, max_steps=10_000)
    return [
        sum(parts) / 1.0  # one output time after another: what is to be judged here is dense output too
        for parts in zip(*(_part(solver, span, i) for i in range(len(span))), strict=True)
    ]


def _part(solver: Solver, span: tuple[float, ...], i: int) -> Gradients:
    net, y0 = net_and_state()
    y = y0
    for t0, t1 in pairwise(span[: i + 1]):
        y = solver.solve(net, y, torch.tensor([t0, t1])).ys[-1]
    weights = torch.linspace(-1, 2, len(span) * y.numel()).view(len(span), *y.shape)[i]
    loss = (weights * torch.sin(y)).sum()
    return list(torch.autograd.grad(loss, [y0, *net.parameters()], allow_unused=True, materialize_grads=True))


def distance(some: Gradients, others: Gradients) -> float:
    """Largest difference, relative to the largest gradient."""
    scale = max(float(other.abs().max()) for other in others)
    return max(float((one - other).abs().max()) for one, other in zip(some, others, strict=True)) / scale


@pytest.mark.sampled(12)
@pytest.mark.parametrize("span", [MANY, pytest.param(BACK, marks=pytest.mark.slow)], ids=["forwards", "backwards"])
def test_gradients_approach_the_true_one_as_the_solve_becomes_finer(
    make_solver: MakeSolver, mode: GradientMode, span: tuple[float, ...]
) -> None:
    finer = [make_solver(**finely(make_solver(), fineness)) for fineness in (0, 1)]
    coarse, fine = (distance(gradients(Integrator(solver=s, gradient=mode), span), true_gradients(span)) for s in finer)
    assert fine < max(coarse / 2, 1e-3)  # a few long steps of high order may be lucky at the coarse end


@each_family
@pytest.mark.parametrize("span", [FINAL, BACK], ids=["final time", "backwards"])
def test_methods_of_high_order_come_close_to_the_true_gradient(
    make_solver: MakeSolver, mode: GradientMode, span: tuple[float, ...]
) -> None:
    solver = make_solver()
    if solver.order < 4:
        pytest.skip("would need too many steps")
    finer = isinstance(solver, AdaptiveSolver | AdamsBashforth)  # one evaluation a step: it has a larger error
    fine = make_solver(**finely(solver, 2 if finer else 1))
    found = gradients(Integrator(solver=fine, gradient=mode), span)
    assert distance(found, true_gradients(span)) < 1e-5  # dense output of order 4 at dopri8's long steps


@pytest.mark.sampled(60)
@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_exact_modes_equal_backpropagation(
    make_solver: MakeSolver, mode: GradientMode, span: tuple[float, ...]
) -> None:
    if not mode.exact:
        pytest.skip("is not exact")
    found, expected = (gradients(Integrator(solver=make_solver(), gradient=m), span) for m in (mode, Backprop()))
    assert distance(found, expected) < 1e-9


@each_family
def test_exact_modes_equal_finite_differences_of_the_same_solve(make_solver: MakeSolver, mode: GradientMode) -> None:
    solver = make_solver(**finely(make_solver(), 0))
    if not mode.exact or not isinstance(solver, FixedStepSolver):
        pytest.skip("a chosen step moves with what is differentiated")
    net, y0 = net_and_state()
    integrate, ts = Integrator(solver=solver, gradient=mode), torch.tensor(MANY)
    loss = loss_of(integrate(net, y0, ts).ys)
    wanted = [y0, *net.parameters()]
    exact = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    for tensor, derivative in zip(wanted, exact, strict=True):
        direction = torch.randn_like(tensor)
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                tensor += step * direction
                ends.append(float(loss_of(integrate(net, y0, ts).ys)))
                tensor -= step * direction
        slope = (ends[0] - ends[1]) / 2e-6
        assert slope == pytest.approx(float((derivative * direction).sum()), rel=1e-6, abs=1e-8)  # cancellation at 1e-6


@pytest.mark.sampled(30)
def test_every_used_parameter_gets_a_gradient_and_an_unused_one_zero(
    make_solver: MakeSolver, mode: GradientMode
) -> None:
    net, _ = net_and_state()
    names = ["y0", *(name for name, _ in net.named_parameters())]
    found = dict(zip(names, gradients(Integrator(solver=make_solver(), gradient=mode), FINAL), strict=True))
    assert not found.pop("unused").any()
    assert all(bool(gradient.isfinite().all() and gradient.any()) for gradient in found.values())


@each_family
def test_modes_do_not_change_the_solution(make_solver: MakeSolver, mode: GradientMode) -> None:
    net, y0 = net_and_state()
    ys = Integrator(solver=make_solver(), gradient=mode)(net, y0, torch.tensor(MANY)).ys
    assert torch.equal(ys, make_solver().solve(net, y0, torch.tensor(MANY)).ys)


@each_family
def test_frozen_parameters_and_inputs_are_left_alone(make_solver: MakeSolver, mode: GradientMode) -> None:
    net, y0 = net_and_state()
    net.inner.weight.requires_grad_(False)
    loss_of(Integrator(solver=make_solver(), gradient=mode)(net, y0.detach(), torch.tensor(FINAL)).ys).backward()
    assert net.inner.weight.grad is None
    assert net.outer.weight.grad is not None
    assert net.outer.weight.grad.any()


@each_family
def test_gradients_reach_what_comes_before_the_solve(make_solver: MakeSolver, mode: GradientMode) -> None:
    net, y0 = net_and_state()
    stem = torch.nn.Linear(3, 3)
    loss_of(Integrator(solver=make_solver(), gradient=mode)(net, stem(y0), torch.tensor(FINAL)).ys).backward()
    assert stem.weight.grad is not None
    assert stem.weight.grad.any()


@each_family
def test_the_ledger_knows_forward_from_backward(make_solver: MakeSolver, mode: GradientMode) -> None:
    net, y0 = net_and_state()
    field = Formula(net.forward)
    field.net = net
    integrate = Integrator(solver=make_solver(), gradient=mode)
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        loss = loss_of(integrate(field, y0, torch.tensor(MANY)).ys)
    called = field.calls
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    assert (forward.evaluations, backward.evaluations) == (called, field.calls - called)
    assert forward.accepted > 0
    if isinstance(mode, Backprop):
        assert (backward.evaluations, backward.accepted, backward.rejected) == (0, 0, 0)


@pytest.mark.parametrize("name", offering(ExplicitRungeKutta))
@pytest.mark.parametrize("span", [MANY, BACK], ids=["forwards", "backwards"])
@pytest.mark.parametrize(("mode", "times"), [(Checkpoint(), 1), (Symplectic(), 2)], ids=["checkpoint", "symplectic"])
def test_replaying_costs_the_stages_of_every_accepted_step(
    composed: Compose, name: str, span: tuple[float, ...], mode: GradientMode, times: int
) -> None:
    solver: ExplicitRungeKutta = build(composed, "solver", name)
    net, y0 = net_and_state()
    integrate = Integrator(solver=solver, gradient=mode)
    loss = loss_of(integrate(net, y0, torch.tensor(span)).ys)
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    intervals = [step.interval for step in solver.steps(net, y0, torch.tensor(span))]
    stages, within = times * solver.tableau.stages, 1 + times * len(solver.tableau.extra_stages)
    assert backward == Tally(
        evaluations=sum(stages + within * interval.dense for interval in intervals), accepted=len(intervals)
    )


def kinked() -> Formula:
    """A field whose slope jumps, so that steps are rejected there."""
    field = Formula(lambda t, y: torch.tanh(y * field.weight * torch.where(t > 0.7, 9.0, 0.5)) - y)
    field.weight = torch.nn.Parameter(torch.tensor([1.5]))
    return field


@pytest.mark.sampled(16)
@pytest.mark.parametrize("name", offering(ExplicitRungeKutta))
@pytest.mark.parametrize("mode", [Checkpoint(), Symplectic()], ids=["checkpoint", "symplectic"])
def test_replaying_is_exact_whatever_was_rejected_and_however_many_outputs_lie_within_a_step(
    composed: Compose, name: str, mode: GradientMode
) -> None:
    solver, ts = build(composed, "solver", name), torch.linspace(0, 2, 60)
    if isinstance(solver, AdaptiveSolver):
        solver = replace(solver, rtol=1e-4, atol=1e-4)
    y0, found = torch.tensor([[1.0], [-0.3]], requires_grad=True), []
    for each in (mode, Backprop()):
        field, integrate = kinked(), Integrator(solver=solver, gradient=each)
        with integrate.ledger.phase(Phase.FORWARD) as forward:
            loss = loss_of(integrate(field, y0, ts).ys)
        found.append(list(torch.autograd.grad(loss, [y0, field.weight])))
    assert forward.rejected > 0 or isinstance(solver, FixedStepSolver)
    assert distance(*found) < 1e-11  # only the order of sums differs


def test_replaying_keeps_nothing_where_nobody_differentiates() -> None:
    net, y0 = net_and_state()
    solver = RK4(num_steps=4, step_size=None)
    with torch.no_grad():
        ys = Integrator(solver=solver, gradient=Checkpoint())(net, y0, torch.tensor(MANY)).ys
    assert ys.grad_fn is None


@pytest.mark.parametrize("name", offering(ReversibleSolver))
def test_undoing_and_retaking_steps_costs_twice_the_way_there(composed: Compose, name: str) -> None:
    solver: ReversibleSolver = build(composed, "solver", name)
    field, (net, y0) = Formula(lambda t, y: -y), net_and_state()
    solver.begin(field, 0.0, torch.ones(1, 1))
    integrate = Integrator(solver=solver, gradient=Reversible())
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        loss = loss_of(integrate(net, y0, torch.tensor(MANY)).ys)
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    steps = forward.evaluations - field.calls
    assert backward == Tally(evaluations=2 * steps + field.calls, accepted=forward.accepted)


@each_family
def test_one_time_point_has_the_gradient_of_the_beginning(make_solver: MakeSolver, mode: GradientMode) -> None:
    found = gradients(Integrator(solver=make_solver(), gradient=mode), (0.3,))
    assert found[0].any()
    assert not any(gradient.any() for gradient in found[1:])


@each_family
def test_no_time_has_the_gradient_of_the_beginning(make_solver: MakeSolver, mode: GradientMode) -> None:
    net, y0 = net_and_state()
    ys = Integrator(solver=make_solver(), gradient=mode)(net, y0, torch.full((3,), 0.3)).ys
    torch.testing.assert_close(torch.autograd.grad(ys.sum(), y0)[0], torch.full_like(y0, 3))


@each_family
def test_a_field_that_ignores_the_state_is_differentiated(make_solver: MakeSolver, mode: GradientMode) -> None:
    y0 = torch.ones(1, 1, requires_grad=True)
    ys = Integrator(solver=make_solver(), gradient=mode)(
        Formula(lambda t, y: t.exp().expand_as(y)), y0, torch.tensor(FINAL)
    ).ys
    torch.testing.assert_close(torch.autograd.grad(ys[-1].sum(), y0)[0], torch.ones(1, 1))


@pytest.mark.parametrize("name", offering(ExplicitRungeKutta))
def test_tangents_cost_every_accepted_step_a_second_time_and_nothing_on_the_way_back(
    composed: Compose, name: str
) -> None:
    solver: ExplicitRungeKutta = build(composed, "solver", name)
    alone, (_, y0), ts = Formula(lambda t, y: -y * torch.cos(t)), net_and_state(), torch.tensor(MANY)
    field = Formula(lambda t, y: -y * field.rate * torch.cos(t))
    field.rate = torch.nn.Parameter(torch.ones(1))
    integrate = Integrator(solver=solver, gradient=Forward(max_directions=64))
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        loss = loss_of(integrate(field, y0, ts).ys)
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    intervals = [step.interval for step in solver.steps(alone, y0, ts)]
    again = sum(
        solver.tableau.stages + interval.dense * (1 + len(solver.tableau.extra_stages)) for interval in intervals
    )
    assert forward.evaluations == alone.calls + again
    assert backward == Tally()


@pytest.mark.parametrize("name", offering(EmbeddedRungeKutta))
def test_following_dense_output_back_costs_its_places_in_every_accepted_step(composed: Compose, name: str) -> None:
    solver: EmbeddedRungeKutta = build(composed, "solver", name)
    alone, (_, y0), ts = Formula(lambda t, y: -y * torch.cos(t)), net_and_state(), torch.tensor(MANY)
    intervals = [step.interval for step in solver.steps(alone, y0, ts)]
    integrate = Integrator(solver=solver, gradient=Interpolated(rtol=None, atol=None))
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        integrate(Formula(alone.function), y0, ts)
    undetailed = sum(not interval.dense for interval in intervals)
    assert forward.evaluations == alone.calls + undetailed * len(solver.tableau.extra_stages)


@pytest.mark.parametrize(("limit", "with_y0"), [(56, True), (44, False), (1, True)])
def test_more_directions_than_allowed_are_refused(limit: int, with_y0: bool) -> None:
    net, y0 = net_and_state()
    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=Forward(max_directions=limit))
    sentence = f"each of the field's 45 parameters and {12 if with_y0 else 0} elements.*max_directions={limit}"
    with pytest.raises(IncompatibleChoice, match=sentence):
        integrate(net, y0 if with_y0 else y0.detach(), torch.tensor(FINAL))


def test_a_senseless_number_of_directions_is_refused() -> None:
    with pytest.raises(RefusedInput, match=r"gradient\.max_directions must be at least 1"):
        Forward(max_directions=0)


def test_a_fixed_grid_costs_the_continuous_adjoint_the_same_way_back() -> None:
    net, y0 = net_and_state()
    integrate = Integrator(solver=RK4(num_steps=10, step_size=None), gradient=Adjoint(rtol=None, atol=None))
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        loss = loss_of(integrate(net, y0, torch.tensor(MANY)).ys)
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    assert backward == forward


def backward_evaluations(mode: GradientMode, net: VectorField, tolerance: float) -> int:
    integrate = Integrator(solver=Dopri5(rtol=tolerance, atol=tolerance, max_steps=10_000), gradient=mode)
    loss = loss_of(integrate(net, torch.linspace(-1, 1, 12).view(4, 3), torch.tensor(FINAL)).ys)
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    return backward.evaluations


@each_continuous
@pytest.mark.parametrize("outputs", [2, 10, 100])
def test_output_times_do_not_restart_step_control_on_the_way_back(mode: Continuous, outputs: int) -> None:
    net, y0 = net_and_state()
    solver = Dopri5(rtol=1e-6, atol=1e-6, max_steps=1000)
    integrate = Integrator(solver=solver, gradient=mode(rtol=None, atol=None))
    loss = loss_of(integrate(net, y0, torch.linspace(0, 1, outputs)).ys)
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    intervals, attempts = outputs - 1, backward.accepted + backward.rejected
    assert (
        backward.evaluations == 1 + intervals + 6 * attempts
    )  # the first step size is sought once, not at every output
    assert attempts <= intervals + 30  # as many as one interval takes, and one to end on each output time


@each_continuous
def test_steps_of_the_way_back_are_entered_where_they_are_taken(mode: Continuous) -> None:
    field, y0 = kinked(), torch.tensor([[1.0], [-0.3]], requires_grad=True)
    solver = Dopri5(rtol=1e-6, atol=1e-6, max_steps=1000)
    integrate = Integrator(solver=solver, gradient=mode(rtol=None, atol=None))
    loss = loss_of(integrate(field, y0, torch.tensor(FINAL)).ys)
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    assert backward.rejected > 0
    assert backward.evaluations == 2 + 6 * (backward.accepted + backward.rejected)


def test_the_interpolated_adjoint_does_not_drift_where_the_field_contracts() -> None:
    """Towards y = 1 the state forgets where it came from, so that solved back from there it takes another path."""
    errors = {}
    truth = math.exp(-20) / (0.1 + 0.9 * math.exp(-20)) ** 2
    for mode in (Adjoint(rtol=None, atol=None), Interpolated(rtol=None, atol=None)):
        y0 = torch.full((1, 1), 0.1, requires_grad=True)
        integrate = Integrator(solver=Dopri5(rtol=1e-4, atol=1e-4, max_steps=5000), gradient=mode)
        ys = integrate(Formula(lambda t, y: 20 * y * (1 - y)), y0, torch.tensor(FINAL)).ys
        errors[type(mode)] = abs(float(torch.autograd.grad(ys[-1].sum(), y0)[0]) - truth)
    assert errors[Interpolated] < 1e-4  # as asked for
    assert errors[Adjoint] > 1


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_a_seminorm_needs_no_more_evaluations_than_the_full_norm(tolerance: float) -> None:
    net = SmallNet(width=500)  # many parameters, whose integral is what the full norm worries about
    full, semi = (backward_evaluations(mode(rtol=None, atol=None), net, tolerance) for mode in (Adjoint, Seminorm))
    assert semi <= full


def test_a_seminorm_saves_evaluations_where_parameters_steer_the_step() -> None:
    fast = Formula(lambda t, y: torch.zeros_like(y) + fast.weight * torch.sin(40 * t))
    fast.weight = torch.nn.Parameter(torch.ones(3))
    full, semi = (backward_evaluations(mode(rtol=None, atol=None), fast, 1e-6) for mode in (Adjoint, Seminorm))
    assert semi <= full


@each_continuous
def test_the_way_back_has_tolerances_of_its_own(mode: Continuous) -> None:
    net = SmallNet()
    own, tight = mode(rtol=None, atol=None), mode(rtol=1e-9, atol=1e-9)
    assert backward_evaluations(tight, net, 1e-3) > backward_evaluations(own, net, 1e-3)


def test_a_fixed_grid_has_no_tolerance_for_the_way_back() -> None:
    net, y0 = net_and_state()
    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=Adjoint(rtol=1e-3, atol=None))
    with pytest.raises(IncompatibleChoice, match="need an adaptive solver"):
        integrate(net, y0, torch.tensor(FINAL))


def test_a_seminorm_refuses_a_fixed_grid() -> None:
    net, y0 = net_and_state()
    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=Seminorm(rtol=None, atol=None))
    with pytest.raises(IncompatibleChoice, match="needs an adaptive solver"):
        integrate(net, y0, torch.tensor(FINAL))


@each_continuous
def test_a_derivative_that_is_not_finite_fails_the_way_back_in_words(mode: Continuous) -> None:
    field = Formula(lambda t, y: -y + torch.sqrt(y - y))  # 0, with an infinite slope
    y0 = torch.ones(1, 1, requires_grad=True)
    solver = Dopri5(rtol=1e-3, atol=1e-3, max_steps=1000)
    ys = Integrator(solver=solver, gradient=mode(rtol=None, atol=None))(field, y0, torch.tensor(FINAL)).ys
    with pytest.raises(SolverFailed, match="NaN or infinity"):
        ys[-1].sum().backward()


@each_continuous
def test_a_field_without_parameters_has_an_adjoint_too(mode: Continuous) -> None:
    y0 = torch.ones(2, 1, requires_grad=True)
    solver = Dopri5(rtol=1e-9, atol=1e-9, max_steps=1000)
    integrate = Integrator(solver=solver, gradient=mode(rtol=None, atol=None))
    integrate(Formula(lambda t, y: -y), y0, torch.tensor(FINAL)).ys[-1].sum().backward()
    torch.testing.assert_close(y0.grad, torch.full_like(y0, math.exp(-1)))


def test_a_block_norm_is_that_of_the_worst_block_and_ignores_the_rest() -> None:
    flat = torch.tensor([3.0, -3.0, 1.0, 100.0])
    assert float(block_norm((2, 1))(flat)) == 3
    assert float(block_norm((2, 1, 1))(flat)) == 100
    assert float(block_norm((2, 1, 0))(flat[:3])) == 3


class OwnLeaf(VectorField):
    """A gradient of a potential, by a leaf of the field's own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            place = y.detach().requires_grad_()
            return -torch.autograd.grad((self.scale * place**2).sum(), place, create_graph=True)[0]


def test_a_field_that_torch_func_cannot_map_is_refused_by_name_in_forward_mode() -> None:
    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=Forward(max_directions=64))
    with pytest.raises(IncompatibleChoice, match="which OwnLeaf does not allow .* Use gradient=checkpoint"):
        integrate(OwnLeaf(), torch.ones(2, 3), torch.tensor([0.0, 1.0]))
