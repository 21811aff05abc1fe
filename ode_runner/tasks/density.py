"""What the tasks that ask for a log density share."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import Answer, Batch, Drawn, Outputs, Split
from ode_runner.tasks.base import ModelView, Table
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.sample_metrics import distance_from_data, spread
from ode_runner.tasks.sampled import SampledTask
from ode_runner.tasks.set_metrics import with_floors
from ode_runner.types import Scalar

TOLERATED = 0.01  # nats, or of a mass, before a person is told
CERTAIN = 3  # standard errors
FAR = 5  # times what is tolerated of a mean, of the log density of single samples
AT_ONCE = 2000  # points of a solve
COARSE = 0.1  # of a mass, by which thirds of its cells differ if they are too large
COMPARED = 500  # samples whose log density is solved for once more


class DensityTask(SampledTask):
    """Points whose log density is learned by maximum likelihood; values of the model are log densities, in nats.

    `nll` is the mean of their negative by the run's own solver, `nll_fine` that of a solve at 1e-5 in float64 with its
    standard error `nll_error`, and `nll_gap` what of it is above the entropy, where that is known. Of a model whose
    density is that of noised data, `nll_end_time` says up to which time. All are of the data in their own units: where
    inputs are a map of them, a subclass gives its `log_determinant`. `sw2` is the sliced Wasserstein distance of
    samples from the test split, as inputs, and `sw2_floor` that of other data; with conditions, of all points as one
    set: that a condition is given the points of another, `nll` sees. `log_prob_error` is the root mean square of how
    far the log density that sampling tells of its samples is from that of such a fine solve.

    Args:
        points: (points, *shape) of each split, with their conditions behind them where there are any.
        entropy: in nats; None where it is not known.
    """

    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.LOG_DENSITY})
    suffices: ClassVar[frozenset[Answer]] = frozenset({Answer.SAMPLES})
    objective: ClassVar[str] = "nll"
    higher_is_better: ClassVar[bool] = False
    tolerated: float = TOLERATED  # nats, by which the NLL of two solves may differ before a person is told

    def __init__(
        self, points: Mapping[Split, Tensor], *, entropy: float | None, seed: int, device: torch.device
    ) -> None:
        self.points = {split: x.to(device) for split, x in points.items()}
        self.entropy, self.seed = entropy, seed
        self.ts = torch.tensor([0.0, 1.0], device=device)

    def size(self, split: Split) -> int:
        return len(self.points[split])

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        points, generator = self.points[split], shuffler(split, seed=self.seed, epoch=epoch)
        for chosen in in_batches(len(points), batch_size, generator, device=points.device):
            yield Batch(points[chosen], self.ts, points[chosen])

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return -(outputs.values + self.log_determinant(batch.inputs)).mean()

    def log_determinant(self, inputs: Tensor) -> Tensor:
        """log |d inputs / d data| of each, (batch,), by which a log density is that of the data in their own units."""
        return inputs.new_zeros(len(inputs))

    def as_inputs(self, data: Tensor) -> Tensor:
        """Points in their own units, with their conditions, as a model is given them: the reverse of `own_units`."""
        return data

    def drawn_in_own_units(self, drawn: Drawn) -> Drawn:
        """Samples, and their log density if it is told, of the data's own units."""
        log_density = drawn.log_density
        if log_density is not None:
            log_density = log_density + self.log_determinant(drawn.path[-1])
        return drawn._replace(path=self.own_units(drawn.path), log_density=log_density)

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        return {"nll": self.loss(outputs, batch)}

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        likelihood = self._likelihood(view) if view.tells else {}
        if view.sample is None:
            return likelihood
        drawn = self.drawn(view)
        return likelihood | self.sample_metrics(drawn.path[-1]) | self._log_prob_error(view, drawn)

    def _log_prob_error(self, view: ModelView, drawn: Drawn) -> dict[str, float]:
        """Of the first samples; nothing where sampling tells no log density."""
        if drawn.log_density is None or not view.tells:
            return {}
        told = drawn.log_density[:COMPARED].double()
        samples, given = drawn.path[-1][: len(told)], self.given(len(told))
        inputs = torch.cat([samples.flatten(1), *(z.to(samples) for z in given)], dim=1) if given else samples
        fine = in_parts(view.predict_finely, inputs)
        return {"log_prob_error": float((told - fine.to(told)).square().mean().sqrt())}

    def _likelihood(self, view: ModelView) -> dict[str, float]:
        test = self.points[Split.TEST]
        fine = in_parts(view.predict_finely, test) + self.log_determinant(test)
        found = {"nll_fine": -float(fine.mean()), "nll_error": float(fine.std()) / len(fine) ** 0.5}
        found |= {} if view.end_time is None else {"nll_end_time": view.end_time}
        return found | ({} if self.entropy is None else {"nll_gap": found["nll_fine"] - self.entropy})

    def sample_metrics(self, samples: Tensor) -> dict[str, float]:
        """Metrics of samples, which were drawn for the conditions of the test split where there are any."""
        learned = next(self.batches(Split.TRAIN, batch_size=self.size(Split.TRAIN), epoch=0)).inputs
        test, train = (self.spec.parted(inputs)[0] for inputs in (self.points[Split.TEST], learned))
        return with_floors({"sw2": distance_from_data(samples, test, others=train)})

    def spread(self) -> float:
        return spread(self.spec.parted(self.points[Split.TEST])[0])

    def sampled_conditions(self) -> Tensor:
        """The conditions of the test split."""
        return self.spec.parted(self.points[Split.TEST])[1]

    def tables(self, view: ModelView) -> Iterator[tuple[str, Table]]:
        if view.sample is not None:
            yield from self.sample_tables(self.drawn(view))

    def sample_tables(self, drawn: Drawn) -> Iterator[tuple[str, Table]]:
        """`samples`: elements, conditions, and the log density that sampling reports."""
        inputs = drawn.path[-1]
        samples = self.own_units(inputs)
        given = [z.to(samples) for z in self.given(len(samples))]
        told = []
        if drawn.log_density is not None:
            told = [(drawn.log_density + self.log_determinant(inputs))[:, None]]
        columns = torch.cat([samples.flatten(1), *given, *told], dim=1)
        yield "samples", Table([*self.elements, *self._conditions, *["log_prob"] * len(told)], columns.tolist())

    def density_table(self, log_density: Tensor) -> Table:
        """Points of the test split in their own units, their conditions, and the log density of each."""
        data, given = self.spec.parted(self.points[Split.TEST])
        columns = torch.cat([self.own_units(data).flatten(1), given, log_density[:, None]], dim=1)
        rows = [[name, *row] for name, row in zip(self.sample_names, columns.tolist(), strict=True)]
        return Table(["sample", *self.elements, *self._conditions, "log_prob"], rows)

    @property
    def elements(self) -> Sequence[str]:
        """Names of the numbers of a point."""
        return [f"x_{i + 1}" for i in range(math.prod(self.spec.input_shape))]

    @property
    def sample_names(self) -> Sequence[str]:
        """What the points of the test split are called, in its order."""
        return [str(number) for number in range(self.size(Split.TEST))]

    @property
    def _conditions(self) -> list[str]:
        return [f"condition_{i + 1}" for i in range(self.spec.condition)]

    def remarks(self, metrics: Mapping[str, float]) -> Iterator[str]:
        yield from super().remarks(metrics)
        if "test/nll" not in metrics:  # by a sampler, that gives no density
            return
        nll, fine, error = (metrics[f"test/{name}"] for name in ("nll", "nll_fine", "nll_error"))
        if not abs(nll - fine) <= self.tolerated:
            yield (
                f"the NLL by the run's own solver, {nll:.4f}, is not that of the flow, {fine:.4f} at 1e-5: steps are "
                "too long, and what is trained by such a solve may have learned to exploit that. Use a smaller "
                "tolerance, or more steps."
            )
        floor = None if self.entropy is None else self.entropy - TOLERATED - CERTAIN * error
        if floor is not None and nll < floor:
            yield (
                f"the NLL by the run's own solver, {nll:.4f}, is below the entropy of the data, {self.entropy:.4f}, "
                f"where none can be but by chance ({error:.4f} of standard error): the density has a mass above 1."
            )
        off = metrics.get("test/log_prob_error", 0.0)
        if not off <= FAR * self.tolerated:
            yield (
                f"the log densities of samples, in samples.csv, are {off:.3f} nats off those "
                "of a fine solve. Use a smaller tolerance, or more steps."
            )
        if "test/mass" in metrics:
            right = abs(nll - fine) <= self.tolerated and off <= FAR * self.tolerated
            yield from _of_mass(metrics, solved=right)


def mass_of(density: Tensor, cell: float) -> dict[str, float]:
    """The integral of a density in the middles of cells of a grid, and how far it is off by every third of them.

    By every second it would be as it is, whatever the cells, where the density is the same on both sides of a middle.

    Args:
        density: an axis for each coordinate.
        cell: the area, or length, of a cell.
    """
    whole = float(density.double().sum())
    thirds = [part.double() for k in range(density.dim()) for part in _thirds(density.movedim(k, 0))]
    return {"mass": whole * cell, "mass_error": max(abs(whole - 3 * float(part.sum())) for part in thirds) * cell}


def _thirds(values: Tensor) -> list[Tensor]:
    return [values[first::3] for first in range(3)]


def _of_mass(metrics: Mapping[str, float], *, solved: bool) -> Iterator[str]:
    """What it says of a solve that a mass is not 1, or of the cells that it is summed up by.

    Args:
        solved: a fine solve gives test points and samples the same densities.
    """
    mass, error = metrics["test/mass"], metrics["test/mass_error"]
    if abs(mass - 1) <= TOLERATED:
        return
    if not error < COARSE * mass:
        yield (
            f"the density sums up to {mass:.4f}, and by every third of its cells to {error:.2g} more or less: they are "
            "too large for its peaks. Use a larger task.grid."
        )
    elif metrics["nfe/eval"] and (mass > 1 or not solved):
        yield (
            f"the density has mass {mass:.4f} by the run's own solver, and 1 is right: its NLL is that of no law. Use "
            "a smaller tolerance, or more steps."
        )
    else:
        yield f"the density has mass {mass:.4f} where it is summed up, and the rest beyond, where no data are."


def in_parts(function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """The function of all points, a few thousand at once."""
    return torch.cat([function(part) for part in points.split(AT_ONCE)])
