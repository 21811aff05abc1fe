"""What each gradient mode keeps for the backward pass, measured against the number of steps."""

from itertools import pairwise

import pytest
import torch

from ode_runner.experiment.meters import SavedBytes
from ode_runner.integrator import Integrator
from ode_runner.solvers.reversible import ReversibleSolver
from tests.problems import Compose, Formula, SmallNet, accepted_pairs, build, named_class, offering

pytestmark = pytest.mark.usefixtures("float64")

BATCH, STATE = 64, 3
STATE_BYTES = BATCH * STATE * 8
STEPS = (8, 16, 32, 64)
MANY = torch.linspace(0.0, 1.0, 9, dtype=torch.float64)  # the coarsest grid already ends a step on each


def bytes_kept(composed: Compose, solver: str, mode: str) -> list[int]:
    """For each number of steps."""
    kept = []
    for num_steps in STEPS:
        method = build(composed, "solver", solver, num_steps=num_steps)
        integrate = Integrator(solver=method, gradient=build(composed, "gradient", mode))
        torch.manual_seed(0)
        net = SmallNet()
        with SavedBytes(net.parameters()) as memory:
            ys = integrate(net, torch.randn(BATCH, STATE), MANY).ys
        kept.append(memory.bytes())
        del ys
    return kept


def per_step(kept: list[int]) -> list[float]:
    """Slopes between one number of steps and the next."""
    return [(b - a) / (m - n) for (a, b), (n, m) in zip(pairwise(kept), pairwise(STEPS), strict=True)]


@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_backprop_keeps_every_evaluation(composed: Compose, solver: str) -> None:
    stages = len(named_class("solver", solver).tableau.b)
    slopes = per_step(bytes_kept(composed, solver, "backprop"))
    assert min(slopes) >= stages * STATE_BYTES  # the place of each evaluation, and what is inside the field besides
    assert max(slopes) == pytest.approx(min(slopes), rel=0.01)


@pytest.mark.parametrize(("mode", "states"), [("checkpoint", 1), ("symplectic", 1), ("interpolated", 2)])
def test_modes_that_go_back_along_the_steps_keep_states(composed: Compose, mode: str, states: int) -> None:
    assert per_step(bytes_kept(composed, "rk4", mode)) == [states * STATE_BYTES] * (len(STEPS) - 1)


@pytest.mark.parametrize(
    ("solver", "mode"),
    [
        *((solver, "adjoint") for solver in ("euler", "rk4")),
        *((solver, "reversible") for solver in offering(ReversibleSolver)),
    ],
)
def test_modes_that_solve_backwards_keep_nothing_of_a_step(composed: Compose, solver: str, mode: str) -> None:
    kept = bytes_kept(composed, solver, mode)
    assert kept[0] > 0
    assert set(kept) == {kept[0]}


def test_every_mode_that_takes_rk4_is_measured_here() -> None:
    taking = {mode for solver, mode in accepted_pairs() if solver == "rk4"}
    assert taking == {"backprop", "checkpoint", "symplectic", "interpolated", "adjoint", "forward"}


def test_the_derivative_pushed_forward_is_as_large_whatever_the_steps(composed: Compose) -> None:
    field = Formula(lambda t, y: field.rate * y)
    field.rate = torch.nn.Parameter(torch.tensor([-0.3]))
    kept = []
    for num_steps in STEPS:
        method = build(composed, "solver", "rk4", num_steps=num_steps)
        integrate = Integrator(solver=method, gradient=build(composed, "gradient", "forward"))
        with SavedBytes(field.parameters()) as memory:
            ys = integrate(field, torch.ones(BATCH, STATE), MANY).ys
        kept.append(memory.bytes())
        del ys
    assert kept[0] > 0
    assert set(kept) == {kept[0]}
