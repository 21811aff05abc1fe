"""How many threads compute the operations of a run on a CPU."""

import math
import os

import torch

from ode_runner.batch import Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.tasks.base import Task

# Multiplications in the largest matrix product of a training step below which a second thread saves less than a
# seventh of the time. Beside another process, threads wait for each other in every product: see docs/performance.md.
SMALL = 1_000_000


def with_own_threads(experiment: Experiment) -> Experiment:
    """The experiment, after setting torch's number of threads to one if its products are small.

    If OMP_NUM_THREADS is set, it counts. Otherwise the number depends on the run's options alone: sums round by it, and
    a resumed run must go on as it began.
    """
    if "OMP_NUM_THREADS" not in os.environ and experiment.device.type == "cpu" and _is_small(experiment):
        torch.set_num_threads(1)
    return experiment


def _is_small(experiment: Experiment) -> bool:
    """Whether the products with the largest weight are small; False without weights: any product may be large."""
    largest = max((parameter.numel() for parameter in experiment.parameters()), default=math.inf)
    samples = min(experiment.options.batch_size, experiment.task.size(Split.TRAIN))
    return samples * _positions(experiment.task) * largest < SMALL


def _positions(task: Task) -> int:
    """At how many positions of a sample a weight is used: pixels of an image, tokens of a text."""
    shape = task.spec.input_shape
    return math.prod(shape[1:] if task.gives_images else shape if task.gives_tokens else ())
