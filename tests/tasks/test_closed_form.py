"""Problems with known answers: the fields against their solutions, and solvers against the numbers that are known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import curve_fit

from ode_runner.batch import Outputs, Split
from ode_runner.errors import RefusedInput
from ode_runner.fields.structured_field import MatrixField, SecondOrderField, SplitField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.tasks.dynamics.closed_form import ClosedForm, crossings
from ode_runner.tasks.dynamics.known_problems import PLAIN, KnownProblem, heavy_ball, van_der_pol
from tests.helpers import record_of, typed
from tests.problems import Compose, build

pytestmark = pytest.mark.usefixtures("float64")

ALL = {name: make() for name, make in PLAIN.items()} | {"vanderpol": van_der_pol(1.0), "heavy_ball": heavy_ball(1.0)}


def task(problem: str, **options: Any) -> ClosedForm:
    every = dict.fromkeys(("mu", "friction", "horizon", "points", "noise")) | options
    return ClosedForm(problem=problem, **every, seed=0, device=torch.device("cpu"))  # type: ignore[arg-type]


def metrics_of(made: ClosedForm, composed: Compose, solver: str, **options: Any) -> dict[str, float]:
    """Of the last part of the test split."""
    integrate = Integrator(solver=build(composed, "solver", solver, **options), gradient=Backprop())
    found: dict[str, float] = {}
    for batch in made.batches(Split.TEST, batch_size=1, epoch=0):
        outputs = Outputs(values=integrate(made.problem.field, batch.inputs, batch.ts).ys)
        found |= {name: float(value) for name, value in made.metrics(outputs, batch).items()}
    return dict(made.reported(found))


@pytest.mark.parametrize("name", ALL)
def test_what_is_called_the_solution_solves_the_equation(name: str) -> None:
    problem: KnownProblem = ALL[name]
    if problem.exact is None:
        pytest.skip("has no formula")
    ts = torch.linspace(0, problem.horizon, 7)
    states = problem.exact(ts)
    torch.testing.assert_close(states[0], torch.tensor(problem.y0))
    h = 1e-6
    slopes = (problem.exact(ts + h) - problem.exact(ts - h)) / (2 * h)
    torch.testing.assert_close(slopes, problem.field(ts, states), rtol=1e-5, atol=1e-5)
    if problem.invariant is not None:
        assert float((problem.invariant(states) - problem.invariant(states[0])).abs().max()) < 1e-14


@pytest.mark.parametrize("name", ALL)
def test_each_kind_that_a_field_declares_is_of_the_same_field(name: str) -> None:
    field, t, y = ALL[name].field, torch.tensor(0.3), torch.rand(3, len(ALL[name].y0))
    dy = field(t, y)
    if isinstance(field, MatrixField):
        torch.testing.assert_close(y @ field.matrix(t, y).T, dy)
    if isinstance(field, SplitField):
        torch.testing.assert_close(field.first_part(t, y) + field.second_part(t, y), dy)
    if isinstance(field, SecondOrderField):
        torch.testing.assert_close(torch.cat([y[:, 1:], field.force(t, y)], dim=1), dy)


@pytest.mark.parametrize(
    ("problem", "solver", "errors"),
    [
        ("car", "euler", {4: 0.0}),
        ("exponential", "euler", {4: 7.3e-2, 8: 3.5e-2, 16: 1.7e-2, 32: 8.6e-3}),
        ("exponential", "heun", {4: 1.7e-2, 8: 3.4e-3, 16: 7.8e-4, 32: 1.9e-4}),
        ("exponential", "ab2", {4: 3.1e-2, 8: 7.5e-3, 16: 1.8e-3, 32: 4.5e-4}),
        ("exponential", "rk4", {4: 2.1e-4, 8: 1.1e-5, 16: 6.1e-7, 32: 3.6e-8}),
        ("sine", "euler", {4: 1.6e-2, 8: 6.7e-3, 16: 3.1e-3, 32: 1.5e-3}),
        ("sine", "rk4", {4: 9.0e-6, 8: 5.7e-7, 16: 3.6e-8, 32: 2.2e-9}),
    ],
)
def test_errors_are_those_that_are_known(
    problem: str, solver: str, errors: dict[int, float], composed: Compose
) -> None:
    for steps, error in errors.items():
        found = metrics_of(task(problem), composed, solver, num_steps=steps)["rmse"]
        assert found == pytest.approx(error, rel=0.06, abs=1e-15)  # two digits are known


def test_runge_kutta_near_a_pole_is_as_far_off_as_is_known(composed: Compose) -> None:
    """Of x' = x^2 at t = 0.9, where x = 10: 9.899, 9.9992 and 9.999997."""
    for steps, error in ((8, 0.101), (32, 8e-4), (128, 3e-6)):
        found = metrics_of(task("square"), composed, "rk4", num_steps=None, step_size=0.9 / steps)["rmse"]
        assert found == pytest.approx(error, rel=0.17)  # one digit is known


def test_momentum_is_off_by_what_is_known(composed: Compose) -> None:
    """Semi-implicit Euler's q at t = 4 with friction 1, which is 0.0493296."""
    made = task("heavy_ball", friction=1.0)
    assert float(made.batch.targets[-1, 0, 0]) == pytest.approx(0.0493296, abs=5e-8)
    for steps, error in ((50, 8.3e-3), (100, 4.2e-3), (200, 2.1e-3), (400, 1.0e-3)):
        integrate = Integrator(
            solver=build(composed, "solver", "semi_implicit_euler", num_steps=steps), gradient=Backprop()
        )
        found = integrate(made.problem.field, made.batch.inputs, made.batch.ts).ys[-1, 0, 0]
        assert abs(float(found) - 0.0493296) == pytest.approx(error, rel=0.05)


def test_a_circle_by_eulers_method_grows_as_is_known(composed: Compose) -> None:
    size = 2 * math.pi / 64
    step = {"num_steps": None, "step_size": size}
    assert metrics_of(task("circle"), composed, "euler", **step)["radius"] == pytest.approx((1 + size**2) ** 32)
    assert metrics_of(task("circle"), composed, "heun", **step)["radius"] == pytest.approx(1.00074, abs=1e-5)
    assert metrics_of(task("circle"), composed, "rk4", **step)["rmse"] == pytest.approx(4.9e-6, rel=0.02)


@pytest.mark.parametrize(("size", "least", "most"), [(0.19, 0.0, 1e-4), (0.2, 0.999, 1.001), (0.21, 1e3, math.inf)])
def test_gradient_descent_is_stable_up_to_two_over_the_curvature(
    size: float, least: float, most: float, composed: Compose
) -> None:
    found = metrics_of(task("gradient_flow"), composed, "euler", num_steps=None, step_size=size)["final_size"]
    assert least <= found <= most


@pytest.mark.parametrize(("problem", "rate"), [("exponential", 2.0), ("relaxation", 1000.0)])
@pytest.mark.parametrize(("solver", "limit"), [("euler", 2.0), ("rk4", 2.785)])
def test_steps_are_stable_up_to_the_known_limit(
    problem: str, rate: float, solver: str, limit: float, composed: Compose
) -> None:
    """Over a hundred steps, or three hundred."""
    ends = []
    for size in (0.98 * limit / rate, 1.02 * limit / rate):
        made = task(problem, horizon=300 * size)
        ends.append(metrics_of(made, composed, solver, num_steps=None, step_size=size)["rmse"])
    assert ends[0] < 1 < ends[1]


def test_implicit_steps_of_any_size_go_where_a_stiff_equation_goes(composed: Compose) -> None:
    """The solution is then within e^-1000 of 3 - 2000/999 e^-t, and the error that of a step along it."""
    made = task("relaxation")
    assert float(made.batch.targets[-1, 0, 0]) == pytest.approx(3 - 2000 / 999 * math.exp(-1), rel=1e-14)
    errors = [metrics_of(made, composed, "implicit_euler", num_steps=steps)["rmse"] for steps in (8, 16, 32)]
    expected = [math.exp(-1) / 1000 / steps for steps in (8, 16, 32)]  # h |y''| / (2 rate), where y'' = -2 e^-t
    assert errors == pytest.approx(expected, rel=0.15)


def test_a_horizon_without_a_period_is_told() -> None:
    [said] = task("vanderpol", horizon=3.0).remarks({"test/rmse": 0.1, "test/period": math.nan})
    assert said.startswith("test/period: unknown, because up to t=3 the solution crosses x = 0 less than twice")
    assert not list(task("vanderpol").remarks({"test/rmse": 0.1, "test/period": 6.66}))


@pytest.mark.slow
def test_the_period_of_van_der_pols_equation_is_known(composed: Compose) -> None:
    found = metrics_of(task("vanderpol"), composed, "dopri5", rtol=1e-6, atol=1e-6, max_steps=100_000)
    assert found["period"] == pytest.approx(6.6633, abs=2e-4)


def test_crossings_are_those_of_a_sine() -> None:
    ts = torch.linspace(0.1, 20, 300)
    expected = torch.tensor([2 * math.pi, 4 * math.pi, 6 * math.pi])
    torch.testing.assert_close(crossings(ts, ts.sin(), ts.cos()), expected, atol=1e-8, rtol=0)


def test_robertsons_reactions_are_where_they_are_known_to_be(composed: Compose) -> None:
    expected = torch.tensor([0.7158271, 9.185535e-6, 0.2841637])
    made = task("robertson")
    torch.testing.assert_close(made.batch.targets[-1, 0], expected, atol=5e-8, rtol=0)
    assert float(made.batch.targets[-1, 0, 1]) == pytest.approx(9.185535e-6, abs=5e-13)
    found = metrics_of(made, composed, "kvaerno3", rtol=1e-5, atol=1e-5, max_steps=10_000)
    assert found["rmse"] < 1e-4
    assert found["invariant_drift"] < 1e-13
    assert found["rmse_scale"] == pytest.approx(math.hypot(*expected.tolist()), abs=1e-7)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"problem": "circle", "mu": 2.0}, "task.mu=2 is of task.problem=vanderpol, and not of circle"),
        ({"problem": "vanderpol", "mu": -1.0}, "task.mu must be 0 or more"),
        ({"problem": "circle", "horizon": 0.0}, "task.horizon must be above 0"),
        ({"problem": "circle", "points": 0}, "task.points must be at least 1"),
        ({"problem": "circle", "noise": -0.1}, "task.noise must be 0 or more"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        task(**options)


def test_a_solution_without_bound_ends_as_a_failed_solve(tmp_path: Path) -> None:
    words = ("task=closed_form", "task.problem=square", "task.horizon=1.5", "logger=none")
    for solver, sentence in (("rk4", "becomes infinite at t=1"), ("dopri5", "stopped at t=1 after")):
        run = typed(*words, f"solver={solver}", f"output_dir={solver}", cwd=tmp_path)
        assert run.returncode == 1
        record = record_of(tmp_path / solver)
        assert record["status"] == "solver_failed"
        assert sentence in record["reason"]


def test_no_network_learns_it(tmp_path: Path) -> None:
    run = typed("task=closed_form", "model=odenet", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.strip().endswith("and model=odenet gives values only. Use model=exact or parametric.")


@pytest.mark.slow
def test_a_number_comes_out_as_by_a_fit_of_the_formula(tmp_path: Path) -> None:
    run = typed("task=closed_form", "model=parametric", "pictures=false", "logger=none", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    seen = task("exponential").observed
    t, x = seen.ts[1:].numpy(), seen.targets[1:, 0, 0].numpy()
    (rate,), covariance = curve_fit(lambda t, rate: np.exp(-rate * t), t, x, p0=[1.0])
    metrics = record_of(tmp_path)["metrics"]
    assert metrics["estimate/rate"] == pytest.approx(rate, rel=1e-5)
    assert metrics["stderr/rate"] == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-4)
    assert abs(rate - 2) < 3 * metrics["stderr/rate"]


@pytest.mark.slow
def test_a_step_into_what_has_no_solution_is_taken_back(tmp_path: Path) -> None:
    """From half the rate the first step leads to one whose solution has no bound within the horizon."""
    run = typed("task=closed_form", "model=parametric", "task.problem=square", "pictures=false", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert abs(metrics["estimate/rate"] - 1) < 3 * metrics["stderr/rate"] < 0.01


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("task.problem=car", "model=parametric"), "task.problem=car has none"),
        (("task.problem=square", "task.horizon=1.2", "model=parametric"), "nothing can be observed up to t=1.2"),
        (("task.noise=0.1",), "model=exact learns nothing. Leave task.noise out"),
    ],
)
def test_what_has_no_numbers_to_find_is_refused(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    run = typed("task=closed_form", *words, cwd=tmp_path)
    assert run.returncode == 2
    assert sentence in run.stderr


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name].exact is not None])
def test_observations_without_noise_are_the_solution_and_noise_is_in_parts_of_each_spread(name: str) -> None:
    made = task(name, noise=0.1)
    clean, noisy = task(name, noise=0.0).observed, made.observed
    torch.testing.assert_close(clean.targets[-1], task(name).batch.targets[-1], rtol=1e-8, atol=1e-12)
    assert torch.equal(noisy.targets[0], clean.targets[0])
    errors = made.residuals(Outputs(values=clean.targets), noisy)
    assert len(errors) == 20 * len(made.problem.y0)
    assert float(errors.square().mean().sqrt()) == pytest.approx(0.1, rel=0.4)
