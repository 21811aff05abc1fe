"""Runs of flows of finitely many layers, as they are typed."""

from pathlib import Path

import pytest

from tests.helpers import record_of, run_folders, typed
from tests.resuming import check_resumed_exactly

BRIEF = ("trainer.max_steps=2", "trainer.batch_size=20", "logger=none", "task.validation=20", "task.test=40")
PLANE = ("task=density2d", "task.train=40", "task.grid=60", "task.conditional=true")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("autoregressive_flow", "spline_flow")]


@pytest.mark.parametrize("name", ["coupling_flow", "residual_flow", "glow", *SLOW])
def test_a_run_of_two_steps_reports_a_density_and_uses_no_solver(name: str, tmp_path: Path) -> None:
    task = ("task=digits_density",) if name == "glow" else PLANE
    ended = typed(*BRIEF, *task, f"model={name}", "network.width=3", "solver=rk4", "gradient=adjoint", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"model={name} uses neither network nor solver nor gradient" in ended.stdout
    record = record_of(tmp_path)
    assert [record["choices"][axis] for axis in ("network", "solver", "gradient")] == ["-"] * 3
    metrics = record["metrics"]
    assert metrics["test/nll"] == pytest.approx(metrics["test/nll_fine"], rel=1e-4)
    assert metrics["nfe/eval"] == 0
    assert name == "glow" or metrics["test/mass"] == pytest.approx(1, abs=0.05)
    assert metrics["test/sw2"] > 0


def test_a_task_of_classes_is_refused(tmp_path: Path) -> None:
    ended = typed("task=half_moons", "model=coupling_flow", cwd=tmp_path)
    assert ended.returncode == 2
    assert "model=coupling_flow gives a log density and samples only" in ended.stderr
    assert run_folders(tmp_path) == []


@pytest.mark.parametrize("name", ["glow", pytest.param("residual_flow", marks=pytest.mark.slow)])
def test_a_run_that_is_resumed_has_the_first_data_s_normalisation_and_the_same_draws(name: str, tmp_path: Path) -> None:
    task = ("task=digits_density", "task.passes=1", "model.levels=1", "model.steps=1", "model.width=4")
    command = (*BRIEF[1:], f"model={name}", *(task if name == "glow" else PLANE), "trainer.max_steps=6")
    check_resumed_exactly(command, tmp_path, step=3)
