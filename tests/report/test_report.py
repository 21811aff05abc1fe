"""`ode-report`: the table, from records written by RunRecord. `reported` is the program without a start of Python."""

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ode_runner.recording.lock import lock
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.text_layout import GAP
from ode_runner.recording.unbegun import note_due
from ode_runner.report.quantities import Style
from ode_runner.report.rows import Statistic, without_repeats
from ode_runner.report.runs import find_runs
from ode_runner.report.screen import _fitting
from ode_runner.report.table import make_table
from tests.reporting import cells, reported, write_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two solvers with two seeds each, and a ResNet with one."""
    for seed in (0, 1):
        metrics = {"test/accuracy": 0.9 + seed / 50, "test/loss": 0.25, "eval/accuracy": 0.8}
        write_run(tmp_path / "outputs", f"euler-{seed}", seed=seed, metrics=metrics)
        metrics = {"test/accuracy": 0.95, "test/loss": 0.125 + seed / 8, "eval/accuracy": 0.8}
        cost = {"nfe_forward": 20.0 + seed, "nfe_backward": 0.0, "saved_bytes": 1e6, "train_seconds": 5.0}
        write_run(tmp_path / "outputs", f"dopri5-{seed}", solver="dopri5", seed=seed, metrics=metrics, cost=cost)
    write_run(tmp_path / "outputs", "resnet-0", model="resnet", solver="-")
    return tmp_path


def test_runs_that_differ_in_their_seed_only_are_one_row_with_mean_and_deviation(sweep: Path) -> None:
    rows = cells(cwd=sweep)
    assert [(row["model"], row["solver"], row["seeds"]) for row in rows] == [
        ("odenet", "dopri5", "2"),
        ("odenet", "euler", "2"),
        ("resnet", "-", "1"),
    ]
    euler = rows[1]
    assert float(euler["test/accuracy"]) == pytest.approx(0.91)
    assert float(euler["test/accuracy std"]) == pytest.approx(0.02 / 2**0.5)
    assert float(euler["cost/nfe_forward std"]) == 0
    assert rows[2]["test/accuracy std"] == "", "a single seed has no deviation"


def test_a_table_of_several_tasks_has_the_objective_of_each(tmp_path: Path) -> None:
    of_points = {"test/endpoint_rmse": 0.1, "test/sw2": 0.2, "test/nll": 1.5, "eval/nll": 1.4}
    write_run(tmp_path / "outputs", "moons")
    write_run(tmp_path / "outputs", "points", task="density2d", metrics=of_points)
    moons, points = sorted(cells(cwd=tmp_path), key=lambda row: row["task"], reverse=True)
    assert [name for name in moons if name.startswith("test/") and not name.endswith("std")] == [
        "test/accuracy", "test/nll", "test/loss",
    ]  # fmt: skip
    assert (float(moons["test/accuracy"]), float(points["test/nll"])) == (0.9, 1.5)
    for number, name in enumerate(("r2", "mae", "elbo")):
        metrics = {f"test/{name}": 0.5, f"eval/{name}": 0.5}
        write_run(tmp_path / "outputs", name, task=f"task{number}", metrics=metrics)
    assert {"test/accuracy", "test/nll", "test/r2", "test/mae", "test/elbo"} <= cells(cwd=tmp_path)[0].keys()


def test_the_deviation_is_that_of_a_sample() -> None:
    assert Statistic.of([1.0, 2.0, 3.0, 4.0]) == Statistic(mean=2.5, deviation=pytest.approx((5 / 3) ** 0.5))
    assert Statistic.of([0.1] * 3) == Statistic(mean=0.1, deviation=0.0)
    assert Statistic.of([1.0, float("nan")]) == Statistic(mean=1.0, deviation=None)
    assert Statistic.of([]) is None


def test_only_columns_that_differ_are_shown(sweep: Path) -> None:
    [header, *_] = reported("--format", "csv", cwd=sweep).stdout.splitlines()
    assert header.split(",")[:3] == ["model", "solver", "seeds"]
    assert "all rows: task=half_moons · network=mlp · gradient=backprop" in reported(cwd=sweep).stdout


@pytest.mark.parametrize("loss", [0.25, 0.3])
def test_a_loss_that_is_the_first_result_is_no_column_of_its_own(loss: float, tmp_path: Path) -> None:
    for seed, size in enumerate((1.0, 2.0)):
        metrics = {"test/mse": 0.25 * size, "test/loss": loss * size * (1 + 1e-9), "test/a": 1.0, "test/b": 2.0}
        write_run(tmp_path, f"run{seed}", seed=seed, metrics=metrics)
    names = [column.name for column in make_table(find_runs([tmp_path]).runs).columns]
    left = names[names.index("test/mse") :][:3]
    assert left == ["test/mse", *(["test/loss", "test/a"] if loss > 0.25 else ["test/a", "test/b"])]


def test_a_default_of_the_chosen_solver_is_no_column_but_a_change_of_it_is(sweep: Path) -> None:
    write_run(sweep / "outputs", "fine", options={"solver": {"num_steps": 64}})
    write_run(sweep / "outputs", "slow", model="resnet", solver="-", options={"optimizer": {"lr": 0.5}})
    [header, *_] = reported("--format", "csv", cwd=sweep).stdout.splitlines()
    assert header.split(",")[:5] == ["model", "solver", "solver.num_steps", "optimizer.lr", "seeds"]


def test_bookkeeping_makes_no_row(tmp_path: Path) -> None:
    write_run(tmp_path, "a", seed=0)
    write_run(tmp_path, "b", seed=1, options={"logger": {"_target_": "l.TensorBoard"}})
    [row] = cells(".", cwd=tmp_path)
    assert row["seeds"] == "2"


def test_a_run_found_twice_counts_once(sweep: Path) -> None:
    later = "2026-02-02T00:00:00+00:00"
    again = write_run(sweep / "outputs", "again", metrics={"test/accuracy": 0.5}, finished=later)
    write_run(sweep / "outputs", "broken", status=RunStatus.FAILED, finished="2027-01-01T00:00:00+00:00")
    runs, repeats = without_repeats(find_runs([sweep / "outputs", sweep]).runs)
    assert (len(runs), repeats) == (5, 2)
    assert again in {run.folder for run in runs}
    assert "2 runs with the configuration and seed of another left out" in reported(cwd=sweep).stdout


def test_the_best_of_each_measurement_is_bold(sweep: Path) -> None:
    lines = [line for line in reported("--format", "md", cwd=sweep).stdout.splitlines() if line.startswith("| ")]
    dopri5, euler, resnet = (line.strip("| ").split(" | ") for line in lines[2:])
    assert dopri5[3:7] == ["**95.00 ± 0.00**", "**0.188 ± 0.088**", "20.5 ± 0.7", "**1.00**"]
    assert euler[3:7] == ["91.00 ± 1.41", "0.250 ± 0.000", "**16.0 ± 0.0**", "2.50"]
    assert resnet[5] == "-", "a model that solves nothing has no number of evaluations, and not the least"


def test_digits_that_are_not_shown_make_none_the_best(tmp_path: Path) -> None:
    for i, loss in enumerate((0.70811, 0.70821, 0.9, 0.8, 0.85)):
        write_run(tmp_path, str(i), options={"optimizer": {"lr": i}}, metrics={"test/loss": loss})
    table = make_table(find_runs([tmp_path]).runs, metrics="test/loss")
    assert [cell.best for cell in (row[-1] for row in table.cells)] == [True, True, False, False, False]


def test_the_best_is_the_best_of_its_task(tmp_path: Path) -> None:
    write_run(tmp_path, "a", task="half_moons", metrics={"test/accuracy": 0.5})
    write_run(tmp_path, "b", task="half_moons", solver="rk4", metrics={"test/accuracy": 0.6})
    for i, solver in enumerate(("euler", "rk4", "dopri5")):
        write_run(tmp_path, solver, task="pendulum", solver=solver, metrics={"test/rmse": 0.5 + i})
    text = reported(".", "--format", "md", "--metrics", "accuracy,rmse", cwd=tmp_path).stdout
    assert text.count("**60.00**") == 1
    assert text.count("**0.50**") == text.count("**") / 2 - 1 == 1, "lower is better for an error"


def test_rows_of_different_data_are_not_ranked_against_each_other(tmp_path: Path) -> None:
    """Sizes of training, and how the true field is solved, are not options of the data."""
    given: dict[str, list[dict[str, Any]]] = {
        "name": [{"name": "8gaussians"}, {"name": "8gaussians_narrow"}],
        "conditional": [{"conditional": True}, {"conditional": False}],
        "test": [{"test": 100}, {"test": 200}],
        "": [
            {"train": 5, "seed": 1},
            {"validation": 9, "kl_epochs": 3},
            {"start_time": 1.0},
            {"start_time": 0.9, "points": 2},
        ],
    }
    for differing, options in given.items():
        for i, own in enumerate(options):
            write_run(tmp_path / f"of-{differing}", str(i), options={"task": own}, metrics={"test/nll": 1.5 + i})
        said = reported(".", "--metrics", "nll", cwd=tmp_path / f"of-{differing}").stdout
        assert ("1.50 *" in said) == (not differing), said
        note = f"rows of task=half_moons differ in task.{differing}, and so in their data"
        assert (note in " ".join(said.split())) == bool(differing)
    alike = {"task": {"name": "8gaussians"}}
    write_run(tmp_path / "of-name", "2", solver="rk4", options=alike, metrics={"test/nll": 3.0})
    assert "1.50 *" in reported(".", "--metrics", "nll", cwd=tmp_path / "of-name").stdout


def test_nothing_is_best_by_itself_or_where_half_are(tmp_path: Path) -> None:
    for solver in ("euler", "rk4"):
        write_run(tmp_path, solver, solver=solver)
        assert "*" not in reported(".", cwd=tmp_path).stdout


@pytest.mark.parametrize("arguments", [[], ["--format", "md"]])
def test_a_reader_that_has_seen_enough_sees_no_traceback(arguments: list[str], sweep: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run(program(*arguments), cwd=sweep, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_numbers_of_very_different_size_keep_their_digits(tmp_path: Path) -> None:
    for i, solver in enumerate(("euler", "rk4", "dopri5")):
        write_run(tmp_path, solver, solver=solver, metrics={"test/rmse": 1.234567 * 10.0 ** (-4 * i)})
    text = reported(".", cwd=tmp_path).stdout
    assert all(number in text for number in ("1.23e+00", "1.23e-04", "1.23e-08"))


def test_no_number_is_shown_as_zero_that_is_none(tmp_path: Path) -> None:
    for solver, rmse in (("dopri5", 2.52e-5), ("rk4", 0.0129)):
        write_run(tmp_path, solver, solver=solver, metrics={"test/rmse": rmse})
    text = reported(".", cwd=tmp_path).stdout
    assert "2.52e-05" in text
    assert "1.29e-02" in text


def test_a_seed_that_a_sweep_has_not_come_to_is_one_of_those_asked_for(sweep: Path) -> None:
    root = sweep / "outputs"
    due = [write_run(root, f"due-{seed}", seed=seed, metrics={}) for seed in (2, 3)]
    asked = {folder: record for folder in due if (record := RunRecord.read(folder)) is not None}
    shutil.rmtree(due[0])
    note_due(root, asked)
    ended = reported(cwd=sweep)
    assert "not begun (1 run: odenet euler seed 2)\n  the sweep has not come this far" in ended.stdout
    assert re.search("odenet +euler +3 of 4 ", ended.stdout)
    assert not due[0].exists()
    note_due(root, {})
    assert "not begun" not in reported(cwd=sweep).stdout


def test_what_did_not_complete_is_listed_with_its_reason(sweep: Path) -> None:
    root = sweep / "outputs"
    write_run(
        root, "no", model="rknet", solver="dopri5", status=RunStatus.INCOMPATIBLE, reason="rknet: no.", metrics={}
    )
    for seed in (2, 3):
        reason = f"RuntimeError: not today (traceback in outputs/{seed}/error.txt)"
        write_run(root, f"bad-{seed}", seed=seed, status=RunStatus.FAILED, reason=reason, metrics={})
    on = write_run(root, "on", seed=4, status=RunStatus.RUNNING, metrics={}, rows=2)
    with lock(on):
        ended = reported(cwd=sweep)
    assert "failed (2 runs: odenet euler seed 2, odenet euler seed 3)\n  RuntimeError: not today\n" in ended.stdout
    assert "incompatible (1 run: rknet dopri5 seed 0)\n  rknet: no.\n" in ended.stdout
    assert "running (1 run: odenet euler seed 4)\n  epoch 2 of 3, last line logged 0 min ago\n" in ended.stdout
    assert re.search("odenet +euler +2 of 5 ", ended.stdout)
    assert cells(cwd=sweep)[1]["seeds"] == "2", "a number, for a spreadsheet"
    assert "rknet" not in reported("--format", "csv", cwd=sweep).stdout
    assert "RuntimeError: not today" in reported("--format", "csv", cwd=sweep).stderr


def test_failures_of_one_kind_are_listed_together(sweep: Path) -> None:
    for seed, solver in enumerate(("dopri5", "dopri5", "rk4")):
        reason = f"{solver} stopped at t={seed}.5e-06 after {seed} steps, |f|=+{seed}e+07."
        status = RunStatus.SOLVER_FAILED
        write_run(sweep / "outputs", f"bad-{seed}", solver=solver, seed=seed + 5, status=status, reason=reason)
    text = reported(cwd=sweep).stdout
    assert "solver_failed (2 runs: odenet dopri5 seed 5, odenet dopri5 seed 6)\n  dopri5 stopped at t=0.5e-06" in text
    assert "|f|=+0e+07. (the first of these)\n" in text
    assert "solver_failed (1 run: odenet rk4 seed 7)\n  rk4 stopped at t=2.5e-06" in text


def test_torn_and_absent_records_and_lines_are_tolerated(sweep: Path) -> None:
    (sweep / "outputs" / "begun" / ".hydra").mkdir(parents=True)
    for name, content in {"torn": '{"choices": {', "odd": '{"status": "completed"}', "none": ""}.items():
        (sweep / "outputs" / name).mkdir()
        (sweep / "outputs" / name / "record.json").write_text(content)
    half = write_run(sweep / "outputs", "half", seed=9, status=RunStatus.RUNNING, rows=1)
    with (half / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "epo')
    with lock(half):
        text = reported(cwd=sweep).stdout
    assert "no record (4 runs: " in text
    assert "epoch 1 of 3" in text


def test_before_anything_is_completed_the_runs_are_listed(tmp_path: Path) -> None:
    with lock(write_run(tmp_path, "a", status=RunStatus.RUNNING, metrics={}, cost={})):
        ended = reported(".", "--metrics", "test/accuracy", "--sort", "test/accuracy", cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout == (
        "no run is completed yet\nrunning (1 run: odenet euler backprop seed 0)\n  nothing logged yet\n"
    )


def test_a_run_whose_process_was_killed_reads_as_interrupted(sweep: Path) -> None:
    write_run(sweep / "outputs", "on", seed=4, status=RunStatus.RUNNING, metrics={}, rows=2)
    folder = write_run(sweep / "outputs", "killed", seed=5, status=RunStatus.RUNNING, metrics={}, rows=2)
    killed = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "held\n"
        text = reported(cwd=sweep).stdout
        assert "running (1 run: odenet euler seed 5)\n" in text
        assert "interrupted (1 run: odenet euler seed 4)\n  its process ended without a message" in text
        killed.kill()
    text = reported(cwd=sweep).stdout
    assert "running" not in text
    assert "interrupted (2 runs: odenet euler seed 5, odenet euler seed 4)\n" in text
    assert "odenet" in reported("--where", "status=interrupted", cwd=sweep).stdout
    assert not (sweep / "outputs" / "on" / ".lock").exists(), "a report leaves nothing behind"


HOLDS = """
import sys
from collections.abc import Sequence
from pathlib import Path
from ode_runner.recording.lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ({"git_sha": "fedcba9876"}, "rows come from different code: 1234567 (5 runs), fedcba9 (1 run)."),
        ({"git_dirty": True}, "1 of 6 runs came from uncommitted changes"),
        ({"packages": {"torch": "2.12.0"}}, "rows come from different versions of torch: 2.11.0 (5 runs), 2.12.0 (1"),
        ({"cpu": "another"}, "times and memory are not comparable, cpu differs: unknown (5 runs), another (1 run)."),
    ],
)
def test_runs_that_are_hard_to_compare_are_marked(difference: dict[str, Any], said: str, sweep: Path) -> None:
    assert "note:" not in reported(cwd=sweep).stdout
    environment = {"git_sha": "1234567890", "git_dirty": False, "packages": {"torch": "2.11.0"}, **difference}
    write_run(sweep / "outputs", "z", seed=7, environment=environment)
    assert f"note: {said}" in reported(cwd=sweep).stdout


def test_evaluations_of_the_test_are_shown_where_runs_share_one_training(tmp_path: Path) -> None:
    for sweeps in (0, 2):
        folder = write_run(
            tmp_path / "outputs", f"s{sweeps}", model="ode_transformer", solver="-",
            options={"model": {"test_sweeps": sweeps}},
            metrics={"test/accuracy": 0.9, "nfe/eval": 2.0 + sweeps}, cost={"nfe_forward": 4.0},
        )  # fmt: skip
        assert "nfe/eval" not in cells(cwd=tmp_path)[0], "of runs of their own"
        record = json.loads((folder / "record.json").read_text())
        (folder / "record.json").write_text(json.dumps(record | {"training": "of both"}))
    assert [(row["nfe/eval"], row["cost/nfe_forward"]) for row in cells(cwd=tmp_path)] == [
        ("2.0", "4.0"),
        ("4.0", "4.0"),
    ]


def test_an_option_that_changed_nothing_is_named(tmp_path: Path) -> None:
    for steps in (4, 8):
        for solver, loss in (("euler", 0.5), ("rk4", 0.5 / steps)):
            for seed in (0, 1):
                write_run(
                    tmp_path, f"{solver}{steps}{seed}", solver=solver, seed=seed,
                    options={"solver": {"num_steps": steps}}, metrics={"test/loss": loss + seed, "test/accuracy": 0.9},
                )  # fmt: skip
    said = reported(str(tmp_path), cwd=tmp_path).stdout
    assert "solver.num_steps changes nothing for solver=euler: rows that differ in it alone are equal." in said
    assert "changes nothing for solver=rk4" not in said


def test_what_two_classifiers_have_measured_is_not_compared(tmp_path: Path) -> None:
    names = ("test/frechet", "test/frechet_floor")
    metrics = {"test/loss": 0.5, **dict.fromkeys(names, 8.0), "test/sw2": 0.1}
    for name, solver, made in (
        ("a", "euler", "classifier 1"),
        ("b", "rk4", "classifier 1"),
        ("c", "dopri5", "another"),
    ):
        task = "digits_generation" if name != "c" else "mnist_generation"
        write_run(tmp_path, name, solver=solver, task=task, metrics=metrics, measured_with=dict.fromkeys(names, made))
    assert all(row["test/frechet"] == "8.0" for row in cells(".", cwd=tmp_path)), (
        "each task has a classifier of its own"
    )
    assert "note:" not in reported(".", cwd=tmp_path).stdout
    write_run(
        tmp_path, "d", solver="rk4", seed=1, task="digits_generation", metrics=metrics,
        measured_with=dict.fromkeys(names, "classifier 2"),
    )  # fmt: skip
    said = (
        "test/frechet of task=digits_generation was measured with classifier 1 (2 runs) and classifier 2 (1 run), and "
        "is comparable within one alone. Choose its runs by --where."
    )
    ended = reported(".", cwd=tmp_path)
    assert f"note: {said}" in " ".join(ended.stdout.split())
    assert [row["test/frechet"] for row in cells(".", cwd=tmp_path)] == ["", "", "8.0"]
    of_one = reported(".", "--where", "task=digits_generation", "--metrics", "frechet", cwd=tmp_path)
    assert (of_one.returncode, of_one.stderr) == (2, f"ode-report: {said}\n")
    assert cells(".", "--where", "seed=0", "--metrics", "frechet", cwd=tmp_path)[0]["test/frechet"] == "8.0"


def test_losses_that_measure_different_things_are_not_compared(tmp_path: Path) -> None:
    metrics = {"test/loss": 0.5, "eval/loss": 0.4, "test/nll_fine": 2.9, "test/sw2": 0.1}
    for model, regressed in (("flow_matching", "the velocity"), ("diffusion", "the noise"), ("cnf", "")):
        names = ("test/loss", "test/loss_floor", "eval/loss") if regressed else ()
        own = metrics | ({"test/loss_floor": 0.3} if regressed else {})
        write_run(tmp_path, model, model=model, metrics=own, measured_with=dict.fromkeys(names, regressed))
    said = " ".join(reported(".", cwd=tmp_path).stdout.split())
    assert (
        "note: test/loss of task=half_moons was measured with what the task takes (1 run) and the noise (1 run) and "
        "the velocity (1 run), and is comparable within one alone."
    ) in said
    assert said.count("within one alone") == 1, "floors go with what they are of, whichever models have one"
    assert ["test/loss" in row for row in cells(".", cwd=tmp_path)] == [False] * 3
    assert "test/loss" in cells(".", "--where", "model=diffusion", cwd=tmp_path)[0]


def test_distances_to_a_teacher_are_not_ranked_beside_errors_of_a_solve(tmp_path: Path) -> None:
    metrics = {"test/sw2": 0.1, "test/sw2_teacher": 0.1, "test/nll_end_time": 0.1}
    for model, error in (("consistency", 0.3), ("flow_matching", 0.1), ("diffusion", 0.2)):
        of_teacher = {"test/endpoint_rmse": "the ends of the teacher's trajectories"} if model == "consistency" else {}
        own = {"test/endpoint_rmse": error, **{name: value * error for name, value in metrics.items()}}
        write_run(tmp_path, model, model=model, metrics=own, measured_with=of_teacher)
    said = " ".join(reported(".", cwd=tmp_path).stdout.split())
    assert (
        "test/endpoint_rmse of task=half_moons was measured with the ends of the teacher's trajectories (1 run) and a "
        "fine solve of the model's own field (2 runs), and is comparable within one alone."
    ) in said
    solved = reported(".", "--where", "model!=consistency", "--metrics", "endpoint_rmse", cwd=tmp_path).stdout
    assert "0.100 *" in solved
    assert "*" not in reported(".", "--metrics", "sw2_teacher,nll_end_time", cwd=tmp_path).stdout


def test_what_a_run_calls_invalid_is_shown_and_not_ranked(tmp_path: Path) -> None:
    why = "is not that of a density, because it is computed too coarsely; test/nll_fine is"
    for model, solver, nll in (
        ("odenet", "euler", 2.15),
        ("cnf", "euler", 2.16),
        ("cnf", "rk4", 2.21),
        ("f", "-", 2.3),
    ):
        write_run(
            tmp_path, f"{model}{solver}", model=model, solver=solver,
            metrics={"test/nll": nll, "test/nll_fine": 2.21, "eval/nll": nll},
            invalid={"test/nll": why, "eval/nll": why} if solver == "euler" else {},
        )  # fmt: skip
    said = " ".join(reported(".", "--sort", "test/nll", cwd=tmp_path).stdout.split())
    assert "2.21 * " in said
    assert f"note: test/nll of cnf euler (and of 1 more row) is not ranked: it {why}." in said
    assert [row["test/nll"] for row in cells(".", "--sort", "test/nll", cwd=tmp_path)] == [
        "2.21",
        "2.3",
        "2.16",
        "2.15",
    ]
    assert "not ranked" not in reported(".", "--metrics", "nll_fine", cwd=tmp_path).stdout


def test_runs_ended_by_a_budget_are_marked(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, f"{seed}", seed=seed, reason=f"ended by trainer.max_seconds=3 at step {20 + seed}")
    assert "note: 2 runs ended by trainer.max_seconds=3.\n" in reported(".", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("model=resnet", 1),
        ("model=resnet,odenet", 3),
        ("solver!=euler", 2),
        ("rtol=0.001", 1),
        ("solver.num_steps>=16", 1),
        ("seed=1", 2),
        ("test/accuracy>0.93", 1),
        ("status=completed", 3),
    ],
)
def test_where_chooses_runs(condition: str, left: int, sweep: Path) -> None:
    assert len(cells("--where", condition, cwd=sweep)) == left


def test_several_conditions_must_all_hold(sweep: Path) -> None:
    [row] = cells("--where", "model=odenet", "--where", "solver=euler", "--where", "seed=0", cwd=sweep)
    assert (float(row["test/accuracy"]), row["seeds"]) == (0.9, "1")


def test_by_makes_a_row_of_all_that_agrees_in_the_columns_and_says_so(sweep: Path) -> None:
    rows = cells("--by", "model", cwd=sweep)
    assert [(row["model"], row["runs"]) for row in rows] == [("odenet", "4"), ("resnet", "1")]
    assert "note: rows average over solver, not over seeds alone." in reported("--by", "model", cwd=sweep).stdout
    assert [row["seed"] for row in cells("--by", "seed,solver", cwd=sweep)] == ["0", "0", "0", "1", "1"]


def test_sorting_begins_with_the_best(sweep: Path) -> None:
    def order(*arguments: str) -> list[str]:
        return [row["solver"] for row in cells(*arguments, cwd=sweep)]

    assert order("--sort", "accuracy") == ["dopri5", "euler", "-"]
    assert order("--sort", "nfe_forward") == ["euler", "dopri5", "-"], "what has no number comes last"
    assert order("--sort", "nfe_forward", "--reverse") == ["dopri5", "euler", "-"]
    assert order("--sort", "solver") == ["-", "dopri5", "euler"]
    assert order("--sort", "model,train_seconds") == ["euler", "dopri5", "-"]
    assert order("--metrics", "loss", "--sort", "test/accuracy") == ["dopri5", "euler", "-"], (
        "a metric that is not shown"
    )


def test_a_time_that_is_not_known_is_none_and_no_best(tmp_path: Path) -> None:
    for solver, seconds in (("euler", 0.0), ("rk4", 3.0), ("dopri5", 2.0)):
        write_run(tmp_path / "outputs", solver, solver=solver, cost={"nfe_forward": 4.0, "train_seconds": seconds})
    found = {row["solver"]: row["cost/train_seconds"] for row in cells(cwd=tmp_path)}
    assert found == {"euler": "", "rk4": "3.0", "dopri5": "2.0"}
    assert "| **2** |" in reported("--format", "md", cwd=tmp_path).stdout


def test_measurements_are_chosen_by_name_or_the_end_of_it(sweep: Path) -> None:
    [row, *_] = cells("--metrics", "test/accuracy,nfe_forward", cwd=sweep)
    assert list(row) == ["model", "solver", "seeds", "test/accuracy", "test/accuracy std", "cost/nfe_forward",
                         "cost/nfe_forward std"]  # fmt: skip


def test_latex_and_html_escape_what_they_must(tmp_path: Path) -> None:
    write_run(tmp_path, "a", options={"task": {"data_dir": "a_b&c<d>"}})
    write_run(tmp_path, "b", options={"task": {"data_dir": "50%"}}, metrics={"test/accuracy": 0.1})
    tex = reported(".", "--format", "latex", cwd=tmp_path).stdout
    assert "a\\_b\\&c<d> & 1 & \\textbf{90.00}" in tex
    assert "task.data\\_dir & seeds & test/accuracy [\\%]" in tex
    assert tex.count("\\\\\n") == 3
    assert "a_b&amp;c&lt;d&gt;" in reported(".", "--format", "html", cwd=tmp_path).stdout
    assert "<b>90.00</b>" in reported(".", "--format", "html", cwd=tmp_path).stdout


def test_the_table_in_a_pipe_is_neither_wrapped_nor_coloured(sweep: Path) -> None:
    write_run(sweep / "outputs", "x", options={"task": {"data_dir": "/very/long" * 30}})
    text = reported(cwd=sweep).stdout
    assert "\x1b" not in text
    assert len([line for line in text.splitlines() if "/very/long" * 30 in line]) == 1


def test_a_narrow_terminal_leaves_out_columns_and_says_which(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = reported(cwd=sweep, terminal=True).stdout
    assert "no room for cost/nfe_forward, cost/saved_bytes, cost/train_seconds: widen the window" in text
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.startswith(("model", "odenet"))]
    assert lines[0].endswith("test/loss")
    assert 40 < max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no folder 'nowhere'."),
        (["empty"], "'empty' holds no runs: there is no record.json in it or below it."),
        (["outputs", "empty"], "'empty' holds no runs"),
        (["--metrics", "test/acuracy"], "no metric named 'test/acuracy'. Did you mean 'test/accuracy'?"),
        (["--metrics", "accuracy"], "'accuracy' may mean test/accuracy or eval/accuracy."),
        (["--sort", "acc"], "no column named 'acc'."),
        (["--by", "modl"], "no column named 'modl'. Did you mean 'model'?"),
        (["--by", ","], "--by names no column."),
        (["--where", "model"], "cannot read --where 'model'. Type name=value"),
        (["--where", "modl=odenet"], "no column named 'modl'. Did you mean 'model'?"),
        (["--where", "model=odnet"], "--where model=odnet leaves no run. Values of model: odenet, resnet"),
        (["--where", "seed<many"], "cannot read --where 'seed<many': many is no number."),
        (["--format", "xml"], "argument --format: invalid choice: 'xml'"),
        (["--formt", "csv"], "unrecognized arguments: --formt"),
        (["--html", "outputs"], "cannot write the page to outputs (Is a directory)."),
        (["--plots", "file"], "cannot write pictures to file (File exists)."),
        (["diff", "outputs"], "type: ode-report diff A B"),
        (["diff", "outputs", "empty"], "'outputs' holds 5 runs. Name the folder of one, e.g. outputs/"),
        (["verify"], "type: ode-report verify FOLDER"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_in_one_line(arguments: list[str], said: str, sweep: Path) -> None:
    (sweep / "empty").mkdir()
    (sweep / "file").touch()
    ended = reported(*arguments, cwd=sweep)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"ode-report: {said}")
    assert ended.stderr.count("\n") == 1


def test_help_names_every_option() -> None:
    text = reported("--help", cwd=Path()).stdout
    for option in ("--metrics", "--where", "--by", "--sort", "--reverse", "--format", "--plots", "--html", "diff A B"):
        assert option in text
    assert max(map(len, text.splitlines())) <= 120
    assert reported("--version", cwd=Path()).stdout.startswith("ode-report 0.")


def program(*arguments: str) -> list[str]:
    """The command, in a process of its own, that ends by saying what it has imported."""
    code = (
        "import atexit, sys\n"
        f"sys.argv[1:] = {list(arguments)!r}\n"
        "heavy = {'torch', 'hydra', 'numpy', 'matplotlib', 'yaml'}\n"
        "atexit.register(lambda: print('HEAVY', heavy & set(sys.modules)))\n"
        "from ode_runner.report.cli import main\nmain()\n"
    )
    return [sys.executable, "-c", code]


def test_the_table_is_made_without_torch_hydra_and_matplotlib(sweep: Path) -> None:
    finished = subprocess.run(program(), cwd=sweep, capture_output=True, text=True, check=True)
    assert finished.stdout.endswith("HEAVY set()\n")


def test_rows_of_equal_size_and_of_equal_work_stand_beside_each_other(tmp_path: Path) -> None:
    """A scheme may have a few weights of its own; a row that nothing is equal to is in no group."""
    sizes = {("prenorm", 1): (1000, 1, 0.8), ("prenorm", 2): (2000, 2, 0.95), ("rk2", 1): (1004, 2, 0.85)}
    for (block, depth), (parameters, evaluations, accuracy) in (sizes | {("rk4", 2): (3000, 8, 0.7)}).items():
        options = {"model": {"block": block, "depth": depth}}
        cost = {"parameters": parameters, "nfe_forward": float(evaluations), "nfe_backward": 0.0}
        metrics = {"test/accuracy": accuracy, "eval/accuracy": accuracy}
        write_run(tmp_path, f"{block}{depth}", solver="-", options=options, cost=cost, metrics=metrics)
    said = reported(".", cwd=tmp_path).stdout.splitlines()
    assert said[said.index(next(line for line in said if "at equal" in line)) :][:4] == [
        "at equal parameters (within 1%): model.block, model.depth, test/accuracy [%]; the best first",
        "  1,000   rk2 1: 85.00 · prenorm 1: 80.00",
        "at equal evaluations (nfe_forward): model.block, model.depth, test/accuracy [%]; the best first",
        "  2   prenorm 2: 95.00 · rk2 1: 85.00",
    ]
    reported(".", "--html", "page.html", cwd=tmp_path)
    formats = {name: reported(".", "--format", name, cwd=tmp_path).stdout for name in ("md", "html", "latex")}
    for page in (tmp_path / "page.html").read_text(), formats["html"]:
        assert page.count("<dt>1,000</dt><dd>rk2 1: 85.00<br>prenorm 1: 80.00</dd>") == 1
        assert page.count("<dt>2</dt><dd>prenorm 2: 95.00<br>rk2 1: 85.00</dd>") == 1
    assert (
        "\n\nat equal evaluations (nfe_forward): model.block, model.depth, test/accuracy [%]; the best first\n"
        in (formats["md"])
    )
    assert "\n- 1,000: rk2 1: 85.00 · prenorm 1: 80.00\n" in formats["md"]
    assert "%   1,000   rk2 1: 85.00 · prenorm 1: 80.00\n" in formats["latex"]
    assert "at equal" not in reported(".", "--where", "model.block=prenorm", cwd=tmp_path).stdout


def test_rows_alike_in_size_and_in_work_are_in_both_lists_if_others_differ(tmp_path: Path) -> None:
    """Sizes within 1 % are alike in both lists."""
    sizes = {"a": (1000, 1.0), "b": (1001, 1.0), "c": (1000, 2.0)}
    for block, (parameters, evaluations) in sizes.items():
        cost = {"parameters": parameters, "nfe_forward": evaluations, "nfe_backward": 0.0}
        metrics = {"test/accuracy": parameters / 2000 + evaluations / 100}
        write_run(tmp_path, block, solver="-", options={"model": {"block": block}}, cost=cost, metrics=metrics)
    assert "at equal" not in reported(".", cwd=tmp_path).stdout, "rows of equal work are of equal size, too"
    write_run(
        tmp_path, "d", solver="-", options={"model": {"block": "d"}}, metrics={"test/accuracy": 0.9},
        cost={"parameters": 2000, "nfe_forward": 2.0, "nfe_backward": 0.0},
    )  # fmt: skip
    said = reported(".", cwd=tmp_path).stdout
    assert "  1   b: 51.05 · a: 51.00\n  2   d: 90.00 · c: 52.00\n" in said


def test_rows_of_equal_size_are_told_by_a_result_in_which_rows_differ(tmp_path: Path) -> None:
    for block, evaluations, accuracy in (("prenorm", 1.0, 0.4), ("rk2", 2.0, 0.3), ("parallel", 2.0, 0.5)):
        cost = {"parameters": 1000 if block == "rk2" else 2000, "nfe_forward": evaluations, "nfe_backward": 0.0}
        metrics = {"test/sequence_accuracy": 0.0, "test/accuracy": accuracy, "eval/sequence_accuracy": 0.0}
        write_run(tmp_path, block, solver="-", options={"model": {"block": block}}, cost=cost, metrics=metrics)
    said = reported(".", cwd=tmp_path).stdout
    assert "at equal evaluations (nfe_forward): model.block, test/accuracy [%]; the best first" in said
    assert "2   parallel: 50.00 · rk2: 30.00" in said


def test_evaluations_without_a_solver_are_shown_and_parameters_where_they_differ(tmp_path: Path) -> None:
    sweep = tmp_path / "outputs"
    for depth, evaluations in ((1, 2.0), (2, 4.0)):
        cost = {"parameters": 100 * depth, "nfe_forward": evaluations, "nfe_backward": 0.0}
        write_run(
            sweep, f"d{depth}", model="ode_transformer", solver="-", options={"model": {"depth": depth}}, cost=cost
        )
    rows = cells(cwd=tmp_path)
    assert [(row["cost/parameters"], row["cost/nfe_forward"]) for row in rows] == [("100", "2.0"), ("200", "4.0")]
    write_run(sweep, "alike", model="ode_transformer", solver="-", seed=1, cost={"parameters": 100, "nfe_forward": 2.0})
    alike = cells("--where", "model.depth=1", cwd=tmp_path)
    assert "cost/parameters" not in alike[0]


@pytest.mark.slow
def test_a_thousand_records_take_ten_times_what_parsing_them_takes(tmp_path: Path) -> None:
    """Half a second where parsing takes a twentieth; a processor that others use is up to twice as slow for both."""
    for i in range(1000):
        write_run(tmp_path, f"{i:04}", seed=i % 5, options={"optimizer": {"lr": i // 5 + 1}})

    def seconds(command: Sequence[str]) -> float:
        """Of the processor, for others may be busy."""
        begun = os.times()
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        ended = os.times()
        return ended.children_user + ended.children_system - begun.children_user - begun.children_system

    parse = "import json, pathlib\nfor path in pathlib.Path().glob('*/record.json'): json.loads(path.read_bytes())"
    times = [(seconds(program(".")), seconds([sys.executable, "-c", parse])) for _ in range(5)]
    read, parsed = (sum(column) for column in zip(*times, strict=True))
    assert read < 10 * parsed


def swept(root: Path, solver: str, errors: dict[int, dict[str, float]]) -> None:
    for steps, metrics in errors.items():
        options = {"solver": {"num_steps": steps}, "trainer": {"precision": "fp64"}}
        write_run(root, f"{solver}{steps}", solver=solver, options=options, metrics=metrics)


def test_an_order_is_the_slope_over_a_sweep_of_steps_and_says_over_which(tmp_path: Path) -> None:
    swept(tmp_path, "euler", {n: {"test/rmse": 0.3 / n} for n in (4, 8, 16)})
    swept(tmp_path, "rk4", {n: {"test/rmse": max(2.0 * n**-4.0, 1e-13)} for n in (4, 8, 16, 2000)})
    write_run(tmp_path, "alone", solver="dopri5", metrics={"test/rmse": 1e-4})
    for size in (0.5, 0.25):  # over a span of 100, so that 200 and 400 steps are not the inverse sizes
        options = {"solver": {"num_steps": None, "step_size": size}, "trainer": {"precision": "fp64"}}
        write_run(tmp_path, f"h{size}", solver="euler", options=options, metrics={"test/rmse": 0.3 / (100 / size)})
    lines = reported(str(tmp_path), cwd=tmp_path).stdout.splitlines()
    assert "order (rmse)" in lines[1]
    euler = [line for line in lines if "euler" in line]
    assert (sum("1.00 (4 to 16)" in line for line in euler), sum("1.00 (2 to 4)" in line for line in euler)) == (3, 2)
    assert [line.count("4.00 (4 to 16)") for line in lines if "rk4" in line] == [1] * 4  # at 2000 rounding is left
    [alone] = [line for line in lines if line.startswith("dopri5")]
    assert "-" in alone.split()
    assert any("order: how fast test/rmse falls with the step" in line for line in lines)
    typed_out = reported(str(tmp_path), "--metrics", "order", "--format", "csv", cwd=tmp_path).stdout
    rows = [row for row in csv.DictReader(io.StringIO(typed_out)) if row["solver"] == "euler"]
    assert float(rows[0]["test/rmse/order"]) == pytest.approx(1)


def test_errors_that_sampling_makes_are_not_fitted(tmp_path: Path) -> None:
    """Those near their floor; and of two errors each has its order."""
    errors = {n: {"test/tv": max(0.3 / n, 0.01), "test/tv_floor": 0.01, "test/rmse": 0.1 / n**2} for n in (4, 8, 64)}
    swept(tmp_path, "euler", errors)
    out = reported(str(tmp_path), "--metrics", "tv,test/tv/order,test/rmse/order", cwd=tmp_path).stdout
    assert "1.00 (4 to 8)" in out
    assert "2.00 (4 to 64)" in out
    refused = reported(str(tmp_path), "--metrics", "order", cwd=tmp_path)
    assert "'order' may mean" in refused.stderr


@pytest.mark.parametrize(
    ("errors", "scale", "fitted"),
    [
        ({1: 1e19, 2: 1e24, 4: 1e14, 8: 0.1, 16: 0.05}, None, "1.00 (8 to 16)"),
        ({2: 3.0, 4: 1e6, 8: 0.1, 16: 0.05}, None, "1.00 (8 to 16)"),
        ({1: 1e19, 2: 1e24}, None, None),
        ({4: 1.7e-9, 8: 4e-10, 16: 2e-10}, 2e-9, "1.00 (8 to 16)"),
        ({4: 1.6e-12, 8: 1e-13, 16: 6.25e-15, 32: 6e-22}, 2e-9, "4.00 (4 to 16)"),
    ],
)
def test_errors_of_unstable_solves_are_not_fitted(
    tmp_path: Path, errors: dict[int, float], scale: float | None, fitted: str | None
) -> None:
    """Nor those of rounding, which is relative to the size of the solution."""
    size = {} if scale is None else {"test/rmse_scale": scale}
    swept(tmp_path, "euler", {n: {"test/rmse": error} | size for n, error in errors.items()})
    table = make_table(find_runs([tmp_path]).runs)
    assert "test/rmse_scale" not in {column.name for column in table.columns}
    orders = [row.orders.get("test/rmse/order") for row in table.rows]
    assert {None if one is None else f"{one.slope:.2f} ({one.over})" for one in orders} == {fitted}


def test_a_mean_that_leaves_out_seeds_without_a_finite_number_says_so(tmp_path: Path) -> None:
    for seed, far in enumerate([0.5, math.inf, 0.7]):
        metrics = {"test/rmse": 0.1, "test/rmse_beyond": far, "eval/rmse": 0.1}
        write_run(tmp_path / "outputs", f"run{seed}", seed=seed, metrics=metrics)
    ended = reported(cwd=tmp_path)
    said = "test/rmse_beyond of odenet euler backprop is over 2 of 3 runs: the others have no finite number."
    assert said in " ".join(ended.stdout.split())
    assert "test/rmse of" not in ended.stdout


def test_many_reasons_are_folded_in_a_page(tmp_path: Path) -> None:
    for i, name in enumerate("abcdefg"):
        write_run(tmp_path / "outputs", f"{i}", seed=i, status=RunStatus.INCOMPATIBLE, reason=f"for {name}", metrics={})
    text = reported("outputs", "--format", "html", cwd=tmp_path).stdout
    assert "<details><summary>7 runs are not in the table</summary>" in text
    assert "for g" in text
    assert "<details>" not in reported("outputs/0", "--format", "html", cwd=tmp_path).stdout


def test_as_many_columns_are_shown_as_the_window_has_room_for() -> None:
    columns: list[Any] = [SimpleNamespace(is_metric=name != "group") for name in ("group", "a", "b", "c")]
    wide = 4 * 4 + 3 * len(GAP)
    assert [_fitting(columns, [4] * 4, room) for room in (wide, wide - 1, wide - 6, wide - 7, 0)] == [4, 3, 3, 2, 2]


def test_sizes_of_memory_are_told_in_units_that_leave_three_digits() -> None:
    for size, told in (
        (999.0, "999 B"),
        (2.5e3, "2.50 kB"),
        (2.5e7, "25.0 MB"),
        (2.5e9, "2.50 GB"),
        (2.5e12, "2,500 GB"),
    ):
        style = Style.of("cost/saved_bytes", [size])
        assert f"{style.write(size)} {style.unit}" == told


def test_choices_that_are_no_axes_are_called_as_they_are_typed(tmp_path: Path) -> None:
    for name, target in (("one", "torch.optim.SGD"), ("other", "my_optimizers.Mine")):
        write_run(tmp_path, name, options={"optimizer": {"_target_": target}})
    table = reported(".", "--format", "csv", cwd=tmp_path).stdout
    assert {line.split(",")[0] for line in table.splitlines()} == {"optimizer", "sgd", "Mine"}
    assert "Mine" not in reported(".", "--where", "optimizer=sgd", cwd=tmp_path).stdout
