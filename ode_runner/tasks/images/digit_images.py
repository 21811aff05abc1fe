"""The handwritten digits of scikit-learn, and their splits, for classification and density tasks."""

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
    """All images (count, 1, 8, 8), integers from 0 to BRIGHTEST, with their classes.

    They are read from the file of `load_digits` without importing scikit-learn, which would take a second.
    """
    found = find_spec("sklearn")
    assert found is not None
    assert found.submodule_search_locations, "a dependency"
    with gzip.open(Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz"), "rt") as file:
        rows = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))
    return Samples(rows[:, :-1].to(torch.uint8).view(-1, 1, 8, 8), rows[:, -1])


def digits_splits(validation: int, test: int, seed: int) -> dict[Split, Samples]:
    """Images (count, 1, 8, 8), integers from 0 to BRIGHTEST, in splits drawn by `seed`.

    Raises:
        RefusedInput: the counts leave no images for training, or are less than 1.
    """
    samples = read_digits()
    train = len(samples.targets) - validation - test
    if min(validation, test, train) < 1:
        raise RefusedInput(
            f"task.validation={validation} and task.test={test} must each be at least 1 and leave something of "
            f"{len(samples.targets)} images."
        )
    return shuffled_splits(samples, {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}, seed)
