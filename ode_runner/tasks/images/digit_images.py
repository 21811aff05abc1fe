"""scikit-learn's digits, read and split: for the tasks that classify them and that ask for their density."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import Samples, shuffled_splits

BRIGHTEST = 16


def read_digits() -> Samples:
    """All of them, images (count, 1, 8, 8) of whole numbers from 0 to BRIGHTEST.

    From the file that `load_digits` reads, without importing scikit-learn, which takes a second.
    """
    found = find_spec("sklearn")
    assert found is not None
    assert found.submodule_search_locations, "a dependency"
    with gzip.open(Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz"), "rt") as file:
        rows = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))
    return Samples(rows[:, :-1].to(torch.uint8).view(-1, 1, 8, 8), rows[:, -1])


def digits_splits(validation: int, test: int, seed: int) -> dict[Split, Samples]:
    """Images (count, 1, 8, 8) of whole numbers from 0 to BRIGHTEST, in splits drawn by `seed`.

    Raises:
        RefusedInput: the counts leave nothing for training, or are less than 1.
    """
    samples = read_digits()
    train = len(samples.targets) - validation - test
    if min(validation, test, train) < 1:
        raise RefusedInput(
            f"task.validation={validation} and task.test={test} must each be at least 1 and leave something of "
            f"{len(samples.targets)} images."
        )
    return shuffled_splits(samples, {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}, seed)
