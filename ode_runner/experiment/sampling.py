"""How well a sampler solves: its samples against those of a fine solve from the same noise."""

from dataclasses import replace

import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Means
from ode_runner.experiment.signals import StopRequest
from ode_runner.field import Phase


def measure_samples(experiment: Experiment, stop: StopRequest) -> dict[str, float]:
    """As many samples as the test split has, in batches: evaluations for a batch, as `nfe_sample`, and their error.

    `endpoint_rmse` is the root mean square, over samples, of their distance to the end of a solve at 1e-7 in float64
    from the same noise. A solver that draws noise on the way has none, for it solves another equation.
    """
    draws, errors, evaluations = experiment.integrator.solver.draws, Means(), Means()
    fine = _finest(experiment)
    for numbers in torch.arange(experiment.task.size(Split.TEST)).split(experiment.options.eval_batch_size):
        stop.check()
        with torch.no_grad(), experiment.integrator.ledger.phase(Phase.SAMPLING) as tally:
            samples = experiment.generate(numbers)[-1]
        evaluations.add({"nfe_sample": tally.evaluations})
        if not draws:
            with torch.no_grad():
                errors.add({"squares": _squared_distance(samples, fine.generate(numbers)[-1])}, weight=len(numbers))
    error = {} if draws else {"endpoint_rmse": errors.read()["squares"] ** 0.5}
    return error | evaluations.read()


def _finest(experiment: Experiment) -> Experiment:
    fine = experiment.fine()
    return replace(fine, integrator=replace(fine.integrator, solver=fine.integrator.solver.refined()))


def _squared_distance(found: Tensor, expected: Tensor) -> float:
    """The mean over samples, in float64."""
    apart = found.to(expected) - expected
    return float(apart.flatten(1).square().sum(dim=1).mean())
