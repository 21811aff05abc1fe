"""`predict=RUN samples=64`: samples of a trained model."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ode_runner.commands.trained_run import TrainedRun
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.signals import stop_on_signals
from ode_runner.quoting import as_typed
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, counted
from ode_runner.recording.pictures import save_pictures
from ode_runner.recording.record import RunStatus
from ode_runner.tasks.sampled import SampledTask

MOST = 1_000_000  # samples


def sample(trained: TrainedRun, *, samples: Any, folder: Path) -> RunStatus:
    """Write `samples.npz`, the samples and their conditions, with the pictures and tables that the task makes of them.

    Conditions are those of the samples by which the run is judged, again from the first on where they do not suffice.
    Of a generator the samples are the same, too: their noise is known by their number.

    Args:
        trained: the run.
        samples: as typed, their number.
        folder: where to write.

    Raises:
        RefusedInput: this is no number of samples.
        IncompatibleChoice: the model gives none, or the task asks for none.
    """
    if type(samples) is not int or not 1 <= samples <= MOST:
        raise RefusedInput(f"samples={as_typed(samples)} is no whole number from 1 to {MOST:,}.")
    experiment = trained.experiment()
    with stop_on_signals() as stop:
        view, task = experiment.view([], stop), experiment.task
        if view.sample is None or not isinstance(task, SampledTask):
            choices = trained.record.choices
            raise IncompatibleChoice(
                f"samples={samples}: model={choices['model']} on task={choices['task']} gives none, for it learns no "
                "law of the data. Leave samples out, or name a run of model=flow_matching task=digits_generation, say."
            )
        given = task.given(samples)
        with torch.no_grad():
            drawn = view.sample(samples, 2, given)
        own, conditions = task.own_units(drawn.path[-1]), given[0] if given else torch.zeros(samples, 0)
        np.savez(folder / "samples.npz", samples=own.cpu().numpy(), conditions=conditions.cpu().numpy())
        for name, table in task.sample_tables(drawn):
            write_csv(folder / f"{name}.csv", table.header, table.rows)
        display = Display()
        save_pictures(lambda: task.sample_figures(drawn), folder=folder, display=display)
    written = ", ".join(sorted(str(path) for path in folder.glob("samples*")))
    display.say(f"{counted(samples, 'sample')} of shape {tuple(own.shape[1:])}: {written}")
    return RunStatus.COMPLETED
