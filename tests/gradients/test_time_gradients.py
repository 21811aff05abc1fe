"""Gradients with respect to the times of a solve, in every mode, against differences of a far more accurate one."""

from functools import cache

import pytest
import torch
from torch import Tensor

from ode_runner.event import Jumps
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.problem import SolveOptions
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.dopri8 import Dopri8
from tests.gradients.test_gradients import finely, is_implicit
from tests.problems import Compose, Formula, accepted_pairs, build, is_first_of_its_family

pytestmark = pytest.mark.usefixtures("float64")

SPANS = {"forwards": (0.1, 0.4, 0.7, 1.3), "backwards": (1.0, 0.5, -0.1)}
STRIDE = 1e-4  # of central differences, whose error is STRIDE ** 2


def field() -> Formula:
    """Depends on the time, the state and a parameter."""
    made = Formula(lambda t, y: torch.sin(made.weight * y + 3 * t) - t * y)
    made.weight = torch.nn.Parameter(torch.tensor([2.0]))
    return made


def beginning() -> Tensor:
    return torch.tensor([[0.5], [-1.0]], requires_grad=True)


def loss_of(ys: Tensor) -> Tensor:
    """Depends on every state in its own way, the first one too."""
    return (torch.linspace(-1, 2, ys.numel()).view_as(ys) * torch.sin(ys)).sum()


@cache
def true_gradient(span: tuple[float, ...]) -> Tensor:
    return torch.stack([(_loss(span, i, STRIDE) - _loss(span, i, -STRIDE)) / (2 * STRIDE) for i in range(len(span))])


@torch.no_grad()
def _loss(span: tuple[float, ...], i: int, shift: float) -> Tensor:
    ts, solver = torch.tensor(span), Dopri8(rtol=1e-12, atol=1e-12, max_steps=10_000)
    ts[i] += shift
    y, ys = beginning(), [beginning()]
    for t in range(len(ts) - 1):  # one interval after another: so that nothing hangs on dense output
        y = solver.solve(field(), y, ts[t : t + 2]).ys[-1]
        ys.append(y)
    return loss_of(torch.stack(ys))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(pair, marks=pytest.mark.slow if is_implicit(pair) else (), id="-".join(pair))
        for pair in accepted_pairs()
        if is_first_of_its_family(pair)
    ],
)
@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_every_mode_differentiates_by_the_times(
    composed: Compose, pair: tuple[str, str], span: tuple[float, ...]
) -> None:
    solver, mode = build(composed, "solver", pair[0]), build(composed, "gradient", pair[1])
    coarse, fine = (
        _error(build(composed, "solver", pair[0], **finely(solver, fineness)), mode, span) for fineness in (0, 1)
    )
    assert fine < max(coarse / 2, 1e-3)  # derivatives of the flow: as good as the solve


def _error(solver: object, mode: GradientMode, span: tuple[float, ...]) -> float:
    ts = torch.tensor(span, requires_grad=True)
    loss = loss_of(Integrator(solver=solver, gradient=mode)(field(), beginning(), ts).ys)  # type: ignore[arg-type]
    found, expected = torch.autograd.grad(loss, ts)[0], true_gradient(span)
    return float((found - expected).abs().max() / expected.abs().max())


def test_other_gradients_and_the_solution_stay_as_they_are() -> None:
    solver, found = Dopri5(rtol=1e-4, atol=1e-4, max_steps=100), []
    for moving in (False, True):
        made, y0 = field(), beginning()
        ts = torch.tensor(SPANS["forwards"], requires_grad=moving)
        ys = Integrator(solver=solver, gradient=Checkpoint())(made, y0, ts).ys
        found.append([ys, *torch.autograd.grad(loss_of(ys), [y0, made.weight])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_every_time_costs_an_evaluation_and_only_where_it_has_a_gradient() -> None:
    integrate, counts = Integrator(solver=Dopri5(rtol=1e-4, atol=1e-4, max_steps=100), gradient=Checkpoint()), []
    for moving in (False, True):
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            integrate(field(), beginning(), torch.tensor(SPANS["forwards"], requires_grad=moving))
        counts.append(tally.evaluations)
    assert counts[1] == counts[0] + len(SPANS["forwards"])


@pytest.mark.parametrize("edge", ["break", "jump"])
def test_an_output_that_moves_off_a_break_or_a_jump_leaves_later_states_as_they_are(edge: str) -> None:
    kinked = Formula(lambda t, y: torch.where(t >= 1, 2.0, 0.0) - y)
    options: SolveOptions = {"breaks": [1.0]} if edge == "break" else {"jumps": Jumps([1.0], lambda t, y: t * y)}
    penalty = {"area": Integral(lambda t, y, dy, vjp: y[:, 0] + dy[:, 0], judged=False)}
    ts = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    integrate = Integrator(solver=Dopri5(rtol=1e-8, atol=1e-8, max_steps=100), gradient=Checkpoint())
    solution = integrate(kinked, torch.ones(1, 1), ts, integrals=penalty, **options)
    here, later = (
        torch.autograd.grad(solution.ys[i].sum() + solution.integrals["area"][i], ts, retain_graph=True)[0][1]
        for i in (1, 2)
    )
    assert here != 0
    assert later == 0
