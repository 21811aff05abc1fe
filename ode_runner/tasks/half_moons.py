"""Two interleaved half circles in the plane."""

from typing import final

import torch
from sklearn.datasets import make_moons

from ode_runner.batch import Split, TaskSpec
from ode_runner.tasks.classification import Samples, shuffled_splits
from ode_runner.tasks.points import Points
from ode_runner.tasks.sizes import check_counts, check_deviations


@final
class HalfMoons(Points):
    """scikit-learn's `make_moons`: `noise` is the standard deviation added to points on circles of radius 1."""

    def __init__(
        self, *, train: int, validation: int, test: int, noise: float, seed: int, device: torch.device
    ) -> None:
        check_counts(2, train=train, validation=validation, test=test)
        check_deviations(noise=noise)
        sizes = {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}
        points, classes = make_moons(sum(sizes.values()), noise=noise, random_state=seed)
        samples = Samples(torch.tensor(points, dtype=torch.float32), torch.tensor(classes))
        super().__init__(shuffled_splits(samples, sizes, seed), seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(2,), output_shape=(2,))
