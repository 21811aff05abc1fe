"""The base of tasks with dynamical systems: trajectories of a known field, learned from short windows."""

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import Batch, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.field import VectorField
from ode_runner.plots.curves import Samples, draw_curves
from ode_runner.plots.difficulty import draw_difficulty_in_the_plane
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.phase_space import draw_phase_portrait
from ode_runner.plots.trajectories import draw_errors, draw_observations, draw_time_series
from ode_runner.tasks.base import ModelView, PerSampleCost
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.least_squares import LeastSquaresTask
from ode_runner.tasks.observations import (
    Observations,
    draw_times,
    observe,
    on_the_union,
    reference_solution,
    with_roots,
)
from ode_runner.tasks.sizes import check_counts, check_horizon
from ode_runner.types import Scalar

STILL = 1e-9  # relative to a trajectory's size: smaller movement is only rounding
SHOWN, FINE = 3, 201  # observed trajectories in a picture, and times at which they are drawn


@dataclass(kw_only=True, eq=False)
class Trajectories(LeastSquaresTask):
    """Solutions of a known ODE, observed at points in time.

    A training sample is a window of observations: the first one is the input, all of them are the target. The
    validation split contains whole trajectories from other initial states. The test split has no noise and four parts:
    the trajectory from `y0`; the training trajectories, at times between those of the even grid (`interpolation`) and
    after the last of these (`extrapolation`); and trajectories from new initial states (`unseen`).
    """

    train: int  # trajectories
    validation: int
    test: int
    box: Sequence[Sequence[float]]  # [low, high] of each coordinate, from which initial states are drawn
    y0: Sequence[float]  # initial state of the trajectory in the pictures
    horizon: float  # duration of observed trajectories, in the task's unit of time
    foresight: int  # horizons of the test: 3 is the observed one and two more
    points: int  # observations of a trajectory
    window: int  # consecutive observations in a training sample
    irregular: bool  # whether each trajectory has random observation times; otherwise an even grid
    noise: float  # standard deviation of the noise of each coordinate
    seed: int
    device: torch.device

    gives_points: ClassVar[bool] = True
    has_true_field: ClassVar[bool] = True
    test_only: ClassVar[frozenset[str]] = frozenset({"test", "foresight", "y0"})  # drawn last by the generator
    objective: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]]  # of the coordinates, as LaTeX
    invariant_name: ClassVar[str] = "the invariant"  # in pictures

    def __post_init__(self) -> None:
        self._check()
        generator = torch.Generator().manual_seed(self.seed)
        shape = (len(self.y0),)
        true = self.true_field()
        span = (0.0, self.horizon * self.foresight)
        self.spec = TaskSpec(
            input_shape=shape, output_shape=shape, every_time=True, autonomous=True, span=span, field=true
        )
        self.observations = {
            split: self._observe(true, size, generator)
            for split, size in {Split.TRAIN: self.train, Split.VALIDATION: self.validation}.items()
        }
        seen, unseen = self.observations[Split.TRAIN].start[: self.test], self._draw_starts(self.test, generator)
        portrait = torch.tensor([list(self.y0)], dtype=torch.float64)
        self.tests = {
            "portrait": self._test_batch(true, "portrait", portrait, spacing=1.0, horizons=self.foresight),
            "between": self._test_batch(true, "between", seen, spacing=0.5, horizons=1),
            "after": self._test_batch(true, "after", seen, spacing=1.0, horizons=self.foresight),
            "unseen": self._test_batch(true, "unseen", unseen, spacing=1.0, horizons=self.foresight),
        }

    @abc.abstractmethod
    def true_field(self) -> VectorField:
        """The right-hand side."""

    def invariant(self, y: Tensor) -> Tensor | None:
        """The conserved quantity of the true flow, of states (..., state); None if none is known."""
        del y
        return None

    def coordinates(self) -> Sequence[str]:
        return self.names

    def size(self, split: Split) -> int:
        sizes = {Split.TRAIN: self.train * (self.points - self.window + 1), Split.VALIDATION: self.validation}
        return sizes.get(split) or sum(len(batch.inputs) for batch in self.tests.values())

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        if split is Split.TRAIN:
            generator = shuffler(split, seed=self.seed, epoch=epoch)
            for chosen in in_batches(self.size(split), batch_size, generator, device=torch.device("cpu")):
                yield self._windows(chosen)
        elif split is Split.VALIDATION:
            seen = self.observations[split]
            for chosen in torch.arange(self.size(split)).split(batch_size):
                yield self._together(seen.times[chosen], seen.values[chosen])
        else:
            for whole in self.tests.values():
                for chosen in torch.arange(len(whole.inputs)).split(batch_size):
                    yield whole._replace(inputs=whole.inputs[chosen], targets=whole.targets[:, chosen])

    @property
    def each_once(self) -> bool:
        return self.window == self.points

    @property
    def noisy_starts(self) -> bool:
        return self.noise > 0

    def residuals(self, outputs: Outputs, batch: Batch) -> Tensor:
        error = outputs.values - batch.targets
        return error.flatten() if batch.observed is None else error[batch.observed].flatten()

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        error = outputs.values - batch.targets
        observed_span = batch.ts <= self.horizon * (1 + 1e-6)  # a little more, since the grid is rounded
        match batch.part:
            case "portrait":
                return self._portrait(outputs.values, batch.targets, error[observed_span])
            case "between":
                return {"mse_interpolation": error[1::2].square().mean()}
            case "after":
                return {} if self.foresight == 1 else {"mse_extrapolation": error[~observed_span].square().mean()}
            case "unseen":
                return {"mse_unseen": error[observed_span].square().mean()}
            case _:
                return {"mse": _mean_square(error, batch.observed)}

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        found = super().counts(outputs, batch)
        return found | {"mse": found["loss"]} if found else found

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        return with_roots(means)

    def field_metrics(self, field: VectorField) -> dict[str, float]:
        """The relative error of the learned field over the observed states."""
        dtype = next((p.dtype for p in field.parameters()), torch.float64)
        y = self.observations[Split.TRAIN].values.flatten(0, 1).to(dtype)
        true = self.true_field()(y.new_zeros(()), y)
        return {"field_error": float((field(y.new_zeros(()), y) - true).norm() / true.norm())}

    def figures_of_per_sample_cost(self, found: PerSampleCost) -> Iterator[tuple[str, Figure]]:
        yield from super().figures_of_per_sample_cost(found)
        if len(self.names) == 2:
            unseen = torch.tensor([part == "unseen" for part in found.parts])
            title = "Evaluations by initial state, over all horizons"
            points, names = self.tests["unseen"].inputs, (self.names[0], self.names[1])
            yield (
                "difficulty_plane",
                draw_difficulty_in_the_plane(points, found.evaluations[unseen], title=title, names=names),
            )

    def figures(self, view: ModelView) -> Iterator[tuple[str, Figure]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality=self.objective, samples=self._samples())
        portrait, unseen = self.tests["portrait"], self.tests["unseen"]
        values = view.predict(portrait.inputs, portrait.ts)
        label = "solved" if view.exact else "model"
        yield "trajectory", draw_time_series(portrait, values, names=self.names, horizon=self.horizon, label=label)
        if view.continuous and not view.exact:
            yield "observations", self._observed(view, label)
        others = view.predict(unseen.inputs, unseen.ts)
        both = torch.cat([values, others], 1), torch.cat([portrait.targets, unseen.targets], 1)
        fields = {"true field": self.true_field()}
        if view.learned_field is not None:
            fields["learned field"] = view.learned_field
        yield (
            "phase_portrait",
            draw_phase_portrait(*both, ts=portrait.ts, fields=fields, names=self.names, label=label),
        )
        conserved = (self.invariant, self.invariant_name)
        yield "error", draw_errors(portrait, values, invariant=conserved, horizon=self.horizon)

    def _samples(self) -> Samples:
        """What is solved in training and in validation, if these differ."""
        windows = self.window < self.points
        return Samples(f"windows of {self.window} points", "whole trajectories") if windows else Samples()

    def _observed(self, view: ModelView, label: str) -> Figure:
        """The first training trajectories, solved from their first observations."""
        seen = self.observations[Split.TRAIN]
        start, times, observed = (x[:SHOWN] for x in (seen.start, seen.times, seen.values))
        ts = torch.linspace(0, self.horizon, FINE, dtype=times.dtype, device=self.device)
        true = reference_solution(self.true_field(), start.cpu().double(), ts.cpu().double())
        found = view.predict(observed[:, 0], ts)
        solutions = {"true": true, label: found}
        return draw_observations(times, observed, ts, solutions, names=self.names, trajectories=self.train)

    def _check(self) -> None:
        check_counts(1, train=self.train, validation=self.validation, test=self.test, foresight=self.foresight)
        check_counts(2, points=self.points)
        if not 2 <= self.window <= self.points:
            raise RefusedInput(
                f"task.window={self.window} reaches beyond the data. Use 2 to task.points={self.points} points."
            )
        check_horizon(self.horizon)
        if not 0 <= self.noise < math.inf:
            raise RefusedInput(f"task.noise must be 0 or more, not {self.noise}.")
        if len(self.y0) != len(self.names):
            raise RefusedInput(f"task.y0={as_typed(self.y0)} must be {len(self.names)} numbers, such as [1.0,2.0].")
        if len(self.box) != len(self.names) or any(len(side) != 2 or not side[0] < side[1] for side in self.box):
            sides = ",".join(["[low,high]"] * len(self.names))
            raise RefusedInput(f"task.box={as_typed(self.box)} must be [{sides}] with low < high.")

    def _draw_starts(self, count: int, generator: torch.Generator) -> Tensor:
        low, high = torch.tensor([list(side) for side in self.box], dtype=torch.float64).T
        return low + (high - low) * torch.rand(count, len(self.box), generator=generator, dtype=torch.float64)

    def _observe(self, true: VectorField, count: int, generator: torch.Generator) -> Observations:
        start = self._draw_starts(count, generator)
        times = draw_times(count, self.points, self.horizon, generator if self.irregular else None)
        return observe(true, start, times, noise=self.noise, generator=generator).to(self.device)

    def _test_batch(self, true: VectorField, part: str, start: Tensor, *, spacing: float, horizons: int) -> Batch:
        """A part of the test split: no noise, an even grid with `spacing` times the training grid's distances."""
        times = draw_times(len(start), round((self.points - 1) * horizons / spacing) + 1, self.horizon * horizons, None)
        seen = observe(true, start.cpu(), times, noise=0.0, generator=torch.Generator()).to(self.device)
        return Batch(seen.start, seen.times[0], seen.values.transpose(0, 1), part=part)

    def _windows(self, chosen: Tensor) -> Batch:
        """The training samples with these indices: all windows of the first trajectory, then those of the second."""
        seen = self.observations[Split.TRAIN]
        per_trajectory = self.points - self.window + 1
        samples = (chosen // per_trajectory)[:, None]
        places = (chosen % per_trajectory)[:, None] + torch.arange(self.window)
        times = seen.times[samples, places]
        return self._together(times - times[:, :1], seen.values[samples, places])

    def _together(self, times: Tensor, values: Tensor) -> Batch:
        """Samples (batch, points, state), at `times` (batch, points) that begin at 0, as one batch."""
        if not self.irregular:
            # Windows of an even grid have equal times up to rounding, which must not be taken for different times.
            even = self.observations[Split.TRAIN].times[0, : times.shape[1]]
            return Batch(values[:, 0], even, values.transpose(0, 1))
        ts, targets, observed = on_the_union(times, values, torch.ones_like(times, dtype=torch.bool))
        return Batch(values[:, 0], ts, targets, observed=observed)

    def _portrait(self, values: Tensor, targets: Tensor, error: Tensor) -> dict[str, Scalar]:
        """Metrics of the trajectory from y0: errors over one horizon, and the largest errors over all of them.

        No relative error is given for a trajectory at rest.
        """
        reference = targets[: len(error)]
        size, scale = (x.square().sum(dim=-1).mean().sqrt() for x in (reference, reference - reference.mean(dim=0)))
        found = {"mse": error.square().mean(), "global_error": (values - targets).norm(dim=-1).max()}
        if scale > max(STILL, torch.finfo(scale.dtype).eps) * size:
            found["relative_rmse"] = error.square().sum(dim=-1).mean().sqrt() / scale
        conserved = self.invariant(values)
        if conserved is not None:
            found["invariant_drift"] = (conserved - conserved[0]).abs().max()
        return found


def _mean_square(error: Tensor, observed: Tensor | None) -> Scalar:
    """The mean squared error over coordinates, samples and times; if `observed` is given, over known times only."""
    return error.square().mean() if observed is None else error[observed].square().mean()
