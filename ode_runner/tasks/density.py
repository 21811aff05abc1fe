"""The base of tasks in which a model learns a log density."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import LEARNER, Answer, Batch, Drawn, Learner, Outputs, Split
from ode_runner.tasks.base import ModelView, Table
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.density_mass import is_wrong, mass_remarks
from ode_runner.tasks.sample_metrics import distance_from_data, spread
from ode_runner.tasks.sampled import SampledTask
from ode_runner.tasks.set_metrics import with_floors
from ode_runner.types import Scalar

TOLERATED = 0.01  # nats of difference above which there is a warning
CERTAIN = 3  # standard errors
FAR = 5  # the log density of single samples may differ by so many times the tolerance of the mean
AT_ONCE = 2000  # points per solve
NO_DENSITY = "is not that of a density, because it is computed too coarsely; test/nll_fine is"
FINER = {  # by whether the model solves: what log densities are compared with, and what is wrong if they are far off
    True: ("of a fine solve", "steps are too long", "Use {finer}."),
    False: ("in fp64", "rounding is too coarse", "Use trainer.precision=fp64."),
}
COMPARED = 500  # points whose log density is computed again by a fine solve


class DensityTask(SampledTask):
    """Points whose log density is learned by maximum likelihood; the model's outputs are log densities, in nats.

    `nll` is the negative mean log density by the run's own solver; `nll_fine` is that of a solve in float64 with
    tolerance 1e-5, with standard error `nll_error`. `nll_gap` is `nll_fine` minus the entropy, if known. If the model's
    density is that of noised data, `nll_end_time` is the time to which it belongs. All of these refer to the data in
    their own units: if inputs are a transform of the data, a subclass overrides `log_determinant`. `sw2` is the sliced
    Wasserstein distance between samples and the test split, as inputs, and `sw2_floor` that between other data and the
    test split. With conditions, all points are one set: `sw2` does not see a point under the wrong condition, `nll`
    does. `log_prob_error` is the root mean square difference between the log density reported by sampling and that of
    the fine solve.

    Args:
        points: (points, *shape) of each split, followed by their conditions if there are any.
        entropy: in nats; None if it is not known.
    """

    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.LOG_DENSITY})
    suffices: ClassVar[frozenset[Answer]] = frozenset({Answer.SAMPLES})
    objective: ClassVar[str] = "nll"
    higher_is_better: ClassVar[bool] = False
    likelihoods: ClassVar[tuple[str, ...]] = ("nll", "loss")  # metrics of the density by the run's own solver
    tolerated: float = TOLERATED  # nats; a larger difference between the NLL of the two solves causes a warning

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
        """log |d inputs / d data|, (batch,): added to the log density of the inputs, it gives that of the data."""
        return inputs.new_zeros(len(inputs))

    def as_inputs(self, data: Tensor) -> Tensor:
        """Converts points in their own units, with their conditions, to model inputs: the inverse of `own_units`."""
        return data

    def drawn_in_own_units(self, drawn: Drawn) -> Drawn:
        """Samples, and their log density if there is one, converted to the units of the data."""
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
        """For the first samples only; empty if sampling gives no log density."""
        if drawn.log_density is None or not view.tells:
            return {}
        log_density = drawn.log_density[:COMPARED].double()
        fine = in_parts(
            view.predict_finely, _joined(drawn.path[-1], self.given(len(drawn.path[-1])))[: len(log_density)]
        )
        return {"log_prob_error": _difference(log_density, fine)}

    def _likelihood(self, view: ModelView) -> dict[str, float]:
        test = self.points[Split.TEST]
        fine = in_parts(view.predict_finely, test) + self.log_determinant(test)
        found = {"nll_fine": -float(fine.mean()), "nll_error": float(fine.std()) / len(fine) ** 0.5}
        found |= {} if view.end_time is None else {"nll_end_time": view.end_time}
        return found | ({} if self.entropy is None else {"nll_gap": found["nll_fine"] - self.entropy})

    def sample_metrics(self, samples: Tensor) -> dict[str, float]:
        """Metrics of samples, which were drawn under the conditions of the test split if there are any."""
        learned = next(self.batches(Split.TRAIN, batch_size=self.size(Split.TRAIN), epoch=0)).inputs
        test, train = (self.spec.split_condition(inputs)[0] for inputs in (self.points[Split.TEST], learned))
        return with_floors({"sw2": distance_from_data(samples, test, others=train)})

    def spread(self) -> float:
        return spread(self.spec.split_condition(self.points[Split.TEST])[0])

    def sampled_conditions(self) -> Tensor:
        """The conditions of the test split."""
        return self.spec.split_condition(self.points[Split.TEST])[1]

    def conclusion(self, view: ModelView) -> Iterator[str]:
        yield from super().conclusion(view)
        if view.guidance != 1 and view.tells:
            yield (
                f"samples are drawn with model.guidance={view.guidance:g}; log densities, and all numbers computed "
                "from them, are those of the field without guidance"
            )

    def tables(self, view: ModelView) -> Iterator[tuple[str, Table]]:
        if view.sample is not None:
            yield from self.sample_tables(self.drawn(view))

    def sample_tables(self, drawn: Drawn) -> Iterator[tuple[str, Table]]:
        """`samples`: elements, conditions, and the log density that sampling reports."""
        inputs = drawn.path[-1]
        samples = self.own_units(inputs)
        given = [z.to(samples) for z in self.given(len(samples))]
        log_density = []
        if drawn.log_density is not None:
            log_density = [(drawn.log_density + self.log_determinant(inputs))[:, None]]
        columns = torch.cat([samples.flatten(1), *given, *log_density], dim=1)
        yield "samples", Table([*self.elements, *self._conditions, *["log_prob"] * len(log_density)], columns.tolist())

    def sample_remarks(self, view: ModelView, drawn: Drawn, given: Sequence[Tensor]) -> Iterator[str]:
        if drawn.log_density is not None and view.tells:
            inputs = _joined(drawn.path[-1], given)
            yield from self.solve_remarks(view, inputs, drawn.log_density, tolerated=FAR * TOLERATED)

    def solve_remarks(
        self, view: ModelView, inputs: Tensor, log_density: Tensor, *, tolerated: float = TOLERATED
    ) -> Iterator[str]:
        """A warning if log densities of the inputs (batch,) are not those of the flow: some are solved finely.

        `tolerated`: a difference of their mean; single ones may differ by FAR * TOLERATED.
        """
        if not view.answers:  # they are by the fine solve
            return
        some = torch.linspace(0, len(inputs) - 1, min(COMPARED, len(inputs))).round().long()
        inputs, log_density = inputs[some.to(inputs.device)], log_density[some.to(log_density.device)]
        fine = in_parts(view.predict_finely, inputs)
        off, mean = _difference(log_density, fine), float(log_density.double().mean() - fine.double().mean())
        if not (off <= FAR * TOLERATED and abs(mean) <= tolerated):
            fine_ones, fault, remedy = FINER[view.solves]
            remedy = remedy.format(finer=view.finer)
            yield (
                f"log densities are {off:.3f} nats off those {fine_ones}, and their mean is {mean:+.3f} nats off "
                f"(root mean square and mean over {len(some)} of them): {fault}. {remedy}"
            )

    def density_table(self, log_density: Tensor) -> Table:
        """Points of the test split in their own units, their conditions, and the log density of each."""
        data, given = self.spec.split_condition(self.points[Split.TEST])
        columns = torch.cat([self.own_units(data).flatten(1), given, log_density[:, None]], dim=1)
        rows = [[name, *row] for name, row in zip(self.sample_names, columns.tolist(), strict=True)]
        return Table(["sample", *self.elements, *self._conditions, "log_prob"], rows)

    @property
    def elements(self) -> Sequence[str]:
        """Names of the components of a point."""
        return [f"x_{i + 1}" for i in range(math.prod(self.spec.input_shape))]

    @property
    def sample_names(self) -> Sequence[str]:
        """Names of the points of the test split, in its order."""
        return [str(number) for number in range(self.size(Split.TEST))]

    @property
    def _conditions(self) -> list[str]:
        return [f"condition_{i + 1}" for i in range(self.spec.condition)]

    def invalid(self, metrics: Mapping[str, float]) -> dict[str, str]:
        if "test/nll" not in metrics:
            return {}
        apart = not self._is_fine(metrics) or self._is_below_entropy(metrics)
        return dict.fromkeys(self.likelihoods, NO_DENSITY) if apart or self._has_wrong_mass(metrics) else {}

    def _is_fine(self, metrics: Mapping[str, float]) -> bool:
        """Whether the NLL by the run's own solver is that of the flow."""
        return abs(metrics["test/nll"] - metrics["test/nll_fine"]) <= self.tolerated

    def _is_below_entropy(self, metrics: Mapping[str, float]) -> bool:
        """Whether the NLL by the run's own solver is lower than that of any density, but by chance."""
        if self.entropy is None:
            return False
        return metrics["test/nll"] < self.entropy - TOLERATED - CERTAIN * metrics["test/nll_error"]

    def _solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether test points and samples have the densities that a fine solve gives them."""
        return self._is_fine(metrics) and metrics.get("test/log_prob_error", 0.0) <= FAR * self.tolerated

    def _has_wrong_mass(self, metrics: Mapping[str, float]) -> bool:
        return "test/mass" in metrics and is_wrong(metrics, solved=self._solved(metrics))

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        yield from super().remarks(metrics, learner=learner)
        if "test/nll" not in metrics:  # drawn by a sampler that gives no density
            return
        nll, fine, error = (metrics[f"test/{name}"] for name in ("nll", "nll_fine", "nll_error"))
        solves = bool(metrics["nfe/eval"])
        fine_ones, fault, remedy = FINER[solves]
        remedy = remedy.format(finer=learner.finer)
        if not self._is_fine(metrics):
            exploited = ", and training may have learned to exploit that"
            own, of_flow = ("by the run's own solver", "at 1e-5") if solves else ("of the run", fine_ones)
            yield (
                f"the NLL {own}, {nll:.4f}, is not that of the flow, {fine:.4f} {of_flow}: "
                f"{fault}{exploited if solves and learner.learns and learner.by_solves else ''}. {remedy}"
            )
        if self._is_below_entropy(metrics):
            yield (
                f"the NLL by the run's own solver, {nll:.4f}, is below the entropy of the data, {self.entropy:.4f}, "
                f"which is possible only by chance ({error:.4f} of standard error): the density has a mass above 1."
            )
        off = metrics.get("test/log_prob_error", 0.0)
        if self._is_fine(metrics) and not off <= FAR * self.tolerated:
            yield (
                f"the log densities of samples, in samples.csv, are {off:.3f} nats off those {fine_ones}: {fault}. "
                f"{remedy}"
            )
        if "test/mass" in metrics:
            yield from mass_remarks(metrics, solved=self._solved(metrics), finer=learner.finer)


def _joined(samples: Tensor, given: Sequence[Tensor]) -> Tensor:
    """Samples, followed by their conditions if there are any, as inputs."""
    return torch.cat([samples.flatten(1), *(z.to(samples) for z in given)], dim=1) if given else samples


def _difference(log_density: Tensor, fine: Tensor) -> float:
    """The root mean square difference."""
    return float((log_density.double() - fine.to(log_density.device).double()).square().mean().sqrt())


def in_parts(function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Applies the function to all points, AT_ONCE at a time."""
    return torch.cat([function(part) for part in points.split(AT_ONCE)])
