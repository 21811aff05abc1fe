"""`predict=` of a classifier: the class of every sample of the test split, or of inputs."""

from pathlib import Path

import torch
from torch import Tensor

from ode_runner.batch import Batch, Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.signals import stop_on_signals
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, counted
from ode_runner.tasks.classification import UNKNOWN, Classification

FILE = "predictions.csv"
HEADER = ("sample", "true", "predicted", "probability")
SHOWN = 5  # rows on the screen


def classify(experiment: Experiment, task: Classification, *, inputs: Tensor | None, folder: Path) -> None:
    """Write `predictions.csv`: sample, true class, predicted class and its probability; blank where none is known.

    Args:
        experiment: with a trained model.
        task: its task, on its own samples or on others.
        inputs: (batch, *input shape), as the model takes them; None: the whole test split.
        folder: where to write.
    """
    probabilities, targets = _said(experiment, task, inputs)
    sure, predicted = probabilities.max(dim=1)
    names = task.sample_names if inputs is None else [str(number) for number in range(len(inputs))]
    classes = task.class_names
    true = ["" if target == UNKNOWN else classes[target] for target in targets.tolist()]
    said = [classes[number] for number in predicted.tolist()]
    rows = list(zip(names, true, said, [round(p, 6) for p in sure.tolist()], strict=True))
    write_csv(folder / FILE, HEADER, rows)
    display = Display()
    for name, label, answer, probability in rows[:SHOWN]:
        told = f", truly {label}" if label else ""
        display.say(f"  {name}: {answer} ({probability:.1%}{told})")
    if len(rows) > SHOWN:
        display.say(f"  and {len(rows) - SHOWN} more")
    known = targets != UNKNOWN
    right = int((predicted == targets)[known].sum())
    judged = f", {right} of {int(known.sum())} right" if bool(known.any()) else ""
    display.say(f"{counted(len(rows), 'sample')}{judged}: {folder / FILE}")


@torch.no_grad()
def _said(experiment: Experiment, task: Classification, inputs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Probabilities (samples, classes) in float64, and classes (samples,); both on the CPU."""
    size = experiment.options.eval_batch_size
    probabilities, targets = list[Tensor](), list[Tensor]()
    with stop_on_signals() as stop:
        for batch in task.batches(Split.TEST, batch_size=size, epoch=0) if inputs is None else _batches(task, inputs):
            stop.check()
            outputs = experiment.outputs(batch.to(experiment.dtype)).values
            probabilities.append(outputs.double().softmax(dim=1).cpu())
            targets.append(batch.targets.cpu())
    return torch.cat(probabilities), torch.cat(targets)


def _batches(task: Classification, inputs: Tensor) -> list[Batch]:
    unknown = torch.full((len(inputs),), UNKNOWN)
    return [Batch(inputs.to(task.ts.device), task.ts, unknown)]
