"""Our pairs against torchdiffeq's engine: the same steps, the same evaluations, the same solution."""

import pytest
import torch

from ode_runner.errors import SolverFailed
from tests.problems import Compose, Formula, build, linear, oscillating_growth, sine

pytestmark = pytest.mark.usefixtures("float64")

# torchdiffeq takes the last stage of its other two pairs for f(t1, y1), which it is not: it saves evaluations
# and takes other steps.
LIKE = ("dopri5", "bosh3", "dopri8")
PROBLEMS = {"sine": sine, "oscillating_growth": oscillating_growth, "linear": linear}


@pytest.mark.parametrize("name", LIKE)
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_the_same_steps_and_solution(
    composed: Compose, name: str, problem: str, tolerance: float, backwards: bool
) -> None:
    posed = PROBLEMS[problem]()
    ts = posed.times(backwards=backwards)
    changed = {"rtol": tolerance, "atol": tolerance, "max_steps": 100_000}
    solvers = (
        build(composed, "solver", name, **changed),
        build(composed, "solver", "torchdiffeq", method=name, **changed),
    )
    fields = [posed.field(), posed.field()]
    ours, theirs = (s.solve(field, posed.solution(ts)[0], ts) for s, field in zip(solvers, fields, strict=True))
    assert (ours.accepted, ours.rejected) == (theirs.accepted, theirs.rejected)
    assert fields[0].calls == fields[1].calls
    rtol = 1e-7 if name == "dopri8" else 1e-12  # its published coefficients are decimals: two ways to sum the last row
    torch.testing.assert_close(ours.ys, theirs.ys, rtol=rtol, atol=rtol)


def test_the_same_outputs_within_steps(composed: Compose) -> None:
    problem = oscillating_growth()
    ts = problem.times(0.123, 0.5, 0.51)
    solvers = (build(composed, "solver", "dopri5"), build(composed, "solver", "torchdiffeq"))
    ours, theirs = (solver.solve(problem.field(), problem.solution(ts)[0], ts).ys for solver in solvers)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)  # one quartic by two formulas


def test_the_same_failures_in_words(composed: Compose) -> None:
    ts, y0 = torch.tensor([0.0, 2.0]), torch.ones(1, 1)
    blows_up = build(composed, "solver", "torchdiffeq")
    with pytest.raises(SolverFailed, match="steps shrank to nothing|NaN or infinity"):
        blows_up.solve(Formula(lambda t, y: y**2), y0, ts)
    with pytest.raises(SolverFailed, match="returned NaN"):
        blows_up.solve(Formula(lambda t, y: torch.where(t > 0.5, torch.nan, 1.0).expand_as(y)), y0, ts)
    with pytest.raises(SolverFailed, match=r"solver\.max_steps=3"):
        build(composed, "solver", "torchdiffeq", max_steps=3, rtol=1e-9).solve(
            Formula(lambda t, y: torch.sin(50 * t) * y), y0, ts
        )
