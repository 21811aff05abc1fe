"""`trainer.ema`: a run is judged by a moving average of its weights."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.building.run_identity import identify
from ode_runner.experiment.signals import StopRequest
from ode_runner.models.base import Model
from ode_runner.training.averaging import WeightAverage, introduce_average
from ode_runner.training.trainer import Trainer
from tests.conftest import Compose
from tests.helpers import TINY, record_of, rows_of, run_folder, typed

SMALL = (*TINY, "trainer.epochs=3", "trainer.log_every=1", "logger=none", "solver=rk4", "solver.num_steps=2")
AVERAGED = (*SMALL, "trainer.ema=0.7")


class Counting(nn.Module):
    """A weight, a running mean, and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def test_the_average_is_the_sum_that_it_stands_for() -> None:
    model: Any = Counting()
    average, decay, history = WeightAverage(model, decay=0.6), 0.6, torch.randn(5, 2, dtype=torch.float64)
    for i, weights in enumerate(history):
        with torch.no_grad():
            model.weight.copy_(weights)
            model.mean.copy_(2 * weights)
            model.count.fill_(10 * i)
        average.update(model)
    factors = [decay**4, *((1 - decay) * decay ** (4 - i) for i in range(1, 5))]
    expected = sum(factor * weights for factor, weights in zip(factors, history, strict=True))
    averaged: Any = average.model
    assert averaged.weight.tolist() == pytest.approx(expected.tolist(), rel=1e-14)
    assert averaged.mean.tolist() == pytest.approx((2 * expected).tolist(), rel=1e-14)
    assert averaged.count.item() == 40, "counts are not averaged"
    assert model.weight.equal(history[-1]), "training goes on from its own weights"


@pytest.fixture
def trainer(composed: Compose) -> Callable[..., Trainer]:
    def make(*overrides: str) -> Trainer:
        cfg = composed(*overrides)
        made = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
        assert made is not None
        return made

    return make


def test_validation_best_weights_test_and_evaluate_are_of_the_average(trainer: Any, tmp_path: Path) -> None:
    ended = typed(*AVERAGED, cwd=tmp_path)
    assert "judged by a moving average of the weights over about 3 steps (trainer.ema=0.7)\n" in ended.stdout
    made, folder, record = trainer(*AVERAGED), run_folder(tmp_path), record_of(tmp_path)
    reached, weights = [], []
    for epoch in range(3):
        for batch in made.task.batches(Split.TRAIN, batch_size=20, epoch=epoch):
            made.train_step(batch, measure_memory=False)
        reached.append(made.evaluated_experiment.evaluate(Split.VALIDATION, StopRequest())["loss"])
        assert made.experiment.evaluate(Split.VALIDATION, StopRequest())["loss"] != reached[-1]
        weights.append(copy.deepcopy(made.evaluated_experiment.model.state_dict()))
    assert [row["eval/loss"] for row in rows_of(folder) if "eval/loss" in row] == pytest.approx(reached, rel=1e-6)
    best = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)["state"]["model"]
    for name, averaged in weights[record["cost"]["best_epoch"] - 1].items():
        torch.testing.assert_close(best[name], averaged)
    made.evaluated_experiment.model.load_state_dict(best)
    assert record["metrics"]["test/loss"] == pytest.approx(
        made.evaluated_experiment.evaluate(Split.TEST, StopRequest())["loss"], rel=1e-6
    )
    asked = typed(f"evaluate={folder}", cwd=tmp_path)
    assert asked.returncode == 0
    evaluation = next(folder.glob("evaluations/*/evaluation.json")).read_text()
    assert str(record["metrics"]["test/loss"]) in evaluation


def test_without_it_nothing_is_kept_and_nothing_changes(trainer: Any, composed: Compose) -> None:
    made = trainer(*SMALL)
    assert made.evaluated_experiment.model is made.experiment.model
    assert "average" not in made.state_dict(0)
    assert "average" in trainer(*AVERAGED).state_dict(0)
    prints = {}
    for word in ("seed=0", "trainer.ema=null", "trainer.ema=0.7", "trainer.animate=true"):
        cfg = composed(*SMALL, word)
        prints[word] = identify(cfg, cfg.hydra.runtime.choices).fingerprint
    assert prints["seed=0"] == prints["trainer.ema=null"] == prints["trainer.animate=true"] != prints["trainer.ema=0.7"]


def test_an_average_that_cannot_forget_its_beginning_is_told_of(tmp_path: Path) -> None:
    ended = typed(*SMALL, "trainer.ema=0.1", "trainer.max_steps=2", cwd=tmp_path)
    assert "over about 1 step (trainer.ema=0.1)" in ended.stdout
    assert "after 2 steps the weights of the first still count for 10%" in ended.stdout


def test_what_the_first_weights_count_for_is_the_averages_own_number() -> None:
    model = nn.Linear(1, 1, bias=False)
    average, states = WeightAverage(cast(Model, model), decay=0.8), [1.0, 0.0, 0.0, 0.0]
    for state in states:
        nn.init.constant_(model.weight, state)
        average.update(cast(Model, model))
    display = Mock()
    introduce_average(0.8, steps=len(states), display=display)
    assert average.averaged.module.weight.item() == pytest.approx(0.8**3)
    assert f"count for {0.8**3:.0%}" in display.say.call_args.args[0]
