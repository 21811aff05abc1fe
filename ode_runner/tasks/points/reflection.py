"""The task of learning the map x to -x, which is impossible for a flow on the line."""

from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.batch import Batch, Outputs, Split, TaskSpec
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.line import draw_map
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.sizes import check_counts
from ode_runner.types import Scalar


@final
class Reflection(Task):
    """Maps x to -x, for `points` evenly spaced points of [-1, 1], which are the same in all splits.

    The output is the state itself, since a linear head could invert the line. A flow on the line keeps the order of
    points, so that its best result is to move all of them to 0: the mean squared error is then that of x.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    gives_points: ClassVar[bool] = True
    objective: ClassVar[str] = "mse"
    higher_is_better: ClassVar[bool] = False

    def __init__(self, *, points: int, seed: int, device: torch.device) -> None:
        check_counts(2, points=points)
        self.inputs = torch.linspace(-1, 1, points, device=device)[:, None]
        self.ts = torch.tensor([0.0, 1.0], device=device)
        self.seed = seed
        self.spec = TaskSpec(input_shape=(1,), output_shape=(1,), every_time=True, autonomous=True, state_itself=True)

    def size(self, split: Split) -> int:
        return len(self.inputs)

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        generator = shuffler(split, seed=self.seed, epoch=epoch)
        for chosen in in_batches(len(self.inputs), batch_size, generator, device=self.inputs.device):
            x = self.inputs[chosen]
            yield Batch(x, self.ts, torch.stack([x, -x]))

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return _at_the_end(outputs.values, batch.targets)

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        return {"mse": _at_the_end(outputs.values, batch.targets)}

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield "curves", draw_curves(view.history, quality=self.objective)
        x = self.inputs
        outputs = view.predict(x, self.ts)[-1]
        yield "reflection", draw_map(view.path(view.encode(x), 41), x[:, 0], -x[:, 0], outputs[:, 0])


def _at_the_end(values: Tensor, targets: Tensor) -> Scalar:
    """The mean squared error at the last time; at the first time the state is the input."""
    return (values[-1] - targets[-1]).square().mean()
