"""Finding, downloading and reading the files of MNIST, or of any dataset in its format."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torchvision.datasets import MNIST

from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import Samples
from ode_runner.tasks.images.data_folder import data_folder
from ode_runner.tasks.images.idx import FILES, find_file, hash_idx, read_idx

MNIST_CONTENT = "8f840143b0cf"  # `hash_idx` of MNIST's own four files


def read_dataset(data_dir: str | None) -> tuple[Samples, Samples]:
    """The training and the test images in the files found from `data_dir`.

    Raises:
        RefusedInput: files are missing, damaged, or of different datasets.
    """
    folder = find_files(data_folder(data_dir))
    everything, test = (read_samples(folder, *FILES[part]) for part in ("train", "test"))
    if test.inputs.shape[1:] != everything.inputs.shape[1:] or int(test.targets.max()) > int(everything.targets.max()):
        raise RefusedInput(f"the training and test files in {folder} are of different datasets.")
    return everything, test


def check_validation(validation: int, count: int) -> None:
    """Raises RefusedInput unless `validation` is at least 1 and less than `count`."""
    if not 1 <= validation < count:
        raise RefusedInput(f"task.validation={validation} must leave something of {count} images.")


def dataset_contents(options: Mapping[str, Any]) -> dict[str, str | None]:
    """`Task.contents` for these files; None for MNIST itself, which is the same everywhere."""
    folder = data_folder(options.get("data_dir"))
    found = next(filter(None, (_all_in(place) for place in places_in(folder))), None)
    content = None if found is None else hash_idx(found)
    return {"data_dir": None if content == MNIST_CONTENT else content}


def places_in(data_dir: Path) -> tuple[Path, ...]:
    """The folders that may hold the files, in the order of the search."""
    return data_dir, data_dir / "raw", data_dir / "MNIST" / "raw"


def _all_in(folder: Path) -> list[Path] | None:
    found = [find_file(folder, name) for names in FILES.values() for name in names]
    return [path for path in found if path is not None] if None not in found else None


def find_files(data_dir: Path) -> Path:
    """The folder with the four files; MNIST is downloaded if none of them exists.

    Raises:
        RefusedInput: some files are missing, or there are none and the download failed.
    """
    wanted = [name for names in FILES.values() for name in names]
    for folder in places_in(data_dir):
        found = [name for name in wanted if find_file(folder, name) is not None]
        missing = [name for name in wanted if name not in found]
        if not missing:
            return folder
        if found or next(folder.glob("*idx[0-9]*"), None) is not None:  # the user's files: do not mix in others
            raise RefusedInput(
                f"{folder} holds idx files, but no {' and no '.join(missing)} (nor .gz). Add what is missing, or point "
                "task.data_dir elsewhere: where there are none, MNIST is downloaded."
            )
    there = data_dir.exists()
    try:
        return _download(data_dir)
    except (RuntimeError, OSError) as error:
        with suppress(OSError):
            if not there:
                data_dir.rmdir()  # only if it is empty: an error leaves no new folder
        raise RefusedInput(
            f"MNIST is not in {data_dir} and could not be downloaded ({first_and_last_line(error)}). Put the four idx "
            f"files in {data_dir / 'MNIST' / 'raw'}, point task.data_dir or ODE_RUN_DATA at them, "
            "or use task=digits, which needs no download."
        ) from error


def _download(data_dir: Path) -> Path:
    """Downloads to a temporary folder, then moves the complete files: another process may download them as well."""
    data_dir.mkdir(parents=True, exist_ok=True)
    raw = data_dir / "MNIST" / "raw"
    with tempfile.TemporaryDirectory(prefix="MNIST.unfinished-", dir=data_dir) as aside:
        MNIST(aside, download=True)
        raw.mkdir(parents=True, exist_ok=True)
        for name in (name for names in FILES.values() for name in names):
            os.replace(Path(aside) / "MNIST" / "raw" / name, raw / name)
    return raw


def read_samples(folder: Path, images_name: str, labels_name: str) -> Samples:
    """Images (samples, 1, height, width) as bytes, and their labels.

    Raises:
        RefusedInput: a file is truncated or in another format, or the two do not belong together.
    """
    images_path, labels_path = (find_file(folder, name) or folder / name for name in (images_name, labels_name))
    images, labels = read_idx(images_path, dimensions=3), read_idx(labels_path, dimensions=1).long()
    if len(images) != len(labels) or not images.numel():
        raise RefusedInput(f"{images_path} has {len(images)} images, but {labels_path.name} {len(labels)} labels.")
    return Samples(images[:, None], labels)


def first_and_last_line(error: BaseException) -> str:
    """The first and the last line of an error: torchvision puts what failed and why there, and all mirrors between."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join(line[:120] for line in dict.fromkeys((lines[0], lines[-1])))
