"""The task of learning the density of points from the user's file."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import Drawn, Split, TaskSpec
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.scatter_matrix import draw_scatter_matrix
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.densities.column_scales import ColumnScales
from ode_runner.tasks.densities.point_file import Points, content_of, read_points
from ode_runner.tasks.density import DensityTask, in_parts
from ode_runner.tasks.density_mass import mass_of
from ode_runner.tasks.own_data import OwnDataTask
from ode_runner.tasks.series.series_splits import drawn_parts, share_of
from ode_runner.tasks.sizes import MOST_EACH_WAY, check_counts

DRAWN, DRAW = 6000, 0  # number of generated points, and their seed
LEAST = 10  # training rows
ROUNDED = 10  # a column with so many rows per distinct value holds rounded numbers or integers
MARGIN = 0.25  # margin around the data, as a share of their extent, within which the mass is summed
MOST_CELLS = 2  # columns up to which a mass is summed: more would need millions of cells


@final
class TabularDensity(DensityTask, OwnDataTask):
    """Points of a file, one per row, whose density is learned in the units of the columns.

    Model inputs are columns with mean 0 and standard deviation 1 in the training rows; log densities, `nll` and samples
    are in the file's units. Rows are held back at random, the same ones for every seed. With one or two columns, `mass`
    is the integral of the density, by the run's own solver, over the data's extent and a quarter of it on each side.

    Without a file, points are generated with known entropy: `height` is normal, `load` is the squared standardised
    height plus noise, and `price` is the exponential of the standardised height plus noise.

    Args:
        file: csv, parquet or npz.
        columns: names; None: all.
        log: columns whose logarithms are model inputs, such as prices.
        bounds: low and high by column; their logits are model inputs, so that there is no mass outside of them.
        validation: share of the rows.
        test: share of the rows.
        grid: cells along each axis for summing the mass.
    """

    test_only: ClassVar[frozenset[str]] = frozenset({"grid"})

    def __init__(
        self,
        *,
        file: str | None,
        columns: list[str] | None,
        log: list[str],
        bounds: dict[str, list[float]] | None,
        validation: float,
        test: float,
        grid: int,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(2, MOST_EACH_WAY, grid=grid)
        read, entropy = _drawn(columns) if file is None else (read_points(Path(file), columns), None)
        self.grid, self.bounds, self.log = grid, _checked_bounds(bounds or {}), log
        _check_values(read, log, self.bounds)
        self.read, self.parts = read, _split(read, validation, test)
        self.scales = self._measured().to(device)
        self.column_names = read.columns
        super().__init__(self._inputs(device), entropy=entropy, seed=seed, device=device)
        size = len(read.columns)
        self.spec = TaskSpec(input_shape=(size,), output_shape=(size,), std=float(self.points[Split.TRAIN].std()))

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        file, columns = options.get("file"), options.get("columns")
        return {"file": None if file is None else content_of(str(file), columns)}

    def with_data(self, path: Path) -> Self:
        new = copy.copy(self)
        new.read = read_points(path, self.column_names, option="data")
        _check_values(new.read, self.log, self.bounds)
        new.parts, new.entropy = dict.fromkeys(Split, list(range(len(new.read.rows)))), None  # not known of new data
        new.points = new._inputs(self.ts.device)
        return new

    def statistics(self) -> dict[str, Tensor]:
        return self.scales.state_dict()

    def use_statistics(self, found: Mapping[str, Tensor]) -> None:
        self.scales = ColumnScales.of(found).to(self.ts.device)
        self.points = self._inputs(self.ts.device)

    def unused_options(self) -> Mapping[str, str]:
        many = len(self.column_names) > MOST_CELLS
        return {"grid": "the mass is summed up of one or two columns"} if many else {}

    def introduction(self) -> Iterator[str]:
        held = ", ".join(f"{len(own)} {split}" for split, own in self.parts.items())
        yield f"read {self.read.source}: {len(self.read.rows)} rows ({held})"
        training = self.read.values[self.parts[Split.TRAIN]]
        for place, name in enumerate(self.column_names):
            x = training[:, place]
            summary = f"mean {x.mean():.4g}, std {x.std():.4g}, {x.min():.4g} to {x.max():.4g}"
            yield f"  {name}: {summary}{' (as a logarithm)' if name in self.log else ''}"
        yield from self._rounded(training)
        yield from self._repeated(training)

    def log_determinant(self, inputs: Tensor) -> Tensor:
        return self.scales.log_determinant(inputs)

    def own_units(self, points: Tensor) -> Tensor:
        return self.scales.data(points)

    def as_inputs(self, data: Tensor) -> Tensor:
        if data.shape[-1:] != (len(self.column_names),):  # scales would be those of the same number in every column
            raise RefusedInput(f"inputs of shape {tuple(data.shape)} must be (batch, {len(self.column_names)}).")
        for place, name, (low, high), what in _limits(self.column_names, self.log, self.bounds):
            values = data[..., place]
            outside = values[values.isfinite() & ~((values > low) & (values < high))]
            if outside.numel():
                raise RefusedInput(f"inputs, column '{name}': {float(outside[0]):g} {what}.")
        return self.scales.inputs(data)

    @property
    def elements(self) -> Sequence[str]:
        return self.column_names

    @property
    def sample_names(self) -> Sequence[str]:
        return [str(row) for row in self.read.rows[self.parts[Split.TEST]]]

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        measured = view.answers and len(self.column_names) <= MOST_CELLS
        return super().model_metrics(view) | (self._mass(view) if measured else {})

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality="nll")
        if view.sample is not None:
            yield from self.sample_figures(self.drawn(view))

    def sample_figures(self, drawn: Drawn) -> Iterator[tuple[str, Figure]]:
        test, samples = self.read.values[self.parts[Split.TEST]], self.own_units(drawn.path[-1]).cpu().numpy()
        yield "samples", draw_scatter_matrix(test, samples, names=self.column_names)

    def _measured(self) -> ColumnScales:
        """The scales of the training rows. Raises RefusedInput for a constant column."""
        names, values = self.read.columns, self.read.values
        low, high = torch.tensor([self.bounds.get(name, (0.0, 1.0)) for name in names], dtype=torch.float64).T
        scales = ColumnScales.measured(
            torch.from_numpy(values[self.parts[Split.TRAIN]]),
            log=torch.tensor([name in self.log for name in names]),
            bounded=torch.tensor([name in self.bounds for name in names]),
            low=low,
            high=high,
        )
        for name, mean, std in zip(names, scales.mean.tolist(), scales.std.tolist(), strict=True):
            if not std > 1e-12 * abs(mean):
                raise RefusedInput(
                    f"{self.read.source}, column '{name}': the same number in all rows to learn from, which has no "
                    "density. Leave it out: task.columns=[...]."
                )
        return scales

    def _inputs(self, device: torch.device) -> dict[Split, Tensor]:
        inputs = self.scales.inputs(torch.from_numpy(self.read.values).to(device)).float()
        return {split: inputs[torch.tensor(own, device=device)] for split, own in self.parts.items()}

    def _rounded(self, training: np.ndarray) -> Iterator[str]:
        """Warnings about columns with few distinct values, or with values that coincide as float32 model inputs."""
        inputs = self.points[Split.TRAIN].cpu().numpy()
        for place, name in enumerate(self.column_names):
            values, given = (len(np.unique(x[:, place])) for x in (training, inputs))
            if values * ROUNDED <= len(training):
                yield (
                    f"  {name} has {values} values in {len(training)} rows: a distribution of so few values has no "
                    "density, and its NLL falls without bound. Add noise as wide as their distance, or leave it out."
                )
            elif 2 * given < values:
                positive = self.read.values[:, place].min() > 0
                instead = f"Try task.log=[{as_typed(name)}]." if positive else "Leave the rows with these out."
                yield (
                    f"  {name} has {values} values, of which models are given {given}: the largest make all others "
                    f"alike. {instead}"
                )

    def _repeated(self, training: np.ndarray) -> Iterator[str]:
        """A warning about test rows that also occur in the training rows, since a model may memorise their density."""
        held = self.parts[Split.TEST]
        if held == self.parts[Split.TRAIN]:
            return  # no rows are held back
        learned = set(map(tuple, training.tolist()))
        count = sum(row in learned for row in map(tuple, self.read.values[held].tolist()))
        if count:
            yield (
                f"  {count} of {len(held)} test rows are the same as one to learn from: unless this is chance, leave "
                "repeated rows out, because a model may memorise them."
            )

    def _mass(self, view: ModelView) -> dict[str, float]:
        """The mass of the density of the model inputs; it equals that of the data, as a transform keeps mass."""
        points = torch.cat(list(self.points.values()))
        low, high = points.amin(dim=0), points.amax(dim=0)
        size = (high - low) * (1 + 2 * MARGIN) / self.grid
        middles = (torch.arange(self.grid, device=points.device) + 0.5)[:, None] * size + low - MARGIN * (high - low)
        cells = torch.cartesian_prod(*middles.T).view(-1, len(self.column_names))
        density = in_parts(lambda inputs: view.predict(inputs, None), cells).double().exp()
        return mass_of(density.view((self.grid,) * len(self.column_names)), float(size.double().prod()))


def _drawn(columns: list[str] | None) -> tuple[Points, float]:
    """Points of a known distribution, and its entropy in nats.

    Raises:
        RefusedInput: columns are named, but no file.
    """
    if columns is not None:
        raise RefusedInput(f"task.columns={as_typed(columns)} are those of a file. Name it: task.file=points.csv.")
    z = torch.randn(DRAWN, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(DRAW))
    stds = (15.0, 0.5, 0.5)
    height, load, price = 170 + stds[0] * z[:, 0], z[:, 0] ** 2 + stds[1] * z[:, 1], (z[:, 0] + stds[2] * z[:, 2]).exp()
    values = torch.stack([height, load, price], dim=1).numpy()
    names, rows = ["height", "load", "price"], np.arange(1, DRAWN + 1)
    entropy = sum(math.log(2 * math.pi * math.e * std**2) / 2 for std in stds)  # the mean of log price is 0
    return Points(source="points drawn by the program", columns=names, rows=rows, values=values), entropy


def _split(read: Points, validation: float, test: float) -> dict[Split, list[int]]:
    """The indices of the rows of each split; an empty split gets those of training."""
    for name, part in (("validation", validation), ("test", test)):
        if not 0 <= part < 1:
            raise RefusedInput(f"task.{name} must be a part from 0 to below 1, not {part}.")
    count = len(read.rows)
    held = {"validation": share_of(validation, count), "test": share_of(test, count)}
    if count - sum(held.values()) < LEAST:
        raise RefusedInput(
            f"{read.source} has {count} rows, of which {max(0, count - sum(held.values()))} would be left to learn "
            f"from, and {LEAST} are the least. Give it more rows, or smaller task.validation and task.test."
        )
    return drawn_parts(count, **held)


def _checked_bounds(bounds: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    for name, ends in bounds.items():
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise RefusedInput(f"task.bounds: those of '{name}' must be low and high, such as [0,1], not {ends}.")
    return {name: (float(ends[0]), float(ends[1])) for name, ends in bounds.items()}


def _limits(
    columns: Sequence[str], log: Sequence[str], bounds: Mapping[str, tuple[float, float]]
) -> Iterator[tuple[int, str, tuple[float, float], str]]:
    """Index and name of each column with a logarithm or logit, its limits, and what is wrong with other values."""
    for place, name in enumerate(columns):
        if name in log:
            yield place, name, (0.0, math.inf), "has no logarithm"
        elif name in bounds:
            low, high = bounds[name]
            yield place, name, bounds[name], f"is not between {low:g} and {high:g}"


def _check_values(read: Points, log: Sequence[str], bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raises RefusedInput unless these are columns, and all their values have logarithms or are within their bounds."""
    for option, names in (("log", log), ("bounds", bounds)):
        for name in names:
            if name not in read.columns:
                there = ", ".join(read.columns)
                raise RefusedInput(f"task.{option}: '{name}' is none of the columns. They are: {there}.")
            if option == "bounds" and name in log:
                raise RefusedInput(f"task.log and task.bounds both name the column '{name}'. Leave one of them out.")
    for place, name, (low, high), what in _limits(read.columns, log, bounds):
        values, option = read.values[:, place], "log" if name in log else "bounds"
        outside = ~((values > low) & (values < high))
        if outside.any():
            row = outside.argmax()
            raise RefusedInput(
                f"{read.source}, row {read.rows[row]}, column '{name}': {values[row]:g} {what}. "
                f"Leave it out of task.{option}, or that row out."
            )
