"""What a task shows of a trained model: pictures, tables, and its result in words."""

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import torch

from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.sampling import figures_of_sample_paths
from ode_runner.fields.ledger import Phase
from ode_runner.plots.animation import Picture
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricLogger
from ode_runner.recording.pictures import save_pictures
from ode_runner.tasks.base import ModelView


def draw(
    experiment: Experiment, view: ModelView, *, folder: Path, display: Display, logger: MetricLogger, step: int,
    diagnosed: Callable[[Experiment], Iterable[tuple[str, Picture]]] = lambda experiment: (),
) -> None:  # fmt: skip
    """Draw the pictures of task, model and diagnostics (`diagnosed`) into files and the logger.

    A picture that cannot be drawn is reported and left out.
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
    """Print and log the task's result in words."""
    experiment.model.eval()
    with torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        lines = list(experiment.task.conclusion(view))
    for line in lines:
        display.say(line)
    if lines:
        logger.text("result", "\n".join(["```", *lines, "```"]))


def write_tables(experiment: Experiment, view: ModelView, *, folder: Path) -> None:
    """Write the task's tables as csv files into `folder`."""
    experiment.model.eval()
    with torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        for name, table in experiment.task.tables(view):
            write_csv(folder / f"{name}.csv", table.header, table.rows)
