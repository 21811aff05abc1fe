"""How well a sampler solves: its samples against those of a fine solve from the same noise."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Means
from ode_runner.experiment.signals import StopRequest
from ode_runner.field import Phase
from ode_runner.types import Trajectory

PLACES = 65  # on the way, at which the straightness of ways is looked at


def measure_samples(experiment: Experiment, stop: StopRequest) -> dict[str, float]:
    """As many samples as the test split has, in batches: evaluations for a batch, as `nfe_sample`, and their error.

    `endpoint_rmse` is the root mean square, over samples, of their distance to the end of a solve at 1e-7 in float64
    from the same noise, and `straightness` that of the ways of this solve from straight ones, see `straightness`. A
    solver that draws noise on the way has none of both, for it solves another equation. Conditions are those of the
    test split.
    """
    draws, compared, evaluations = experiment.integrator.solver.draws, Means(), Means()
    fine = _finest(experiment)
    for numbers, given in _conditions(experiment):
        stop.check()
        with torch.no_grad(), experiment.integrator.ledger.phase(Phase.SAMPLING) as tally:
            samples = experiment.generate(numbers, given=given)[-1]
        evaluations.add({"nfe_sample": tally.evaluations})
        if not draws:
            with torch.no_grad():
                path = fine.generate(numbers, times=PLACES, given=given)
            found = {"squares": _squared_distance(samples, path[-1]), "straightness": straightness(path)}
            compared.add(found, weight=len(numbers))
    means = compared.read()
    error = {} if draws else {"endpoint_rmse": means.pop("squares") ** 0.5}
    return error | means | evaluations.read()


def straightness(path: Trajectory) -> float:
    """Mean |dx/ds - (x(1) - x(0))|^2 over samples and the part s of the way from 0 to 1: 0 of straight lines.

    Of states at equal intervals. Liu, Gong, Liu. Rectified Flow. ICLR 2023, section 2.2.
    """
    velocities, chord = path.diff(dim=0) * (len(path) - 1), path[-1] - path[0]
    return float((velocities - chord).flatten(2).square().sum(dim=2).mean())


def _conditions(experiment: Experiment) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
    """The numbers of the samples of each batch of the test split, and what is given with them."""
    begin = 0
    for batch in experiment.task.batches(Split.TEST, batch_size=experiment.options.eval_batch_size, epoch=0):
        count = len(batch.inputs)
        yield torch.arange(begin, begin + count), experiment.model.encode(batch.inputs).given
        begin += count


def _finest(experiment: Experiment) -> Experiment:
    fine = experiment.fine()
    return replace(fine, integrator=replace(fine.integrator, solver=fine.integrator.solver.refined()))


def _squared_distance(found: Tensor, expected: Tensor) -> float:
    """The mean over samples, in float64."""
    apart = found.to(expected) - expected
    return float(apart.flatten(1).square().sum(dim=1).mean())
