"""Runs whose training went up instead of down, or nowhere, say so at their end."""

import math
from pathlib import Path

import pytest

from ode_runner.training.divergence import divergence, standstill
from tests.helpers import TINY, typed


def rows(losses: list[float], judged: list[float]) -> list[dict[str, float]]:
    return [
        *({"epoch": epoch, "train/loss": loss} for epoch, loss in enumerate(losses, start=1)),
        *({"epoch": epoch, "eval/loss": value} for epoch, value in enumerate(judged, start=1)),
    ]


UP, DOWN, FLAT = [0.2, 0.3, 0.1, 500, 5, 50, 41, 41.5], [8.0, 7, 6, 5, 4, 3, 2, 1], [1.0, 1.05, 0.9, 1, 1, 1, 1.1, 1.1]


@pytest.mark.parametrize("losses", [UP, DOWN, FLAT])
@pytest.mark.parametrize("judged", [UP, DOWN, FLAT])
def test_diverged_is_what_rose_in_training_and_on_validation(losses: list[float], judged: list[float]) -> None:
    """Not a loss whose weights rise, nor validation alone, as by overfitting, nor noise."""
    said = divergence(rows(losses, judged), criterion=("loss", False), lr=0.02)
    assert bool(said) == (losses is UP and judged is UP)
    if said:
        assert "from 0.2 to 41.5, and 41.5 on validation is worse than after the first epoch (0.2)" in said
        assert "optimizer.lr below 0.02" in said
        assert "Begin elsewhere" in divergence(rows(losses, judged), criterion=("loss", False), lr=None)


def test_an_accuracy_that_fell_has_diverged() -> None:
    accuracies = [{"epoch": epoch, "eval/accuracy": 0.9 - value / 100} for epoch, value in enumerate(UP)]
    said = divergence([*rows(UP, []), *accuracies], criterion=("accuracy", True), lr=1.0)
    assert "48.50% on validation is worse than after the first epoch (89.80%)" in said


def test_a_few_epochs_say_nothing() -> None:
    assert not divergence(rows(UP, UP[-7:]), criterion=("loss", False), lr=0.02)


@pytest.mark.parametrize(
    ("losses", "judged", "stands"),
    [
        ([2.0, 2.1, 1.95], [2.0, 2.00001, 2.0], True),
        ([0.5, 0.0, 0.0], [0.0, 0.0, 0.0], False),  # all there was has been learned in the first epoch
        ([2.0, 2.1, 1.95], [2.0, 1.99, 1.98], False),
        ([2.0, 2.1], [2.0, 2.0], False),  # too few
        ([2.0, 2.1, 1.95], [math.nan, 2.0, 2.0], False),
    ],
)
def test_a_standstill_is_what_never_moved(losses: list[float], judged: list[float], stands: bool) -> None:
    assert bool(standstill(rows(losses, judged), lr=0.02)) is stands
    assert "optimizer.lr" not in standstill(rows(losses, judged), lr=None)


def test_a_run_that_stood_still_says_so(tmp_path: Path) -> None:
    run = typed("model=resnet", "optimizer.lr=1e-9", *TINY, "trainer.batch_size=60", "trainer.epochs=3", cwd=tmp_path)
    assert "training changed next to nothing: after each of 3 epochs the loss on validation is" in run.stdout
    assert "Try an optimizer.lr above 1e-09" in run.stdout


def test_a_run_that_diverged_says_so_and_what_to_type(tmp_path: Path) -> None:
    small = ("task.train=4", "task.validation=2", "task.test=2", "task.points=21", "network.width=4")
    fast = ("optimizer=sgd", "optimizer.lr=1", "schedule=constant", "trainer.epochs=12", "trainer.log_every=1")
    run = typed("task=lotka_volterra", "model=resnet", *small, *fast, cwd=tmp_path)
    assert "training diverged: its loss went from 2.1 to" in run.stdout
    assert "optimizer.lr below 1, or trainer.max_grad_norm=1" in run.stdout
