"""Evaluation on the test split, and the task's pictures."""

import typing
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import torch

from ode_runner.batch import Split
from ode_runner.errors import NumericalFailure
from ode_runner.experiment.crash_dump import CrashDump, check_finite, dump_on_failure
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.per_sample_cost import PerSampleCounts, scalars
from ode_runner.experiment.sampling import figures_of_sample_paths, measure_samples
from ode_runner.experiment.signals import StopRequest
from ode_runner.ledger import Phase
from ode_runner.plots.animation import Picture
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricLogger
from ode_runner.recording.pictures import save_pictures
from ode_runner.tasks.base import ModelView


def evaluate_test(
    experiment: Experiment, view: ModelView, stop: StopRequest, counts: PerSampleCounts
) -> dict[str, float]:
    """Metrics of the test split, the learned field and the model as `test/...`, mean evaluations a batch as `nfe/...`.

    `counts` is given what each sample took.
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
    """By metric of the test split, what it was measured with, where it has a meaning for that alone."""
    return {f"test/{name}": thing for name, thing in experiment.task.measured_with(view).items()}


def first_failing_batch(experiment: Experiment) -> CrashDump | None:
    """A crash dump of the first batch of the test split that fails or whose loss is not finite; None without one."""
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


def draw(
    experiment: Experiment, view: ModelView, *, folder: Path, display: Display, logger: MetricLogger, step: int,
    diagnosed: Callable[[Experiment], Iterable[tuple[str, Picture]]] = lambda experiment: (),
) -> None:  # fmt: skip
    """The pictures of task and model, and of what was `diagnosed`, as files and in the logger.

    One that cannot be drawn is reported and left out.
    """
    experiment.model.eval()
    with torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        drawn = save_pictures(
            lambda: chain(experiment.figures(view), figures_of_sample_paths(experiment), diagnosed(experiment)),
            folder=folder, display=display, logger=logger, step=step,
        )  # fmt: skip
    if view.animate and not any((folder / f"{name}.gif").is_file() for name in drawn):
        display.say("trainer.animate=true is not used: this task has no picture that moves")


def conclude(experiment: Experiment, view: ModelView, *, display: Display, logger: MetricLogger) -> None:
    """The task's result in words, on the screen and in the logger."""
    experiment.model.eval()
    with torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        lines = list(experiment.task.conclusion(view))
    for line in lines:
        display.say(line)
    if lines:
        logger.text("result", "\n".join(["```", *lines, "```"]))


def write_tables(experiment: Experiment, view: ModelView, *, folder: Path) -> None:
    """The task's tables, as csv files in `folder`."""
    experiment.model.eval()
    with torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        for name, table in experiment.task.tables(view):
            write_csv(folder / f"{name}.csv", table.header, table.rows)
