"""The task of classifying spirals by their direction of turn."""

from typing import ClassVar, final

import torch

from ode_runner.errors import RefusedInput
from ode_runner.tasks.series.series_classification import LabelledSeries, SeriesClassification
from ode_runner.tasks.series.turning_spirals import draw_splits
from ode_runner.tasks.sizes import check_deviations, split_sizes


@final
class Chirality(SeriesClassification):
    """Spirals, half of them mirrored, observed at `observed` of `points` times; a share `missing` of the values is NaN.

    Kidger, Morrill, Foster, Lyons. Neural Controlled Differential Equations for Irregular Time Series. NeurIPS 2020
    (the example of torchcde).
    """

    test_only: ClassVar[frozenset[str]] = frozenset({"test"})  # it is drawn last by the generator

    def __init__(
        self,
        *,
        train: int,
        validation: int,
        test: int,
        points: int,
        observed: int,
        missing: float,
        noise: float,
        seed: int,
        device: torch.device,
    ) -> None:
        sizes = split_sizes(train=train, validation=validation, test=test)
        check_deviations(noise=noise)
        if not 0 <= missing < 1:
            raise RefusedInput(f"task.missing is a share of the values, from 0 to below 1, not {missing}.")
        generator = torch.Generator().manual_seed(seed)
        drawn = draw_splits(sizes, points=points, observed=observed, noise=noise, missing=missing, generator=generator)
        splits = {split: LabelledSeries(spirals.series, spirals.mirrored.long()) for split, spirals in drawn.items()}
        super().__init__(splits, classes=2, seed=seed, device=device)
