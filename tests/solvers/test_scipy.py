"""SciPy's solvers: stiff problems, the adjoint around them, and what they refuse."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice, RefusedInput, SolverFailed
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.implicit.kvaerno3 import Kvaerno3
from ode_runner.solvers.libraries.scipy_ivp import DENSE, LARGEST, SciPy
from ode_runner.types import State, Time
from tests.helpers import TINY, options, record_of, typed
from tests.problems import (
    Compose,
    Formula,
    SmallNet,
    build,
    linear,
    named_class,
    oscillating_growth,
    robertson,
    van_der_pol,
)

SCIPYS = [name for name in options("solver") if issubclass(named_class("solver", name), SciPy)]
each_scipy = pytest.mark.parametrize("name", SCIPYS)
one_quickly = pytest.mark.parametrize(
    "name", [name if name == SCIPYS[0] else pytest.param(name, marks=pytest.mark.slow) for name in SCIPYS]
)
ADJOINT = Adjoint(rtol=None, atol=None)


@pytest.fixture
def solver(composed: Compose, name: str) -> SciPy:
    return build(composed, "solver", name)


def tight(solver: SciPy, tolerance: float = 1e-8) -> SciPy:
    return replace(solver, rtol=tolerance, atol=tolerance)


@each_scipy
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_solutions_are_within_tolerance_at_the_outputs_and_between(solver: SciPy, backwards: bool) -> None:
    for problem in (linear(), oscillating_growth()):
        ts = problem.times(0.1234, 0.5, 0.77, backwards=backwards)
        exact = problem.solution(ts)
        field = problem.field()
        ys = tight(solver).solve(field, exact[0], ts).ys
        torch.testing.assert_close(ys, exact, rtol=0, atol=1e-6)  # a hundred steps' errors add up, each 1e-8
        assert torch.equal(ys[0], exact[0])
        assert problem.span[0] <= min(field.times)
        assert max(field.times) <= problem.span[1]


@pytest.mark.sampled(2)
@each_scipy
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("field", "begin", "end", "expected"),
    [
        (robertson, [1.0, 0.0, 0.0], 40.0, [0.7158270688, 9.185534765e-6, 0.2841637457]),
        (robertson, [1.0, 0.0, 0.0], 1e11, [2.083340149e-8, 8.333360770e-14, 0.9999999792]),
        pytest.param(
            *(van_der_pol, [2.0, 0.0], 2000.0, [1.706167732170483, -0.8928097010247975e-3]), marks=pytest.mark.slow
        ),
    ],
    ids=["Robertson at 40", "Robertson at 1e11", "van der Pol"],
)
def test_stiff_problems_of_the_test_set(
    solver: SciPy, field: Any, begin: list[float], end: float, expected: list[float]
) -> None:
    """Reference: Mazzia, Magherini. Test Set for Initial Value Problem Solvers."""
    solver = replace(solver, rtol=1e-6, atol=1e-14)
    solution = solver.solve(Formula(field), torch.tensor([begin]), torch.tensor([0.0, end]))
    torch.testing.assert_close(
        solution.ys[-1], torch.tensor([expected]), rtol=1e-3, atol=0
    )  # errors of a thousand steps
    assert solution.accepted < 4000


class Reaction(Formula):
    """Robertson's, with its rates in units of their own as parameters."""

    def __init__(self) -> None:
        super().__init__(self.rates_of)
        self.rates = nn.Parameter(torch.ones(3))

    def rates_of(self, t: Tensor, y: Tensor) -> Tensor:
        a, b, c = y.unbind(-1)
        slow, fast, back = 0.04 * self.rates[0] * a, 3e7 * self.rates[1] * b * b, 1e4 * self.rates[2] * b * c
        return torch.stack([back - slow, slow - back - fast, fast], dim=-1)


def sensitivities(solver: Any, mode: GradientMode) -> list[Tensor]:
    field, y0 = Reaction(), torch.tensor([[1.0, 0.0, 0.0], [0.8, 1e-5, 0.2]], requires_grad=True)
    ys = Integrator(solver=solver, gradient=mode)(field, y0, torch.linspace(0, 0.03, 11)).ys
    return [ys, *torch.autograd.grad((ys[1:, :, 2] * torch.tensor([1.0, -2.0])).sum(), [y0, field.rates])]


@pytest.mark.slow
@one_quickly
@pytest.mark.usefixtures("float64")
def test_a_stiff_reaction_has_the_gradient_of_an_exact_mode(solver: SciPy) -> None:
    """Backwards the fast reaction grows by exp(2000 t): between two outputs by 400, over the whole span by 1e26."""
    expected = sensitivities(Kvaerno3(rtol=1e-6, atol=1e-9, max_steps=5000), Checkpoint())
    found = sensitivities(replace(solver, rtol=1e-6, atol=1e-9), ADJOINT)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * float(other.detach().abs().max()))  # that growth


@each_scipy
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "span", [(0.0, 0.3, 0.6, 1.2), pytest.param((1.0, 0.5, 0.0), marks=pytest.mark.slow)], ids=["forwards", "backwards"]
)
def test_the_adjoint_approaches_the_true_gradient(solver: SciPy, span: tuple[float, ...]) -> None:
    def gradients(made: Any, mode: GradientMode) -> list[Tensor]:
        torch.manual_seed(1)
        net, y0 = SmallNet(), torch.randn(4, 3, requires_grad=True)
        loss = Integrator(solver=made, gradient=mode)(net, y0, torch.tensor(span)).ys.sin().sum()
        return list(torch.autograd.grad(loss, [y0, *net.parameters()], allow_unused=True, materialize_grads=True))

    found = gradients(tight(solver, 1e-7), ADJOINT)
    expected = gradients(Dopri5(rtol=1e-9, atol=1e-9, max_steps=5000), Checkpoint())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@each_scipy
def test_a_field_in_single_precision_is_solved_and_differentiated_in_double(solver: SciPy) -> None:
    net, y0 = SmallNet(), torch.randn(4, 3, requires_grad=True)
    field = Formula(net.forward)
    field.net = net
    ys = Integrator(solver=solver, gradient=ADJOINT)(field, y0, torch.tensor([0.0, 0.5, 1.0])).ys
    ys[-1].sum().backward()
    assert field.dtypes == {torch.float64}
    assert ys.dtype is torch.float32
    assert net.inner.weight.grad is not None
    assert net.inner.weight.grad.dtype is torch.float32


@each_scipy
@pytest.mark.usefixtures("float64")
def test_every_call_is_an_evaluation_and_the_integral_of_the_parameters_costs_four_a_step(solver: SciPy) -> None:
    net, y0 = SmallNet(), torch.randn(4, 3, requires_grad=True)
    field = Formula(net.forward)
    field.net = net
    integrate = Integrator(solver=solver, gradient=ADJOINT)
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        loss = integrate(field, y0, torch.tensor([0.0, 1.0])).ys.sum()
    called = field.calls
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    assert (forward.evaluations, backward.evaluations) == (called, field.calls - called)
    assert forward.accepted > 0
    assert backward.evaluations >= 4 * backward.accepted


@each_scipy
@pytest.mark.usefixtures("float64")
def test_samples_share_the_evaluations_for_a_jacobian(solver: SciPy) -> None:
    counts = []
    for batch in (1, 20):
        ledger = Ledger()
        field = CountedField.around(Formula(lambda t, y: -50 * y**3), ledger)
        solver.solve(field, torch.linspace(1, 1.01, batch)[:, None].expand(batch, 3), torch.tensor([0.0, 1.0]))
        counts.append(ledger.tally.evaluations)
    assert counts[1] < 1.5 * counts[0]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("batch", [1, 2, 10, DENSE // 3 + 1])
def test_lsoda_takes_as_many_evaluations_as_scipy_by_itself(composed: Compose, batch: int) -> None:
    """Told of a band, it takes five times the steps; told nothing, a batch of ten three times the evaluations."""
    y0 = torch.tensor([[1.0, 0.0, 0.0]]).repeat(batch, 1)
    field, end, tolerances = Formula(robertson), 1e5, {"rtol": 1e-6, "atol": 1e-12}
    solution = build(composed, "solver", "lsoda", **tolerances).solve(field, y0, torch.tensor([0.0, end]))

    def right(t: float, y: Any) -> Any:
        return robertson(torch.tensor(t), torch.from_numpy(y)).numpy()

    alone = solve_ivp(right, (0, end), y0[0].tolist(), method="LSODA", **tolerances)
    assert field.calls < (1.5 if batch * 3 <= DENSE else 3) * alone.nfev
    torch.testing.assert_close(solution.ys[-1], torch.tensor(alone.y[:, -1]).expand(batch, 3), rtol=1e-4, atol=0)


@each_scipy
@pytest.mark.parametrize("times", [1, 2, 3])
def test_no_time_leaves_the_state_as_it_is(solver: SciPy, times: int) -> None:
    y0 = torch.randn(2, 3)
    solution = solver.solve(Formula(lambda t, y: 100 * y), y0, torch.full((times,), 0.5))
    assert torch.equal(solution.ys, y0.expand(times, 2, 3))


@each_scipy
@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        (lambda t, y: torch.where(t > 0.4, torch.nan, -y), "the field returned NaN or infinity"),
        (lambda t, y: y * y, "stopped at t="),
    ],
    ids=["NaN", "runs away"],
)
def test_a_failure_is_told_in_words(solver: SciPy, field: Any, sentence: str) -> None:
    with pytest.raises(SolverFailed, match=sentence):
        solver.solve(Formula(field), torch.ones(1, 1), torch.tensor([0.0, 2.0]))


@each_scipy
def test_an_initial_state_with_nan_fails_as_with_other_adaptive_solvers(solver: SciPy) -> None:
    with pytest.raises(SolverFailed, match=r"stopped at t=0: the initial state has NaN or infinity\."):
        solver.solve(Formula(lambda t, y: -y), torch.tensor([[1.0], [math.nan]]), torch.tensor([0.0, 2.0]))


@each_scipy
def test_the_step_limit_is_kept(solver: SciPy) -> None:
    with pytest.raises(SolverFailed, match=r"limit solver\.max_steps=3 was reached"):
        replace(solver, max_steps=3).solve(
            Formula(lambda t, y: torch.cos(40 * t) * y), torch.ones(1, 1), torch.tensor([0.0, 9.0])
        )


@each_scipy
def test_a_state_too_large_for_a_jacobian_is_refused(solver: SciPy) -> None:
    size = round(LARGEST**0.5) + 1
    with pytest.raises(IncompatibleChoice, match=f"1 of {size:,} x {size:,} numbers are too many.*Use solver=dopri5"):
        solver.solve(Formula(lambda t, y: -y), torch.ones(1, size), torch.tensor([0.0, 1.0]))


@pytest.mark.sampled(1)
@each_scipy
@pytest.mark.usefixtures("float64")
def test_a_large_batch_is_solved_like_a_small_one(solver: SciPy) -> None:
    """Stiff enough for every method to ask for a Jacobian."""
    field = Formula(lambda t, y: -200 * (y - torch.cos(t)) + 0.5 * y.roll(1, dims=1))
    y0 = torch.linspace(0, 1, 5000 * 3).view(5000, 3)
    ys = tight(solver, 1e-6).solve(field, y0, torch.tensor([0.0, 1.0])).ys[-1]
    alone = tight(solver, 1e-6).solve(field, y0[:2], torch.tensor([0.0, 1.0])).ys[-1]
    torch.testing.assert_close(ys[:2], alone, rtol=0, atol=1e-5)


@each_scipy
def test_only_the_adjoint_takes_it(solver: SciPy) -> None:
    taking = {mode for mode in options("gradient") if named_class("gradient", mode).takes(type(solver))}
    assert taking == {"adjoint"}


def test_an_unknown_method_is_refused(composed: Compose) -> None:
    with pytest.raises(RefusedInput, match=r"solver\.method=RK45 is no LSODA or BDF or Radau"):
        build(composed, "solver", "lsoda", method="RK45")


SMALL = (*TINY, "trainer=quick", "trainer.max_steps=2", "logger=none")


@one_quickly
def test_it_trains_through_the_adjoint(tmp_path: Path, name: str) -> None:
    run = typed("task=half_moons", f"solver={name}", "gradient=adjoint", *SMALL, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert record_of(tmp_path)["cost"]["nfe_backward"] > 0


def test_another_mode_is_refused_in_one_line(tmp_path: Path) -> None:
    run = typed("task=half_moons", "solver=bdf", "gradient=seminorm", *SMALL, cwd=tmp_path)
    assert run.returncode == 2
    assert "solver=bdf is SciPy's, through which nothing can be differentiated, so gradient=seminorm" in run.stderr
    assert "Use gradient=adjoint, or solver=dopri5." in run.stderr  # for this mode takes no implicit one


class LayerOfACondition(VectorField):
    """f(t, y, z): a layer of the condition by itself, which takes numbers of its weights' precision alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, t: Time, y: State, z: Tensor) -> State:
        return self.layer(z) - y


@pytest.mark.parametrize("name", ["lsoda", "radau"])
def test_a_condition_without_a_derivative_is_solved_with(solver: SciPy) -> None:
    """As in evaluations and samples, where the gradient mode is backprop and keeps what is given as it is."""
    field, y0, ts, z = LayerOfACondition(), torch.ones(2, 3), torch.tensor([0.0, 0.5]), torch.randn(2, 2)
    with torch.no_grad():
        ys = Integrator(solver=tight(solver), gradient=Backprop())(field, y0, ts, given=(z,)).ys
        steady = field.layer(z)
        torch.testing.assert_close(ys[-1], steady + (y0 - steady) * math.exp(-0.5), rtol=1e-5, atol=1e-5)
