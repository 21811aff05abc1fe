"""The accuracy of a sampler: its samples compared with those of an accurate solve from the same noise."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Means
from ode_runner.experiment.signals import StopRequest
from ode_runner.models.generator import Generator
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.sample_paths import deviation_from_straight, draw_sample_paths
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.density import DensityTask
from ode_runner.tasks.sampled import SampledTask
from ode_runner.types import Trajectory

DRAWN = 500  # paths in the picture
TIMES = 65  # times at which the straightness of a path is computed


def measure_samples(experiment: Experiment, view: ModelView, stop: StopRequest) -> dict[str, float]:
    """Measurements of the samples that the task evaluates: their evaluations per batch, `nfe_sample`, and their error.

    `endpoint_rmse` is the root mean square, over samples, of the distance to the end of a solve with tolerance 1e-7 in
    float64 from the same noise. `straightness` is the deviation of the paths of that solve from straight lines, and
    `transport_cost` the mean squared distance between their ends. A solver that draws noise has none of these, because
    it solves another equation. If the model has no paths, its samples are compared with its teacher's. If the model has
    learned from the samples of a field, `straightness_teacher` and `transport_cost_teacher` are those of that field,
    and `sw2_teacher` is the distance of its samples from the data, which the model itself can hardly improve on.
    """
    task = experiment.task
    assert isinstance(task, SampledTask)
    drawn = task.drawn(view)
    assert drawn.evaluations is not None
    found = {"nfe_sample": drawn.evaluations}
    if experiment.integrator.solver.draws:
        return found
    return _errors(experiment, task, drawn.path[-1][: task.finely_solved], stop) | found


def compared_with(experiment: Experiment) -> dict[str, str]:
    """By metric of samples, what it was measured with, where that is not a fine solve from the same noise."""
    model = experiment.model
    if _solvable(model.generator()) is not None or model.teacher_generator() is None:
        return {}
    return {"endpoint_rmse": "the ends of the teacher's trajectories"}


def straightness(path: Trajectory) -> float:
    """The mean of `deviation_from_straight` over samples and time; 0 for straight lines. Times are equally spaced."""
    return float(deviation_from_straight(path).mean())


@torch.no_grad()
def figures_of_sample_paths(experiment: Experiment) -> Iterator[tuple[str, Figure]]:
    """The picture `straightness`: paths of the model's field, beside those of the teacher whose samples it learned."""
    task = experiment.task
    fine = _finest(experiment)
    own, teacher = _solvable(fine.model.generator()), fine.model.teacher_generator()
    if own is None or teacher is None or not isinstance(task, SampledTask):
        return
    count = task.finely_solved or DRAWN
    numbers, given = torch.arange(count), task.given(count)
    before, after = (fine.generate(numbers, times=TIMES, given=given, by=by) for by in (teacher, own))
    yield "straightness", draw_sample_paths({"before reflow": before, "after": after})


@torch.no_grad()
def _errors(experiment: Experiment, task: SampledTask, samples: Tensor, stop: StopRequest) -> dict[str, float]:
    """The errors of the first samples, batch by batch."""
    fine, given, compared, teacher_samples = _finest(experiment), task.given(len(samples)), Means(), list[Tensor]()
    own, teacher = _solvable(fine.model.generator()), fine.model.teacher_generator()
    if own is None and teacher is None:
        return {}
    for numbers in torch.arange(len(samples)).split(experiment.options.eval_batch_size):
        stop.check()
        chosen = [z[numbers.to(z.device)] for z in given]
        found = dict[str, float]()
        for whose, generator in (("_teacher", teacher), ("", own)):
            if generator is not None:
                path = fine.generate(numbers, times=TIMES, given=chosen, by=generator)
                found |= _of_ways(path, whose) if own else {}
                teacher_samples += [path[-1]] if generator is teacher else []
        found["squares"] = _squared_distance(samples[numbers.to(samples.device)], path[-1])
        compared.add(found, weight=len(numbers))
    means = compared.read()
    if teacher_samples and isinstance(task, DensityTask):
        means["sw2_teacher"] = task.sample_metrics(torch.cat(teacher_samples))["sw2"]
    return {"endpoint_rmse": means.pop("squares") ** 0.5, **means}


def _of_ways(path: Trajectory, whose: str) -> dict[str, float]:
    return {f"straightness{whose}": straightness(path), f"transport_cost{whose}": _squared_distance(path[-1], path[0])}


def _solvable(generator: Generator | None) -> Generator | None:
    """The generator, if its field has paths from noise to data; None for a map from noise directly to data."""
    if generator is None or generator.rounded or not isinstance(generator.field, DenoisingField):
        return None
    return generator


def _finest(experiment: Experiment) -> Experiment:
    fine = experiment.fine()
    return replace(fine, integrator=replace(fine.integrator, solver=fine.integrator.solver.refined()))


def _squared_distance(found: Tensor, expected: Tensor) -> float:
    """The mean over samples of the squared distance between two sets of samples, in float64."""
    apart = found.to(expected) - expected
    return float(apart.flatten(1).square().sum(dim=1).mean())
