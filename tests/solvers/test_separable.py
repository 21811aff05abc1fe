"""Separable fields and the solvers for them, as typed."""

import math
from pathlib import Path

import pytest

from tests.helpers import TINY, record_of, run_folders, typed

SMALL = (*TINY, "trainer=quick", "trainer.max_steps=2", "logger=none", "task.test=2", "task.foresight=1")


@pytest.mark.parametrize("solver", ["leapfrog", pytest.param("yoshida4", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "gradient", ["reversible", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("backprop", "checkpoint"))]
)
def test_a_learned_pendulum_is_trained(tmp_path: Path, solver: str, gradient: str) -> None:
    words = ("task=pendulum", "network=separable", f"solver={solver}", f"gradient={gradient}")
    run = typed(*words, *SMALL, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    record = record_of(tmp_path)
    assert math.isfinite(record["metrics"]["test/field_error"])
    assert record["cost"]["nfe_forward"] % 1 == 0.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("task=pendulum", "solver=leapfrog"), "network=mlp is none. Use network=separable, or solver=rk4."),
        (("task=lotka_volterra", "model=exact", "solver=yoshida4"), "task=lotka_volterra is none. Use task=pendulum"),
        (("task=pendulum", "network=separable", "model=augmented", "model.extra=1"), "one of 3 numbers has none"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    run = typed(*words, *SMALL, cwd=tmp_path)
    assert run.returncode == 2
    assert sentence in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.slow
def test_a_sweep_records_what_does_not_go_together_and_goes_on(tmp_path: Path) -> None:
    words = ("-m", "task=pendulum", "solver=leapfrog", "network=mlp,separable", "model=odenet,resnet")
    assert typed(*words, *SMALL, cwd=tmp_path).returncode == 0
    statuses = sorted(record_of(folder)["status"] for folder in run_folders(tmp_path))
    assert statuses == ["completed"] * 3 + ["incompatible"]  # a ResNet has no use for a solver, and so no objection
