"""The base of tasks with known stochastic equations: each path is driven by its own Brownian motion."""

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import Answer, Batch, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.field import StochasticField, VectorField
from ode_runner.noise.brownian_path import BrownianPath, Increment, Noise, StepIncrements
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.stochastic import draw_paths
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.sizes import check_counts, check_horizon
from ode_runner.types import Scalar, State, Times, Trajectory

DEPTH = 20  # of the Brownian paths: a cell of their grid can be halved so often
SPLITS = {Split.TEST: 0, Split.VALIDATION: 1, Split.TRAIN: 2}  # the order of the splits in the numbers of samples
NUMBERS = 1 << 28  # the largest number of samples of a split
OTHERS = 1 << 10  # of `NUMBERS`: offset of noise that is not the data's; in training it is new in every epoch
DRAWN = 65  # times in a picture
MOST_FINE = 1_000_000
BAND = 500  # paths from which the band in a picture is computed


@dataclass(kw_only=True, eq=False)
class StochasticPaths(Task):
    """Paths of a known stochastic equation from random initial states; a path's number determines its noise.

    A model receives the initial state of a path and its noise, and is compared with the true path for the same noise:
    by the mean distance at the last time (`strong_error`) and by the difference of the means (`weak_error`), each with
    its standard error. With `sequence`, a model instead receives noisy observations of a path, and learns the
    distribution of such paths: the loss is the negative log likelihood of the observations, given the model's path.
    """

    train: int  # paths
    validation: int
    test: int
    y0: Sequence[float]  # mean of the initial states
    spread: float  # standard deviation of the initial states
    horizon: float  # of paths, in the task's unit of time
    points: int  # evenly spaced times of a path
    cells: int  # cells of the Brownian paths per unit of time; solver steps are cells, or are halved from them
    fine: int  # steps per unit of time of the true path, if it has no closed form
    sequence: bool  # inputs are noisy observations of a path, for latent SDE models
    noise: float  # standard deviation of an observation, with `sequence`
    kl_epochs: int  # with `sequence`: epochs in which the weight of KL divergences rises to 1
    seed: int
    device: torch.device

    has_true_field: ClassVar[bool] = True
    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.PATHS})
    test_only: ClassVar[frozenset[str]] = frozenset({"test"})
    objective: ClassVar[str] = "mse"
    higher_is_better: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]]  # of the coordinates, as LaTeX

    def __post_init__(self) -> None:
        self._check()
        size = len(self.names)
        self.path = BrownianPath(seed=self.seed, cells=self.cells, depth=DEPTH)
        self.ts = torch.linspace(0, self.horizon, self.points, dtype=torch.float64, device=self.device)
        self.spec = TaskSpec(
            input_shape=(self.points, size + 2) if self.sequence else (size,),
            output_shape=(size,),
            every_time=True,
            autonomous=True,
            state_itself=not self.sequence,
            sequence=self.sequence,
            span=(0.0, self.horizon),
            field=None if self.sequence else self.true_field(),
            path=self.path,
        )
        self.sizes = {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}
        self.values = {
            split: self._draw(split, torch.arange(self.sizes[split], device=self.device))
            for split in (Split.TRAIN, Split.VALIDATION)
        }

    @abc.abstractmethod
    def true_field(self) -> StochasticField:
        """The true drift and diffusion, as a field."""

    @abc.abstractmethod
    def follow(self, y: State, t0: float, t1: float, noise: Increment) -> State:
        """The true path at t1, from `y` at t0, for this noise; exact, or with the error of steps of 1 / `fine`."""

    def coordinates(self) -> Sequence[str]:
        return self.names

    def size(self, split: Split) -> int:
        return self.sizes[split]

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        generator = shuffler(split, seed=self.seed, epoch=epoch)
        for chosen in in_batches(self.size(split), batch_size, generator, device=self.device):
            batch = self._batch(split, chosen)
            if not self.sequence:
                yield batch._replace(numbers=chosen + NUMBERS * SPLITS[split])  # the same noise as in the data
                continue
            turn, risen = (epoch, min(1.0, (epoch + 1) / self.kl_epochs)) if split is Split.TRAIN else (0, 1.0)
            numbers = chosen + NUMBERS * (OTHERS + SPLITS[split] + turn)
            yield batch._replace(numbers=numbers, weights={"kl": risen, "kl_path": risen})

    def _batch(self, split: Split, chosen: Tensor) -> Batch:
        values = self.values[split][:, chosen] if split in self.values else self._draw(split, chosen)
        if not self.sequence:
            return Batch(values[0], self.ts, values)
        seen = values + self.noise * self._errors(split, chosen, values)
        rows = [seen, self.ts[:, None, None].expand(-1, len(chosen), 1), torch.ones_like(seen[..., :1])]
        return Batch(torch.cat(rows, dim=2).transpose(0, 1), self.ts, seen)

    def _draw(self, split: Split, chosen: Tensor) -> Trajectory:
        return self.true_paths(self._starts(split, chosen), self.ts, chosen + NUMBERS * SPLITS[split])

    def true_paths(self, y0: State, ts: Times, numbers: Tensor) -> Trajectory:
        """The true paths at `ts`, from `y0`, with the noise of these numbers."""
        places = ts.tolist()
        steps = [step for t0, t1 in pairwise(places) for step in self._steps(t0, t1)]
        noise = StepIncrements(Noise(path=self.path, samples=numbers), steps, y0.shape[1:], dtype=torch.float64)
        y, ys = y0, [y0]
        for t0, t1 in steps:
            y = self.follow(y, t0, t1, noise.find(t0, t1))
            if t1 == places[len(ys)]:
                ys.append(y)
        return torch.stack(ys)

    def _steps(self, t0: float, t1: float) -> list[tuple[float, float]]:
        """Steps of at most 1 / fine, at times for which the Brownian path needs the fewest draws."""
        grid = self.cells * 2.0 ** math.ceil(math.log2(self.fine / self.cells))  # per unit of time: cells or halvings
        first, last = math.floor(t0 * grid + 1e-6) + 1, math.ceil(t1 * grid - 1e-6)
        return list(pairwise([t0, *(k / grid for k in range(first, last)), t1]))

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        """The mean squared error; with `sequence`, the negative log likelihood of the observations."""
        copies = self._copies(outputs, batch)
        if not self.sequence:
            return (copies - batch.targets[:, None]).square().mean()
        scaled = (copies - batch.targets[:, None]) / self.noise
        nats = scaled.square() / 2 + math.log(self.noise) + math.log(math.tau) / 2
        return nats.sum(dim=(0, 3)).mean()

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        values = self._copies(outputs, batch).mean(dim=1)
        error = values - batch.targets
        found = {"mse": error.square().mean()}
        if self.sequence:
            divergences = {name: term.mean() for name, term in outputs.terms.items()}
            bound = -self.loss(outputs, batch) - sum(divergences.values(), found["mse"].new_zeros(()))
            return found | divergences | {"elbo": bound}
        last, end = error[-1], values[-1]
        distance = last.norm(dim=1)
        found |= {"strong": distance.mean(), "strong_square": distance.square().mean()}
        for i in range(end.shape[1]):
            found |= {f"weak_{i}": last[:, i].mean(), f"weak_square_{i}": last[:, i].square().mean()}
            found |= {f"end_{i}": end[:, i].mean(), f"end_square_{i}": end[:, i].square().mean()}
        return found

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        """Errors with their standard errors; mean and variance of the first coordinate at the last time."""
        found = {name: mean for name, mean in means.items() if not name.startswith(("strong", "weak_", "end_"))}
        if "strong" not in means:
            return found
        count = max(2, self.test)
        weak = [(means[f"weak_{i}"], means[f"weak_square_{i}"]) for i in range(len(self.names))]
        variance = sum(_variance(mean, square, count) for mean, square in weak)
        return found | {
            "strong_error": means["strong"],
            "strong_error_se": math.sqrt(_variance(means["strong"], means["strong_square"], count) / count),
            "weak_error": math.sqrt(sum(mean**2 for mean, _ in weak)),
            "weak_error_se": math.sqrt(variance / count),
            "end_mean": means["end_0"],
            "end_variance": _variance(means["end_0"], means["end_square_0"], count),
        }

    def field_metrics(self, field: VectorField) -> dict[str, float]:
        """Over the training paths: the relative errors `drift_error` and `diffusion_error`, and `diffusion`.

        `diffusion` is the root mean square diffusion of the first coordinate. `diffusion_measured` is the same,
        estimated from the quadratic variation of the paths after subtracting the true drift.
        """
        if not isinstance(field, StochasticField) or self.sequence or not list(field.parameters()):
            return {}
        true, paths = self.true_field(), self.values[Split.TRAIN]
        dtype = next((p.dtype for p in field.parameters()), torch.float64)
        y, t = paths[:-1].flatten(0, 1), paths.new_zeros(())
        pairs = [
            (learned(t.to(dtype), y.to(dtype)).to(y), exact(t, y))
            for learned, exact in ((field.drift, true.drift), (field.diffusion, true.diffusion))
        ]
        drift, diffusion = (float((found - exact).norm() / exact.norm()) for found, exact in pairs)
        length = self.horizon / (self.points - 1)
        drifted = length * true.drift(t, y).unflatten(0, (self.points - 1, -1))
        moved = (paths.diff(dim=0) - drifted)[..., 0].square().mean() / length
        return {
            "drift_error": drift,
            "diffusion_error": diffusion,
            "diffusion": float(pairs[1][0][:, 0].square().mean().sqrt()),
            "diffusion_measured": float(moved.sqrt()),
        }

    def figures(self, view: ModelView) -> Iterator[tuple[str, Figure]]:
        if view.history:
            yield "curves", draw_curves(view.history)
        if self.sequence:
            yield from self._recognised(view)
            return
        start = torch.tensor([list(self.y0)], dtype=torch.float64, device=self.device).expand(BAND, -1)
        ts = torch.linspace(0, self.horizon, DRAWN, dtype=torch.float64, device=self.device)
        true = self.true_paths(start, ts, torch.arange(BAND, device=self.device))
        title = f"From {as_typed(list(self.y0))}: {BAND} true paths and {BAND} of the model, along the same noise"
        yield "paths", draw_paths(ts, true, view.predict(start, ts), names=self.names, title=title)

    def _recognised(self, view: ModelView) -> Iterator[tuple[str, Figure]]:
        """Observations of the first test path, and sampled paths of the model given these."""
        batch = self._batch(Split.TEST, torch.arange(1, device=self.device))
        values = view.predict(batch.inputs.expand(BAND, -1, -1), self.ts)[:, :BAND]
        title = f"Observations of a test path, and {BAND} paths of the model given them, without noise of observation"
        yield "paths", draw_paths(self.ts, batch.targets, values, names=self.names, title=title)

    def _copies(self, outputs: Outputs, batch: Batch) -> Tensor:
        """(time, copies, batch, coordinate): copies of a sample if the model samples several initial states."""
        return outputs.values.unflatten(1, (-1, len(batch.inputs)))

    def _starts(self, split: Split, chosen: Tensor) -> State:
        """Initial states, which a sample's number determines like its noise: they use the path before time 0."""
        keys = self.path.keys(chosen + NUMBERS * SPLITS[split], (len(self.names),))
        normal = self.path.increment(-2.0, -1.0, keys, dtype=torch.float64).w
        return torch.tensor(list(self.y0), dtype=torch.float64, device=self.device) + self.spread * normal

    def _errors(self, split: Split, chosen: Tensor, values: Trajectory) -> Trajectory:
        """Standard normal errors of observations, (time, batch, coordinate)."""
        keys = self.path.keys(chosen + NUMBERS * SPLITS[split], values.shape[2:])
        length = 1 / self.cells
        steps = [(-(i + 4) - length, -(i + 4.0)) for i in range(len(values))]
        return self.path.increments(steps, keys, dtype=torch.float64).w / math.sqrt(length)

    def unused_options(self) -> Mapping[str, str]:
        return {} if self.sequence else dict.fromkeys(("noise", "kl_epochs"), "task.sequence=false")

    def rising_weights(self) -> Mapping[str, tuple[str, int]]:
        return {"kl_path": ("kl_epochs", self.kl_epochs)}

    def _check(self) -> None:
        least_of = {"train": 1, "validation": 1, "test": 2, "points": 2, "cells": 1, "fine": 1, "kl_epochs": 1}
        for name, least in least_of.items():
            check_counts(least, **{name: getattr(self, name)})
        check_horizon(self.horizon)
        if self.fine * self.horizon > MOST_FINE:
            raise RefusedInput(
                f"task.fine={self.fine} over task.horizon={self.horizon} makes more than {MOST_FINE:,} steps of a true "
                "path. Use a smaller one of them."
            )
        if not 0 <= self.spread < math.inf:
            raise RefusedInput(f"task.spread must be 0 or more, not {self.spread}.")
        if not 0 < self.noise < math.inf:
            raise RefusedInput(f"task.noise must be positive, not {self.noise}: it is the width of a likelihood.")
        if len(self.y0) != len(self.names):
            raise RefusedInput(f"task.y0={as_typed(list(self.y0))} must have {len(self.names)} numbers.")


def _variance(mean: float, square: float, count: int) -> float:
    """The unbiased variance of `count` numbers with this mean and this mean square."""
    return max(square - mean**2, 0.0) * count / (count - 1)
