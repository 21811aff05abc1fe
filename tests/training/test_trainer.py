"""Training: it learns, it stays within its budgets, and its numbers add up."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.experiment.signals import StopRequest
from ode_runner.fields.ledger import Phase
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.tasks.classification import Classification
from ode_runner.training.best_weights import NONE, best_of_checkpoint, better
from ode_runner.training.prepare_compiled import Compiled
from ode_runner.training.resume import _without_best
from ode_runner.training.trainer import Trainer
from tests.conftest import Compose
from tests.helpers import TINY, record_of, rows_of, run_folder, typed

EVERY_STEP = (*TINY, "trainer.epochs=3", "trainer.log_every=1", "logger=none")
RUNS = {
    "fixed": ("solver=rk4", "solver.num_steps=3"),
    "adaptive": ("solver=dopri5", "solver.rtol=1e-5", "solver.atol=1e-5"),
    "adjoint": ("solver=bosh3", "gradient=adjoint"),
    "resnet": ("model=resnet",),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where each of RUNS was typed; made when first asked for."""

    class Made(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            self[name] = tmp_path_factory.mktemp(name)
            assert typed(*EVERY_STEP, *RUNS[name], cwd=self[name]).returncode == 0
            return self[name]

    return Made()


def steps_of(root: Path) -> list[dict[str, float]]:
    return [row for row in rows_of(run_folder(root)) if "train/loss" in row]


def epochs_of(root: Path) -> list[dict[str, float]]:
    return [row for row in rows_of(run_folder(root)) if "eval/loss" in row]


@pytest.fixture
def trainer(composed: Compose) -> Any:
    """Makes a trainer from overrides."""

    def make(*overrides: str) -> Trainer:
        cfg = composed("trainer.device=cpu", *TINY, *overrides)
        return build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))

    return make


def a_batch(trainer: Trainer) -> Any:
    return next(trainer.task.batches(Split.TRAIN, batch_size=20, epoch=0))


@pytest.mark.parametrize("model", ["resnet", "rknet", "odenet", "augmented"])
def test_the_loss_falls(model: str, trainer: Any) -> None:
    made = trainer(f"model={model}", "network.width=16", "optimizer.lr=0.02")
    batch = a_batch(made)
    losses = [made.train_step(batch, measure_memory=False)["train/loss"] for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_gradient_is_clipped_to_the_norm_asked_for(trainer: Any) -> None:
    made = trainer("trainer.max_grad_norm=1e-3", "optimizer=sgd", "optimizer.lr=1", "optimizer.momentum=0")
    before = torch.nn.utils.parameters_to_vector(made.model.parameters()).clone()
    scalars = made.train_step(a_batch(made), measure_memory=False)
    moved = torch.nn.utils.parameters_to_vector(made.model.parameters()) - before
    assert scalars["optim/grad_norm"] > 1e-2, "as it was before it was clipped"
    assert "memory/saved_bytes" not in scalars, "measured where it is logged alone"
    assert float(moved.detach().norm()) == pytest.approx(1e-3, rel=1e-3)


def test_what_one_stage_has_recorded_is_gone_when_the_next_begins(trainer: Any, monkeypatch: Any) -> None:
    """Both would have to fit into the memory of a GPU."""
    made, kept = trainer(), list[Compiled]()
    made.compiled = Compiled(1.0)
    monkeypatch.setattr(made.stages, "begin", lambda *_: kept.append(made.compiled))
    made._begin_stage(SimpleNamespace(display=SimpleNamespace(say=print), save=lambda _: None))
    assert kept == [Compiled()]


def test_evaluation_does_not_leak_into_training_counts(trainer: Any) -> None:
    made = trainer()
    made.train_step(a_batch(made), measure_memory=False)
    ledger = made.integrator.ledger
    before = ledger.state_dict()
    made.experiment.evaluate(Split.VALIDATION, StopRequest())
    after = ledger.state_dict()
    assert after["evaluation"]["evaluations"] > before["evaluation"]["evaluations"] == 0
    assert {phase: after[phase] for phase in ("forward", "backward", "diagnostics")} == {
        phase: before[phase] for phase in ("forward", "backward", "diagnostics")
    }


def test_evaluation_changes_neither_weights_nor_random_numbers(trainer: Any) -> None:
    made = trainer()
    weights = {name: value.clone() for name, value in made.model.state_dict().items()}
    random = torch.get_rng_state()
    made.experiment.evaluate(Split.VALIDATION, StopRequest())
    assert all(torch.equal(value, weights[name]) for name, value in made.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_samples_per_second_are_of_the_samples_that_steps_had(tmp_path: Path) -> None:
    few = ("trainer.batch_size=25", "trainer.epochs=2", "trainer.log_every=1", "logger=none", "solver=rk4")
    assert typed(*TINY, *few, cwd=tmp_path).returncode == 0
    counts = [row["time/samples_per_second"] * row["time/step_seconds"] for row in steps_of(tmp_path)]
    assert counts == pytest.approx([25, 25, 10] * 2), "60 samples"


@pytest.mark.parametrize("name", RUNS)
def test_the_ledger_is_the_sum_of_its_steps(name: str, run: dict[str, Path]) -> None:
    steps, cost = steps_of(run[name]), record_of(run[name])["cost"]
    assert cost["steps"] == len(steps) == 9
    for phase in (Phase.FORWARD, Phase.BACKWARD):
        total = sum(row[f"nfe/{phase}"] for row in steps)
        assert cost["ledger"][phase]["evaluations"] == total
        assert cost[f"nfe_{phase}"] == pytest.approx(total / len(steps))
    for kind in ("accepted", "rejected"):
        assert cost["ledger"]["forward"][kind] == sum(row[f"solver/{kind}"] for row in steps)
    assert cost["saved_bytes"] == pytest.approx(sum(row["memory/saved_bytes"] for row in steps) / len(steps))


def test_a_fixed_step_method_costs_stages_times_steps(run: dict[str, Path]) -> None:
    for row in steps_of(run["fixed"]):
        assert (row["nfe/forward"], row["nfe/backward"]) == (4 * 3, 0)
        assert (row["solver/accepted"], row["solver/rejected"]) == (3, 0)
    cost = record_of(run["fixed"])["cost"]
    assert cost["ledger"]["evaluation"]["evaluations"] == 12 * (3 + 1), "three validations and the test, a batch each"


def test_an_adaptive_method_costs_what_its_steps_cost(run: dict[str, Path]) -> None:
    for row in steps_of(run["adaptive"]):
        assert row["nfe/forward"] == 2 + 6 * (row["solver/accepted"] + row["solver/rejected"])
        assert row["nfe/backward"] == 0


def test_the_adjoint_is_charged_to_the_way_back(run: dict[str, Path]) -> None:
    assert all(row["nfe/backward"] > 0 for row in steps_of(run["adjoint"]))
    saved = [record_of(run[name])["cost"]["saved_bytes"] for name in ("adjoint", "adaptive")]
    assert saved[0] < saved[1]


def test_a_network_without_ode_evaluates_no_field(run: dict[str, Path]) -> None:
    cost = record_of(run["resnet"])["cost"]
    assert all(tally["evaluations"] == 0 for tally in cost["ledger"].values())
    assert all(row["memory/saved_bytes"] > 0 for row in steps_of(run["resnet"]))


def test_epochs_and_steps_agree(run: dict[str, Path]) -> None:
    assert [row["epoch"] for row in steps_of(run["fixed"])] == pytest.approx([step / 3 for step in range(1, 10)])
    assert [row["epoch"] for row in epochs_of(run["fixed"])] == [1, 2, 3]


@pytest.mark.parametrize("name", RUNS)
def test_the_best_weights_are_chosen_on_validation_and_judged_on_test(
    name: str, run: dict[str, Path], trainer: Any
) -> None:
    record, reached = record_of(run[name]), [(row["eval/accuracy"], -row["eval/loss"]) for row in epochs_of(run[name])]
    assert record["cost"]["best_epoch"] == reached.index(max(reached)) + 1
    assert record["metrics"]["eval/accuracy"] == max(reached)[0]
    made = trainer(*RUNS[name])
    best = torch.load(run_folder(run[name]) / "checkpoints" / "best.pt", weights_only=True)
    made.model.load_state_dict(best["state"]["model"])
    judged = made.experiment.evaluate(Split.TEST, StopRequest())
    assert judged["loss"] == pytest.approx(record["metrics"]["test/loss"], rel=1e-5)
    assert judged["accuracy"] == pytest.approx(record["metrics"]["test/accuracy"])


def test_of_equal_accuracies_the_least_loss_is_best_and_patience_counts_from_the_first(trainer: Any) -> None:
    made, best = trainer(), NONE
    kept = []
    for epoch, (accuracy, loss) in enumerate([(0.5, 0.9), (1.0, 0.6), (1.0, 0.7), (1.0, 0.1), (0.9, 0.0)], start=1):
        results = {"accuracy": accuracy, "loss": loss}
        best = better(best, results, made.experiment, made.optimizer, StopRequest(), epoch=epoch) or best
        kept.append((best["epoch"], best["improved"]))
    assert kept == [(1, 1), (2, 2), (2, 2), (4, 2), (4, 2)]
    older = best_of_checkpoint({"objective": 1.0, "epoch": 2})
    same = better(older, {"accuracy": 1.0, "loss": 0.0}, made.experiment, made.optimizer, StopRequest(), epoch=3)
    assert (same, older["improved"]) == (None, 2)


def test_the_test_split_is_touched_once_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Split] = []
    batches = Classification.batches

    def noted(self: Classification, split: Split, **options: Any) -> Any:
        asked.append(split)
        return batches(self, split, **options)

    monkeypatch.setattr(Classification, "batches", noted)
    typed(*EVERY_STEP, cwd=tmp_path)
    first = asked.index(Split.TEST)
    assert asked[:first].count(Split.VALIDATION) in (3, 4), "once an epoch, and once for its times"
    assert Split.TRAIN not in asked[first:], "what is drawn and said in the end is of the other splits"


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        ("max_steps=4", 4),
        pytest.param("max_steps=3", 3, marks=pytest.mark.slow),
        ("max_seconds=0.001", 1),
        ("max_nfe=30", 3),
    ],
)
def test_a_budget_ends_the_run_cleanly(budget: str, steps: int, tmp_path: Path) -> None:
    ended = typed(*EVERY_STEP, "solver=euler", "solver.num_steps=10", f"trainer.{budget}", cwd=tmp_path)
    record = record_of(tmp_path)
    assert (ended.returncode, record["status"]) == (0, "completed")
    assert record["cost"]["steps"] == steps
    assert record["reason"] == f"ended by trainer.{budget} at step {steps}"
    assert record["reason"] in ended.stdout
    assert {"test/accuracy", "test/loss"} <= record["metrics"].keys()
    assert epochs_of(tmp_path)[-1]["step"] == steps, "the last, broken epoch is evaluated too"


def test_a_budget_larger_than_the_run_changes_nothing(tmp_path: Path) -> None:
    typed(*EVERY_STEP, "trainer.max_steps=1000", "trainer.max_seconds=1e6", cwd=tmp_path)
    record = record_of(tmp_path)
    assert (record["cost"]["steps"], record["reason"]) == (9, "")


def test_a_schedule_of_steps_moves_at_its_epochs(tmp_path: Path) -> None:
    typed(*EVERY_STEP, "schedule=steps", "schedule.milestones=[1,2]", "optimizer.lr=0.1", cwd=tmp_path)
    rates = [row["optim/lr"] for row in steps_of(tmp_path)]
    assert rates == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001] * 3)


def test_logging_less_often_loses_no_step(tmp_path: Path, run: dict[str, Path]) -> None:
    """Values are means since the last logged step, so that rare logging does not mean a noisy curve."""
    typed(*EVERY_STEP, *RUNS["fixed"], "trainer.log_every=2", cwd=tmp_path)
    every = [row["train/loss"] for row in steps_of(run["fixed"])]
    some = {int(row["step"]): row["train/loss"] for row in steps_of(tmp_path)}
    assert some.keys() == {1, 2, 3, 4, 6, 8, 9}, "the first, every second, and what an epoch leaves over"
    assert some[4] == every[3]
    assert some[6] == pytest.approx(math.fsum(every[4:6]) / 2)


def test_before_its_first_epoch_has_ended_a_run_has_no_weights_to_lose(trainer: Any, tmp_path: Path) -> None:
    made, checkpoints = trainer(), Checkpoints(tmp_path, fingerprint="", seed=0)
    assert (_without_best(made, checkpoints, Display()), made.best["epoch"]) == ("", 0)
    made.best = {"objective": 0.5, "chosen_by": 0.5, "epoch": 1}
    assert _without_best(made, checkpoints, Display()).startswith("best weights chosen from step 0 on")
    assert made.best["epoch"] == 0


def test_seeds_differ_and_repeat(trainer: Any) -> None:
    first, again, other = (trainer(f"seed={seed}") for seed in (0, 0, 1))
    losses = [made.train_step(a_batch(made), measure_memory=False)["train/loss"] for made in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]
