"""The tasks: the same data for the same seed, splits that do not overlap, files that may be damaged."""

import gzip
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from sklearn import datasets
from torch import Tensor

from ode_runner.batch import Answer, Batch, Outputs, Split
from ode_runner.building.instantiate import construct
from ode_runner.errors import RefusedInput
from ode_runner.tasks.base import Task
from ode_runner.tasks.classification import Classification, Samples, shuffled_splits
from ode_runner.tasks.dynamics.stochastic_paths import StochasticPaths
from ode_runner.tasks.images.base import ImageClassification, random_crop
from ode_runner.tasks.images.digit_images import read_digits
from ode_runner.tasks.images.digits_density import DigitsDensity
from ode_runner.tasks.images.idx import FILES, names_of
from ode_runner.tasks.images.image_generation import ImageGeneration
from ode_runner.tasks.images.mnist import Mnist
from ode_runner.tasks.points import half_moons
from tests.helpers import options
from tests.problems import Compose

CPU = torch.device("cpu")


def test_data_of_scikit_learn_are_its_own_to_the_bit() -> None:
    """They are made, and read, without importing it."""
    for count, noise, seed in ((2000, 0.1, 0), (7, 0.3, 5)):
        for ours, theirs in zip(
            half_moons.make_moons(count, noise=noise, seed=seed),
            datasets.make_moons(count, noise=noise, random_state=seed),
            strict=True,
        ):
            assert (ours == theirs).all()
    digits, images = read_digits(), datasets.load_digits()
    assert (digits.inputs[:, 0].numpy() == images.images).all()
    assert (digits.targets.numpy() == images.target).all()


TRAIN_COUNT, TEST_COUNT, SIDE = 40, 12, 10

MakeTask = Callable[..., Task]


def write_idx(path: Path, values: Tensor) -> None:
    """LeCun's format: two zeros, the type (8: bytes), the number of dimensions, the dimensions, the bytes."""
    header = bytes([0, 0, 8, values.dim()]) + struct.pack(f">{values.dim()}I", *values.shape)
    path.write_bytes(header + bytes(values.flatten().tolist()))


@pytest.fixture
def idx_dir(tmp_path: Path) -> Path:
    """A small data set in MNIST's format, whose pixels are known: image i is filled with i, and is of class i % 10."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    fashion = tmp_path / "FashionMNIST" / "raw"
    fashion.mkdir(parents=True)
    for part, count in (("train", TRAIN_COUNT), ("test", TEST_COUNT)):
        images = torch.arange(count)[:, None, None].expand(count, SIDE, SIDE)
        for place in (raw, fashion):
            write_idx(place / FILES[part][0], images)
            write_idx(place / FILES[part][1], torch.arange(count) % 10)
    return tmp_path


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise URLError("the mirror is down")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fail)


@pytest.fixture
def make(composed: Compose, request: pytest.FixtureRequest) -> MakeTask:
    """Tasks from their yaml; those that read files get a small data set of their own."""

    def task(name: str, *, seed: int = 0, **changed: Any) -> Task:
        cfg = composed(f"task={name}")
        if "data_dir" in cfg.task:
            folder = request.getfixturevalue("idx_dir")
            changed = {"data_dir": str(folder), "validation": 8} | changed
        if "cells" in cfg.task:  # a true path is followed in small steps
            changed = {"train": 24, "validation": 16, "test": 24, "fine": 16} | changed
        if {"points", "window", "train"} <= set(cfg.task):  # trajectories, which take half a second
            changed = {"train": 16, "validation": 8, "test": 8} | changed
        if name == "series_forecast":  # whose file has one window of 20 rows
            changed = {"window": 6} | changed
        cfg.task.update(changed)
        return construct(cfg, "task", seed=seed, device=CPU)

    return task


_made: dict[tuple[str, int], Task] = {}


@pytest.fixture
def made(make: MakeTask, composed: Compose) -> MakeTask:
    """Tasks as their yaml has them, each made once where it needs no file: a trajectory's takes half a second."""

    def task(name: str, *, seed: int = 0) -> Task:
        if "data_dir" in composed(f"task={name}").task:
            return make(name, seed=seed)
        if (name, seed) not in _made:
            _made[name, seed] = make(name, seed=seed)
        return _made[name, seed]

    return task


# Nothing is learned from them, or nothing is drawn, or (test_image_files) their files are of a form of their own.
WITHOUT_DATA = ("closed_form", "ctmc", "bouncing_ball", "cifar10")


@pytest.fixture(params=[name for name in options("task") if name not in WITHOUT_DATA])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def all_batches(task: Task, split: Split, epoch: int = 0, batch_size: int = 7) -> list[Batch]:
    return list(task.batches(split, batch_size=batch_size, epoch=epoch))


def marks(task: Task, batch: Batch) -> Tensor:
    """A number for each sample that tells it from others: its class, or the sum of what is known of it."""
    if isinstance(task, DigitsDensity):
        return batch.targets.flatten(1).sum(dim=1)
    if isinstance(task, StochasticPaths):  # which may all begin at one place
        return batch.targets[1:].sum(dim=(0, 2))
    if isinstance(task, Classification | ImageGeneration) and batch.targets.dim() == 1:
        return batch.targets
    return batch.inputs.flatten(1).sum(dim=1)


def same(some: list[Batch], others: list[Batch]) -> bool:
    pairs = [pair for one, other in zip(some, others, strict=True) for pair in zip(one, other, strict=True)]
    return all(
        torch.allclose(x, y, rtol=0, atol=0, equal_nan=True)  # a blank is NaN
        if isinstance(x, Tensor) and x.shape == y.shape
        else x is y or x == y
        for x, y in pairs
    )


@pytest.mark.sampled(3)
def test_the_same_seed_gives_the_same_data_and_batches(made: MakeTask, make: MakeTask, name: str) -> None:
    first, second = made(name), make(name)
    torch.rand(3)  # the global generator is no concern of a task's
    for split in Split:
        assert same(all_batches(first, split, epoch=3), all_batches(second, split, epoch=3)), split


@pytest.mark.sampled(3)
def test_another_seed_gives_other_data_or_another_order(made: MakeTask, name: str) -> None:
    assert not same(all_batches(made(name, seed=0), Split.TRAIN), all_batches(made(name, seed=1), Split.TRAIN))


@pytest.mark.sampled(3)
def test_only_training_batches_change_from_epoch_to_epoch(made: MakeTask, name: str) -> None:
    task = made(name)
    assert not same(all_batches(task, Split.TRAIN, epoch=0), all_batches(task, Split.TRAIN, epoch=1))
    for split in (Split.VALIDATION, Split.TEST):
        assert same(all_batches(task, split, epoch=0), all_batches(task, split, epoch=1))


@pytest.mark.sampled(3)
def test_the_epochs_of_one_seed_are_not_those_of_another(made: MakeTask, name: str) -> None:
    first, second = made(name, seed=0), made(name, seed=1)
    targets = [torch.cat([marks(first, b) for b in all_batches(first, Split.TRAIN, epoch=e)]) for e in range(3)]
    others = [torch.cat([marks(second, b) for b in all_batches(second, Split.TRAIN, epoch=e)]) for e in range(3)]
    assert not any(torch.equal(one, other) for one in targets for other in others)


@pytest.mark.sampled(24)
@pytest.mark.parametrize("split", Split)
def test_batches_hold_each_sample_once_in_the_shapes_announced(made: MakeTask, name: str, split: Split) -> None:
    task = made(name)
    batches = all_batches(task, split)
    assert sum(len(batch.inputs) for batch in batches) == task.size(split)
    assert max(len(batch.inputs) for batch in batches) <= 7
    for batch in (batches[0], batches[-1]):
        samples = batch.targets.shape[1 if task.spec.every_time else 0]
        assert batch.inputs.shape == (samples, *task.spec.conditioned_shape)
        assert batch.inputs.is_floating_point() == (not task.spec.tokens)
        assert batch.ts.is_floating_point()
        assert (batch.ts.diff() > 0).all()


@pytest.mark.sampled(10)
@pytest.mark.parametrize("split", Split)
def test_shuffling_loses_no_sample(made: MakeTask, name: str, split: Split) -> None:
    task = made(name)
    epochs = [torch.cat([marks(task, b) for b in all_batches(task, split, epoch=e)]) for e in (0, 1)]
    assert torch.equal(*(found.sort().values for found in epochs))


def test_the_loss_is_differentiable_and_perfect_outputs_are_perfect(made: MakeTask, name: str) -> None:
    task = made(name)
    vectors = len(task.spec.input_shape) == 1 and not (task.spec.tokens or task.spec.sequence)
    assert vectors or not task.gives_points
    assert task.gives_points or not (vectors and Answer.VALUES in task.needs), "for advice, by the class alone"
    assert task.gives_images == (len(task.spec.input_shape) == 3)
    if not isinstance(task, Classification):
        pytest.skip("classifies nothing")
    batch = all_batches(task, Split.TRAIN)[0]
    outputs = torch.zeros(len(batch.targets), *task.spec.output_shape, requires_grad=True)
    loss = task.loss(Outputs(outputs), batch)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(torch.tensor(float(task.spec.output_shape[-1])).log().item())
    perfect = torch.nn.functional.one_hot(batch.targets, task.spec.output_shape[-1]).float()
    assert float(task.metrics(Outputs(perfect), batch)["accuracy"]) == 1
    assert float(task.metrics(Outputs(-perfect), batch)["accuracy"]) == 0
    assert task.objective in task.metrics(Outputs(perfect), batch)


def test_splits_drawn_by_seed_are_disjoint_and_of_the_sizes_asked_for() -> None:
    samples = Samples(torch.arange(100)[:, None], torch.arange(100))
    splits = shuffled_splits(samples, {Split.TRAIN: 60, Split.VALIDATION: 30, Split.TEST: 10}, seed=3)
    drawn = [set(part.targets.tolist()) for part in splits.values()]
    assert [len(part) for part in drawn] == [60, 30, 10]
    assert len(set.union(*drawn)) == 100
    assert all(torch.equal(part.inputs[:, 0], part.targets) for part in splits.values())


def test_splits_of_points_are_disjoint(make: MakeTask) -> None:
    task = make("half_moons")
    points = [tuple(p) for split in Split for b in all_batches(task, split) for p in b.inputs.tolist()]
    assert len(set(points)) == len(points) == 2000


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_annuli_fill_their_volumes_evenly(make: MakeTask, dim: int) -> None:
    task = make("annuli", dim=dim, train=6000)
    assert isinstance(task, Classification)
    points, classes = task.splits[Split.TRAIN].inputs.double(), task.splits[Split.TRAIN].targets
    for value, (low, high), count in ((0, (0.0, 0.5), 2000), (1, (1.0, 1.5), 4000)):
        own = points[classes == value]
        part = (own.norm(dim=1) ** dim - low**dim) / (high**dim - low**dim)  # of the volume, within this radius
        assert len(own) == count
        assert float(part.min()) >= -1e-6
        assert float(part.max()) <= 1 + 1e-6
        assert float((part.sort().values - torch.linspace(0, 1, count).double()).abs().max()) < 1.63 / count**0.5
        assert float(own.mean(dim=0).abs().max()) < 4.5 * high / count**0.5


@pytest.mark.parametrize(
    ("name", "sizes", "share", "plain", "learned"),
    [
        ("annuli", {"test": 300}, "66.7%", 0.71, 0.76),  # a standard error is 2.7 %
        ("annuli", {"test": 6}, "66.7%", 0.67, 1.0),  # and here 19 %
        ("sequence_reverse", {"test": 200, "length": 4, "symbols": 4}, "%", 0.25, 0.4),
    ],
)
def test_an_accuracy_of_one_answer_to_everything_is_told(
    name: str, sizes: dict[str, int], share: str, plain: float, learned: float, make: MakeTask
) -> None:
    task = make(name, **{"train": 300, "validation": 30, **sizes})
    for accuracy in (0.0, plain):
        [said] = task.remarks({"test/accuracy": accuracy})
        assert f"{share} of always giving the same answer" in said
    assert not list(task.remarks({"test/accuracy": learned}))


def test_annuli_that_are_not_filled_are_spheres(make: MakeTask) -> None:
    exact, noisy = (make("annuli", filled=False, radii=[1.0, 2.0], noise=noise) for noise in (0.0, 0.1))
    for task, spread in ((exact, 1e-6), (noisy, 0.1)):
        assert isinstance(task, Classification)
        points, classes = task.splits[Split.TRAIN].inputs, task.splits[Split.TRAIN].targets
        assert classes.bincount().tolist() == [1000, 1000]
        away = points.norm(dim=1) - (classes + 1)
        assert float(away.square().mean().sqrt()) == pytest.approx(spread, rel=0.1, abs=1e-6)


def test_spheres_are_half_and_half_and_in_space(make: MakeTask) -> None:
    task = make("spheres")
    assert isinstance(task, Classification)
    points, classes = task.splits[Split.TRAIN].inputs, task.splits[Split.TRAIN].targets
    assert task.spec.input_shape == (3,)
    assert classes.bincount().tolist() == [4096, 4096]
    assert float((points.norm(dim=1) - 0.5 - 0.5 * classes).abs().max()) < 6e-4  # six standard deviations
    for value, radius in ((0, 0.5), (1, 1.0)):  # as uniform as the sphere: each coordinate is uniform between poles
        heights = points[classes == value].sort(dim=0).values / radius
        even = torch.linspace(-1, 1, 4096)[:, None]
        assert float((heights - even).abs().max()) < 2 * 1.63 / 4096**0.5


@pytest.mark.parametrize("filled", [True, False])
def test_annuli_of_many_dimensions_are_finite(make: MakeTask, filled: bool) -> None:
    task = make("annuli", dim=1000, filled=filled, radii=[[0.0, 0.5], [1.0, 1.5]] if filled else [0.5, 1.5], train=60)
    assert isinstance(task, Classification)
    norms = task.splits[Split.TRAIN].inputs.norm(dim=1)
    assert norms.max() == pytest.approx(1.5, rel=0.01)  # nearly all of the volume is near the surface
    assert norms.min() == pytest.approx(0.5, rel=0.01)


def test_sines_are_as_far_apart_as_twice_the_shift(make: MakeTask) -> None:
    task = make("sines", shift=0.4, noise=0.2, train=6000)
    assert isinstance(task, Classification)
    (x, y), classes = task.splits[Split.TRAIN].inputs.T, task.splits[Split.TRAIN].targets
    assert classes.bincount().tolist() == [3000, 3000]
    rest = y - torch.sin(torch.pi * x) - 0.4 * (2 * classes - 1)
    assert float(rest.mean()) == pytest.approx(0, abs=4 * 0.2 / 6000**0.5)
    assert float(rest.std()) == pytest.approx(0.2, rel=0.05)
    assert float((x.sort().values - torch.linspace(-1, 1, 6000)).abs().max()) < 2 * 1.63 / 6000**0.5


def test_reflected_points_are_the_same_in_all_splits_and_their_floor_is_known(make: MakeTask) -> None:
    task = make("reflection")
    batches = [next(task.batches(split, batch_size=100, epoch=3)) for split in Split]
    assert all(torch.equal(batch.inputs.sort(dim=0).values, batches[-1].inputs) for batch in batches)
    for batch in batches:
        floor = task.metrics(Outputs(torch.zeros_like(batch.targets)), batch)["mse"]
        assert float(floor) == pytest.approx(0.34007, abs=5e-6)
        assert float(task.loss(Outputs(batch.targets), batch)) == 0


def test_splits_of_digits_make_up_the_whole_set(make: MakeTask) -> None:
    task = make("digits")
    assert isinstance(task, Classification)
    assert sum(task.size(split) for split in Split) == 1797
    everything = torch.cat([task.splits[split].targets for split in Split]).bincount()
    assert everything.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # scikit-learn's description


def naive_crop(images: Tensor, padding: int, rows: Tensor, columns: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    cropped = torch.zeros_like(images)
    for i in range(batch):
        for h in range(height):
            for w in range(width):
                y, x = h + int(rows[i]) - padding, w + int(columns[i]) - padding
                if 0 <= y < height and 0 <= x < width:
                    cropped[i, :, h, w] = images[i, :, y, x]
    return cropped


@pytest.mark.parametrize("padding", [1, 3])
@pytest.mark.parametrize("shape", [(6, 1, 5, 5), (4, 3, 4, 7)])
def test_random_crops_equal_a_loop_over_pixels(padding: int, shape: tuple[int, ...]) -> None:
    images = torch.randint(1, 256, shape, dtype=torch.uint8)
    cropped = random_crop(images, padding, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    rows, columns = torch.randint(2 * padding + 1, (2, shape[0], 1), generator=generator)
    assert torch.equal(cropped, naive_crop(images, padding, rows, columns))
    assert cropped.dtype is torch.uint8


def test_random_crops_reach_every_place_equally_often() -> None:
    images = torch.zeros(9000, 1, 3, 3)
    images[:, 0, 1, 1] = 1
    places = random_crop(images, 1, torch.Generator().manual_seed(0)).mean(dim=0).flatten()
    torch.testing.assert_close(places, torch.full((9,), 1 / 9), rtol=0, atol=0.015)  # 4.5 standard deviations


def test_only_training_images_are_cropped(make: MakeTask) -> None:
    plain, shifted = make("digits", crop_padding=0), make("digits", crop_padding=2)
    for split in (Split.VALIDATION, Split.TEST):
        assert same(all_batches(plain, split), all_batches(shifted, split))
    assert not same(all_batches(plain, Split.TRAIN), all_batches(shifted, Split.TRAIN))


@pytest.mark.sampled(10)
def test_images_are_scaled_to_the_unit_interval(made: MakeTask, name: str) -> None:
    task = made(name)
    if not isinstance(task, ImageClassification):
        pytest.skip("has no images")
    for split in Split:
        inputs = torch.cat([batch.inputs for batch in all_batches(task, split)])
        assert float(inputs.min()) >= 0
        assert float(inputs.max()) <= 1
    assert torch.equal(task.prepare(torch.tensor([[[[task.brightest]]]]), None), torch.ones(1, 1, 1, 1))


def test_idx_files_are_read_as_written(make: MakeTask) -> None:
    task = make("mnist", crop_padding=0)
    assert isinstance(task, Mnist)
    assert [task.size(split) for split in Split] == [TRAIN_COUNT - 8, 8, TEST_COUNT]
    assert task.spec.input_shape == (1, SIDE, SIDE)
    assert task.spec.output_shape == (10,)
    for split in Split:
        for batch in all_batches(task, split):
            fillings = (batch.inputs * 255).round().long()
            assert (fillings == fillings[:, :, :1, :1]).all()
            assert torch.equal(fillings[:, 0, 0, 0] % 10, batch.targets)
    held_out = {int(x) for split in (Split.TRAIN, Split.VALIDATION) for x in task.splits[split].inputs[:, 0, 0, 0]}
    assert held_out == set(range(TRAIN_COUNT))


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
def test_idx_files_are_found_in_each_usual_place(make: MakeTask, idx_dir: Path, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "elsewhere" / place
    folder.parent.mkdir(parents=True, exist_ok=True)
    (idx_dir / "MNIST" / "raw").rename(folder)
    assert make("mnist", data_dir=str(tmp_path / "elsewhere")).size(Split.TEST) == TEST_COUNT


def test_without_data_dir_the_environment_says_where(
    make: MakeTask, idx_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODE_RUN_DATA", str(idx_dir))
    assert make("mnist", data_dir=None).size(Split.TEST) == TEST_COUNT


EVERY_FILE = [name for names in FILES.values() for name in names]


def test_files_that_are_missing_and_cannot_be_downloaded_are_said_to_be(make: MakeTask, tmp_path: Path) -> None:
    with pytest.raises(RefusedInput) as refusal:
        make("mnist", data_dir=str(tmp_path / "none"))
    sentence = str(refusal.value)
    cause = "Error downloading train-images-idx3-ubyte.gz: <urlopen error the mirror is down>"
    assert f"could not be downloaded ({cause})" in sentence
    for way_out in (str(tmp_path / "none" / "MNIST" / "raw"), "task.data_dir", "ODE_RUN_DATA", "task=digits"):
        assert way_out in sentence
    assert "\n" not in sentence
    assert not [path for path in (tmp_path / "none").rglob("*") if path.is_file()]


@pytest.mark.parametrize("variant", [1, 2, 3])
@pytest.mark.parametrize("place", ["", "MNIST/raw"])
def test_packed_files_and_dotted_names_are_read(
    make: MakeTask, idx_dir: Path, tmp_path: Path, variant: int, place: str
) -> None:
    expected = make("mnist")
    folder = tmp_path / "theirs" / place
    folder.mkdir(parents=True)
    for name in EVERY_FILE:
        content = (idx_dir / "MNIST" / "raw" / name).read_bytes()
        other = names_of(name)[variant]
        (folder / other).write_bytes(gzip.compress(content) if other.endswith(".gz") else content)
    task = make("mnist", data_dir=str(tmp_path / "theirs"))
    for split in Split:
        for ours, theirs in zip(all_batches(task, split), all_batches(expected, split), strict=True):
            assert torch.equal(ours.inputs, theirs.inputs)
            assert torch.equal(ours.targets, theirs.targets)


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize(
    "kept", [["train-images-idx3-ubyte.gz"], EVERY_FILE[:3], ["emnist-letters-train-images-idx3-ubyte.gz"]]
)
def test_nothing_is_downloaded_among_somebodys_files(
    make: MakeTask, tmp_path: Path, place: str, kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ode_runner.tasks.images.mnist_files.MNIST", lambda *_, **__: pytest.fail("a download"))
    folder = tmp_path / "theirs" / place
    folder.mkdir(parents=True)
    for name in kept:
        (folder / name).write_bytes(b"theirs")
    with pytest.raises(RefusedInput, match=r"holds idx files, but no .*t10k-labels-idx1-ubyte") as refusal:
        make("mnist", data_dir=str(tmp_path / "theirs"))
    assert not re.search("delete|remove", str(refusal.value), re.IGNORECASE)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict.fromkeys(kept, b"theirs")


def test_a_download_that_ends_halfway_leaves_no_files_of_it(
    make: MakeTask, tmp_path: Path, idx_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(root: str, *, download: bool) -> None:
        shutil.copytree(idx_dir / "MNIST", Path(root) / "MNIST")
        if not whole:
            raise RuntimeError("the line is cut")

    monkeypatch.setattr("ode_runner.tasks.images.mnist_files.MNIST", download)
    whole = False
    with pytest.raises(RefusedInput, match="the line is cut"):
        make("mnist", data_dir=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    whole = True
    assert make("mnist", data_dir=str(tmp_path / "new")).size(Split.TEST) == TEST_COUNT
    assert sorted(path.name for path in (tmp_path / "new" / "MNIST" / "raw").iterdir()) == sorted(EVERY_FILE)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "torn in the header": lambda content: content[:3],
    "torn in the dimensions": lambda content: content[:6],
    "torn in the data": lambda content: content[:-5],
    "one byte too long": lambda content: content + b"\0",
    "of another type": lambda content: content[:2] + b"\x0d" + content[3:],
    "compressed": lambda content: b"\x1f\x8b\x08\x00" + content[4:],
    "packed and torn": lambda content: gzip.compress(content)[:-12],
    "packed and a bit flipped": lambda content: gzip.compress(content)[:-6] + b"\xff\xff\xff\xff\xff\xff",
    "a web page": lambda content: b"<html><body>Sign in to the network</body></html>",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("damaged", EVERY_FILE)
def test_a_damaged_file_is_refused_by_name(make: MakeTask, idx_dir: Path, damaged: str, damage: str) -> None:
    path = idx_dir / "MNIST" / "raw" / damaged
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(RefusedInput, match=f"{damaged} is damaged or not in MNIST's idx format") as refusal:
        make("mnist")
    assert "Delete" not in str(refusal.value), "it is the user's"
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("part", FILES)
def test_files_that_do_not_belong_together_are_refused(make: MakeTask, idx_dir: Path, part: str) -> None:
    write_idx(idx_dir / "MNIST" / "raw" / FILES[part][1], torch.arange(5))
    with pytest.raises(RefusedInput, match=r"images, but .* 5 labels"):
        make("mnist")


def test_files_without_a_single_image_are_refused(make: MakeTask, idx_dir: Path) -> None:
    write_idx(idx_dir / "MNIST" / "raw" / FILES["test"][0], torch.zeros(0, SIDE, SIDE))
    write_idx(idx_dir / "MNIST" / "raw" / FILES["test"][1], torch.zeros(0))
    with pytest.raises(RefusedInput, match="damaged|0 images"):
        make("mnist")


@pytest.mark.parametrize(
    ("name", "changed", "option"),
    [
        ("mnist", {"validation": 0}, "task.validation"),
        ("mnist", {"validation": TRAIN_COUNT}, "task.validation"),
        ("mnist", {"crop_padding": -1}, "task.crop_padding"),
        ("digits", {"validation": 1797}, "task.validation"),
        ("digits", {"test": 0}, "task.test"),
        ("digits", {"crop_padding": -1}, "task.crop_padding"),
        ("half_moons", {"train": 0}, "task.train"),
        ("half_moons", {"noise": -0.1}, "task.noise"),
        ("annuli", {"train": 2}, "task.train"),
        ("annuli", {"dim": 0}, "task.dim"),
        ("annuli", {"noise": -0.1}, "task.noise"),
        ("annuli", {"dim": 1001}, "task.dim"),
        ("reflection", {"points": 20_000_000}, "task.points must be at most 10,000,000"),
        ("ctmc", {"paths": 20_000_000}, "task.paths must be at most 10,000,000"),
        ("annuli", {"train": 20_000_000}, "task.train must be at most 10,000,000, not 20,000,000"),
        ("annuli", {"radii": [[0.0, 0.5], [1.0, float("inf")]]}, "task.radii"),
        ("annuli", {"radii": [1.0, 2.0]}, r"task.radii=\[1.0,2.0\] with task.filled=true must be \[\[low,high\]"),
        ("annuli", {"filled": False}, "with task.filled=false must be two numbers"),
        ("annuli", {"radii": [[0.0, 1.0], [1.0, 1.5]]}, "task.radii"),
        ("annuli", {"filled": False, "radii": [2.0, 1.0]}, "task.radii"),
        ("annuli", {"filled": False, "radii": [1.0, 2.0, 3.0]}, "task.radii"),
        ("spheres", {"dim": 0}, "task.dim must be from 1 to 1000, not 0"),
        ("spheres", {"filled": True}, r"task.radii=\[0.5,1.0\] with task.filled=true must be \[\[low,high\]"),
        ("sines", {"test": 1}, "task.test must be at least 2"),
        ("sines", {"noise": -0.1}, "task.noise must be 0 or more"),
        ("sines", {"shift": 0.0}, "task.shift must be above 0"),
        ("reflection", {"points": 1}, "task.points"),
    ],
)
def test_senseless_options_are_refused_by_name(make: MakeTask, name: str, changed: dict[str, Any], option: str) -> None:
    with pytest.raises(RefusedInput, match=option):
        make(name, **changed)


def test_mnist_itself_is_read_right(make: MakeTask, mnist_dir: Path) -> None:
    task = make("mnist", data_dir=str(mnist_dir), validation=5000)
    assert isinstance(task, Mnist)
    assert [task.size(split) for split in Split] == [55_000, 5000, 10_000]
    assert task.spec.input_shape == (1, 28, 28)
    train = torch.cat([task.splits[split].targets for split in (Split.TRAIN, Split.VALIDATION)])
    assert train.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert task.splits[Split.TEST].targets.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip
    pixels = torch.cat([task.splits[split].inputs for split in (Split.TRAIN, Split.VALIDATION)]).float() / 255
    assert float(pixels.mean()) == pytest.approx(0.1307, abs=1e-4)  # as every MNIST script normalises
    assert float(pixels.std()) == pytest.approx(0.3081, abs=1e-4)
