"""How well a sampler solves: its samples against those of a fine solve from the same noise."""

from dataclasses import replace

import torch
from torch import Tensor

from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Means
from ode_runner.experiment.signals import StopRequest
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.sampled import SampledTask
from ode_runner.types import Trajectory

PLACES = 65  # on the way, at which the straightness of ways is looked at


def measure_samples(experiment: Experiment, view: ModelView, stop: StopRequest) -> dict[str, float]:
    """Of the samples by which the task judges: evaluations for a batch, as `nfe_sample`, and their error.

    `endpoint_rmse` is the root mean square, over samples, of their distance to the end of a solve at 1e-7 in float64
    from the same noise, and `straightness` that of the ways of this solve from straight ones, see `straightness`. A
    solver that draws noise on the way has none of both, for it solves another equation.
    """
    task = experiment.task
    assert isinstance(task, SampledTask)
    drawn = task.drawn(view)
    assert drawn.evaluations is not None
    found = {"nfe_sample": drawn.evaluations}
    if experiment.integrator.solver.draws:
        return found
    return _errors(experiment, task, drawn.path[-1][: task.finely_solved], stop) | found


def straightness(path: Trajectory) -> float:
    """Mean |dx/ds - (x(1) - x(0))|^2 over samples and the part s of the way from 0 to 1: 0 of straight lines.

    Of states at equal intervals. Liu, Gong, Liu. Rectified Flow. ICLR 2023, section 2.2.
    """
    velocities, chord = path.diff(dim=0) * (len(path) - 1), path[-1] - path[0]
    return float((velocities - chord).flatten(2).square().sum(dim=2).mean())


@torch.no_grad()
def _errors(experiment: Experiment, task: SampledTask, samples: Tensor, stop: StopRequest) -> dict[str, float]:
    """Of the first samples, batch by batch."""
    fine, given, compared = _finest(experiment), task.given(len(samples)), Means()
    for numbers in torch.arange(len(samples)).split(experiment.options.eval_batch_size):
        stop.check()
        path = fine.generate(numbers, times=PLACES, given=[z[numbers.to(z.device)] for z in given])
        squares = _squared_distance(samples[numbers.to(samples.device)], path[-1])
        compared.add({"squares": squares, "straightness": straightness(path)}, weight=len(numbers))
    means = compared.read()
    return {"endpoint_rmse": means.pop("squares") ** 0.5, **means}


def _finest(experiment: Experiment) -> Experiment:
    fine = experiment.fine()
    return replace(fine, integrator=replace(fine.integrator, solver=fine.integrator.solver.refined()))


def _squared_distance(found: Tensor, expected: Tensor) -> float:
    """The mean over samples, in float64."""
    apart = found.to(expected) - expected
    return float(apart.flatten(1).square().sum(dim=1).mean())
