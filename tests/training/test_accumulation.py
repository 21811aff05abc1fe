"""`trainer.accumulate`: the gradients of the parts of a batch are summed, and are that of the batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.training.trainer import Trainer
from tests.conftest import Compose
from tests.helpers import TINY, check_refused
from tests.resuming import check_resumed

FIXED = (*TINY, "trainer.precision=fp64", "trainer.device=cpu", "solver=rk4", "solver.num_steps=2")
IRREGULAR = (
    "task=lotka_volterra", "task.train=3", "task.validation=1", "task.test=1", "task.points=9", "task.window=4",
    "task.irregular=true", "network.width=4", "trainer.batch_size=7", *FIXED[len(TINY):],
)  # fmt: skip


@pytest.fixture
def trainer(composed: Compose) -> Any:
    def make(*overrides: str) -> Trainer:
        cfg = composed(*overrides)
        return build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))

    return make


def steps_of(trainer: Trainer, count: int = 3) -> list[dict[str, Any]]:
    """The scalars of some steps of training."""
    options = trainer.options
    batches = trainer.task.batches(Split.TRAIN, batch_size=options.batch_size, epoch=0)
    return [trainer.train_step(next(batches), measure_memory=True) for _ in range(count)]


def weights_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "cell",
    [FIXED, (*FIXED, "regularizer=[spectral,kinetic]", "gradient=adjoint", "trainer.max_grad_norm=0.1"), IRREGULAR],
    ids=["plain", "priced and clipped", "irregular times"],
)
def test_it_comes_to_the_weights_of_the_whole_batch(cell: tuple[str, ...], trainer: Any) -> None:
    whole, parted = trainer(*cell), trainer(*cell, "trainer.accumulate=3")
    expected, found = steps_of(whole), steps_of(parted)
    torch.testing.assert_close(weights_of(parted), weights_of(whole), rtol=1e-11, atol=1e-12)
    for step, other in zip(found, expected, strict=True):
        for name in ("train/loss", "optim/grad_norm"):
            assert float(step[name]) == pytest.approx(float(other[name]), rel=1e-10)
        for name in ("nfe/forward", "nfe/backward"):
            assert step[name] == 3 * other[name], "one evaluation is one call of the field"
        assert step["memory/saved_bytes"] < 0.7 * other["memory/saved_bytes"]
    assert parted.integrator.ledger.totals["forward"].evaluations == sum(step["nfe/forward"] for step in found)


def test_parts_of_unequal_size_count_by_their_samples(trainer: Any) -> None:
    cell = (*FIXED, "trainer.batch_size=25")  # the last batch of the epoch has 10 samples: 3, 3 and 4
    whole, parted = trainer(*cell), trainer(*cell, "trainer.accumulate=3")
    assert len(steps_of(whole)) == len(steps_of(parted)) == 3
    torch.testing.assert_close(weights_of(parted), weights_of(whole), rtol=1e-11, atol=1e-12)


def test_what_each_sample_takes_is_that_of_all_of_them(trainer: Any) -> None:
    cell = (*FIXED[:-2], "solver=dopri5", "solver.per_sample=true")
    expected, found = steps_of(trainer(*cell), 1)[0], steps_of(trainer(*cell, "trainer.accumulate=2"), 1)[0]
    for name in ("solver/evaluations_per_sample_mean", "solver/evaluations_per_sample_max"):
        assert found[name] == expected[name]


def test_windows_of_which_some_rows_are_blank_are_taken_apart(trainer: Any, tmp_path: Path) -> None:
    """The loss of series_forecast sums over rows: it is a mean over windows, whatever number of rows they have."""
    rows = (f"{s},{i},{'' if (i + s) % 4 == 1 else 0.1 * i * s}\n" for s in range(3) for i in range(12 + s))
    (tmp_path / "own.csv").write_text("series,t,y\n" + "".join(rows))
    file = ("task=series_forecast", f"task.file={tmp_path / 'own.csv'}", "task.time=t", "task.series=series")
    cell = (*file, "task.window=6", "model=odernn", "trainer.batch_size=5", *FIXED[len(TINY) :])
    whole, parted = trainer(*cell), trainer(*cell, "trainer.accumulate=3")
    steps_of(whole, 2), steps_of(parted, 2)
    torch.testing.assert_close(weights_of(parted), weights_of(whole), rtol=1e-11, atol=1e-12)


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    check_resumed((*FIXED, "trainer.accumulate=2", "trainer.epochs=2", "logger=none"), tmp_path)


def test_where_parts_do_not_add_up_it_is_refused(tmp_path: Path) -> None:
    parts = "trainer.accumulate=2"
    check_refused(parts, "task=bouncing_ball", sentence="different numbers of", cwd=tmp_path)
    check_refused(parts, "trainer.audit_every=5", sentence="audit_every compares gradients of whole", cwd=tmp_path)
    check_refused("trainer.accumulate=101", sentence="more parts than a batch has samples", cwd=tmp_path)
    csv = "series,t,y\n" + "".join(f"{s},{i},{0.1 * i}\n" for s in range(9) for i in range(6 + 2 * (s % 3)))
    (tmp_path / "own.csv").write_text(csv)
    words = ("task=series", f"task.file={tmp_path / 'own.csv'}", "task.time=t", "task.series=series")
    check_refused(parts, *words, sentence="different numbers of observations", cwd=tmp_path)
