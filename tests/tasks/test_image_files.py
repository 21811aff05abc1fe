"""Images of one's own and those that torchvision reads, from small files in their formats."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from ode_runner.batch import Split
from ode_runner.building.instantiate import construct
from ode_runner.errors import RefusedInput
from ode_runner.plots.difficulty import draw_hardest_and_easiest
from ode_runner.tasks.base import Task
from ode_runner.tasks.classification import UNKNOWN
from ode_runner.tasks.images.base import transformed
from ode_runner.tasks.images.drawn_shapes import drawn_shapes
from ode_runner.tasks.images.image_files import find_images, read_images
from ode_runner.tasks.images.own_images import OwnImages
from tests.helpers import predicted, run_folder, typed
from tests.problems import Compose

CPU = torch.device("cpu")
Make = Callable[..., Any]
COLOURS = {"green": (0, 200, 0), "red": (200, 0, 0)}


@pytest.fixture
def make(composed: Compose) -> Make:
    def task(name: str, **options: Any) -> Task:
        cfg = composed(f"task={name}")
        cfg.task.update(options)
        return construct(cfg, "task", seed=0, device=CPU)

    return task


def write_images(folder: Path, count: int = 10, size: tuple[int, int] = (12, 8)) -> Path:
    """So many of each colour, wider than high; every second is a jpeg."""
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, colour).save(folder / name / f"{i}.{'jpg' if i % 2 else 'png'}")
    return folder


def test_a_folder_for_each_class_is_split_and_named(make: Make, tmp_path: Path) -> None:
    task = make("images", folder=str(write_images(tmp_path / "in")), size=[6, 4])
    assert {split: task.size(split) for split in Split} == {"train": 14, "validation": 3, "test": 3}
    assert list(task.class_names) == ["green", "red"]
    batch = next(task.batches(Split.TEST, batch_size=3, epoch=0))
    assert batch.inputs.shape == (3, 3, 6, 4)
    for image, target, name in zip(batch.inputs, batch.targets.tolist(), task.sample_names, strict=True):
        colour = list(COLOURS)[target]
        assert name.startswith(f"{colour}/")
        assert torch.allclose(image.mean(dim=(1, 2)), torch.tensor(COLOURS[colour]) / 255, atol=0.02)  # jpeg's loss
    grey = make("images", folder=str(tmp_path / "in"), colour=False)
    assert grey.spec.input_shape == (1, 32, 32)
    assert "in grey" in next(grey.introduction())


def test_a_folder_of_the_test_is_the_test(make: Make, tmp_path: Path) -> None:
    write_images(tmp_path / "train"), write_images(tmp_path / "test", count=2)
    task = make("images", folder=str(tmp_path), validation=0.1)
    assert {split: task.size(split) for split in Split} == {"train": 18, "validation": 2, "test": 4}
    assert task.sample_names == ["green/0.png", "green/1.jpg", "red/0.png", "red/1.jpg"]
    before = OwnImages.contents({"folder": str(tmp_path)})
    Image.new("RGB", (12, 8), (1, 2, 3)).save(tmp_path / "train/red/0.png")
    assert OwnImages.contents({"folder": str(tmp_path)}) != before


def test_other_images_are_put_to_a_trained_model(make: Make, tmp_path: Path) -> None:
    task = make("images", folder=str(write_images(tmp_path / "in")))
    Image.new("L", (9, 30), 3).save(tmp_path / "one.png")
    write_images(tmp_path / "new", count=1)
    for path, targets in ((tmp_path / "one.png", [UNKNOWN]), (tmp_path / "new", [0, 1])):
        new = task.with_data(path)
        [batch] = new.batches(Split.TEST, batch_size=5, epoch=0)
        assert (batch.targets.tolist(), batch.inputs.shape[1:]) == (targets, (3, 32, 32))
    assert len(task.sample_names) == 3, "the run's own task is as it was"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"folder": "none"}, "there is no such folder"),
        ({"folder": "empty"}, "holds no image"),
        ({"folder": "one"}, "has the class red alone"),
        ({"folder": "flat"}, r"lies in no folder of a class. Move it to .*flat/CLASS/a.png"),
        ({"folder": "bad"}, r"0.png cannot be read as an image .* or move it out of the folder"),
        ({"folder": "in", "size": [2, 2]}, "must be height and width"),
        ({"folder": "in", "validation": 0.6, "test": 0.6}, "less than 2 would be left"),
        ({"folder": "in", "test": 1.5}, "task.test must be a part"),
        (
            {"folder": "in", "transforms": [{"_target_": "torchvision.transforms.v2.Resize", "size": 5}]},
            "keep their size",
        ),
    ],
)
def test_what_cannot_be_read_is_named(make: Make, tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    write_images(tmp_path / "in", count=5)
    write_images(tmp_path / "bad", count=1)
    (tmp_path / "bad/green/0.png").write_bytes(b"\x89PNG torn")
    for name in ("empty", "flat", "one/red"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("flat", "one/red"):
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")

    def first_batch() -> None:
        task = make("images", **(options | {"folder": str(tmp_path / options["folder"])}))
        next(task.batches(Split.TRAIN, batch_size=2, epoch=0))

    with pytest.raises(RefusedInput, match=sentence):
        first_batch()


def test_a_class_that_is_held_back_whole_is_refused(make: Make, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in")
    (folder / "rare").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "rare/a.png")
    with pytest.raises(RefusedInput, match="no image to learn from is of the class rare. Give more images, or smaller"):
        make("images", folder=str(folder), validation=0.45, test=0.45)


def test_an_image_is_read_as_it_is_seen(tmp_path: Path) -> None:
    """16 bits are not cut down to 8, what is transparent is white, and a picture stands as its camera was held."""
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    turned = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 4, axis=1).repeat(8, axis=0))  # dark on the left
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    deep, glass, upright = read_images(find_images(tmp_path), size=(8, 8), colour=False)[:, 0]
    assert (deep.unique().tolist(), glass.unique().tolist()) == ([156], [255])
    assert bool((upright[:4] == 0).all())
    assert bool((upright[4:] == 255).all())
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(RefusedInput, match="float.tiff has pixels of 32 bits, without a defined white level"):
        read_images(find_images(tmp_path / "float.tiff"), size=(8, 8), colour=False)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_hard_images_are_told_from_easy_ones_however_few_there_are(count: int) -> None:
    images, labels = torch.zeros(count, 1, 4, 4, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    evaluations = torch.arange(count, dtype=torch.float64)
    figure = draw_hardest_and_easiest(images, labels, evaluations, names=["disk"], ink_on_paper=False)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert (titles[0], titles[len(titles) // 2]) == (f"disk, {count - 1}", "disk, 0")


def test_each_image_is_transformed_by_itself_and_alike_for_the_same_generator() -> None:
    images = torch.arange(8, dtype=torch.uint8).expand(64, 1, 2, 8)
    before = torch.random.get_rng_state()
    first, again = (
        transformed(images, v2.RandomHorizontalFlip(p=0.5), torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert 16 < int((first[:, 0, 0, 0] == 7).sum()) < 48
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_shapes_are_what_they_are_called() -> None:
    images, labels = drawn_shapes(30, (32, 40))
    assert images.shape == (30, 3, 32, 40)
    shares = torch.stack([_share(images[labels == number]) for number in range(3)])
    assert bool((shares[:2] > 0.05).all())
    assert shares[2] < shares[0], "a triangle is smaller than its disk"


def _share(images: torch.Tensor) -> torch.Tensor:
    bright = images.float().mean(dim=1)
    return (bright > 115).float().mean()


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six files in CIFAR-10's format: image i is filled with i, red above green above blue."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    dataset = torchvision.datasets.CIFAR10
    for names in (dataset.train_list, dataset.test_list):
        checked = []
        for name, _ in names:
            data = np.zeros((4, 3, 1024), np.uint8) + np.array([30, 20, 10], np.uint8)[:, None]
            data[:, 0] += np.arange(4, dtype=np.uint8)[:, None]
            content = pickle.dumps({"data": data.reshape(4, 3072), "labels": [0, 1, 2, 9]})
            (folder / name).write_bytes(content)
            checked.append([name, hashlib.md5(content).hexdigest()])
        monkeypatch.setattr(dataset, "train_list" if names is dataset.train_list else "test_list", checked)
    meta = pickle.dumps({"label_names": [f"kind{i}" for i in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": hashlib.md5(meta).hexdigest()})
    return tmp_path


def test_cifar_is_read_as_torchvision_keeps_it(make: Make, cifar: Path) -> None:
    task = make("cifar10", data_dir=str(cifar), validation=5)
    assert {split: task.size(split) for split in Split} == {"train": 15, "validation": 5, "test": 4}
    assert task.spec.input_shape == (3, 32, 32)
    [batch] = task.batches(Split.TEST, batch_size=9, epoch=0)
    assert (255 * batch.inputs[:, :, 0, 0]).round().tolist() == [[30 + i, 20, 10] for i in range(4)]
    assert [task.class_names[i] for i in batch.targets.tolist()] == ["kind0", "kind1", "kind2", "kind9"]


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_what_is_neither_there_nor_downloaded_is_told_in_a_sentence(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise URLError("the mirror is down")

    for module in ("cifar", "mnist"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", fail)
    place, own = tmp_path / "data", tmp_path / "own" / "empty"
    own.mkdir(parents=True)
    for folder in (place, own.parent):
        with pytest.raises(RefusedInput, match=r"cannot be read in .* nor downloaded .*task.data_dir or ODE_RUN_DATA"):
            make(name, data_dir=str(folder))
    assert not place.exists(), "a refusal leaves no folder"
    assert list(own.parent.iterdir()) == [own], "what was there stays"


@pytest.mark.slow
def test_a_run_of_images_names_classes_and_files(tmp_path: Path) -> None:
    write_images(tmp_path / "in")
    sizes = ("network.width=4", "task.size=[8,8]", "trainer.epochs=2", "solver=euler", "solver.num_steps=1")
    flip = "task.transforms=[{_target_: torchvision.transforms.v2.RandomHorizontalFlip}]"
    ended = typed("task=images", f"task.folder={tmp_path}/in", *sizes, flip, "logger=none", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = run_folder(tmp_path)
    assert {"confusion.png", "mistakes.png"} <= {path.name for path in (folder / "plots").iterdir()}
    for words in ((), (f"data={tmp_path}/in",)):
        assert typed(f"predict={folder}", *words, cwd=tmp_path).returncode == 0
        path = predicted(folder, "predictions.csv")
        said = pd.read_csv(path)
        assert len(said) == (20 if words else 3)
        assert (said["sample"].str.split("/").str[0] == said["true"]).all()
        assert set(said["predicted"]) <= set(COLOURS)
