"""Images from noise: metrics beside their floors, one classifier for all runs, samples in files, refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import Samples
from ode_runner.tasks.images.digits_generation import DigitsGeneration
from ode_runner.tasks.images.image_classifier import ImageClassifier, classifier_of
from ode_runner.tasks.images.image_metrics import BY_CLASSIFIER, Images, image_metrics
from tests.helpers import predicted, record_of, run_folder, typed

CPU = torch.device("cpu")
SMALL = ("task=digits_generation", "trainer.epochs=2", "network.width=8", "task.samples=40", "logger=none")


def made(**changed: Any) -> DigitsGeneration:
    options = {"validation": 287, "test": 360, "samples": 100, "conditional": True, "classifier_seed": 0, "seed": 0}
    return DigitsGeneration(**{**options, "device": CPU, **changed})  # type: ignore[arg-type]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.tasks.images.image_classifier.STEPS", 100)


@pytest.fixture
def judged(quick: None, tmp_path: Path) -> tuple[DigitsGeneration, ImageClassifier]:
    task = made()
    return task, task.classifier(tmp_path)


def measured(task: DigitsGeneration, classifier: ImageClassifier, samples: Images) -> dict[str, Any]:
    train, test = task.splits[Split.TRAIN].inputs, Images(task.test.inputs, task.test.targets)
    return image_metrics(samples, test=test, train=train, classifier=classifier)


def test_each_metric_stands_beside_that_of_other_data(judged: tuple[DigitsGeneration, ImageClassifier]) -> None:
    """Training images in the place of samples reach every floor, and are seen to be copies; noise reaches none."""
    task, classifier = judged
    train = task.splits[Split.TRAIN]
    copies = measured(task, classifier, Images(train.inputs[:400].float(), train.targets[:400]))
    assert set(copies) == {*BY_CLASSIFIER, "sw2", "nearest_training"}
    for name in ("frechet", "precision", "recall", "density", "coverage"):
        assert copies[name].value == copies[name].floor
    assert copies["nearest_training"].value == 0 < 1.9 < copies["nearest_training"].floor < 2.4
    assert copies["class_accuracy"].value > 0.8
    assert copies["class_accuracy"].floor > 0.8
    noise = torch.randint(0, 17, (400, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    found = measured(task, classifier, Images(noise, train.targets[:400]))
    assert found["frechet"].value > 5 * found["frechet"].floor
    assert found["sw2"].value > 3 * found["sw2"].floor
    assert found["recall"].value < 0.3
    assert found["class_accuracy"].value < 0.3
    unsound = measured(task, classifier, Images(noise.index_fill(0, torch.tensor([3]), torch.nan), None))
    assert all(np.isnan(metric.value) and not np.isnan(metric.floor) for metric in unsound.values())


def test_a_model_is_given_noisy_levels_between_minus_1_and_1() -> None:
    task = made()
    first, again = (
        torch.cat([batch.inputs for batch in task.batches(Split.TRAIN, batch_size=200, epoch=epoch)])
        for epoch in (0, 1)
    )
    assert first.shape == (1150, 64 + 10)
    images, conditions = task.spec.split_condition(first)
    assert images.min() >= -1
    assert images.max() < 1
    assert images.std() == pytest.approx(task.spec.std, rel=1e-3)
    levels = [task.own_units(x) for x in (images, task.spec.split_condition(again)[0])]
    sums = [found.flatten(1).sum(dim=1).sort().values for found in levels]
    assert torch.equal(*sums), "noise within a level is anew in each epoch, and rounded off"
    stored = task.splits[Split.TRAIN].inputs
    assert torch.equal(sums[0], stored.flatten(1).float().sum(dim=1).sort().values)
    assert torch.equal(conditions.sum(dim=1), torch.ones(1150))
    unconditional = made(conditional=False)
    assert next(unconditional.batches(Split.TEST, batch_size=5, epoch=0)).inputs.shape == (5, 1, 8, 8)
    assert unconditional.given(3) == []
    assert [z.shape for z in task.given(500)] == [(500, 10)]


def test_test_images_and_classifier_are_the_same_for_every_seed(quick: None, tmp_path: Path) -> None:
    one, other = made(seed=0), made(seed=1)
    assert torch.equal(one.test.inputs, other.test.inputs)
    assert not torch.equal(one.splits[Split.TRAIN].inputs, other.splits[Split.TRAIN].inputs)
    before = torch.get_rng_state()
    found = one.classifier(tmp_path)
    [path] = (tmp_path / "classifiers").glob("digits-*-s0.pt")
    written = path.stat().st_mtime_ns
    assert other.classifier(tmp_path).hash == found.hash
    assert path.stat().st_mtime_ns == written
    assert torch.equal(before, torch.get_rng_state()), "a run draws as if there were none"
    assert found.accuracy > 0.8
    torch.testing.assert_close(
        found.features(one.test.inputs[:7]), other.classifier(tmp_path).features(one.test.inputs[:7])
    )
    assert made(classifier_seed=1).classifier(tmp_path).hash != found.hash
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RefusedInput, match=r"holds no classifier of this program\. Remove it"):
        made().classifier(tmp_path)


def test_other_images_have_a_classifier_of_their_own(quick: None, tmp_path: Path) -> None:
    everything = made().everything
    fewer = replace(everything, targets=everything.targets.roll(1))
    for train in (everything, Samples(fewer.inputs, fewer.targets)):
        classifier_of(train, train, classes=10, brightest=16, seed=0, name="digits", outputs=tmp_path)
    assert len(list((tmp_path / "classifiers").glob("*.pt"))) == 2


@pytest.mark.slow
def test_a_run_reports_all_and_its_samples_are_drawn_again_into_files(tmp_path: Path) -> None:
    ended = typed(*SMALL, "solver.num_steps=3", "trainer.animate=true", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder, record = run_folder(tmp_path / "outputs"), record_of(tmp_path / "outputs")
    metrics = record["metrics"]
    for name in (*BY_CLASSIFIER, "sw2", "nearest_training"):
        assert np.isfinite(metrics[f"test/{name}"])
        assert np.isfinite(metrics[f"test/{name}_floor"])
        assert ("classifier" in record["measured_with"].get(f"test/{name}", "")) == (name in BY_CLASSIFIER)
    assert metrics["nfe/sample"] == 6
    assert "test/endpoint_rmse" in metrics
    assert "test/nll" not in metrics
    assert record["cost"]["ledger"]["sampling"]["evaluations"] < 60, "samples are drawn once"
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "curves.png", "samples.png", "nearest_training.png", "samples_on_the_way.png", "samples_in_motion.gif",
    }  # fmt: skip
    ended = typed(f"predict={folder.relative_to(tmp_path)}", "samples=45", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = predicted(folder, "samples.npz")
    drawn = np.load(written)
    assert drawn["samples"].shape == (45, 1, 8, 8)
    assert drawn["conditions"].shape == (45, 10)
    assert np.array_equal(drawn["samples"], drawn["samples"].round())
    assert drawn["samples"].min() >= 0
    assert written.with_suffix(".png").stat().st_size > 1000
    for words, said in {
        ("samples=0",): "samples=0 is no whole number from 1 to 1,000,000.",
        ("samples=3", "times=[1]"): "times= asks for predictions, and samples= for samples. Leave one of them out.",
    }.items():
        assert said in typed(f"predict={folder.relative_to(tmp_path)}", *words, cwd=tmp_path).stderr


@pytest.mark.slow
def test_points_in_the_plane_are_drawn_into_a_table_and_a_picture(tmp_path: Path) -> None:
    words = ("task=density2d", "task.name=8gaussians_narrow", "model=exact", "solver=ddim", "solver.num_steps=4")
    assert typed(*words, "task.test=50", "logger=none", cwd=tmp_path).returncode == 0
    folder = run_folder(tmp_path / "outputs")
    ended = typed(f"predict={folder.relative_to(tmp_path)}", "samples=60", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [written] = folder.glob("predictions/*")
    assert {path.name for path in written.glob("samples*")} == {"samples.npz", "samples.csv", "samples.png"}
    rows = np.loadtxt(written / "samples.csv", delimiter=",", skiprows=1)
    judged = np.loadtxt(folder / "samples.csv", delimiter=",", skiprows=1)
    assert rows.shape == (60, 2)
    assert np.allclose(rows[:50], judged), "the first are those of the test"


def test_too_few_images_for_neighbourhoods_are_refused() -> None:
    with pytest.raises(RefusedInput, match="there are 4 images to learn from, with task.validation as it is, and 6"):
        made(validation=1433)


def test_a_model_without_samples_is_refused(tmp_path: Path) -> None:
    ended = typed("task=digits_generation", "model=odenet", cwd=tmp_path)
    assert ended.returncode == 2
    assert "task=digits_generation asks for samples, and model=odenet gives values only. Use model=" in ended.stderr


@pytest.mark.slow
def test_a_run_without_samples_has_none_to_write(tmp_path: Path) -> None:
    assert typed("trainer.max_steps=1", "network.width=4", "logger=none", cwd=tmp_path).returncode == 0
    folder = run_folder(tmp_path / "outputs").relative_to(tmp_path)
    ended = typed(f"predict={folder}", "samples=4", cwd=tmp_path)
    assert ended.returncode == 2
    assert "samples=4: model=odenet on task=half_moons gives none, because it learns no distribution" in ended.stderr
