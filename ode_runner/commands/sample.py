"""`predict=RUN samples=64`: samples of a trained model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ode_runner.commands.trained_run import TrainedRun
from ode_runner.errors import IncompatibleChoice, RefusedInput, as_typed, check_whole
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import model_view, samples_by
from ode_runner.experiment.signals import stop_on_signals
from ode_runner.models.texts.text_generator import TextGenerator
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, counted
from ode_runner.recording.pictures import save_pictures
from ode_runner.recording.record import RunStatus
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.sampled import SampledTask
from ode_runner.tasks.texts.token_task import TokenTask

MOST = 1_000_000  # samples
PRINTED = 16  # texts that are printed


def sample(trained: TrainedRun, *, samples: Any, inputs: Any, folder: Path) -> RunStatus:
    """Write `samples.npz` with samples and their conditions, and the task's pictures and tables of them.

    Conditions are those of the samples in the run's test metrics, repeated if more are asked for. The samples of a
    generator are the same as there, too, because the noise of a sample is determined by its number.

    Args:
        trained: the run.
        samples: as typed, the number of samples.
        inputs: as typed, a text with blanks that all samples complete; None: they begin with noise.
        folder: where to write.

    Raises:
        RefusedInput: `samples` is not a number of samples, or `inputs` is not such a text.
        IncompatibleChoice: the model gives no samples, or the task does not use any.
    """
    check_whole(samples, f"samples={as_typed(samples)}", least=1, most=MOST)
    experiment = trained.experiment()
    with stop_on_signals() as stop:
        view, task = model_view(experiment, [], stop), experiment.task
        if view.sample is None or not isinstance(task, SampledTask):
            choices = trained.record.choices
            raise IncompatibleChoice(
                f"samples={samples}: model={choices['model']} on task={choices['task']} gives none, because it learns "
                "no distribution of the data. Leave samples out, or name a run of model=flow_matching "
                "task=digits_generation, say."
            )
        if inputs is not None:
            view = replace(view, sample=samples_by(experiment, _completing(experiment, inputs), stop))
        _write(task, view, samples, folder)
    return RunStatus.COMPLETED


def _write(task: SampledTask, view: ModelView, samples: int, folder: Path) -> None:
    """Draw `samples` samples, and write and show them."""
    assert view.sample is not None
    given, display = task.given(samples), Display()
    with torch.no_grad():
        drawn = view.sample(samples, 2, given)
        shown = view.sample(samples, task.drawn_times, given)
    own, conditions = task.own_units(drawn.path[-1]), given[0] if given else torch.zeros(samples, 0)
    np.savez(folder / "samples.npz", samples=own.cpu().numpy(), conditions=conditions.cpu().numpy())
    for name, table in task.sample_tables(drawn):
        write_csv(folder / f"{name}.csv", table.header, table.rows)
    save_pictures(lambda: task.sample_figures(shown), folder=folder, display=display)
    with torch.no_grad():
        for line in task.printed(shown.path[:, :PRINTED]) if isinstance(task, TokenTask) else task.conclusion(view):
            display.say(line)
        for remark in task.sample_remarks(view, drawn, given):
            display.say(remark, style="yellow")
    if isinstance(task, TokenTask) and samples > PRINTED:
        display.say(f"         and {samples - PRINTED:,} more")
    written = ", ".join(sorted(str(path) for path in folder.glob("samples*")))
    display.say(f"{counted(samples, 'sample')} of shape {tuple(own.shape[1:])}: {written}")


def _completing(experiment: Experiment, inputs: Any) -> TextGenerator:
    """The generator that completes the typed text.

    Raises:
        IncompatibleChoice: the model cannot complete texts.
        RefusedInput: it is not a text of the task, or not one that the model can complete.
    """
    generator = experiment.model.generator()
    if not isinstance(experiment.task, TokenTask) or not isinstance(generator, TextGenerator):
        raise IncompatibleChoice(
            f"inputs={as_typed(inputs)}: with samples= it is a text with blanks, which a model of texts completes, and "
            "this run has none. Leave inputs out, or name a run of model=masked_diffusion."
        )
    if not isinstance(inputs, str | int | float):
        raise RefusedInput(f"inputs={as_typed(inputs)} is no text. Type one alone, without brackets.")
    return generator.completing(experiment.task.with_blanks(str(inputs)).to(experiment.device))
