"""A run that differs from a completed one in its test alone takes that one's weights, and trains nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.batch import Split
from ode_runner.build import build_experiment
from ode_runner.building.members import members
from ode_runner.building.run_identity import identify
from ode_runner.training.reused_weights import UNTRAINED
from tests.conftest import Compose
from tests.helpers import Ended, record_of, rows_of, run_folders, typed

SMALL = (
    "task.train=4",
    "task.validation=2",
    "task.test=2",
    "task.points=12",
    "task.window=5",
    "network.width=4",
    "logger=none",
)
QUICK = ("task=lotka_volterra", "trainer=quick", "trainer.max_steps=3", "trainer.batch_size=8", *SMALL)
CHANGED: dict[str, Any] = {
    "test_std": 0.3,
    "test": 3,
    "foresight": 4,
    "y0": [0.9, 0.8],
    "classifier_seed": 3,
    "samples": 60,
    "ahead": 1.0,
    "grid": 20,
    "periods": 3,
}  # of every task that declares them


def ran(*words: str, cwd: Path) -> Ended:
    ended = typed(*QUICK, *words, cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def best(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "best.pt", weights_only=True)["state"]["model"]


def trains(ended: Ended) -> bool:
    return "nothing is trained" not in ended.stdout


def test_what_decides_the_test_alone_is_tested_anew_with_the_weights_of_before(tmp_path: Path) -> None:
    assert trains(ran(cwd=tmp_path))
    [first] = run_folders(tmp_path)
    ended = ran("task.foresight=2", cwd=tmp_path)
    assert f"the weights are those of {first.relative_to(tmp_path)}" in ended.stdout
    [second] = set(run_folders(tmp_path)) - {first}
    theirs, ours = best(first), best(second)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert rows_of(second) == rows_of(first), "the curves are those of the training"
    assert "already completed" in ran("task.foresight=2", cwd=tmp_path).stdout
    anew = ran("task.foresight=2", "rerun=all", cwd=tmp_path)
    assert trains(anew)
    ours = best(second)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs), "as if it had trained"
    assert typed(f"evaluate={second.relative_to(tmp_path)}", cwd=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("words", [("seed=1", "task.foresight=2"), ("task.noise=0.1",), ("solver=rk4", "task.test=5")])
def test_what_trains_otherwise_trains(words: tuple[str, ...], tmp_path: Path) -> None:
    ran(cwd=tmp_path)
    assert trains(ran(*words, cwd=tmp_path))


@pytest.mark.slow
def test_weights_that_are_damaged_are_not_taken(tmp_path: Path) -> None:
    ran(cwd=tmp_path)
    [first] = run_folders(tmp_path)
    (first / "checkpoints" / "best.pt").write_bytes(b"torn")
    ended = ran("task.test=5", cwd=tmp_path)
    assert "best.pt is damaged" in ended.stdout
    assert "its weights are not taken" in ended.stdout
    assert trains(ended)


@pytest.mark.slow
def test_cells_of_a_sweep_share_their_training(tmp_path: Path) -> None:
    ended = typed("-m", *QUICK, "task.foresight=1,2,3", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("nothing is trained") == 1, "it is said once of both"
    assert " holds for 1 more" in ended.stdout
    [trained] = [folder for folder in run_folders(tmp_path) if UNTRAINED not in record_of(folder)["reason"]]
    assert f"the weights are those of {trained.relative_to(tmp_path)}," in ended.stdout, "the one that trained"


OF_FILES = {"mnist_generation"}  # as digits_generation, but for the files that it needs
DECLARED = [
    (name, option)
    for name, task in members("task").items()
    for option in sorted(task.test_only)
    if name not in OF_FILES
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("name", "option"), DECLARED)
def test_what_a_task_declares_to_be_of_its_test_alone_changes_no_batch_and_no_weight(
    name: str, option: str, composed: Compose
) -> None:
    cfg = composed(f"task={name}")
    changed = cfg.copy()
    changed.task[option] = CHANGED[option] if option != "y0" else [0.9 * float(part) for part in cfg.task.y0]
    records = [identify(one, one.hydra.runtime.choices) for one in (cfg, changed)]
    assert records[0].training == records[1].training
    assert records[0].fingerprint != records[1].fingerprint
    ours, theirs = (build_experiment(one, one.hydra.runtime.choices) for one in (cfg, changed))
    for split in (Split.TRAIN, Split.VALIDATION):
        for a, b in zip(
            ours.task.batches(split, batch_size=500, epoch=0),
            theirs.task.batches(split, batch_size=500, epoch=0),
            strict=True,
        ):
            assert torch.equal(a.inputs, b.inputs)
            assert torch.equal(a.targets, b.targets)
            assert torch.equal(a.ts, b.ts)
    for mine, yours in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_where_nothing_is_declared_the_two_fingerprints_are_one(composed: Compose) -> None:
    cfg = composed("task=half_moons")
    record = identify(cfg, cfg.hydra.runtime.choices)
    assert record.training == record.fingerprint
