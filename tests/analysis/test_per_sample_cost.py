"""What a run with steps of each sample's own says about its test samples."""

import csv
from pathlib import Path

import pytest
import torch

from ode_runner.batch import Batch, Split
from ode_runner.building.instantiate import construct
from ode_runner.experiment.per_sample_cost import PerSampleCounts, counts_of
from ode_runner.fields.ledger import EachSample
from tests.helpers import TINY, record_of, rows_of, run_folder, run_folders, typed
from tests.problems import Compose

MOONS = (
    "solver=bosh3",
    "solver.per_sample=true",
    "tolerance=1e-4",
    "logger=none",
    "trainer.epochs=2",
    "trainer.log_every=1",
    *TINY,
)


def taken(*evaluations: int) -> EachSample:
    counts = torch.tensor(evaluations)
    return EachSample(evaluations=counts, accepted=counts // 10, rejected=counts % 10, failures={})


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "difficulty.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where half-moons were trained, and what that printed."""
    root = tmp_path_factory.mktemp("moons")
    ended = typed(*MOONS, cwd=root, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return root, ended.stdout


def test_every_test_sample_has_its_row(moons: tuple[Path, str]) -> None:
    root, stdout = moons
    rows, metrics = table(run_folder(root)), record_of(root)["metrics"]
    assert list(rows[0]) == ["part", "sample", "label", "evaluations", "accepted", "rejected"]
    assert [row["sample"] for row in rows] == [str(i) for i in range(20)]
    assert {row["label"] for row in rows} == {"0", "1"}
    counts = [float(row["evaluations"]) for row in rows]
    assert all(n == 2 + 3 * (int(r["accepted"]) + int(r["rejected"])) for n, r in zip(counts, rows, strict=True))
    assert metrics["test/evaluations_per_sample_max"] == max(counts) == metrics["nfe/eval"]
    assert metrics["test/evaluations_per_sample_mean"] == pytest.approx(sum(counts) / 20)
    assert min(counts) < max(counts)
    [said] = [line for line in stdout.splitlines() if line.startswith("evaluations per test sample: mean")]
    assert f"least {min(counts):g}, most {max(counts):g} ({counts.count(max(counts))} of 20; all: outputs/" in said


def test_every_training_step_says_what_its_samples_took(moons: tuple[Path, str]) -> None:
    rows = [row for row in rows_of(run_folder(moons[0])) if "train/loss" in row]
    assert len(rows) == 6
    for row in rows:
        assert 0 < row["solver/evaluations_per_sample_mean"] <= row["solver/evaluations_per_sample_max"]
        assert row["solver/evaluations_per_sample_max"] == row["nfe/forward"]


def test_pictures_show_them(moons: tuple[Path, str]) -> None:
    plots = run_folder(moons[0]) / "plots"
    assert {path.stem for path in plots.glob("difficulty*.png")} == {"difficulty", "difficulty_plane"}


def test_a_run_trained_otherwise_is_looked_at_with_evaluate(tmp_path: Path) -> None:
    assert typed(*MOONS, "solver.per_sample=false", cwd=tmp_path).returncode == 0
    folder = run_folder(tmp_path)
    assert not (folder / "difficulty.csv").exists()
    assert not any("evaluations_per_sample" in name for row in rows_of(folder) for name in row)
    ended = typed(f"evaluate={folder.relative_to(tmp_path)}", "solver.per_sample=true", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [found] = folder.glob("evaluations/*")
    assert len(table(found)) == 20
    assert (found / "plots" / "difficulty_plane.png").is_file()


@pytest.mark.slow
def test_parts_of_a_test_split_are_told_apart(tmp_path: Path) -> None:
    small = ("task.train=2", "task.validation=1", "task.test=3", "task.points=12", "task.window=5", "logger=none")
    ended = typed("task=pendulum", "model=exact", "solver=bosh3", "solver.per_sample=true", *small, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = table(run_folder(tmp_path))
    assert [(row["part"], row["sample"]) for row in rows if row["part"] != "between"][:3] == [
        ("portrait", "0"),
        ("after", "0"),
        ("after", "1"),
    ]
    assert {row["label"] for row in rows} == {""}
    plots = run_folder(tmp_path) / "plots"
    assert {path.stem for path in plots.glob("difficulty*.png")} == {"difficulty", "difficulty_plane"}


def test_images_are_shown_from_the_hardest_to_the_easiest(composed: Compose) -> None:
    task = construct(composed("task=digits"), "task", seed=0, device=torch.device("cpu"))
    counts = PerSampleCounts()
    for batch in task.batches(Split.TEST, batch_size=100, epoch=0):
        counts.add(batch, [taken(*torch.randint(20, 80, (len(batch.inputs),)).tolist())])
    found = counts.found()
    assert found is not None
    assert {name for name, _ in task.figures_of_per_sample_cost(found)} == {"difficulty", "difficulty_images"}


def test_a_sample_with_several_solves_counts_their_sum_and_with_several_states_their_mean() -> None:
    assert counts_of([taken(20, 30), taken(1, 2)], 2)[:, 0].tolist() == [21, 32]
    assert counts_of([taken(20, 30, 40, 50)], 2)[:, 0].tolist() == [30, 40]
    assert counts_of([taken(20, 30), taken(1, 2, 3)], 2)[:, 0].tolist() == [20, 30]


def test_nothing_is_found_where_all_samples_have_the_same_steps() -> None:
    counts = PerSampleCounts()
    counts.add(Batch(torch.ones(3, 2), torch.tensor([0.0, 1.0]), torch.zeros(3)), [])
    assert counts.found() is None


def test_what_cannot_follow_is_refused_before_training(tmp_path: Path) -> None:
    ended = typed(*MOONS, "gradient=adjoint", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "gradient=adjoint follows steps that are common to the whole batch" in ended.stderr
    assert not run_folders(tmp_path)
