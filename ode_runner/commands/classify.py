"""`predict=` of a classifier: the class of each sample (or each of its tokens) of the test split or of inputs."""

from collections.abc import Sequence
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
    """Write `predictions.csv`: sample, true class (blank if unknown), predicted class and its probability.

    If every position of a sample has a class, a field lists all of them, and the probability is their product.

    Args:
        experiment: an experiment with a trained model.
        task: its task, on its own samples or on others.
        inputs: (batch, *input shape), as the model takes them; None: the whole test split.
        folder: where to write.
    """
    probabilities, targets = _said(experiment, task, inputs)
    sure, predicted = probabilities.max(dim=-1)
    names = task.sample_names if inputs is None else [str(number) for number in range(len(inputs))]
    true, said = (_named(numbers, task.class_names) for numbers in (targets, predicted))
    together = sure.flatten(1).prod(dim=1) if sure.dim() > 1 else sure
    rows = list(zip(names, true, said, [round(p, 6) for p in together.tolist()], strict=True))
    write_csv(folder / FILE, HEADER, rows)
    display = Display()
    for name, label, answer, probability in rows[:SHOWN]:
        truth = f", truly {label}" if label else ""
        display.say(f"  {name}: {answer} ({probability:.1%}{truth})")
    if len(rows) > SHOWN:
        display.say(f"  and {len(rows) - SHOWN} more")
    known = (targets != UNKNOWN).view(len(rows), -1).all(dim=1)
    right = int((predicted == targets).view(len(rows), -1).all(dim=1)[known].sum())
    judged = f", {right:,} of {int(known.sum()):,} right" if bool(known.any()) else ""
    display.say(f"{counted(len(rows), 'sample')}{judged}: {folder / FILE}")


def _named(numbers: Tensor, classes: Sequence[str]) -> list[str]:
    """The class names of each sample from class numbers (samples, *positions); blank if one is unknown."""
    each = numbers.view(len(numbers), -1).tolist()
    return ["" if UNKNOWN in sample else " ".join(classes[number] for number in sample) for sample in each]


@torch.no_grad()
def _said(experiment: Experiment, task: Classification, inputs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Probabilities (samples, *positions, classes) in float64, and targets (samples, *positions); both on the CPU."""
    size = experiment.options.eval_batch_size
    probabilities, targets = list[Tensor](), list[Tensor]()
    with stop_on_signals() as stop:
        for batch in task.batches(Split.TEST, batch_size=size, epoch=0) if inputs is None else _batches(task, inputs):
            stop.check()
            outputs = experiment.outputs(batch.to(experiment.dtype)).values
            probabilities.append(outputs.double().softmax(dim=-1).cpu())
            targets.append(batch.targets.cpu())
    return torch.cat(probabilities), torch.cat(targets)


def _batches(task: Classification, inputs: Tensor) -> list[Batch]:
    unknown = torch.full((len(inputs), *task.spec.output_shape[:-1]), UNKNOWN)
    return [Batch(inputs.to(task.ts.device), task.ts, unknown)]
