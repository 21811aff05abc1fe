"""`trainer.patience`: training ends once validation has not improved for so many epochs."""

import json
from pathlib import Path

import pytest

from ode_runner.training.patience import out_of_patience
from tests.helpers import TINY, check_refused, record_of, run_folder, typed
from tests.resuming import check_resumed

STILL = (  # nothing changes, so that the first epoch remains the best
    *TINY, "trainer.epochs=9", "trainer.log_every=1", "logger=none", "solver=rk4", "solver.num_steps=2",
    "optimizer.lr=1e-12", "trainer.patience=2",
)  # fmt: skip


def test_training_ends_after_so_many_epochs_without_a_better_one_and_the_record_says_so(tmp_path: Path) -> None:
    ended = typed(*STILL, cwd=tmp_path)
    record = record_of(tmp_path)
    said = "ended by trainer.patience=2 at step 9: no better accuracy since epoch 1"
    assert (record["status"], record["reason"]) == ("completed", said)
    assert (record["cost"]["steps"], record["cost"]["best_epoch"]) == (9, 1)
    assert said in ended.stdout


def test_epochs_are_counted_from_the_best_one() -> None:
    assert out_of_patience(None, "rmse", 1, epoch=100, step=1) == ""
    assert [bool(out_of_patience(3, "rmse", 2, epoch=epoch, step=1)) for epoch in (3, 4, 5, 6)] == [0, 0, 1, 1]
    assert out_of_patience(3, "rmse", 0, epoch=9, step=1) == "", "the weights of the best epoch are lost"


@pytest.mark.slow
def test_a_resumed_run_ends_where_it_would_have(tmp_path: Path) -> None:
    check_resumed(STILL, tmp_path)
    whole, parted = (record_of(tmp_path / place) for place in ("whole", "parted"))
    assert whole["reason"] == parted["reason"]
    assert whole["metrics"] == parted["metrics"]


@pytest.mark.slow
def test_one_that_was_stopped_in_its_test_is_not_trained_on(tmp_path: Path) -> None:
    typed(*STILL, cwd=tmp_path)
    folder, before = run_folder(tmp_path), record_of(tmp_path)
    (folder / "record.json").write_text(json.dumps(before | {"status": "interrupted"}))
    assert typed(*STILL, cwd=tmp_path).returncode == 0
    assert record_of(tmp_path)["reason"] == before["reason"]
    assert record_of(tmp_path)["cost"]["steps"] == 9


def test_what_cannot_be_ranked_is_refused(tmp_path: Path) -> None:
    words = ("task=density2d", "trainer.epochs=1", "trainer.patience=2", "logger=none")
    check_refused(*words, "model=consistency", sentence="needs a loss by which weights can be ranked", cwd=tmp_path)
    check_refused(*words, "model=rectified_flow", sentence="would end the first of 2 stages", cwd=tmp_path)
    check_refused("trainer.patience=0", sentence="trainer.patience must be at least 1, not 0", cwd=tmp_path)
