"""Metrics of a whole split: what no mean over batches can tell, such as a distance between two samples."""

import abc
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ode_runner.batch import Batch, Outputs, Split
from ode_runner.tasks.base import Task


class SetMetric(NamedTuple):
    """A metric, and what it would be of a perfect model: a split is finite, and a distance from it never zero."""

    value: float
    floor: float


class SetMeasuringTask(Task):
    """A task that measures a split once, over all answers to it, beside its means over batches.

    Each is reported as `<metric>`, and its floor as `<metric>_floor`, under the prefixes of the other metrics.
    """

    @abc.abstractmethod
    def set_metrics(self, split: Split, answers: Sequence[tuple[Batch, Outputs]]) -> dict[str, SetMetric]:
        """Metrics by name, from the batches of the split in their order and the model's answer to each, on the CPU."""


def set_scalars(task: Task, split: Split, answers: Sequence[tuple[Batch, Outputs]]) -> dict[str, float]:
    """The set metrics of a task as numbers to report; none of a task that has none."""
    return with_floors(task.set_metrics(split, answers)) if isinstance(task, SetMeasuringTask) else {}


def with_floors(metrics: Mapping[str, SetMetric]) -> dict[str, float]:
    """Each metric, followed by its floor."""
    found: dict[str, float] = {}
    for name, metric in metrics.items():
        found |= {name: float(metric.value), f"{name}_floor": float(metric.floor)}
    return found
