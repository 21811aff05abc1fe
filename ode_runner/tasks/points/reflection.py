"""A map that no flow on the line can be."""

from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.batch import Batch, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.line import draw_map
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.types import Scalar


@final
class Reflection(Task):
    """x to -x, at as many even `points` of [-1, 1], the same in all three splits.

    The state itself is the answer, for a linear head could turn the line around. Then a flow on the line, which keeps
    the order of points, is best where it brings all of them to 0: its mean squared error is that of x, and no smaller.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    gives_points: ClassVar[bool] = True
    objective: ClassVar[str] = "mse"
    higher_is_better: ClassVar[bool] = False

    def __init__(self, *, points: int, seed: int, device: torch.device) -> None:
        if points < 2:
            raise RefusedInput(f"task.points must be at least 2, not {points}.")
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
    """Mean square at the last time: at the first the state is the input."""
    return (values[-1] - targets[-1]).square().mean()
