"""`trainer.audit_every`: training is looked at, and goes on as if it were not."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.errors import IncompatibleChoice
from ode_runner.solvers.base import Solver
from ode_runner.training.trainer import Trainer
from tests.conftest import Compose
from tests.helpers import TINY, before_step, record_of, rows_of, run_folder, typed
from tests.resuming import assert_equal, outcome

RUN = (*TINY, "trainer.epochs=4", "trainer.log_every=2", "trainer.save_every_seconds=0", "logger=none")
ADJOINT = (*RUN, "gradient=adjoint", "solver=euler", "solver.num_steps=2")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of twelve steps that looks at every fifth was typed."""
    root = tmp_path_factory.mktemp("watched")
    assert typed(*ADJOINT, "trainer.audit_every=5", cwd=root).returncode == 0
    return root


def test_what_is_seen_is_logged_at_the_next_logged_step(watched: Path) -> None:
    seen = {int(row["step"]): row for row in rows_of(run_folder(watched)) if "audit/cosine" in row}
    assert list(seen) == [6, 10], "the sixth ends an epoch"
    for row in seen.values():
        assert 1e-4 < row["audit/relative_error"] < 1, "two Euler steps back do not undo two forth"
        assert 1 - row["audit/cosine"] <= row["audit/relative_error"] ** 2


def test_training_is_the_same_whether_it_is_looked_at_or_not(watched: Path, tmp_path: Path) -> None:
    assert typed(*ADJOINT, cwd=tmp_path).returncode == 0
    assert run_folder(tmp_path).name == run_folder(watched).name, "the same run: it computes the same"
    ours, theirs = outcome(watched), outcome(tmp_path)
    for result in (ours, theirs):
        result["cost"].pop("gradient_error", None)
        for means in (result["last"]["whole"], result["last"]["window"], result["last"]["latest"], *result["rows"]):
            for name in ("audit/cosine", "audit/relative_error"):
                means.pop(name, None)
    assert_equal(ours, theirs)
    ledger, without = (record_of(root)["cost"]["ledger"]["diagnostics"] for root in (watched, tmp_path))
    assert ledger["evaluations"] > without["evaluations"], "entered under diagnostics, and nowhere else"


def test_a_resumed_run_has_seen_the_same(watched: Path, tmp_path: Path) -> None:
    command = (*ADJOINT, "trainer.audit_every=5")
    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, 5, lambda: signal.raise_signal(signal.SIGTERM))
        assert typed(*command, cwd=tmp_path).returncode == 130
    assert "resuming at step 5 of 12" in typed(*command, cwd=tmp_path).stdout
    assert_equal(outcome(tmp_path), outcome(watched))
    assert record_of(tmp_path)["cost"]["ledger"] == record_of(watched)["cost"]["ledger"], "diagnostics included"


def test_random_numbers_in_training_are_neither_used_up_nor_repeated(composed: Compose) -> None:
    """A latent ODE draws its beginnings: the reference has to draw the same, and the next step others."""
    sizes = ("task.train=20", "task.validation=5", "task.test=5", "trainer.batch_size=10", "trainer.device=cpu")
    weights, seen = [], {}
    for every in ("null", "1"):
        cfg = composed("task=spiral_vae", "solver=euler", "solver.num_steps=1", *sizes, f"trainer.audit_every={every}")
        trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
        assert trainer is not None
        for batch in trainer.task.batches(Split.TRAIN, batch_size=10, epoch=0):
            seen = trainer.train_step(batch, measure_memory=False)
        weights.append(torch.nn.utils.parameters_to_vector(trainer.experiment.parameters()))
    assert torch.equal(*weights)
    assert seen["audit/relative_error"] < 1e-4  # rounding of fp32, through a recurrent network


def made(composed: Compose, *overrides: str) -> tuple[Trainer, Any]:
    cfg = composed("trainer.device=cpu", *TINY, "trainer.audit_every=1", *overrides)
    trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
    assert trainer is not None
    return trainer, next(trainer.task.batches(Split.TRAIN, batch_size=20, epoch=0))


def test_a_bad_gradient_is_said_once_with_a_way_out(composed: Compose) -> None:
    trainer, batch = made(composed, "gradient=adjoint", "solver=euler", "solver.num_steps=1")
    with torch.no_grad():
        for p in trainer.experiment.parameters():
            p *= 3  # so that one Euler step back is far from undoing one forth
    assert trainer.train_step(batch, measure_memory=False)["audit/relative_error"] > 0.1
    assert "the gradient is off by" in (said := trainer.gradient_monitor.warning())
    assert "at step 1. Try a tighter tolerance or finer steps, or gradient=backprop." in said
    trainer.train_step(batch, measure_memory=False)
    assert trainer.gradient_monitor.warning() == ""


def test_an_exact_gradient_is_no_cause_for_words(composed: Compose) -> None:
    trainer, batch = made(composed, "gradient=checkpoint")
    assert trainer.train_step(batch, measure_memory=False)["audit/relative_error"] < 1e-5  # rounding of fp32
    assert trainer.gradient_monitor.warning() == ""


def test_a_solver_that_leaves_no_graph_has_no_reference(composed: Compose) -> None:
    with pytest.raises(IncompatibleChoice, match=r"trainer\.audit_every compares with backpropagation.* is SciPy's"):
        made(composed, "solver=bdf", "gradient=adjoint")
    made(composed, "solver=bdf", "model=resnet")  # which does not use it


def test_without_a_reference_training_goes_on(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, batch = made(composed, "solver=euler")

    def fail(*positional: object, **named: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("ode_runner.analysis.gradient_monitor.of_the_solution", fail)
    assert "audit/cosine" not in trainer.train_step(batch, measure_memory=False)
    assert trainer.gradient_monitor.warning().startswith("trainer.audit_every: no reference at step 1. no room")


def test_the_solver_is_only_asked_when_due(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, batch = made(composed, "solver=euler", "trainer.audit_every=2")
    solves: list[type[Solver]] = []
    solve = type(trainer.integrator.gradient).solve
    monkeypatch.setattr("ode_runner.analysis.gradient_monitor.of_the_solution", lambda *_: pytest.fail("not due"))
    monkeypatch.setattr(
        type(trainer.integrator.gradient),
        "solve",
        lambda self, solver, *others: (solves.append(type(solver)), solve(self, solver, *others))[1],
    )
    trainer.train_step(batch, measure_memory=False)
    assert len(solves) == 1
