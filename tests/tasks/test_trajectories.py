"""The dynamical systems: true to their equations, to their seeds, and to whoever looks only at some times."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Outputs, Split
from ode_runner.building.instantiate import construct
from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import KnownEquation
from ode_runner.tasks.dynamics.trajectories import Trajectories
from ode_runner.tasks.observations import draw_times, observe, on_the_union, reference_solution
from tests.helpers import options, record_of, run_folder, typed
from tests.problems import Compose, Formula, build, learners, named_class

SYSTEMS = [name for name in options("task") if issubclass(named_class("task", name), Trajectories)]
SMALL = ("task.train=4", "task.validation=2", "task.test=2", "task.points=12", "task.window=5", "trainer.batch_size=8")


@pytest.fixture(params=SYSTEMS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(composed: Compose) -> Any:
    """A system from its yaml, with few and short trajectories."""

    def task(name: str, *, seed: int = 0, **changed: Any) -> Trajectories:
        cfg = composed(f"task={name}")
        cfg.task.update({"train": 4, "validation": 2, "test": 3, "points": 12, "window": 5} | changed)
        return construct(cfg, "task", seed=seed, device=torch.device("cpu"))

    return task


def targets(task: Trajectories, split: Split) -> Tensor:
    [batch] = task.batches(split, batch_size=1000, epoch=0)
    return batch.targets


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "linear"])
def test_the_reference_conserves_the_invariant(make: Any, system: str) -> None:
    task = make(system)
    for batch in task.tests.values():
        conserved = task.invariant(batch.targets)
        assert float((conserved - conserved[0]).abs().max()) < 1e-9  # reference to 1e-10, times its sensitivity


@pytest.mark.usefixtures("float64")
def test_the_linear_reference_is_the_matrix_exponential(make: Any) -> None:
    task = make("linear")
    a = torch.tensor(task.matrix)
    for batch in task.tests.values():
        exact = torch.stack([batch.inputs.double() @ torch.linalg.matrix_exp(t * a).T for t in batch.ts])
        torch.testing.assert_close(batch.targets, exact, rtol=0, atol=1e-9)  # the reference is good to 1e-10


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_cubic_spiral_is_the_one_of_the_demo(make: Any) -> None:
    task = make("linear", power=3, matrix=[[-0.1, 2.0], [-2.0, -0.1]])
    y = torch.tensor([[2.0, 0.5]])
    expected = (y**3) @ torch.tensor([[-0.1, -2.0], [2.0, -0.1]])  # ode_demo.py multiplies from the right
    torch.testing.assert_close(task.true_field()(torch.tensor(0.0), y), expected)


@pytest.mark.usefixtures("float64")
def test_lotka_volterra_and_pendulum_have_the_fields_of_their_equations(make: Any) -> None:
    y = torch.tensor([[1.5, 0.4]])
    animals = make("lotka_volterra", alpha=2.0, beta=3.0, gamma=5.0, delta=7.0, horizon=0.5).true_field()(
        torch.tensor(0.0), y
    )
    torch.testing.assert_close(animals, torch.tensor([[2 * 1.5 - 3 * 1.5 * 0.4, 7 * 1.5 * 0.4 - 5 * 0.4]]))
    swing = make("pendulum", gravity=2.0, horizon=0.5).true_field()(torch.tensor(0.0), y)
    torch.testing.assert_close(swing, torch.tensor([[-0.4, 2 * math.sin(1.5)]]))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("irregular", [False, True])
def test_a_training_sample_is_a_window_of_its_trajectory(make: Any, name: str, irregular: bool) -> None:
    task = make(name, irregular=irregular)
    seen = task.observations[Split.TRAIN]
    rows = {tuple(row.tolist()): (i, j) for i, values in enumerate(seen.values) for j, row in enumerate(values)}
    count = 0
    for batch in task.batches(Split.TRAIN, batch_size=6, epoch=1):
        known = torch.ones(batch.targets.shape[:2], dtype=torch.bool) if batch.observed is None else batch.observed
        for sample in range(len(batch.inputs)):
            i, j = rows[tuple(batch.inputs[sample].tolist())]
            torch.testing.assert_close(batch.targets[known[:, sample], sample], seen.values[i, j : j + 5])
            times = batch.ts[known[:, sample]]
            torch.testing.assert_close(times, seen.times[i, j : j + 5] - seen.times[i, j])
            count += 1
    assert count == task.size(Split.TRAIN) == 4 * (12 - 5 + 1)


@pytest.mark.sampled(1)
def test_noise_is_added_to_observations_and_not_to_the_test(make: Any, name: str) -> None:
    clean, noisy = make(name, noise=0.0), make(name, noise=0.1)
    difference = noisy.observations[Split.TRAIN].values - clean.observations[Split.TRAIN].values
    assert float(difference.std()) == pytest.approx(0.1, rel=0.35)  # 96 numbers: 4 standard deviations
    for part, batch in noisy.tests.items():
        assert torch.equal(batch.targets, clean.tests[part].targets)


@pytest.mark.sampled(1)
def test_no_split_begins_where_another_does(make: Any, name: str) -> None:
    task = make(name)
    starts = [*task.observations[Split.TRAIN].start, *task.observations[Split.VALIDATION].start]
    starts += [*task.tests["unseen"].inputs]
    assert len({tuple(start.tolist()) for start in starts}) == 4 + 2 + 3
    for part in ("between", "after"):
        assert torch.equal(task.tests[part].inputs, task.observations[Split.TRAIN].start[:3])


@pytest.mark.sampled(1)
def test_perfect_outputs_have_no_error(make: Any, name: str) -> None:
    task = make(name)
    for batch in task.batches(Split.TEST, batch_size=2, epoch=0):
        found = task.reported({key: float(x) for key, x in task.metrics(Outputs(batch.targets), batch).items()})
        drift = found.pop("invariant_drift", 0.0)
        assert set(found.values()) == {0.0}
        assert drift < 1e-9


def test_errors_are_what_they_are_called(make: Any) -> None:
    task = make("linear", foresight=2)
    off = {}
    for batch in task.batches(Split.TEST, batch_size=10, epoch=0):
        late = (batch.ts > task.horizon * 1.001)[:, None, None]
        wrong = batch.targets + torch.where(late, 4.0, 3.0)
        off |= task.reported({key: float(x) for key, x in task.metrics(Outputs(wrong), batch).items()})
    assert off["rmse"] == off["rmse_interpolation"] == off["rmse_unseen"] == pytest.approx(3.0)
    assert off["rmse_extrapolation"] == pytest.approx(4.0)
    assert off["global_error"] == pytest.approx(4 * math.sqrt(2))


def test_nothing_is_relative_to_a_trajectory_that_stands_still(make: Any) -> None:
    moved, still = (make("lotka_volterra", y0=y0).tests["portrait"] for y0 in ([1.0, 2.0], [1.0, 1.0]))
    task = make("lotka_volterra")
    assert "relative_rmse" in task.metrics(Outputs(moved.targets + 0.1), moved)
    assert "relative_rmse" not in task.metrics(Outputs(still.targets + 0.1), still)


def test_a_model_that_leaves_the_positive_quadrant_drifts_but_is_a_number(make: Any) -> None:
    drift = make("lotka_volterra").invariant(torch.tensor([[1.0, 2.0], [-1.0, 2.0]])).diff().abs()
    assert math.isfinite(float(drift))
    assert float(drift) > 20


def test_the_union_of_times_loses_nothing_and_ignores_padding() -> None:
    times = torch.tensor([[0.0, 0.3, 0.7], [0.1, 0.3, 9.0]])
    values = torch.arange(6.0).reshape(2, 3, 1)
    known = torch.tensor([[True, True, True], [True, True, False]])
    ts, on_union, mask = on_the_union(times, values, known)
    torch.testing.assert_close(ts, torch.tensor([0.0, 0.1, 0.3, 0.7]))
    assert mask.T.tolist() == [[True, False, True, True], [False, True, True, False]]
    assert on_union[..., 0].T.tolist() == [[0, 0, 1, 2], [0, 3, 4, 0]]
    padded = on_the_union(
        torch.cat([times, torch.full((2, 2), 5.0)], 1),
        torch.cat([values, torch.full((2, 2, 1), 7.0)], 1),
        torch.cat([known, torch.zeros(2, 2, dtype=torch.bool)], 1),
    )
    assert all(torch.equal(x, y) for x, y in zip(padded, (ts, on_union, mask), strict=True))


def test_irregular_times_increase_from_zero_and_differ_between_samples() -> None:
    times = draw_times(3, 9, 2.0, torch.Generator().manual_seed(1))
    assert torch.equal(times[:, 0], torch.zeros(3, dtype=torch.float64))
    assert (times.diff(dim=1) > 0).all()
    assert float(times.max()) <= 2.0
    assert len(times[:, 1:].unique()) == 3 * 8


@pytest.mark.usefixtures("float64")
def test_solutions_at_times_of_their_own_are_those_at_common_ones() -> None:
    field, start = Formula(lambda t, y: -y), torch.tensor([[1.0], [2.0]])
    times = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.1, 0.9]])
    seen = observe(field, start, times, noise=0.0, generator=torch.Generator())
    torch.testing.assert_close(seen.values[..., 0], start * torch.exp(-times), rtol=1e-10, atol=0)  # the reference's


class Growth(KnownEquation):
    """y' = rate y."""

    numbers = ("rate",)

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.calls = rate, itertools.count()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.rate * y


def test_a_known_equation_is_solved_once_for_the_same_coefficients_start_and_times() -> None:
    solved = list[VectorField]()

    def at_the_end(rate: float, start: float, end: float, *, counts: bool = False) -> float:
        field = Growth(rate)
        if not counts:
            del field.calls
        field.register_forward_pre_hook(lambda field, _: solved.append(field))
        y0, ts = torch.tensor([[start]], dtype=torch.float64), torch.tensor([0.0, end], dtype=torch.float64)
        solution = reference_solution(field, y0, ts)
        value = float(solution[-1])
        solution.zero_()  # what is kept is nobody's to change
        return value

    for rate, start, end in ((0.3, 1.0, 2.0), (0.4, 1.0, 2.0), (0.3, 1.5, 2.0), (0.3, 1.0, 2.5)):
        before = len(solved)
        values = [at_the_end(rate, start, end), at_the_end(rate, start, end)]
        assert len(set(solved[before:])) == 1
        assert values == [pytest.approx(start * math.exp(rate * end), rel=1e-10)] * 2
    before = len(solved)
    assert at_the_end(0.5, 1.0, 1.0, counts=True) == at_the_end(0.5, 1.0, 1.0, counts=True)
    assert len(set(solved[before:])) == 2, "whatever else it has may be something that it depends on"


@pytest.mark.usefixtures("float64")
def test_a_solution_that_blows_up_is_refused_in_one_sentence() -> None:
    with pytest.raises(RefusedInput, match=r"does not reach t=2 .*\[1.0\]. Choose another task.box"):
        reference_solution(Formula(lambda t, y: y**2), torch.tensor([[1.0]]), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"window": 13}, "task.window=13 reaches beyond the data"),
        ({"window": 1}, "task.window=1 reaches"),
        ({"points": 1}, "task.points must be at least 2"),
        ({"horizon": 0.0}, "task.horizon must be positive"),
        ({"noise": -1.0}, "task.noise must be 0 or more"),
        ({"foresight": 0}, "task.foresight must be at least 1"),
        ({"y0": [1.0]}, r"task.y0=\[1.0\] must be 2 numbers"),
        ({"box": [[1.0, 0.5], [0.5, 1.0]]}, "task.box=.* low < high"),
        ({"box": [[0.5, 1.0]]}, "task.box=.* low < high"),
    ],
)
def test_senseless_options_are_refused_by_name(make: Any, name: str, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedInput, match=words):
        make(name, **changed)


def test_options_of_one_system_are_refused_by_name(make: Any) -> None:
    for name, changed, words in (
        ("lotka_volterra", {"alpha": 0.0}, "task.alpha must be positive"),
        ("lotka_volterra", {"y0": [-1.0, 2.0]}, "positive numbers"),
        ("pendulum", {"gravity": 0.0}, "task.gravity must be positive"),
        ("linear", {"power": 2}, "task.power must be 1 or 3"),
        ("linear", {"matrix": [[1.0, 2.0]]}, "must be 2 rows of 2"),
    ):
        with pytest.raises(RefusedInput, match=words):
            make(name, **changed)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("solver", "most"), [("euler", 30.0), ("rk4", 1e-2), ("dopri5", 1e-2), ("dopri8", 1e-2)])
def test_the_exact_model_shows_the_solvers_error(name: str, solver: str, most: float, tmp_path: Path) -> None:
    ended = typed(f"task={name}", "model=exact", f"solver={solver}", "logger=none", *SMALL, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = record_of(tmp_path)
    assert record["choices"]["network"] == record["choices"]["gradient"] == "-"
    assert record["metrics"]["test/field_error"] == 0
    assert 1e-9 < record["metrics"]["test/global_error"] < most
    assert record["metrics"]["nfe/eval"] > 10
    assert record["config"]["trainer"]["precision"] == "fp64"


@pytest.mark.slow
def test_a_tight_solver_conserves_to_eight_digits(tmp_path: Path) -> None:
    for system in ("lotka_volterra", "pendulum"):
        folder = tmp_path / system
        folder.mkdir()
        typed(f"task={system}", "model=exact", "solver=dopri5", "tolerance=1e-11", "logger=none", *SMALL, cwd=folder)
        metrics = record_of(folder)["metrics"]
        assert metrics["test/invariant_drift"] < 1e-8
        assert metrics["test/global_error"] < 1e-8


def test_a_solver_that_blows_up_is_told_in_a_sentence_and_the_record_is_kept(tmp_path: Path) -> None:
    options = ("task=linear", "task.power=3", "task.y0=[3.0,0.0]", "task.points=3", "task.window=2", "logger=none")
    ended = typed(*options, "model=exact", "solver=euler", "solver.num_steps=1", cwd=tmp_path)
    assert ended.returncode == 1
    assert "solver=euler diverges on the way. Try shorter steps" in ended.stdout
    assert "or, if the problem is stiff, use solver=kvaerno3, which is implicit." in ended.stdout
    assert record_of(tmp_path)["status"] == "solver_failed"


def test_the_exact_model_is_refused_where_no_field_is_known(tmp_path: Path) -> None:
    ended = typed("task=half_moons", "model=exact", cwd=tmp_path)
    assert ended.returncode == 2
    assert "model=exact needs a task whose true field or density is known" in ended.stderr
    assert not (tmp_path / "outputs" / "half_moons").exists()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize("model", learners())
def test_every_model_trains_two_steps_on_every_system(name: str, model: str, irregular: bool, tmp_path: Path) -> None:
    arguments = (
        f"task={name}",
        f"model={model}",
        f"task.irregular={irregular}",
        "trainer=quick",
        "trainer.max_steps=2",
        *(["model.size=1"] if model == "galerkin" else []),  # five points tell no more apart
    )
    ended = typed(*arguments, *SMALL, "logger=none", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = record_of(tmp_path)
    assert record["cost"]["steps"] == 2
    for number in ("rmse", "rmse_interpolation", "rmse_extrapolation", "rmse_unseen", "relative_rmse"):
        assert math.isfinite(record["metrics"][f"test/{number}"])


@pytest.mark.usefixtures("float64")
def test_the_field_is_judged_where_the_state_is_the_data(make: Any, composed: Compose) -> None:
    task = make("linear")
    network = build(composed, "network", "linear", task.spec)
    model = build(composed, "model", "odenet", network)
    theta = torch.tensor(task.matrix) + torch.tensor([[0.3, 0.0], [0.0, -0.4]])
    with torch.no_grad():
        model.field.theta.copy_(theta)
        assert task.field_metrics(model.learned_field())["matrix_error"] == pytest.approx(0.5)
    assert build(composed, "model", "augmented", network).learned_field() is None


@pytest.mark.slow
def test_pictures_are_drawn(name: str, tmp_path: Path) -> None:
    arguments = (f"task={name}", "trainer=quick", "trainer.max_steps=2", "logger=none", *SMALL)
    assert typed(*arguments, cwd=tmp_path, pictures=True).returncode == 0
    drawn = {path.stem for path in (run_folder(tmp_path) / "plots").glob("*.png")}
    matrix = {"matrix"} if name == "linear" else set()
    assert drawn == {"trajectory", "observations", "phase_portrait", "error", "curves"} | matrix


@pytest.mark.slow
@pytest.mark.parametrize(("system", "number", "most"), [
    ("lotka_volterra", "relative_rmse", 0.02),  # 0.01 is the aim; seeds differ
    ("pendulum", "relative_rmse", 0.02),
    ("linear", "matrix_error", 1e-3),
])  # fmt: skip
def test_the_default_recovers_the_system(system: str, number: str, most: float, tmp_path: Path) -> None:
    assert typed(f"task={system}", "logger=none", cwd=tmp_path).returncode == 0
    assert record_of(tmp_path)["metrics"][f"test/{number}"] < most


@pytest.mark.slow
def test_training_improves_on_the_beginning(name: str, tmp_path: Path) -> None:
    numbers = []
    for epochs, folder in ((0, tmp_path / "before"), (20, tmp_path / "after")):
        folder.mkdir()
        lr = "optimizer.lr=0" if epochs == 0 else "optimizer.lr=0.02"
        typed(f"task={name}", f"trainer.epochs={max(1, epochs)}", lr, *SMALL, "logger=none", cwd=folder)
        numbers.append(record_of(folder)["metrics"]["test/rmse_unseen"])
    assert numbers[1] < numbers[0] / 1.5
