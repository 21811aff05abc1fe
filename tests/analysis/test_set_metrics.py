"""Metrics of a whole split are computed once over all answers, whatever the batches, with their floors beside them."""

from pathlib import Path

import pytest

from ode_runner.batch import Split
from ode_runner.tasks.points.half_moons import HalfMoons
from ode_runner.tasks.set_metrics import set_scalars
from tests.helpers import record_of, rows_of, run_folder, typed

OWN = '''
import torch

from ode_runner.tasks.classification import Samples
from ode_runner.tasks.classification import Classification
from ode_runner.batch import Split, TaskSpec
from ode_runner.tasks.set_metrics import SetMeasuringTask, SetMetric


class Spread(Classification, SetMeasuringTask):
    """Which side of a line; the median of an output over the whole split is no mean of medians."""

    objective = "median"

    def __init__(self, *, seed, device):
        generator = torch.Generator().manual_seed(seed)
        splits = {}
        for split in Split:
            points = torch.randn(60, 2, generator=generator)
            splits[split] = Samples(points, (points[:, 0] > 0).long())
        super().__init__(splits, seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(2,), output_shape=(2,))

    def set_metrics(self, split, answers):
        values = torch.cat([outputs.values[:, 0] for _, outputs in answers])
        assert len(values) == 60 and not values.requires_grad
        targets = torch.cat([batch.targets for batch, _ in answers])
        assert torch.equal(targets, self.splits[split].targets)
        return {"median": SetMetric(values.median(), 0.25)}
'''
TASK = "# @package _global_\n# Mine.\ntask:\n  _target_: own_sets.Spread\ntrainer:\n  epochs: 1\n  batch_size: 20\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own_sets.py").write_text(OWN)
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "spread.yaml").write_text(TASK)
    return tmp_path


def test_they_do_not_depend_on_the_size_of_batches(own: Path) -> None:
    medians = []
    for size in (7, 60):
        words = ("task=spread", "trainer.max_steps=2", "network.width=4", "trainer.precision=fp64", "logger=none")
        ended = typed("-cd", "conf", *words, f"trainer.eval_batch_size={size}", f"output_dir=outputs/{size}", cwd=own)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        folder, metrics = run_folder(own / "outputs" / str(size)), record_of(own / "outputs" / str(size))["metrics"]
        [validated] = [row for row in rows_of(folder) if "eval/median" in row]
        assert validated["eval/median_floor"] == metrics["test/median_floor"] == 0.25
        assert metrics["eval/median"] == validated["eval/median"], "best.pt is chosen by it"
        assert "train/accuracy" in rows_of(folder)[0]
        medians.append(metrics["test/median"])
    assert medians[0] == pytest.approx(medians[1], rel=1e-9)


def test_a_task_without_them_reports_none() -> None:
    assert set_scalars(HalfMoons.__new__(HalfMoons), Split.TEST, []) == {}
