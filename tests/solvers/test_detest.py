"""Every adaptive explicit pair on the DETEST problems: what its tolerance is worth."""

from typing import Any

import pytest
import torch

from ode_runner.solvers.embedded import EmbeddedRungeKutta
from tests.detest import DETEST, END, reference
from tests.problems import Compose, build, offering, slope

pytestmark = pytest.mark.usefixtures("float64")

# The error at the end in units of the tolerance, per unit of `blindness`; twice the worst that was measured.
MULTIPLE = {"A": 30, "B": 210, "C": 3, "D": 1200, "E": 140}
QUICK = {("dopri5", "A"), ("dopri5", "B")}


def cases() -> list[Any]:
    return [
        pytest.param(name, problem, marks=() if (name, problem[0]) in QUICK else pytest.mark.slow)
        for name in offering(EmbeddedRungeKutta)
        for problem in DETEST
    ]


def tolerances(solver: EmbeddedRungeKutta) -> list[float]:
    """As tight as the order can afford, and for a judge that sees little of an error as loose as still works."""
    loosest = 1e-3 if blindness(solver) < 50 else 1e-4
    return [
        loosest * 10.0**-k for k in ((0, 1, 2) if solver.order == 2 else (0, 2, 4) if solver.order == 3 else (0, 3, 6))
    ]


def blindness(solver: EmbeddedRungeKutta) -> float:
    """The pair's two solutions differ by this much less than its stages do: Fehlberg's 1(2) pair by 512."""
    return max(1.0, 1 / max(map(abs, solver.tableau.b_error)))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("name", "problem"), cases())
def test_the_error_is_within_a_known_multiple_of_the_tolerance_and_falls_with_it(
    composed: Compose, name: str, problem: str
) -> None:
    posed, errors, ts = DETEST[problem], [], torch.tensor([0.0, END])
    chosen = tolerances(build(composed, "solver", name))
    for tolerance in chosen:
        solver = build(composed, "solver", name, rtol=tolerance, atol=tolerance, max_steps=200_000)
        with torch.no_grad():
            end = solver.solve(posed.field(), posed.y0(), ts).ys[-1, 0]
        errors.append(float((end - reference(problem)).abs().max()))
        assert errors[-1] < MULTIPLE[problem[0]] * blindness(solver) * tolerance
    assert slope(chosen, errors) > 0.4  # of the ideal 1: at the loose end a few lucky steps do better than asked
