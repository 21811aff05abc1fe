"""Regions of absolute stability against what is known of them, and against steps that are taken."""

import pytest
import torch

from ode_runner.problem import Solution
from ode_runner.solvers.stability import amplification
from ode_runner.tasks.dynamics.known_equations import Exponential
from tests.problems import Compose, build

pytestmark = pytest.mark.usefixtures("float64")


def on_the_real_axis(composed: Compose, name: str, x: float, **options: object) -> float:
    found = amplification(build(composed, "solver", name, **options), torch.tensor([x], dtype=torch.complex128))
    assert found is not None
    return float(found)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("euler", 2.0), ("heun", 2.0), ("rk4", 2.785294), ("ab2", 1.0), ("ab3", 6 / 11), ("ab4", 0.3)],
)
def test_intervals_on_the_negative_axis_are_those_known(name: str, limit: float, composed: Compose) -> None:
    """Hairer, Wanner. Solving Ordinary Differential Equations II, IV.2 and V.1."""
    assert on_the_real_axis(composed, name, -limit + 1e-4) < 1
    assert on_the_real_axis(composed, name, -limit - 1e-4) > 1


@pytest.mark.parametrize("name", ["implicit_euler", "implicit_midpoint", "trapezoid", "kvaerno3", "radau_iia5"])
def test_implicit_methods_are_stable_in_the_whole_left_half(name: str, composed: Compose) -> None:
    z = torch.complex(-torch.logspace(-3, 5, 60), torch.linspace(-1e3, 1e3, 60))
    found = amplification(build(composed, "solver", name), z)
    assert found is not None
    assert float(found.max()) <= 1


def test_a_step_grows_by_that_much(composed: Compose) -> None:
    """By the ratio of two late steps, where little but the largest root of a multistep method is left."""
    for name in ("heun", "rk38", "ab2", "ab3"):
        solver = build(composed, "solver", name, num_steps=4)
        solution: Solution = solver.solve(Exponential(3.0), torch.ones(1, 1), torch.tensor([0.0, 20.0, 20.25]))
        grown = float(solution.ys[2] / solution.ys[1])
        assert abs(grown) == pytest.approx(on_the_real_axis(composed, name, -0.75), rel=1e-4)


def test_methods_of_other_kinds_have_no_region(composed: Compose) -> None:
    assert amplification(build(composed, "solver", "alf"), torch.zeros(1, dtype=torch.complex128)) is None
