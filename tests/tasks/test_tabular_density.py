"""Densities of points from files of one's own: units, what is refused, and what a trained model says of other rows."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import ode_runner as ode
from ode_runner.batch import Drawn, Learner, Outputs, Split
from ode_runner.building.instantiate import construct
from ode_runner.errors import RefusedInput
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.densities.tabular_density import TabularDensity
from tests.helpers import run_folder, typed
from tests.problems import Compose

Make = Callable[..., TabularDensity]
NAMES = ("speed", "price", "share")


@pytest.fixture
def make(composed: Compose) -> Make:
    def task(**options: Any) -> TabularDensity:
        cfg = composed("task=tabular_density")
        cfg.task.update(options)
        made = construct(cfg, "task", seed=0, device=torch.device("cpu"))
        assert isinstance(made, TabularDensity)
        return made

    return task


def points(count: int = 200, *, factor: float = 1.0) -> pd.DataFrame:
    z = np.random.default_rng(0).normal(size=(count, 3))
    return pd.DataFrame(
        {"speed": factor * (1000 + 200 * z[:, 0]), "price": np.exp(z[:, 1] - 3), "share": 1 / (1 + np.exp(z[:, 2]))}
    )


def written(folder: Path, table: pd.DataFrame | str, name: str = "points.csv") -> str:
    path = folder / name
    path.write_text(table if isinstance(table, str) else table.to_csv(index=False))
    return str(path)


def standard_normal(inputs: Tensor) -> Tensor:
    return torch.distributions.Normal(0, 1).log_prob(inputs).sum(dim=1)


def normal_view(folder: Path) -> ModelView:
    """The view of a model that says that its inputs have a standard normal distribution, and draws nothing."""
    unused: Any = dict.fromkeys(["answer", "encode", "decode", "path", "sample"])
    return ModelView(
        history=[],
        predict=lambda inputs, ts: standard_normal(inputs),
        predict_finely=standard_normal,
        continuous=False,
        output_dir=folder,
        **unused,
    )


def test_log_densities_are_of_the_units_of_the_file(make: Make, tmp_path: Path) -> None:
    task = make(file=written(tmp_path, points()), log=["price"], bounds={"share": [0.0, 1.0]})
    rows = torch.tensor(points().to_numpy()[:5])
    inputs = task.as_inputs(rows)
    torch.testing.assert_close(task.own_units(inputs), rows)
    jacobians = torch.stack([torch.autograd.functional.jacobian(task.as_inputs, row) for row in rows])
    torch.testing.assert_close(task.log_determinant(inputs), jacobians.logdet())


def test_a_column_in_a_tenth_of_its_unit_adds_the_logarithm_of_ten(make: Make, tmp_path: Path) -> None:
    losses = []
    for factor in (1.0, 10.0):
        task = make(file=written(tmp_path, points(factor=factor)))
        batch = next(task.batches(Split.TEST, batch_size=1000, epoch=0))
        losses.append(float(task.loss(Outputs(standard_normal(batch.inputs)), batch)))
    assert losses[1] - losses[0] == pytest.approx(math.log(10), abs=1e-5)


def test_units_are_those_of_the_training_rows(make: Make, tmp_path: Path) -> None:
    table = points()
    task = make(file=written(tmp_path, table))
    table.iloc[task.parts[Split.TEST]] *= 10
    other = make(file=written(tmp_path, table, "other.csv"))
    assert task.parts == other.parts
    assert all(torch.equal(x, other.statistics()[name]) for name, x in task.statistics().items() if name == "std")


def test_the_entropy_of_the_points_that_are_drawn_is_right(make: Make) -> None:
    task = make(log=["price"])
    height, load, penalty = torch.tensor(task.read.values).T
    z = (height - 170) / 15
    parts = [(z, 15.0), ((load - z.square()) / 0.5, 0.5), ((penalty.log() - z) / 0.5, 0.5)]
    log_density = sum(torch.distributions.Normal(0, 1).log_prob(x) - math.log(std) for x, std in parts) - penalty.log()
    assert isinstance(log_density, Tensor)
    error = float(log_density.std()) / len(z) ** 0.5
    assert task.entropy == pytest.approx(-float(log_density.mean()), abs=4 * error)


@pytest.mark.parametrize("columns", [["speed"], ["speed", "price"]])
def test_the_mass_of_a_density_of_one_or_two_columns_is_one(make: Make, tmp_path: Path, columns: list[str]) -> None:
    task = make(file=written(tmp_path, points(2000)), columns=columns, log=["price"] if "price" in columns else [])
    found = task.model_metrics(normal_view(tmp_path))
    assert found["mass"] == pytest.approx(1, abs=1e-3)
    assert found["mass_error"] < 1e-3


def test_a_mass_by_cells_that_are_too_coarse_is_called_so(make: Make, tmp_path: Path) -> None:
    task = make(file=written(tmp_path, points(2000)), columns=["speed", "price"], grid=4)
    metrics = {f"test/{name}": value for name, value in task.model_metrics(normal_view(tmp_path)).items()}
    said = list(task.remarks({**metrics, "test/nll": metrics["test/nll_fine"], "nfe/eval": 8.0}))
    assert any("too large for its peaks" in sentence for sentence in said)
    assert not any("smaller tolerance" in sentence for sentence in said)


@pytest.mark.parametrize(("mass", "nll", "beyond"), [(0.97, 9.0, True), (1.03, 9.0, False), (0.97, 9.1, False)])
def test_a_mass_that_a_fine_solve_misses_too_lies_beyond(make: Make, mass: float, nll: float, beyond: bool) -> None:
    metrics = {"nll": nll, "nll_fine": 9.0, "nll_error": 0.1, "mass": mass, "mass_error": 1e-4, "log_prob_error": 1e-5}
    measured = {f"test/{name}": value for name, value in metrics.items()} | {"nfe/eval": 8.0}
    said = " ".join(make().remarks(measured))
    assert ("the rest outside it, where there are no data" in said) == beyond
    assert ("Use a smaller tolerance" in said) == (not beyond)
    assert ("learned to exploit that" in said) == (nll > 9)
    assert set(make().invalid(measured)) == (set() if beyond else {"nll", "loss"})
    assert "exploit" not in " ".join(make().remarks(measured, learner=Learner(by_solves=False)))


@pytest.mark.parametrize(("evaluations", "why"), [(8.0, "the solver's steps are too long, or"), (0.0, "The model has")])
def test_samples_that_are_far_off_are_laid_to_a_solver_where_there_is_one(
    make: Make, evaluations: float, why: str
) -> None:
    [said] = make().remarks({"test/sw2": 1.0, "test/sw2_floor": 0.1, "nfe/eval": evaluations})
    assert why in said
    assert ("solver" in said) == bool(evaluations)
    [known] = make().remarks({"test/sw2": 1.0, "test/sw2_floor": 0.1, "nfe/eval": 8.0}, learner=Learner(learns=False))
    assert "The solver's steps are too long. Use more" in known
    [lost] = make().remarks({"test/sw2": math.nan, "test/sw2_floor": 0.1, "nfe/eval": evaluations})
    assert ("The solver diverges" in lost) == bool(evaluations)


def test_log_densities_of_samples_are_compared_with_a_fine_solve(make: Make, tmp_path: Path) -> None:
    task, samples = make(file=written(tmp_path, points())), torch.randn(30, 3)
    for off, told in ((0.0, 0), (0.3, 1)):
        drawn = Drawn(torch.stack([samples, samples]), standard_normal(samples) + off)
        found = task.model_metrics(replace(normal_view(tmp_path), sample=lambda *_, drawn=drawn: drawn))
        assert found["log_prob_error"] == pytest.approx(off, abs=1e-6)
        metrics = {f"test/{name}": value for name, value in found.items()}
        said = list(task.remarks({**metrics, "test/nll": metrics["test/nll_fine"], "nfe/eval": 8.0}))
        assert sum("samples.csv, are 0.300 nats off" in sentence for sentence in said) == told


def test_log_densities_of_points_are_compared_with_a_fine_solve(make: Make, tmp_path: Path) -> None:
    """`predict=` and Python gave those of one Euler step, 0.35 nats off in the mean, without a word."""
    task, inputs = make(file=written(tmp_path, points())), torch.randn(600, 3)
    view, true = normal_view(tmp_path), standard_normal(inputs)
    for off, told in ((true.new_zeros(600), []), (torch.full((600,), 0.02), ["0.020", "+0.020"])):
        said = list(task.solve_remarks(view, inputs, true + off))
        assert [f"{number} nats off" in sentence for sentence in said for number in told] == [True] * len(told)
        assert not list(task.sample_remarks(view, Drawn(inputs[None], true + off), []))  # without step control
    signs = torch.where(torch.arange(600) % 2 == 0, 0.1, -0.1)
    [apart] = task.solve_remarks(view, inputs, true + signs)
    assert "log densities are 0.100 nats off those of a fine solve" in apart
    assert "over 500 of them" in apart
    assert list(task.sample_remarks(view, Drawn(inputs[None], true + signs), [])) == [apart]
    assert not list(task.solve_remarks(replace(view, answers=False), inputs, true + signs))
    [rounded] = task.solve_remarks(replace(view, solves=False), inputs, true + signs)
    assert "nats off those in fp64" in rounded
    assert rounded.endswith("rounding is too coarse. Use trainer.precision=fp64.")
    metrics = {
        "test/nll": 1.0,
        "test/nll_fine": 1.1,
        "test/nll_error": 0.1,
        "test/log_prob_error": 1.0,
        "nfe/eval": 0.0,
    }
    [of_points], [of_samples] = (list(task.remarks(metrics | {"test/nll": nll})) for nll in (1.0, 1.1))
    assert of_samples.startswith("the log densities of samples")
    said = [of_points, of_samples]
    assert [remark.endswith("Use trainer.precision=fp64.") for remark in said] == [True, True]
    assert not [remark for remark in said if "step" in remark or "solve" in remark]


@pytest.mark.parametrize(
    ("table", "options", "sentence"),
    [
        ("a,b\n", {}, "points.csv has no rows below its heads"),
        ("a,b\n,\n", {}, "points.csv has no rows below its heads"),
        ("a,b\n1,2\n2,\n", {}, "row 3, column 'b': blank"),
        ("a,b\n1,2\n2,low\n", {}, "row 3, column 'b': 'low' is no finite number. Name the columns of numbers"),
        (",a,b\n0,1,2\n", {}, "column 1 has no name"),
        ("1.5,2\n2,3\n", {}, "row 1: numbers alone"),
        ("1,1\n2,3\n", {}, "row 1: numbers alone"),
        ("1,5;2,5\n2,5;3,5\n", {}, "row 1: numbers alone"),
        ("a\n" + "1\n" * 30, {}, "column 'a': the same number in all rows"),
        ("a\n1\n2\n", {}, "2 rows, of which 0 would be left"),
        (points(), {"columns": ["spead"]}, "no column 'spead'. Did you mean 'speed'?"),
        (points(), {"columns": ["speed", "speed"]}, "named twice"),
        (points(), {"columns": []}, "names no column"),
        (points(), {"log": ["speed", "weight"]}, "task.log: 'weight' is none of the columns"),
        (points(), {"bounds": {"share": [0.0, 0.5]}}, "is not between 0 and 0.5"),
        (points(), {"bounds": {"share": [1.0, 0.0]}}, "must be low and high"),
        (points(), {"bounds": {"price": [0.0, 9.0]}, "log": ["price"]}, "both name the column 'price'"),
        (points(), {"test": 1.0}, "must be a part from 0 to below 1"),
        (-points(), {"log": ["price"]}, "has no logarithm"),
    ],
)
def test_what_is_no_table_of_points_is_refused(
    make: Make, tmp_path: Path, table: pd.DataFrame | str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RefusedInput) as refused:
        make(file=written(tmp_path, table), **options)
    assert sentence in str(refused.value)


def test_columns_that_sit_on_few_values_are_named(make: Make, tmp_path: Path) -> None:
    table = points().assign(age=np.arange(200) % 5, wealth=np.exp(np.arange(200.0)))
    said = "\n".join(make(file=written(tmp_path, table)).introduction())
    assert "age has 5 values in 140 rows" in said
    assert "wealth has 140 values, of which models are given" in said
    assert "Try task.log=[wealth]" in said
    assert "speed has" not in said
    debts = "\n".join(make(file=written(tmp_path, table.assign(wealth=-table["wealth"]))).introduction())
    assert "wealth has 140 values, of which models are given" in debts
    assert "task.log" not in debts, "it would be refused"


def test_rows_that_are_learned_from_and_tested_are_counted(make: Make, tmp_path: Path) -> None:
    table = points(100)
    twice = make(file=written(tmp_path, pd.concat([table, table]))).introduction()
    [said] = [line for line in twice if "the same as one to learn from" in line]
    assert 10 < int(said.split()[0]) <= int(said.split()[2]) == 30
    for task in (make(file=written(tmp_path, table)), make(file=written(tmp_path, table), test=0.0, validation=0.0)):
        assert "the same as one" not in "\n".join(task.introduction())


def test_a_trained_flow_says_how_probable_other_rows_are(tmp_path: Path) -> None:
    file = written(tmp_path, points())
    words = ("task=tabular_density", f"task.file={file}", "task.log=[price]", "model=spline_flow", "model.width=8")
    run = ode.train(
        *words, "trainer.max_steps=2", "logger=none", "pictures=false", f"output_dir={tmp_path / 'outputs'}"
    )
    folder = str(run_folder(tmp_path / "outputs"))
    other = points(300).iloc[250:]
    ended = typed(f"predict={folder}", f"data={written(tmp_path, other, 'other.csv')}", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    told = pd.read_csv(next(Path(folder).rglob("log_density.csv")))
    assert list(told.columns) == ["sample", *NAMES, "log_prob"]
    assert told["sample"].tolist() == list(range(2, 52))  # rows of the file
    np.testing.assert_allclose(told[list(NAMES)], other, rtol=1e-5)
    np.testing.assert_allclose(run.log_prob(other.to_numpy()), told["log_prob"], atol=1e-4)
    test = points().iloc[run.experiment.task.parts[Split.TEST]]  # type: ignore[attr-defined]
    assert -float(run.log_prob(test.to_numpy()).mean()) == pytest.approx(run.results["test/nll"], abs=1e-4)
    drawn = run.sample(50)
    assert drawn.log_density is not None
    torch.testing.assert_close(run.log_prob(drawn.path[-1]), drawn.log_density, atol=1e-3, rtol=1e-3)
    refused = typed(f"predict={folder}", f"data={written(tmp_path, other[['speed']], 'less.csv')}", cwd=tmp_path)
    assert (refused.returncode, "no column 'price'" in refused.stderr) == (2, True)
    rows = other.to_numpy()[:1].copy()
    with pytest.raises(RefusedInput, match=r"inputs of shape \(1, 1\) must be \(batch, 3\)"):
        run.log_prob(rows[:, :1])
    rows[0, 1] = -1.0
    with pytest.raises(RefusedInput, match="column 'price': -1 has no logarithm"):
        run.log_prob(rows)
    check_differentiated_whole(run, torch.tensor(other.to_numpy()[:4]))


def check_differentiated_whole(run: ode.Run, rows: Tensor) -> None:
    """The log density has a gradient or none; it had that of the logarithm's determinant alone."""
    step, inputs = 1e-2 * rows[:, -1:], rows.clone().requires_grad_()
    [slope] = torch.autograd.grad(run.log_prob(inputs).double().sum(), inputs)
    near = [run.log_prob(torch.cat([rows[:, :-1], rows[:, -1:] + by], dim=1)).double() for by in (step, -step)]
    torch.testing.assert_close(slope[:, -1:] * step, (near[0] - near[1])[:, None] / 2, atol=2e-3, rtol=0.1)
    assert not run.predict(inputs).requires_grad
    run.model.forward = torch.no_grad()(run.model.forward)  # type: ignore[method-assign]  # as a solver of SciPy's is
    assert not run.log_prob(inputs).requires_grad


@pytest.mark.slow
def test_many_affine_layers_stay_finite_beside_a_column_that_hardly_changes(tmp_path: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(1).normal(size=(400, 19)), columns=[f"c{i}" for i in range(19)])
    table["c7"] = 5 + 1e-6 * table["c7"]
    words = ("task=tabular_density", f"task.file={written(tmp_path, table)}", "model=coupling_flow", "model.layers=32")
    sizes = ("model.width=16", "trainer.max_steps=200", "trainer.epochs=100", "logger=none", "pictures=false")
    run = ode.train(*words, *sizes, f"output_dir={tmp_path / 'outputs'}")
    assert math.isfinite(run.results["test/nll"])
    drawn = run.sample(1000).path[-1]
    assert bool(drawn.isfinite().all())
    assert float(drawn[:, 7].std()) == pytest.approx(1e-6, rel=0.5)
