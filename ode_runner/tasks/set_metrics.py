"""Metrics of a whole split that are no means over batches, such as a distance between two sets of samples."""

import abc
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ode_runner.batch import Batch, Outputs, Split
from ode_runner.tasks.base import Task


class SetMetric(NamedTuple):
    """A metric, and its value for a perfect model: distances between finite sets are never zero."""

    value: float
    floor: float


class SetMeasuringTask(Task):
    """A task with metrics of a whole split, computed once from all outputs, in addition to means over batches.

    Each is reported as `<metric>`, and its floor as `<metric>_floor`, under the prefixes of the other metrics.
    """

    @abc.abstractmethod
    def set_metrics(self, split: Split, answers: Sequence[tuple[Batch, Outputs]]) -> dict[str, SetMetric]:
        """Metrics by name, from all batches of the split in order, each with the model's outputs, on the CPU."""


def set_scalars(task: Task, split: Split, answers: Sequence[tuple[Batch, Outputs]]) -> dict[str, float]:
    """The set metrics of a task as numbers to report; empty for a task without any."""
    return with_floors(task.set_metrics(split, answers)) if isinstance(task, SetMeasuringTask) else {}


def with_floors(metrics: Mapping[str, SetMetric]) -> dict[str, float]:
    """Each metric, followed by its floor."""
    found: dict[str, float] = {}
    for name, metric in metrics.items():
        found |= {name: float(metric.value), f"{name}_floor": float(metric.floor)}
    return found
