"""The pieces of one's own in examples/, run by the installed program from outside the tree."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers import Ended, record_of, run_folder, typed

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LINES = 60
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/pieces.py"))
MOONS = ("task=half_moons", "task.train=40", "task.validation=20", "task.test=20", "trainer.batch_size=20")
SHORT = ("trainer.epochs=1", "logger=none")
EXACT = ("backprop", "checkpoint", "symplectic", "forward")


@pytest.fixture
def outside(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of an example, in which its commands are typed."""
    shutil.copytree(EXAMPLES / request.param, tmp_path, dirs_exist_ok=True)
    monkeypatch.delitem(__import__("sys").modules, "pieces", raising=False)
    return tmp_path


def example(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("outside", [name], indirect=True, ids=[name])


def ran(*words: str, cwd: Path) -> Ended:
    ended = typed("-cd", "conf", *words, cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def refused(*words: str, cwd: Path) -> str:
    ended = typed("-cd", "conf", *words, cwd=cwd)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_each_is_short() -> None:
    assert len(NAMES) == 6
    for name in NAMES:
        assert len((EXAMPLES / name / "pieces.py").read_text(encoding="utf-8").splitlines()) <= LINES, name


def gradients(outside: Path, *words: str) -> dict[str, float]:
    """Errors of the gradient modes that `audit=true` admits, against backpropagation in double precision."""
    ran(*words, "audit=true", "trainer.precision=fp64", cwd=outside)
    [path] = outside.rglob("gradients.csv")
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return {row["mode"]: float(row["solution_error"]) for row in rows if row["solution_error"]}


@pytest.mark.slow
@example("conditioned_field")
@pytest.mark.parametrize("solver", ["dopri5", pytest.param("reversible_heun", marks=pytest.mark.slow)])
def test_a_conditioned_field_is_right_in_every_gradient_mode(outside: Path, solver: str) -> None:
    errors = gradients(outside, "model=conditioned", f"solver={solver}", *MOONS)
    assert {"backprop", "adjoint"} <= set(errors)
    for mode, error in errors.items():
        assert error < (1e-10 if mode in (*EXACT, "reversible") else 0.05), mode


@example("conditioned_field")
def test_a_conditioned_field_trains_and_is_refused_where_it_has_no_halves(outside: Path) -> None:
    ran("model=conditioned", "gradient=adjoint", *MOONS, *SHORT, cwd=outside)
    assert record_of(outside)["status"] == "completed"
    assert "separable" in refused("model=conditioned", "solver=leapfrog", *MOONS, cwd=outside)


@example("kinetic_penalty")
@pytest.mark.parametrize("gradient", ["backprop", pytest.param("adjoint", marks=pytest.mark.slow)])
def test_a_price_changes_training_and_costs_no_step(outside: Path, gradient: str) -> None:
    losses, evaluations = [], []
    for weight in (0, 10):
        folder = outside / str(weight)
        priced = ("regularizer=power_of_speed", f"regularizer.power_of_speed.weight={weight}")
        ran(*priced, f"gradient={gradient}", *MOONS, *SHORT, f"output_dir={folder}", cwd=outside)
        record = record_of(folder)
        losses.append(record["metrics"]["test/loss"])
        evaluations.append(record["cost"]["ledger"]["forward"]["evaluations"])
    assert losses[0] != losses[1]
    assert evaluations[0] == pytest.approx(evaluations[1], rel=0.3), "other weights, so nearly as many"


@example("kinetic_penalty")
def test_a_price_on_a_path_is_said_to_be_unused_where_there_is_none(outside: Path) -> None:
    said = ran("model=resnet", "regularizer=power_of_speed", *MOONS, *SHORT, cwd=outside).stdout
    assert "model=resnet uses neither solver nor gradient nor regularizer" in said
    assert record_of(outside)["choices"]["regularizer"] == "-"


@example("log_density")
@pytest.mark.slow
def test_a_density_is_learned(outside: Path) -> None:
    ran("task=two_bumps", "logger=none", cwd=outside)
    assert abs(record_of(outside)["metrics"]["test/divergence"]) < 0.05


@pytest.mark.slow
@example("log_density")
def test_a_density_is_right_in_every_gradient_mode_and_asked_of_nothing_else(outside: Path) -> None:
    small = ("task=two_bumps", "task.count=20", "trainer.batch_size=10", "network.width=4")
    errors = gradients(outside, *small)
    assert {"backprop", "adjoint", "checkpoint"} <= set(errors)
    for mode, error in errors.items():
        assert error < (1e-10 if mode in EXACT else 0.05), mode
    said = refused(*small, "model=odenet", cwd=outside)
    assert "task=two_bumps asks for a log density" in said
    assert re.search(r"Use model=.*\bcnf, .*\bflow\b.*\.", said), "built-in ones and that of the example"


@example("stochastic_field")
def test_without_noise_a_stochastic_field_is_the_ordinary_one(outside: Path) -> None:
    losses = []
    for model, solver in (("neural_sde", "my_euler_maruyama"), ("odenet", "euler")):
        scale = ("model.scale=0",) if model == "neural_sde" else ()
        folder = outside / model
        ran(
            f"model={model}", f"solver={solver}", "solver.num_steps=8", *scale, *MOONS, *SHORT, f"output_dir={folder}",
            cwd=outside,
        )  # fmt: skip
        losses.append(record_of(folder)["metrics"]["test/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@example("stochastic_field")
def test_a_stochastic_field_and_its_solver_go_with_each_other_only(outside: Path) -> None:
    ran("model=neural_sde", "solver=my_euler_maruyama", *MOONS, *SHORT, cwd=outside)
    assert record_of(outside)["cost"]["nfe_forward"] == 16
    assert "dopri5" in refused("model=neural_sde", "solver=dopri5", *MOONS, cwd=outside)
    assert "a stochastic field" in refused("model=odenet", "solver=my_euler_maruyama", *MOONS, cwd=outside)


@example("flow_matching")
@pytest.mark.slow
def test_flow_matching_learns_to_sample(outside: Path) -> None:
    ran("task=two_bumps", "logger=none", cwd=outside)
    assert record_of(outside)["metrics"]["test/energy_distance"] < 0.05


@example("flow_matching")
def test_one_training_is_sampled_by_several_solvers(outside: Path) -> None:
    small = ("task=two_bumps", "task.count=20", "trainer.batch_size=10", "trainer.eval_batch_size=20", *SHORT)
    records = []
    for solver in ("dopri5", "euler"):
        said = ran(*small, "network.width=4", f"solver={solver}", cwd=outside).stdout
        [path] = outside.glob(f"outputs/two_bumps/*-{solver}-*/record.json")
        records.append(json.loads(path.read_text(encoding="utf-8")))
    first, second = records
    assert "nothing is trained" in said, said
    assert first["training"] == second["training"]
    assert first["fingerprint"] != second["fingerprint"]
    assert first["metrics"]["test/loss"] == second["metrics"]["test/loss"], "the same weights, without a solve"
    assert first["metrics"]["test/energy_distance"] != second["metrics"]["test/energy_distance"]


@example("flow_matching")
def test_flow_matching_counts_its_evaluations_and_is_asked_for_samples_only(outside: Path) -> None:
    small = ("task.count=20", "trainer.batch_size=10", "trainer.eval_batch_size=20", *SHORT)
    ran("task=two_bumps", *small, "network.width=4", "gradient=adjoint", cwd=outside)
    record = record_of(outside)
    assert record["cost"]["nfe_forward"] == 1, "the field once, without a solve"
    assert record["choices"]["gradient"] == "-"
    assert "none" in run_folder(outside).name or "--" in run_folder(outside).name
    assert "samples" in refused("model=straight_lines", "task=digits", cwd=outside)


@example("stopping")
@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_flow_that_stops_is_right_in_every_gradient_mode_that_it_admits(outside: Path, alone: bool) -> None:
    one_by_one = ("per_sample=false", "trainer.batch_size=1", "trainer.eval_batch_size=1")
    errors = gradients(outside, "model=stopping", *MOONS, *(one_by_one if alone else ()))
    assert set(errors) == {"backprop", "checkpoint", *(["adjoint"] if alone else [])}
    for mode, error in errors.items():
        assert error < (1e-10 if mode in EXACT else 0.05), mode


@example("stopping")
@pytest.mark.slow
def test_a_flow_that_stops_trains_and_is_refused_where_samples_stop_together(outside: Path) -> None:
    ran("model=stopping", *MOONS, *SHORT, cwd=outside)
    assert record_of(outside)["status"] == "completed"
    for words, why in (
        (("solver=rk4",), "steps common to the whole batch"),
        (("gradient=symplectic", "solver=rk4"), "takes no solves with events"),
        (("regularizer=kinetic",), "penalises a path"),
    ):
        assert why in refused("model=stopping", *MOONS, *words, cwd=outside)
