"""`export=`: a trained model as a file that other programs open."""

from pathlib import Path
from typing import Any

from ode_runner.commands.trained_run import TrainedRun
from ode_runner.exporting.writing import write_export
from ode_runner.models.generators.path_model import PathModel
from ode_runner.recording.display import Display, counted
from ode_runner.recording.record import RunStatus


def export(trained: TrainedRun, *, file_format: Any, part: Any, folder: Path) -> RunStatus:
    """Write the field, the whole model or its weights into a folder, and print how well the file reproduces the model.

    Raises:
        RefusedInput: there is no such format or part, or a package is missing.
        IncompatibleChoice: the model has no field, its solver's steps are not fixed, or it cannot be traced.
    """
    experiment, display = trained.experiment(), Display()
    written = write_export(experiment, trained.record, file_format=file_format, part=part, folder=folder)
    if written.tensors:
        display.say(f"{counted(written.tensors, 'tensor')}, equal to the bit when read again: {written.path}")
        return RunStatus.COMPLETED
    if written.apart is None:
        display.say("not compared, because nothing that runs it is installed: pip install 'ode-run[export]'")
    else:
        display.say(f"opened again, its answer to {counted(written.samples, 'sample')} is the model's, within "
            f"{written.apart:.1g} of the largest number")  # fmt: skip
    if isinstance(experiment.model, PathModel) and experiment.model.guidance != 1:
        guidance = f"model.guidance={experiment.model.guidance:g}"
        display.say(f"it holds the field without guidance; samples of this run are drawn with {guidance}")
    display.say(f"{written.path}, with example.npz and export.json beside it")
    return RunStatus.COMPLETED
