"""The task of predicting the signed area that a polygonal line sweeps around the origin."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ode_runner.batch import AnswerTimes, Batch, Outputs, Split, TaskSpec
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.observations import with_roots
from ode_runner.tasks.series.series_classification import SHOWN, figures_of_series
from ode_runner.tasks.series.swept_area import AreaHead, AreaStem, SweptArea
from ode_runner.tasks.series.turning_spirals import draw_splits
from ode_runner.tasks.sizes import check_deviations, split_sizes
from ode_runner.types import Scalar


@final
class Area(Task):
    """The area sum 1/2 (x_i y_{i+1} - x_{i+1} y_i) over the observed points of a spiral that turns either way.

    It is the solution of a controlled equation, dA = 1/2 (x dy - y dx). With `running` it is asked for at every row,
    and an output may depend only on this row and earlier ones.
    """

    has_true_field: ClassVar[bool] = True
    gives_series: ClassVar[bool] = True
    test_only: ClassVar[frozenset[str]] = frozenset({"test"})  # it is drawn last by the generator
    objective: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False

    def __init__(
        self,
        *,
        train: int,
        validation: int,
        test: int,
        points: int,
        observed: int,
        noise: float,
        running: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        sizes = split_sizes(train=train, validation=validation, test=test)
        check_deviations(noise=noise)
        generator = torch.Generator().manual_seed(seed)
        drawn = draw_splits(sizes, points=points, observed=observed, noise=noise, generator=generator)
        self.inputs = {split: spirals.series.rows().double().to(device) for split, spirals in drawn.items()}
        times = torch.linspace(0, observed - 1 if running else 1, observed, dtype=torch.float64, device=device)
        self.spec = TaskSpec(
            input_shape=(observed, 4),
            output_shape=(1,),
            every_time=running,
            sequence=True,
            duration=drawn[Split.TRAIN].series.duration,
            causal=running,
            field=SweptArea(times),
            stem=AreaStem(times),
            head=AreaHead(),
        )
        self.ts = times if running else times[[0, -1]]
        self.running, self.seed = running, seed
        self.variance = {split: float(self._targets(rows)[-1].var()) for split, rows in self.inputs.items()}

    @classmethod
    def answer_times(cls, options: Mapping[str, Any]) -> AnswerTimes:
        return AnswerTimes.ROWS if options.get("running") else AnswerTimes.END

    def size(self, split: Split) -> int:
        return len(self.inputs[split])

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        rows, generator = self.inputs[split], shuffler(split, seed=self.seed, epoch=epoch)
        for chosen in in_batches(len(rows), batch_size, generator, device=rows.device):
            targets = self._targets(rows[chosen])
            yield Batch(rows[chosen], self.ts, targets if self.running else targets[-1])

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return (outputs.values - batch.targets).square().mean()

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        last = outputs.values[-1] - batch.targets[-1] if self.running else outputs.values - batch.targets
        return {"mse": self.loss(outputs, batch), "mse_last": last.square().mean()}

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        """`relative_rmse` is the RMSE at the last row, in standard deviations of the areas in the test split."""
        found = with_roots(means)
        return found | {"relative_rmse": found.pop("rmse_last") / self.variance[Split.TEST] ** 0.5}

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality=self.objective)
        rows = self.inputs[Split.TEST][:SHOWN]
        answers, areas = view.predict(rows, None), self._targets(rows)[-1]
        last = answers[-1] if self.running else answers
        captions = [
            f"area {a:.3f}, predicted {b:.3f}" for (a,), (b,) in zip(areas.tolist(), last.tolist(), strict=True)
        ]
        yield from figures_of_series(view, rows, captions, tested=len(self.inputs[Split.TEST]))

    def _targets(self, rows: Tensor) -> Tensor:
        """The area up to each row, (rows, batch, 1)."""
        return shoelace(rows[..., 0], rows[..., 1]).T[..., None]


def shoelace(x: Tensor, y: Tensor) -> Tensor:
    """Signed areas (series, rows) between the origin and the line through the points so far, 0 at the first."""
    parts = 0.5 * (x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1])
    return torch.cat([x.new_zeros(len(x), 1), parts.cumsum(dim=1)], dim=1)
