"""The task of following a point that moves on a circle."""

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.batch import LEARNER, Answer, Batch, Learner, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.integral import VJP, Integral
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.tracking import animate_tracking, draw_tracking
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.sizes import check_counts, check_deviations
from ode_runner.types import Scalar, State, Time

MOST_PERIODS = 1000
COST = "squared_distance"
SHOWN, NODES = 40, 40  # of the pictures: samples, and times of a period
PERIODS, SKIPPED = 5, 4  # of the animation: periods at most, and times per frame


@final
class Tracking(Task):
    """Follow (cos 2 pi t, sin 2 pi t), from initial states drawn from a normal distribution around (1, 0).

    The loss is the integral of the squared distance over one period, without a terminal cost. Step size control
    includes this integral, since its integrand depends on time, which a field at rest would not show.

    After training, the solve continues for `periods` periods. `deviation` is the mean distance over all times asked for
    (one period in validation), and `deviation_last_period` is that over the last period. `squared_distance` is the
    integral computed from these distances, to be compared with the loss. Networks do not receive the time if that is
    optional, so that the learned motion is periodic if their weights are.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.

    Args:
        std: standard deviation of the initial states.
        test_std: the same for the test split.
        points: times in a period at which the distance is measured.
    """

    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.VALUES, Answer.STATES})
    gives_points: ClassVar[bool] = True
    test_only: ClassVar[frozenset[str]] = frozenset({"test", "test_std", "periods"})  # drawn last by the generator
    objective: ClassVar[str] = "deviation"
    higher_is_better: ClassVar[bool] = False

    def __init__(
        self,
        *,
        train: int,
        validation: int,
        test: int,
        std: float,
        test_std: float,
        points: int,
        periods: int,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(2, train=train, validation=validation, test=test, points=points)
        check_deviations(std=std, test_std=test_std)
        if not 1 <= periods <= MOST_PERIODS:
            raise RefusedInput(f"task.periods must be from 1 to {MOST_PERIODS}, not {periods}.")
        generator = torch.Generator().manual_seed(seed)
        drawn = ((Split.TRAIN, train, std), (Split.VALIDATION, validation, std), (Split.TEST, test, test_std))
        self.starts = {split: _starts(count, width, generator).to(device) for split, count, width in drawn}
        self.points, self.periods, self.seed, self.device = points, periods, seed, device
        self.distance = Integral(_squared_distance, judged=True)
        span = (0.0, float(periods))
        self.spec = TaskSpec(
            input_shape=(2,), output_shape=(2,), every_time=True, autonomous=True, state_itself=True, span=span
        )

    def size(self, split: Split) -> int:
        return len(self.starts[split])

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        starts, ts, generator = self.starts[split], self._times(split), shuffler(split, seed=self.seed, epoch=epoch)
        for chosen in in_batches(len(starts), batch_size, generator, device=self.device):
            yield Batch(starts[chosen], ts, circle(ts)[:, None].expand(-1, len(chosen), -1))

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        """Zero: the running cost is the whole loss."""
        return outputs.values.new_zeros(())

    def running_costs(self) -> Mapping[str, Integral]:
        return {COST: self.distance}

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        if len(batch.ts) == 2:
            return {}  # training asks for no intermediate states
        apart = (outputs.values - batch.targets).norm(dim=-1)
        integral = torch.trapezoid(apart.square(), batch.ts, dim=0).mean()
        found = {"deviation": apart[1:].mean(), COST: integral}
        runs_on = len(apart) > self.points + 1
        return found | ({"deviation_last_period": apart[-self.points :].mean()} if runs_on else {})

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        loss, integral = metrics["test/loss"], metrics[f"test/{COST}"]
        if not abs(loss - integral) <= 1e-3 + 0.1 * integral:
            yield (
                f"the cost by the run's own solver, {loss:.4f}, is not that of the path, {integral:.4f}: steps are too "
                f"long, and training may have learned to exploit that. Use {learner.finer}."
            )

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield "curves", draw_curves(view.history, quality=self.objective)
        starts = self.starts[Split.TEST][:SHOWN]
        ts = self._grid(NODES * self.periods, NODES)
        states = view.predict(starts, ts)
        tested = self.size(Split.TEST)
        yield "tracking", draw_tracking(states, circle(ts), ts, tested=tested)
        if view.animate:
            some = slice(0, 1 + NODES * min(self.periods, PERIODS), SKIPPED)
            yield "tracking_in_motion", animate_tracking(states[some], circle(ts[some]), ts[some], tested=tested)

    def _times(self, split: Split) -> Tensor:
        """In training only both ends of the period: the loss is an integral, and other output times cost steps."""
        if split is Split.TRAIN:
            return self._grid(1, 1)
        return self._grid(self.points * (self.periods if split is Split.TEST else 1), self.points)

    def _grid(self, count: int, each: int) -> Tensor:
        """`count` times after 0, `each` of them in a period."""
        return torch.arange(count + 1, device=self.device) / each


def circle(t: Tensor) -> Tensor:
    """The position (..., 2) of the point at times (...)."""
    angle = 2 * math.pi * t
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def _starts(count: int, std: float, generator: torch.Generator) -> Tensor:
    return torch.tensor([1.0, 0.0]) + std * torch.randn(count, 2, generator=generator)


def _squared_distance(t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
    """Of the first two coordinates, which are the position; a model may append others."""
    del dy, vjp, given
    return (y[:, :2] - circle(t)).square().sum(dim=1)
