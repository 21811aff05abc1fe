"""Evaluation on the test split."""

import typing
from collections.abc import Mapping

import torch

from ode_runner.batch import Split
from ode_runner.errors import NumericalFailure
from ode_runner.experiment.crash_dump import CrashDump, check_finite, dump_on_failure
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.per_sample_cost import PerSampleCounts, scalars
from ode_runner.experiment.sampling import compared_with, measure_samples
from ode_runner.experiment.signals import StopRequest
from ode_runner.fields.ledger import Phase
from ode_runner.tasks.base import ModelView

SPLITS = ("test", "eval")
LOSSES = ("test/loss", "test/loss_floor", "eval/loss")


def evaluate_test(
    experiment: Experiment, view: ModelView, stop: StopRequest, counts: PerSampleCounts
) -> dict[str, float]:
    """Metrics of test split, learned field and model as `test/...`, and mean evaluations per batch as `nfe/...`.

    `counts` collects the counts of each sample.
    """
    results = experiment.evaluate(Split.TEST, stop, counts)
    if experiment.model.generator() is not None:
        results |= measure_samples(experiment, view, stop)
    nfe = {"nfe/eval": results.pop("nfe")}
    nfe |= {name.replace("_", "/", 1): results.pop(name) for name in list(results) if name.startswith("nfe_")}
    field = experiment.model.learned_field()
    with torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        if field is not None:
            results |= experiment.task.field_metrics(field)
        results |= experiment.task.model_metrics(view) | experiment.model.numbers()
    return {f"test/{name}": value for name, value in results.items()} | scalars(counts.found()) | nfe


def measured_with(experiment: Experiment, view: ModelView) -> dict[str, str]:
    """By name, what a metric was measured with, if it is comparable only within that, as losses of models are."""
    things = experiment.task.measured_with(view) | compared_with(experiment)
    found = {f"test/{name}": thing for name, thing in things.items()}
    loss = experiment.objective.measures(experiment.model)
    return found | (dict.fromkeys(LOSSES, loss) if loss else {})


def invalid(experiment: Experiment, metrics: Mapping[str, float]) -> dict[str, str]:
    """By name, why a metric of test or validation is not what its name says."""
    found = dict(experiment.task.invalid(metrics))
    if experiment.objective.measures(experiment.model):
        found.pop("loss", None)  # which is none of the task's
    return {f"{split}/{name}": why for name, why in found.items() for split in SPLITS if f"{split}/{name}" in metrics}


def first_failing_batch(experiment: Experiment) -> CrashDump | None:
    """A crash dump of the first test batch that fails or whose loss is not finite; None if there is no such batch."""
    experiment.model.eval()
    where = f"on the {Split.TEST} split"
    try:
        for stored in experiment.task.batches(Split.TEST, batch_size=experiment.options.eval_batch_size, epoch=0):
            batch = stored.to(experiment.dtype)
            guarded = dump_on_failure(experiment.model, batch, experiment.device, learning=False, where=where)
            with guarded, torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
                check_finite(float(experiment.loss(batch).total), "loss", where)
    except NumericalFailure as failure:
        return typing.cast(CrashDump, failure.crash_dump)
    return None
