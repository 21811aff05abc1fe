"""Known equations with unknown numbers: what is found, how surely, and what the data do not tell."""

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.build import build_experiment
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.estimates import (
    Estimates,
    _estimates,
    _far_off,
    _groups,
    _lines,
    _sentences,
    _unfinished,
    _with_error,
    estimate,
)
from ode_runner.experiment.signals import StopRequest
from ode_runner.fields.structured_field import KnownEquation, MatrixField, SplitField
from ode_runner.models.equations.coefficients import Range, Ranges, learnable
from ode_runner.models.equations.estimated import EstimatedModel
from ode_runner.tasks.dynamics.known_equations import HeavyBall, Robertson, VanDerPol
from ode_runner.tasks.dynamics.known_problems import RATES
from ode_runner.tasks.dynamics.lotka_volterra import LotkaVolterraField
from ode_runner.training.best_weights import NONE, better
from ode_runner.training.gauss_newton import GaussNewton
from tests.helpers import check_refused, record_of, run_folder, typed
from tests.problems import Compose, build, predators

# A first-order reaction: concentrations at six times.
REACTION = "t,C\n0,2.0081\n.1,1.5512\n.2,1.1903\n.4,.7160\n.8,.2562\n1,.1495\n"
EQUATIONS = """
from ode_runner.fields.structured_field import KnownEquation


class Decay(KnownEquation):
    numbers = ("k",)

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def forward(self, t, y):
        return -self.k * y


class TwoDecays(KnownEquation):
    numbers = ("a", "b")

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, t, y):
        return -(self.a + self.b) * y
"""
COMMAND = ("task=series", "model=parametric", "task.file=c.csv", "logger=none")


@pytest.fixture
def reaction(tmp_path: Path) -> Path:
    (tmp_path / "c.csv").write_text(REACTION)
    (tmp_path / "kinetics.py").write_text(EQUATIONS)
    return tmp_path


def test_a_rate_comes_out_with_its_standard_error(reaction: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SciPy's curve_fit, of the closed form, gives 2.5889 +- 0.0073."""
    monkeypatch.syspath_prepend(str(reaction))
    field = "model.field={_target_: kinetics.Decay, k: 1.0}"
    ended = typed(*COMMAND, field, "model.y0=given", "trainer.epochs=8", cwd=reaction)
    assert "k = 2.5889 +- 0.0073" in ended.stdout
    metrics = record_of(reaction)["metrics"]
    assert metrics["estimate/k"] == pytest.approx(2.5889, abs=5e-5)
    assert metrics["stderr/k"] == pytest.approx(0.0073, abs=5e-5)
    assert "(chosen on the training data)" in ended.stdout
    again = typed(*COMMAND, field, "model.y0=given", "trainer.epochs=8", cwd=reaction).stdout
    assert "already completed" in again
    assert again.count("k = 2.5889 +- 0.0073") == 1
    assert (
        (run_folder(reaction) / "estimates.csv").read_text().startswith("number,estimate,standard_error,true\nk,2.588")
    )


@pytest.mark.slow
def test_true_numbers_stand_beside_those_that_are_found(tmp_path: Path) -> None:
    words = ("task=pendulum", "model=parametric", "task.train=2", "task.validation=1", "task.test=1")
    ended = typed(*words, "task.gravity=1.5", "trainer.max_steps=1", "logger=none", cwd=tmp_path)
    assert re.findall(r"^  (\w+) += .+ \(true: ([\d.]+)\)$", ended.stdout, re.MULTILINE) == [("gravity", "1.5")]
    assert (run_folder(tmp_path) / "estimates.csv").read_text().endswith(",1.5\n")


@pytest.mark.parametrize("task", ["pendulum", "lotka_volterra"])
def test_solves_from_noisy_first_rows_give_numbers_without_standard_errors(task: str, composed: Compose) -> None:
    """With errors, they are 10 and more of them off, and the fit is complete."""
    few = ("task.train=2", "task.validation=1", "task.test=1", "task.points=12", "trainer.device=cpu")
    for noise in (0.0, 0.02):
        cfg = composed(f"task={task}", "model=parametric", f"task.noise={noise}", *few)
        found = estimate(build_experiment(cfg, cfg.hydra.runtime.choices))
        assert found is not None
        assert bool(found.errors) == (noise == 0)
        last = list(_lines(found, {}))[-1]
        assert ("begins from the first row, which is measured with noise" in last) == (noise > 0)
        assert "not determined" not in "".join(_lines(found, {}))
        assert not noise or not list(_far_off(found, dict.fromkeys(found.values, 9.0)))


def test_numbers_are_those_that_fit_the_training_data_best_whatever_validation_says(composed: Compose) -> None:
    cfg = composed("task=closed_form", "model=parametric", "trainer.device=cpu")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    stop, optimizer = StopRequest(), torch.optim.SGD(experiment.parameters())
    first = better(NONE, {"rmse": 0.1}, experiment, optimizer, stop, epoch=1)
    assert first is not None
    assert better(first, {"rmse": 0.01}, experiment, optimizer, stop, epoch=2) is None, "the same numbers"
    [rate] = experiment.model.estimates().values()  # type: ignore[operator]
    with torch.no_grad():
        rate.fill_(2.0)
    later = better(first, {"rmse": 9.0}, experiment, optimizer, stop, epoch=3)
    assert later is not None
    assert (later["epoch"], later["objective"]) == (3, 9.0)


@pytest.mark.slow
def test_a_first_state_is_learned_besides_and_a_pair_is_named(reaction: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(reaction))
    free = typed(*COMMAND, "model.field={_target_: kinetics.Decay, k: 1.0}", "trainer.epochs=8", cwd=reaction)
    assert "k = 2.5871 +- 0.0099" in free.stdout
    two = typed(
        *COMMAND, "model.field={_target_: kinetics.TwoDecays, a: 1.0, b: 0.5}", "trainer.epochs=8", cwd=reaction
    )
    assert "a and b cannot be distinguished" in two.stdout
    assert "a = 1.54" in two.stdout  # both have moved by as much: 2.5871 - 1.5, halved
    logged = typed(
        *COMMAND, "model.field={_target_: kinetics.Decay, k: 1.0}", "model.log=[k]", "trainer.epochs=8", cwd=reaction
    )
    assert "k = 2.5871 +- 0.0099" in logged.stdout


def estimates_of(derivative: list[list[float]], residuals: list[float], names: str = "abc") -> Estimates:
    j = torch.tensor(derivative, dtype=torch.float64)
    numbers = dict.fromkeys(names[: j.shape[1]], 1.0)
    return _estimates(numbers, torch.eye(j.shape[1]), torch.tensor(residuals, dtype=torch.float64), j)


def test_standard_errors_are_those_of_a_linear_regression() -> None:
    x = torch.tensor([[1.0, 0], [1, 1], [1, 2], [1, 3]], dtype=torch.float64)
    residuals = torch.tensor([0.1, -0.2, 0.1, 0.0], dtype=torch.float64)
    found = estimates_of(x.tolist(), residuals.tolist())
    variance = float(residuals.square().sum()) / 2
    expected = (variance * torch.linalg.inv(x.T @ x)).diagonal().sqrt().tolist()
    assert [found.errors["a"], found.errors["b"]] == pytest.approx(expected, rel=1e-12)
    assert (found.unidentified, found.freedom) == ([], 2)


def test_numbers_that_training_has_not_reached_are_named_with_the_step_that_is_left() -> None:
    x = torch.stack([torch.ones(20), torch.arange(20.0)], dim=1).double()
    best = 0.1 * torch.sin(torch.arange(20.0)).double()
    best -= x @ torch.linalg.lstsq(x, best[:, None]).solution[:, 0]
    [there, away] = (
        estimates_of(x.tolist(), (best + x @ torch.tensor(off, dtype=torch.float64)).tolist())
        for off in ([0.0, 0.0], [0.5, 0.001])
    )
    assert not list(_unfinished(there))
    assert [away.ahead[name] for name in "ab"] == pytest.approx([-0.5, -0.001], rel=1e-12)
    [told] = _unfinished(away)
    assert "a Gauss-Newton step would change a by -0.5, which is more" in told


def test_what_the_data_do_not_tell_is_named() -> None:
    both = estimates_of([[1, 1, 2], [2, 2, 1], [3, 3, 5], [1, 1, 0]], [0.1, 0.1, -0.1, 0.1])
    assert both.unidentified == [["a", "b"]]
    assert set(both.errors) == {"c"}
    model = cast("EstimatedModel", SimpleNamespace(fixing="model.fixed=[{}]".format, bounds=dict))
    [told] = _sentences(both, model, "task.more=1")
    assert told.startswith("a and b cannot be distinguished")
    assert told.endswith("Fix one (model.fixed=[b]), or type task.more=1.")
    none = estimates_of([[1, 0], [2, 0], [1, 0]], [0.1, 0.1, -0.1])
    assert none.unidentified == [["b"]]
    assert "b does not show in the data" in next(_sentences(none, model))
    alike = estimates_of([[1, 1.001], [2, 2], [3, 3.002], [1, 1.0]], [0.1, 0.1, -0.1, 0.1])
    assert "a and b can hardly be distinguished" in next(_sentences(alike, model))
    model.bounds = lambda: {"a": (0.0, 1.0)}  # type: ignore[method-assign]
    bound = list(_sentences(none, model))
    assert "a is at its bound 1" in bound[-1]
    few = estimates_of([[1, 0], [0, 1]], [0.0, 0.0])
    assert (few.freedom, dict(few.errors)) == (0, {})
    assert list(_lines(few, {"a": 2.0}))[0] == "  a = 1 (true: 2)"


def test_numbers_that_end_many_standard_errors_from_the_truth_are_named() -> None:
    found = estimates_of([[1, 0], [1, 0.1], [0, 1], [0, 1]], [0.01, -0.01, 0.01, -0.01])  # a = b = 1
    assert not list(_far_off(found, {"a": 1.0, "b": 1.02}))
    [told] = _far_off(found, {"a": 3.0, "b": 1.0})
    assert re.match(r"a is [\d.]+ standard errors from its true value: training has ended elsewhere", told)
    assert not list(_far_off(estimates_of([[1.0], [1.0]], [0.0, 0.0]), {"a": 1.001})), "by the solver's error alone"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(2.58891, 0.00733, "2.5889 +- 0.0073"), (123.4, 21.0, "123 +- 21"), (2.0, None, "2 (not")],
)
def test_a_number_has_the_digits_that_its_error_leaves(value: float, error: float | None, text: str) -> None:
    assert _with_error(value, error).startswith(text)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(-math.inf, math.inf, True), (0.0, 3.0, False), (1.0, math.inf, False), (-math.inf, 3.0, False), (0.5, 3.0, True)],
)
def test_a_range_is_left_by_no_number_and_leads_back(low: float, high: float, log: bool) -> None:
    one = Range(low=low, high=high, log=log)
    assert float(one(one.right_inverse(torch.tensor(1.7)))) == pytest.approx(1.7)
    for raw in (-30.0, 30.0):
        assert (0.0 if log else low) <= float(one(torch.tensor(raw))) <= high


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        (Ranges(start={"rate": 1.0}), "model.start: LotkaVolterraField has no number 'rate'. It has: alpha, beta"),
        (Ranges(low={"alpha": 2.0}), "alpha begins at 1, and model.low and model.high leave it between 2 and inf"),
        (Ranges(start={"alpha": -1.0}, log=["alpha"]), "model.log: alpha is learned as a logarithm"),
        (Ranges(fixed=["alpha", "beta", "gamma", "delta"]), "model.fixed leaves nothing to learn"),
    ],
)
def test_ranges_that_mean_nothing_are_refused(ranges: Ranges, sentence: str) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        learnable(LotkaVolterraField(1.0, 1.0, 1.0, 1.0), ranges)


def test_an_equation_keeps_its_value_and_what_is_fixed() -> None:
    true = LotkaVolterraField(1.0, 2.0, 3.0, 4.0)
    made = learnable(true, Ranges(log=["alpha"], low={"beta": 0.0}, fixed=["delta"]))
    y = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(made(torch.tensor(0.0), y), true(torch.tensor(0.0), y))
    assert sum(p.numel() for p in made.parameters()) == 3


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("true", [VanDerPol(2.0), HeavyBall(stiffness=4.0, friction=1.0), Robertson(**RATES)])
def test_every_number_of_a_teaching_problem_can_be_learned(true: KnownEquation) -> None:
    """By way of each call that a solver may ask for."""
    made, t = learnable(true, Ranges(log=[true.numbers[0]])), torch.tensor(0.0)
    y = torch.tensor([[0.5, 0.25, 0.25]])[:, : 3 if isinstance(true, Robertson) else 2]
    calls = [made]
    if isinstance(made, MatrixField):
        calls.append(lambda t, y: y @ made.matrix(t, y).T)
    if isinstance(made, SplitField):
        calls.append(lambda t, y: made.first_part(t, y) + made.second_part(t, y))
    for call in calls:
        found = call(t, y)
        torch.testing.assert_close(found, true(t, y))
        gradients = torch.autograd.grad(found.square().sum(), list(made.parameters()))
        assert all(float(g.abs()) > 0 for g in gradients)


def test_what_has_no_equation_or_no_beginning_of_its_own_is_refused(composed: Compose) -> None:
    spec = TaskSpec(input_shape=(2,), output_shape=(2,), every_time=True)
    with pytest.raises(IncompatibleChoice, match="needs an equation whose numbers have names"):
        build(composed, "model", "parametric", build(composed, "network", "mlp", spec))
    known = TaskSpec(input_shape=(2,), output_shape=(2,), every_time=True, field=LotkaVolterraField(1, 1, 1, 1))
    whole = build(composed, "network", "mlp", replace(known, series=2, whole_series=True))
    with pytest.raises(IncompatibleChoice, match="Train with model.y0=given"):
        build(composed, "model", "parametric", whole, y0="learned").check_new_series()
    with pytest.raises(IncompatibleChoice, match="model.y0=learned learns the first state of each series"):
        build(composed, "model", "parametric", build(composed, "network", "mlp", known), y0="learned")


class Bend(nn.Module):
    """Rosenbrock's valley as errors: 10 (y - x^2), 1 - x, of which the least is 0 at (1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = nn.Parameter(torch.tensor(-1.2)), nn.Parameter(torch.tensor(1.0))

    def linearization(self) -> tuple[Tensor, Tensor]:
        x, y = self.x.detach(), self.y.detach()
        zero = torch.zeros(())
        return torch.stack([10 * (y - x**2), 1 - x]), torch.stack(
            [torch.stack([-20 * x, zero + 10]), torch.stack([zero - 1, zero])]
        )


@pytest.mark.usefixtures("float64")
def test_damped_steps_find_the_end_of_a_bent_valley_and_go_on_after_a_failure_or_a_resume() -> None:
    bend = Bend()
    optimizer = GaussNewton(bend.parameters(), damping=1e-3, lr=1.0)
    lowest = []
    for step in range(40):
        if step != 3:  # where a solve has failed
            optimizer.linearize(*bend.linearization())
        optimizer.step()
        lowest.append(float(optimizer.accepted_loss))
        if step == 5:
            other = Bend()
            resumed = GaussNewton(other.parameters(), damping=1e-3, lr=1.0)
            other.load_state_dict(bend.state_dict())
            resumed.load_state_dict(optimizer.state_dict())
    assert all(after <= before for before, after in zip(lowest, lowest[1:], strict=False))
    assert [bend.x.item(), bend.y.item()] == pytest.approx([1.0, 1.0], abs=1e-8)
    for _ in range(6, 40):
        resumed.linearize(*other.linearization())
        resumed.step()
    assert torch.equal(other.x, bend.x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("task=half_moons", "optimizer=gauss_newton"), "takes a loss that is a mean of squares and nothing else"),
        (("task=lotka_volterra", "model=parametric", "gradient=adjoint"), "Use gradient=forward"),
        (("task=lotka_volterra", "model=parametric", "trainer.batch_size=2"), "trainer.batch_size=32 or more"),
        (
            ("task=lotka_volterra", "optimizer=gauss_newton", "trainer.batch_size=9999"),
            "is for 2,000 parameters at most",
        ),
        (("task=lotka_volterra", "model=parametric", "regularizer=kinetic"), "without a regularizer"),
    ],
)
def test_gauss_newton_refuses_what_it_has_nothing_to_go_by(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    few = ("task.train=4", "task.validation=1", "task.test=1", "task.points=12", "task.window=5")
    check_refused(*words, *(few if "lotka" in words[0] else ()), sentence=sentence, cwd=tmp_path)


PREDATORS = dict(zip(("alpha", "beta", "gamma", "delta"), (1.5, 1.0, 3.0, 1.0), strict=True))


@pytest.mark.slow
def test_the_error_of_one_row_bends_all_numbers_unless_the_first_state_is_learned(tmp_path: Path) -> None:
    """Without that the worst of four numbers is off by 1.8 to 11.5 %, with it by 0.6 to 1.7 %, of eight draws."""
    predators(tmp_path / "c.csv", end=10.0, rows=101, noise=0.1)
    begin = ", ".join(f"{name}: {1.1 * value}" for name, value in PREDATORS.items())
    field = f"model.field={{_target_: ode_runner.tasks.dynamics.lotka_volterra.LotkaVolterraField, {begin}}}"
    worst = {}
    for y0 in ("given", "learned"):
        (tmp_path / y0).mkdir()
        words = (
            "task=series",
            "model=parametric",
            "task.file=../c.csv",
            "logger=none",
            "trainer.epochs=12",
            field,
            f"model.y0={y0}",
        )
        assert typed(*words, cwd=tmp_path / y0).returncode == 0
        metrics = record_of(tmp_path / y0)["metrics"]
        worst[y0] = max(abs(metrics[f"estimate/{name}"] / value - 1) for name, value in PREDATORS.items())
    assert worst["learned"] < 0.02
    assert worst["given"] > worst["learned"]


def test_ranges_are_typed_by_name(tmp_path: Path) -> None:
    words = ("task=lotka_volterra", "model=parametric", "model.low={alpha: 0}", "model.start={beta: 0.5}")
    planned = typed(*words, "model.high={delta: 9}", "plan=true", cwd=tmp_path)
    assert (planned.returncode, planned.stderr) == (0, "")


def test_numbers_that_share_a_direction_are_one_group_and_others_another() -> None:
    involved = torch.tensor([[1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0], [0, 0, 0]]).bool()  # (number, direction)
    assert _groups(list("abcde"), involved[:, :2]) == [["a", "b"], ["c", "d"]]
    assert _groups(list("abcde"), involved) == [["a", "b", "c", "d"]]
