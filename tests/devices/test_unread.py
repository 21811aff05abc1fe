"""Steps whose numbers are looked at later, as on a GPU: nothing but the time of the look is another."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.training.trainer import Trainer
from ode_runner.training.unread_steps import UnreadSteps
from tests.helpers import TINY, record_of, rows_of, run_folder, typed

SHORT = (*TINY, "trainer.device=cpu", "trainer.epochs=2", "trainer.batch_size=8", "logger=none", "solver=rk4")
STEEP = ("model=resnet", "optimizer=sgd", "optimizer.lr=1e38")


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Trainer.__init__

    def waiting_for_nothing(self: Trainer, *positional: Any, **named: Any) -> None:
        made(self, *positional, **named)
        self.waits = False
        self.meters.unread = UnreadSteps(self.model, self.device, most=self.options.log_every, at_once=False)

    monkeypatch.setattr(Trainer, "__init__", waiting_for_nothing)


def numbers_of(root: Path) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """All that does not depend on the clock."""
    rows = [
        {name: value for name, value in row.items() if "seconds" not in name and "time/" not in name}
        for row in rows_of(run_folder(root))
    ]
    return [{k: v for k, v in row.items() if k != "memory/peak_bytes"} for row in rows], record_of(root)["metrics"]


@pytest.mark.slow
def test_the_record_is_the_same_to_the_bit(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    command = (*SHORT, "task=lotka_volterra", "task.train=20", "trainer.log_every=4")  # whose metrics are roots
    for place in ("at_once", "later"):
        (tmp_path / place).mkdir()
    assert typed(*command, cwd=tmp_path / "at_once").returncode == 0
    request.getfixturevalue("late")
    assert typed(*command, cwd=tmp_path / "later").returncode == 0
    assert numbers_of(tmp_path / "later") == numbers_of(tmp_path / "at_once")


def test_a_step_that_failed_is_named_and_can_be_repeated(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    command = (*SHORT, *STEEP, "trainer.log_every=5")
    dumps = {}
    for place in ("at_once", "later"):
        (tmp_path / place).mkdir()
        if place == "later":
            request.getfixturevalue("late")
        assert typed(*command, cwd=tmp_path / place).returncode == 1
        dumps[place] = torch.load(run_folder(tmp_path / place) / "crash.pt", weights_only=True)
    here, there = dumps.values()
    assert here["where"] == there["where"] != "at step 1 (epoch 1)"
    assert here["message"] == there["message"]
    assert all(torch.equal(there["weights"][name], value) for name, value in here["weights"].items())
    assert torch.equal(here["batch"]["inputs"], there["batch"]["inputs"])
    assert torch.equal(here["random"]["cpu"], there["random"]["cpu"])
