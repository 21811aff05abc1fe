"""Events: where they are, what they do to a solve, and the derivatives of both."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice, RefusedInput, SolverFailed
from ode_runner.event import Event, Jumps
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.symplectic import Symplectic
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.problem import Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.adaptive_heun import AdaptiveHeun
from ode_runner.solvers.explicit.alf import ALF
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.dopri8 import Dopri8
from ode_runner.solvers.explicit.euler import Euler
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.implicit.implicit_euler import ImplicitEuler
from ode_runner.types import State, Time
from tests.helpers import options
from tests.problems import named_class

pytestmark = pytest.mark.usefixtures("float64")
TIGHT = Dopri5(rtol=1e-9, atol=1e-9, max_steps=10_000)
EACH = replace(TIGHT, per_sample=True)
GRID = RK4(num_steps=4, step_size=None)
ADJOINT = Adjoint(rtol=None, atol=None)
FOUR = (1.414214, 3.676955, 5.487149, 6.935303)  # impacts of a ball let fall from 10, of radius 0.2, restitution 0.8


class Falling(VectorField):
    """y'' = -g, in (y, y')."""

    batched_time = True

    def __init__(self) -> None:
        super().__init__()
        self.gravity = nn.Parameter(torch.tensor(9.8))

    def forward(self, t: Time, y: State) -> State:
        return torch.stack([y[:, 1], -self.gravity.expand(len(y))], dim=1)


class Along(VectorField):
    """A field given as a function of t, (1) or (batch, 1), y and what is given."""

    batched_time = True

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.function(t.view(-1, 1), y, *given)


ONWARDS = Along(lambda t, y: torch.ones_like(y))


def solved(
    solver: Solver,
    mode: GradientMode,
    field: VectorField,
    y0: Tensor,
    event: Event,
    *,
    end: float = 1.0,
    **options: Any,
) -> Solution:
    return Integrator(solver=solver, gradient=mode)(field, y0, torch.linspace(0, end, 9), event=event, **options)


class Ball:
    """Balls let fall, and what their impacts depend on."""

    def __init__(self, *heights: float) -> None:
        self.field = Falling()
        self.height = torch.tensor(heights, requires_grad=True)
        self.radius, self.restitution = (torch.tensor(x, requires_grad=True) for x in (0.2, 0.8))

    def event(self, **options: Any) -> Event:
        def bounce(t: Tensor, y: State) -> State:
            return torch.stack([y[:, 0], -self.restitution * y[:, 1]], dim=1)

        return Event(
            lambda t, y: y[:, 0] - self.radius, **{"direction": -1, "reset": bounce, "ends_after": 4} | options
        )

    def solved(self, solver: Solver, mode: GradientMode, *, end: float = 8.0, **options: Any) -> Solution:
        y0 = torch.stack([self.height, torch.zeros_like(self.height)], dim=1)
        return solved(solver, mode, self.field, y0, self.event(**options), end=end)

    def times(self, count: int) -> Tensor:
        """t_k = t_1 (1 + 2 sum of restitution^j), (event, ball)."""
        first = (2 * (self.height - self.radius) / self.field.gravity).sqrt()
        bounces = [self.restitution**j for j in range(1, count)]
        return torch.stack([first * (1 + 2 * sum(bounces[:k])) for k in range(count)])

    def derivatives(self, x: Tensor) -> list[Tensor]:
        wanted = [self.height, self.field.gravity, self.radius, self.restitution]
        return list(torch.autograd.grad(x, wanted, retain_graph=True))


@pytest.mark.parametrize("mode", [Backprop(), Checkpoint(), ADJOINT], ids=["backprop", "checkpoint", "adjoint"])
@pytest.mark.parametrize("solver", [TIGHT, GRID, EACH], ids=["adaptive", "fixed", "each"])
def test_a_bouncing_ball_and_its_derivatives_are_the_closed_form(solver: Solver, mode: GradientMode) -> None:
    if solver is EACH and mode is ADJOINT:
        return
    ball = Ball(*((10.0, 7.0) if solver is EACH else (10.0,)))
    solution = ball.solved(solver, mode)
    assert solution.events is not None
    found, expected = solution.events.times, ball.times(4)
    assert found[:, 0].tolist() == pytest.approx(FOUR, abs=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert float((solution.events.states.detach()[..., 0] - 0.2).abs().max()) < 1e-12
    weights = torch.linspace(1, 2, 4)[:, None]
    for one, other in zip(
        ball.derivatives((weights * found).sum()), ball.derivatives((weights * expected).sum()), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


class Mirrored(VectorField):
    """The derivative in -t of what another field solves."""

    batched_time = True

    def __init__(self, field: VectorField) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Time, y: State) -> State:
        return -self.field(-t, y)


@pytest.mark.parametrize("mode", [Backprop(), Checkpoint(), ADJOINT], ids=["backprop", "checkpoint", "adjoint"])
@pytest.mark.parametrize("solver", [TIGHT, GRID, EACH], ids=["adaptive", "fixed", "each"])
def test_a_ball_that_falls_backwards_in_time_has_the_same_derivatives(solver: Solver, mode: GradientMode) -> None:
    if solver is EACH and mode is ADJOINT:
        return
    ball = Ball(10.0)
    y0 = torch.stack([ball.height, torch.zeros_like(ball.height)], dim=1)
    onwards, back = (
        solved(solver, mode, field, y0, ball.event(ends_after=None, longest=0.1), end=end)
        for field, end in ((ball.field, 5.0), (Mirrored(ball.field), -5.0))
    )
    assert onwards.events is not None
    assert back.events is not None
    for one, other in ((onwards.ys, back.ys), (onwards.events.times, -back.events.times)):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        weights = torch.linspace(1, 2, one.numel()).view_as(one)
        for mine, yours in zip(*(ball.derivatives((weights * x).sum()) for x in (one, other)), strict=True):
            torch.testing.assert_close(mine, yours, rtol=1e-7, atol=1e-7)


def test_states_after_bounces_are_those_of_the_parabola_with_their_derivatives() -> None:
    ball = Ball(10.0)
    solution = ball.solved(TIGHT, Checkpoint(), end=6.0, ends_after=None)
    assert solution.events is not None
    assert bool(solution.events.valid.all())
    g, first = ball.field.gravity, ball.times(3)
    since = 6.0 - first[2, 0]
    speed = ball.restitution**3 * g * first[0, 0]
    height = ball.radius + speed * since - g * since.square() / 2
    torch.testing.assert_close(solution.ys[-1, 0, 0], height)
    for one, other in zip(ball.derivatives(solution.ys[-1, 0, 0]), ball.derivatives(height), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("solver", [TIGHT, GRID, EACH], ids=["adaptive", "fixed", "each"])
def test_outputs_before_between_and_after_events_are_on_the_parabolas(solver: Solver, backwards: bool) -> None:
    """Which side of a bounce an output is on is told by its time alone."""
    ball, ts = Ball(10.0), torch.linspace(0, 6.0, 41)
    y0, sign = torch.stack([ball.height, torch.zeros(1)], dim=1).detach(), -1 if backwards else 1
    event = ball.event(ends_after=None)
    found = Integrator(solver=solver, gradient=Checkpoint())(ball.field, y0, sign * ts, event=event).ys[:, 0].detach()
    bounces, g = ball.times(3)[:, 0].detach(), float(ball.field.gravity.detach())
    expected = []
    for t in ts:
        leg = int((bounces < t).sum())
        since, speed = (t - bounces[leg - 1], 0.8**leg * g * bounces[0]) if leg else (t, torch.zeros(()))
        height = (0.2 if leg else 10.0) + speed * since - g * since**2 / 2
        expected.append(torch.stack([height, sign * (speed - g * since)]))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-8, atol=1e-8)


class Thermostat(nn.Module):
    """A room of temperature y_0 with a heater y_1, switched at levels of its own; c depends on all that it may."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = (nn.Parameter(torch.tensor(x)) for x in (18.0, 20.0))

    def forward(self, t: Tensor, y: State, drift: Tensor) -> Tensor:
        return torch.where(y[:, 1] > 0.5, self.high - y[:, 0], y[:, 0] - self.low) + 0.1 * drift * t.sin()


def switched(mode: GradientMode, values: Tensor, solver: Solver = EACH) -> tuple[Tensor, list[Tensor]]:
    """A number made of times, states at them and outputs; and its derivatives by all that it depends on."""
    y0, drift = torch.tensor([[19.0, 1.0], [18.5, 0.0]], requires_grad=True), values[:2]
    guard, rate = Thermostat(), nn.Parameter(values[2])
    guard.low.data, guard.high.data = values[3], values[4]
    field = Along(
        lambda t, y, z: torch.stack([rate * (10 + z - y[:, 0]) + 6 * y[:, 1] + t[:, 0].cos(), 0 * y[:, 1]], 1)
    )
    field.rate = rate
    drift = drift.clone().requires_grad_()
    event = Event(guard, direction=-1, reset=lambda t, y, z: torch.stack([y[:, 0] + 0.05 * t, 1 - y[:, 1]], dim=1))
    samples = slice(0, len(y0) if solver is EACH else 1)
    solution = solved(solver, mode, field, y0[samples], event, end=3.0, given=(drift[samples],))
    assert solution.events is not None
    assert len(solution.events.times) >= 3, "several events"
    there = ~solution.events.times.isnan()
    number = (solution.events.times[there] ** 2).sum() + solution.ys[..., 0].square().sum() / 100
    number = number + (solution.events.states[there] ** 2).sum() / 50
    return number, list(torch.autograd.grad(number, [drift, rate, guard.low, guard.high, y0]))


def test_derivatives_through_switchings_are_those_of_finite_differences() -> None:
    values = torch.tensor([0.3, -0.2, 0.5, 18.0, 20.0])
    _, found = switched(Backprop(), values)
    flat = torch.cat([part.reshape(-1) for part in found[:4]])
    for i in (0, 4):
        ends = []
        for step in (1e-5, -1e-5):
            moved = values.clone()
            moved[i] += step
            ends.append(switched(Backprop(), moved)[0].detach())
        assert float(flat[i]) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-5), i
    _, again = switched(Checkpoint(), values)
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_one_sample_is_the_same_with_steps_in_common_and_by_the_adjoint() -> None:
    values = torch.tensor([0.3, -0.2, 0.5, 18.0, 20.0])
    number, found = switched(Backprop(), values, solver=TIGHT)
    for mode, limit in ((Checkpoint(), 1e-12), (ADJOINT, 1e-6)):
        same, again = switched(mode, values, solver=TIGHT)
        assert float(same.detach()) == float(number.detach())
        for one, other in zip(found, again, strict=True):
            torch.testing.assert_close(one, other, rtol=limit, atol=limit)


@pytest.mark.parametrize("solver", [EACH, Dopri8(rtol=1e-6, atol=1e-6, max_steps=999, per_sample=True)], ids=["5", "8"])
def test_company_changes_nothing_and_every_evaluation_is_counted(solver: Solver) -> None:
    heights = (10.0, 3.0, 7.0, 0.2001)
    together = Ball(*heights).solved(solver, Checkpoint(), end=5.0)
    assert together.events is not None
    assert together.each is not None
    for i, height in enumerate(heights):
        integrate = Integrator(solver=solver, gradient=Checkpoint())
        ball = Ball(height)
        y0 = torch.stack([ball.height, torch.zeros(1)], dim=1)
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            alone = integrate(ball.field, y0, torch.linspace(0, 5.0, 9), event=ball.event())
        assert alone.events is not None
        assert alone.each is not None
        count = len(alone.events.times)
        assert together.events.times[count:, i].isnan().all()
        torch.testing.assert_close(together.events.times[:count, i], alone.events.times[:, 0], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(together.ys[:, i], alone.ys[:, 0], rtol=1e-13, atol=1e-13)
        assert int(together.each.evaluations[i]) == int(alone.each.evaluations[0]) == tally.evaluations


def test_evaluations_with_steps_in_common_are_those_predicted() -> None:
    """A leg: its beginning, the first step's own; an event: two attempts at it, and a slope in between and after."""
    for solver, of_steps in ((GRID, 4), (TIGHT, 6)):
        ball = Ball(10.0)
        integrate = Integrator(solver=solver, gradient=Backprop())
        y0 = torch.stack([ball.height, torch.zeros(1)], dim=1)
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            solution = integrate(ball.field, y0, torch.tensor([0.0, 8.0]), event=ball.event())
        legs, events, stages = 4, 4, solver.tableau.stages
        begins = legs + (legs + 1 if solver is TIGHT else legs)  # the first step's size, once; f1 of the last step
        steps = of_steps * solution.accepted if solver is TIGHT else stages * solution.accepted
        assert tally.evaluations == begins + steps + events * (2 * (stages - 1) + 2)


# --- what is an event, and what is none


def first(
    c: Callable[..., Tensor], *, field: VectorField = ONWARDS, y0: float = 0.0, solver: Solver = TIGHT, **options: Any
) -> Tensor:
    """Times of events of y' = 1 on [0, 1]."""
    solution = solved(solver, Backprop(), field, torch.tensor([[y0]]), Event(c, **options))
    assert solution.events is not None
    return solution.events.times[:, 0]


def test_two_crossings_within_one_step_are_seen() -> None:
    def c(t: Tensor, y: State) -> Tensor:
        return (y[:, 0] - 0.3) * (y[:, 0] - 0.6)

    one_step = RK4(num_steps=1, step_size=None)
    for solver in (TIGHT, one_step, EACH):
        assert first(c, solver=solver).tolist() == pytest.approx([0.3], abs=1e-12)
        assert first(c, solver=solver, direction=1).tolist() == pytest.approx([0.6], abs=1e-12)
    near = lambda t, y: (y[:, 0] - 0.3) * (y[:, 0] - 0.301)  # noqa: E731
    for longest in (None, 0.0005):
        assert first(near, solver=one_step, longest=longest).tolist() == pytest.approx([0.3], abs=1e-12)


def test_the_direction_is_that_of_the_solve_forwards_and_backwards() -> None:
    def c(t: Tensor, y: State) -> Tensor:
        return (7 * t + 0.5).sin()

    falls, rises = ((k * math.pi - 0.5) / 7 for k in (1, 2))
    for direction, forwards, backwards in ((0, falls, rises), (1, rises, falls), (-1, falls, rises)):
        assert first(c, direction=direction).tolist() == pytest.approx([forwards])
        integrate, ts = Integrator(solver=EACH, gradient=Backprop()), torch.tensor([1.0, 0.1])
        found = integrate(ONWARDS, torch.zeros(1, 1), ts, event=Event(c, direction=direction)).events
        assert found is not None
        assert found.times[:, 0].tolist() == pytest.approx([backwards])


def test_a_ball_thrown_up_from_the_floor_falls_onto_it_later() -> None:
    field, y0 = Falling(), torch.tensor([[0.0, 1.0]])
    floor: Any = {"direction": -1, "ends_after": 1, "reset": lambda t, y: -y}
    found = solved(TIGHT, Backprop(), field, y0, Event(lambda t, y: y[:, 0], **floor)).events
    assert found is not None
    assert found.times.tolist() == [[pytest.approx(0.20408163, abs=1e-8)]]
    with pytest.raises(RefusedInput, match=r"the event is 0 at t=0.* say by direction=1 or direction=-1"):
        solved(TIGHT, Backprop(), field, y0, Event(lambda t, y: y[:, 0]))
    with pytest.raises(RefusedInput, match=r"the event is 0 at t=0.* Begin with the state after its reset"):
        solved(TIGHT, Backprop(), field, -y0, Event(lambda t, y: y[:, 0], **floor))


def test_without_an_event_the_solution_is_that_of_the_plain_solve() -> None:
    field, y0 = Along(lambda t, y: -y + t), torch.tensor([[1.0], [2.0]], requires_grad=True)
    never = Event(lambda t, y: y[:, 0] + 5)
    for mode in (Backprop(), Checkpoint()):
        found = solved(EACH, mode, field, y0, never)
        plain = Integrator(solver=EACH, gradient=mode)(field, y0, torch.linspace(0, 1, 9))
        assert torch.equal(found.ys, plain.ys)
        assert found.events is not None
        assert found.events.times.shape == (0, 2)
        assert bool(found.events.valid.all())
        one, other = (torch.autograd.grad(s.ys.square().sum(), y0)[0] for s in (found, plain))
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)
    assert plain.events is None


def test_outputs_after_the_end_hold_its_state_and_are_marked() -> None:
    """One sample ends at 0.3, the other never: the loss is that of both alone."""
    rate = torch.tensor([[1.0], [0.1]], requires_grad=True)
    field = Along(lambda t, y, z: z)
    event = Event(lambda t, y, z: y[:, 0] - 0.3)
    solution = solved(EACH, Checkpoint(), field, torch.zeros(2, 1), event, given=(rate,))
    assert solution.events is not None
    valid = solution.events.valid
    assert valid.sum(dim=0).tolist() == [3, 9]
    torch.testing.assert_close(solution.ys[3:, 0], torch.full((6, 1), 0.3))
    [of_held] = torch.autograd.grad(solution.ys[-1, 0, 0], rate, retain_graph=True)
    assert float(of_held.abs().max()) < 1e-12, "the level of the event, whatever the rate"
    [of_time] = torch.autograd.grad(solution.events.times[0, 0], rate, retain_graph=True)
    assert of_time.flatten().tolist() == pytest.approx([-0.3, 0.0])
    [of_output] = torch.autograd.grad(solution.ys[2, 0, 0], rate)
    assert of_output.flatten().tolist() == pytest.approx([0.25, 0.0])


@pytest.mark.parametrize("last", [0.98, 1.0], ids=["between", "on an output"])
@pytest.mark.parametrize("mode", [Backprop(), Checkpoint(), ADJOINT], ids=["backprop", "checkpoint", "adjoint"])
def test_what_comes_after_an_event_moves_with_its_time(mode: GradientMode, last: float) -> None:
    """y' = 1 until T, then 0: y(2) = T; also with an output at T, which is the state before."""
    end = torch.tensor(last, requires_grad=True)
    field = Along(lambda t, y: torch.stack([y[:, 1], 0 * y[:, 1]], dim=1))
    event = Event(lambda t, y: t - end, direction=1, reset=lambda t, y: torch.stack([y[:, 0], 0 * y[:, 1]], dim=1))
    solution = solved(TIGHT, mode, field, torch.tensor([[0.0, 1.0]]), event, end=2.0)
    assert float(solution.ys[-1, 0, 0].detach()) == pytest.approx(last, abs=1e-12)
    assert float(torch.autograd.grad(solution.ys[-1, 0, 0], end)[0]) == pytest.approx(1.0, abs=1e-9)
    assert float(solution.ys[4, 0, 1].detach()) == (1.0 if last == 1.0 else 0.0), "before the reset"


# --- what is an error, in one sentence


def test_bounces_without_end_are_an_error_and_no_hang() -> None:
    with pytest.raises(SolverFailed, match=r"sample 0 of 1, at t=12\.7\d*, .* and time no longer advances"):
        Ball(10.0).solved(EACH, Backprop(), end=14.0, ends_after=None)
    with pytest.raises(SolverFailed, match=r"event number 6 of sample 0"):
        Ball(10.0).solved(TIGHT, Backprop(), end=12.0, ends_after=None, most=5)


def test_a_root_without_a_slope_is_an_error() -> None:
    with pytest.raises(SolverFailed, match=r"event number 1 of sample 0 of 1, at t=0.5\d*, grazes 0"):
        first(lambda t, y: (y[:, 0] - 0.5) ** 3)


@pytest.mark.parametrize("solver", [TIGHT, EACH, GRID], ids=["batch", "each", "grid"])
@pytest.mark.parametrize("place", [0.37, 0.5])
def test_an_event_that_touches_0_and_turns_back_is_an_error(solver: Solver, place: float) -> None:
    """Also at the end of a step; not where it stays away from 0, and where it goes through 0 and back it is found."""

    def found(depth: float) -> Tensor:
        event = Event(lambda t, y: (y[:, 0] - place) ** 2 - depth, direction=0)
        events = solved(solver, Backprop(), ONWARDS, torch.zeros(1, 1), event).events
        assert events is not None
        return events.times

    with pytest.raises(SolverFailed, match=rf"of sample 0 of 1, at t={place}\d*, (reaches 0 and turns|grazes 0)"):
        found(0.0)
    assert len(found(-1e-6)) == 0
    assert float(found(1e-6)[0, 0]) == pytest.approx(place - 1e-3, abs=1e-9)


def test_an_event_that_the_end_of_a_solve_comes_before_does_not_turn_back() -> None:
    """However near: in single precision its smallest values are equal, and the first of them is before the end."""
    torch.set_default_dtype(torch.float32)
    field, y0 = Along(lambda t, y, *_: nn.functional.softplus(2 * y.sin() + t)), torch.linspace(-2, 2, 50)[:, None]
    integrate = Integrator(solver=Dopri5(rtol=1e-3, atol=1e-3, max_steps=999, per_sample=True), gradient=Backprop())
    ends = integrate(field, y0, torch.tensor([0.0, 1.0])).ys[-1].detach()
    rising = Event(lambda t, y, place: (y - place)[:, 0], direction=1)
    for beyond, count in ((2e-4, 0), (-2e-4, 1)):
        events = integrate(field, y0, torch.tensor([0.0, 1.0]), event=rising, given=[ends + beyond]).events
        assert events is not None
        assert len(events.times) == count
        assert bool(events.times.isfinite().all())


def test_a_reset_that_leads_nowhere_is_an_error() -> None:
    for direction in (-1, 0):
        stopped = {"reset": lambda t, y: torch.stack([y[:, 0], 0 * y[:, 1]], dim=1), "direction": direction}
        event = Ball(10.0).event(**stopped)
        with pytest.raises(SolverFailed, match=r"leaves the event at 0, and at rest there"):
            solved(TIGHT, Backprop(), Falling(), torch.tensor([[1.0, 0.0]]), event)


def test_an_empty_batch_has_no_events() -> None:
    found = solved(EACH, Backprop(), ONWARDS, torch.zeros(0, 1), Event(lambda t, y: y[:, 0] - 0.5)).events
    assert found is not None
    assert (found.times.shape, found.valid.shape) == ((0, 0), (9, 0))


def test_functions_that_are_no_events_are_refused() -> None:
    for c in (lambda t, y: y[:, 0] < 0.5, lambda t, y: y, lambda t, y: 1.0):
        with pytest.raises(RefusedInput, match=r"an event is a function whose root ends the solve"):
            first(c)
    with pytest.raises(RefusedInput, match=r"the reset of an event must give a state in the shape"):
        first(lambda t, y: y[:, 0] - 0.5, reset=lambda t, y: y[:, 0])
    with pytest.raises(SolverFailed, match=r"the function of an event, is nan at t="):
        first(lambda t, y: (0.5 - y[:, 0]).sqrt() - 0.1, direction=1)
    with pytest.raises(RefusedInput, match=r"an event is ode_runner.event.Event"):
        solved(TIGHT, Backprop(), ONWARDS, torch.zeros(1, 1), lambda t, y: y[:, 0])  # type: ignore[arg-type]
    for bad in (
        {"direction": 2}, {"longest": 0.0}, {"longest": "a"}, {"ends_after": 0}, {"ends_after": 1.5}, {"most": 0},
        {"most": None}, {"reset": 1.0},
    ):  # fmt: skip
        with pytest.raises(RefusedInput, match=rf"{next(iter(bad))} of an event (must be|is)"):
            Event(lambda t, y: y[:, 0], **bad)  # type: ignore[arg-type]
    with pytest.raises(RefusedInput, match="times of jumps are a list"):
        Jumps(0.5, lambda t, y: y)  # type: ignore[arg-type]
    with pytest.raises(RefusedInput, match="the second argument of Jumps is a function of"):
        Jumps([0.5], 1.0)  # type: ignore[arg-type]


def test_every_other_pair_is_refused_by_name() -> None:
    event, y0 = Event(lambda t, y: y[:, 0] - 0.5), torch.zeros(1, 1)
    admitted = {name for name in options("gradient") if named_class("gradient", name).to_events}
    assert admitted == {"backprop", "checkpoint", "adjoint"}
    with pytest.raises(IncompatibleChoice, match=r"gradient=symplectic takes no solves with events"):
        solved(TIGHT, Symplectic(), ONWARDS, y0, event)
    for solver in (ImplicitEuler(num_steps=4, step_size=None), ALF(num_steps=4, step_size=None)):
        with pytest.raises(IncompatibleChoice, match=r"finds no events"):
            solved(solver, Backprop(), ONWARDS, y0, event)
    with pytest.raises(IncompatibleChoice, match=r"steps common to the whole batch, here of 2 samples"):
        solved(TIGHT, Backprop(), ONWARDS, torch.zeros(2, 1), event)
    penalty = {"q": Integral(lambda t, y, dy, vjp: y[:, 0], False)}
    for others in ({"integrals": penalty}, {"breaks": (0.3,)}):
        with pytest.raises(IncompatibleChoice, match=r"a solve with an event takes no"):
            solved(TIGHT, Backprop(), ONWARDS, y0, event, **others)


def test_a_second_derivative_is_refused() -> None:
    ball = Ball(10.0)
    found = ball.solved(TIGHT, Backprop()).events
    assert found is not None
    [slope] = torch.autograd.grad(found.times[-1, 0], [ball.height], create_graph=True)
    with pytest.raises(IncompatibleChoice, match="second derivative of a solve with events"):
        slope.sum().backward()


@pytest.mark.parametrize(
    "solver", [Euler(num_steps=50, step_size=None), AdaptiveHeun(rtol=1e-4, atol=1e-4, max_steps=9999)]
)
def test_other_methods_are_as_good_as_their_steps(solver: Solver) -> None:
    found = Ball(10.0).solved(solver, Backprop()).events
    assert found is not None
    assert found.times[:, 0].tolist() == pytest.approx(FOUR, rel=3e-2)


def test_single_precision() -> None:
    torch.set_default_dtype(torch.float32)
    solver = Dopri5(rtol=1e-5, atol=1e-5, max_steps=999, per_sample=True)
    ball = Ball(10.0, 5.0)
    found = ball.solved(solver, Checkpoint()).events
    assert found is not None
    assert found.times.dtype == torch.float32
    assert found.times[:, 0].tolist() == pytest.approx(FOUR, abs=1e-4)
    assert float(ball.derivatives(found.times[3, 0])[3]) == pytest.approx(12.784491, rel=1e-3)
    fine = Event(
        lambda t, y: (y[:, 0] + 1).double(), direction=-1, longest=1e-4
    )  # of another precision, in 10,000 places
    falls = solved(solver, Checkpoint(), Falling(), torch.zeros(2, 2), fine)
    assert falls.events is not None
    assert falls.events.times.dtype == torch.float32
    torch.testing.assert_close(falls.events.times[0], torch.full((2,), (2 / 9.8) ** 0.5), atol=1e-5, rtol=0)
    with pytest.raises(RefusedInput, match="longest=1e-12 of an event asks for .* places in a step, and 1,000,000 are"):
        solved(solver, Checkpoint(), Falling(), torch.zeros(2, 2), Event(lambda t, y: y[:, 0] + 1, longest=1e-12))
