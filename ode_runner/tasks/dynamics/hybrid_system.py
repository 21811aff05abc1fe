"""The base of tasks with hybrid systems, whose solutions have continuous flow and discrete events."""

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import Answer, Batch, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.event import Event, Events
from ode_runner.field import VectorField
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.events import draw_events
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.least_squares import LeastSquaresTask
from ode_runner.tasks.observations import with_roots
from ode_runner.tasks.sizes import check_counts, check_horizon
from ode_runner.types import Scalar, State, Times, Trajectory

FINE = 401  # times in a picture
OF_TRAJECTORIES = "mse_of_trajectories"  # `mse` as in the loss: batches are weighted by their trajectories


@dataclass(kw_only=True, eq=False)
class HybridSystem(LeastSquaresTask):
    """Solutions of a known equation with known events; each event resets the state, and the last one ends the solution.

    The loss is the mean squared error of the event times, in which a missing event counts as one at the last time, plus
    `state_weight` times that of the states at `points` evenly spaced times up to the last event. Metrics:
    `event_time_error`, the mean absolute error of the event times; `missed_events`, the share of events that are
    missing; `rmse` of the states; and each learned parameter, by its name.
    """

    train: int  # trajectories
    validation: int
    test: int
    box: Sequence[Sequence[float]]  # [low, high] of each coordinate, from which initial states are drawn
    events: int  # number of events per trajectory; the last one ends it
    horizon: float  # the last time of a model's solve; events must come before
    points: int  # even times at which states are observed
    state_weight: float
    seed: int
    device: torch.device

    gives_points: ClassVar[bool] = True
    has_true_field: ClassVar[bool] = True
    test_only: ClassVar[frozenset[str]] = frozenset({"test"})  # it is drawn last by the generator
    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.VALUES, Answer.EVENTS})
    objective: ClassVar[str] = "event_time_error"
    higher_is_better: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]]  # of the coordinates, as LaTeX
    levels: ClassVar[tuple[str, ...]] = ()  # options that are levels of events, for the picture

    def __post_init__(self) -> None:
        self._check()
        self.more_errors = "" if self.state_weight else "task.state_weight=1"
        generator = torch.Generator().manual_seed(self.seed)
        count = len(self.names)
        self.spec = TaskSpec(
            input_shape=(count,), output_shape=(count,), every_time=True, autonomous=True, state_itself=True,
            span=(0.0, self.horizon), field=self.true_field(), event=self.true_event(),
        )  # fmt: skip
        self.ts = torch.linspace(0, self.horizon, self.points, dtype=torch.float64)
        sizes = {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}
        self.data = {split: self._data(size, generator) for split, size in sizes.items()}

    @abc.abstractmethod
    def true_field(self) -> VectorField:
        """The right-hand side, with its parameters as buffers of shape ()."""

    @abc.abstractmethod
    def true_event(self) -> Event:
        """The true event, with its reset."""

    @abc.abstractmethod
    def flow(self, y: State, time: Tensor) -> State:
        """The states a `time` (batch,) after states `y`, without events."""

    @abc.abstractmethod
    def time_to_event(self, y: State) -> Tensor:
        """The time from states `y` to the next event, (batch,); infinite if there is none."""

    @abc.abstractmethod
    def reset(self, y: State) -> State:
        """The states after an event."""

    def coordinates(self) -> Sequence[str]:
        return self.names

    def size(self, split: Split) -> int:
        return len(self.data[split].inputs)

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        whole, generator = self.data[split], shuffler(split, seed=self.seed, epoch=epoch)
        assert whole.observed is not None
        assert whole.event_times is not None
        for some in in_batches(self.size(split), batch_size, generator, device=self.device):
            yield Batch(
                whole.inputs[some],
                whole.ts,
                whole.targets[:, some],
                observed=whole.observed[:, some],
                event_times=whole.event_times[:, some],
            )

    @property
    def each_once(self) -> bool:
        return True

    def residuals(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Errors of times, and of states, so weighted that their mean square is the loss."""
        times, states = self._time_errors(outputs, batch)[0].flatten(), self._state_errors(outputs, batch).flatten()
        if self.state_weight == 0:
            return times
        whole = len(times) + len(states)
        return torch.cat(
            [times * math.sqrt(whole / len(times)), states * math.sqrt(self.state_weight * whole / max(1, len(states)))]
        )

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        errors, _ = self._time_errors(outputs, batch)
        return errors.square().mean() + self.state_weight * self._state_errors(outputs, batch).square().mean()

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        errors, missed = self._time_errors(outputs, batch)
        return {
            "event_time_error": errors.abs().mean(),
            "missed_events": missed.to(errors).mean(),
            "mse": (error := self._state_errors(outputs, batch).square().mean()),
            OF_TRAJECTORIES: error,
        }

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        return {"mse": int(self._in_both(outputs, batch).sum()) * outputs.values.shape[-1]}

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        """The means, with a corrected loss: time errors are means over trajectories, state errors over states.

        With a single count for the sum of both, one of them would depend on the batch size.
        """
        found = dict(means)
        change = self.state_weight * (found["mse"] - found.pop(OF_TRAJECTORIES))
        return with_roots(found | {name: found[name] + change for name in ("loss", "loss/task") if name in found})

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality=self.objective)
        start = self.data[Split.TEST].inputs[:1]
        ts = torch.linspace(0, self.horizon, FINE, dtype=start.dtype, device=start.device)
        states, times, valid = self.truth(start.cpu(), ts.cpu().double())
        answer = view.answer(start, ts)
        true = Events(times=times, states=states.new_empty(0), valid=valid)
        found = _events(answer)
        levels = {name: float(getattr(self, name)) for name in self.levels}
        yield (
            "events",
            draw_events(
                ts, states, true, answer.values, found, observed=self._observed(), names=self.names, levels=levels
            ),
        )

    def _observed(self) -> tuple[Times, Tensor]:
        """The first test trajectory: times (time,), and states (time, coordinate), NaN after its end."""
        seen = self.data[Split.TEST]
        assert seen.observed is not None
        return seen.ts, torch.where(seen.observed[:, 0, None], seen.targets[:, 0], torch.nan)

    def truth(self, start: State, ts: Tensor) -> tuple[Trajectory, Tensor, Tensor]:
        """States (time, batch, state) at increasing times, times of events (event, batch), and which outputs are valid.

        At the time of an event the output is the state before the reset; after the last event it keeps that event's
        state.
        """
        y, begin = start.double(), torch.zeros(len(start), dtype=torch.float64)
        states, times = y.repeat(len(ts), 1, 1), list[Tensor]()
        for number in range(self.events):
            after = self.time_to_event(y)
            end = begin + after
            before = self.flow(y, after)
            since = (ts[:, None] - begin).clamp(min=torch.zeros(()), max=after)
            flown = torch.stack([self.flow(y, dt) for dt in since])
            states = torch.where((ts[:, None] > begin)[..., None], flown, states)
            times.append(end)
            if number + 1 < self.events:
                y, begin = self.reset(before), end
        return states, torch.stack(times), ts[:, None] <= times[-1]

    def _data(self, count: int, generator: torch.Generator) -> Batch:
        low, high = torch.tensor([list(side) for side in self.box], dtype=torch.float64).T
        start = low + (high - low) * torch.rand(count, len(self.box), generator=generator, dtype=torch.float64)
        states, times, valid = self.truth(start, self.ts)
        if not bool((times < self.horizon).all()):
            last = float(times.max())
            raise RefusedInput(
                f"the last of task.events={self.events} is at t={last:.6g}, after task.horizon={self.horizon:g}. Use "
                f"task.horizon={math.ceil(1.1 * last)}, so that a model that is late has it too, or fewer events."
            )
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return Batch(
            start.to(self.device, dtype), self.ts.to(self.device, dtype), states.to(self.device, dtype),
            observed=valid.to(self.device), event_times=times.to(self.device, dtype),
        )  # fmt: skip

    def _time_errors(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """Errors of the event times, (event, batch), and which events are missing."""
        assert batch.event_times is not None
        found, true = _events(outputs).times, batch.event_times
        lacking = found.new_full((max(0, len(true) - len(found)), found.shape[1]), math.nan)
        found = torch.cat([found, lacking])[: len(true)]
        missed = found.isnan()
        return torch.where(missed, batch.ts[-1], found) - true, missed

    def _state_errors(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Errors of the states before the end of both solutions, (state, coordinate)."""
        return (outputs.values - batch.targets)[self._in_both(outputs, batch)]

    @staticmethod
    def _in_both(outputs: Outputs, batch: Batch) -> Tensor:
        """The outputs before the end of both solutions: a mask (time, batch)."""
        assert batch.observed is not None
        return batch.observed & _events(outputs).valid

    def _check(self) -> None:
        check_counts(1, train=self.train, validation=self.validation, test=self.test, events=self.events)
        check_counts(2, points=self.points)
        check_horizon(self.horizon)
        if self.state_weight < 0:
            raise RefusedInput(f"task.state_weight must be 0 or more, not {self.state_weight}.")
        sides = ",".join(["[low,high]"] * len(self.names))
        if len(self.box) != len(self.names) or any(len(side) != 2 or not side[0] <= side[1] for side in self.box):
            raise RefusedInput(f"task.box={as_typed(self.box)} must be [{sides}] with low no more than high.")


def _events(outputs: Outputs) -> Events:
    if outputs.events is None:
        raise RefusedInput("the task asks for times of events, and the model's Outputs have no `events`.")
    return outputs.events
