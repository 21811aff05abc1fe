"""Checks of what a user's own task returns. A refusal names the method that returned something wrong."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from ode_runner.batch import Batch, Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.objectives.base import Loss, Objective
from ode_runner.objectives.supervised import Supervised
from ode_runner.plots.animation import Picture
from ode_runner.tasks.base import Task

TENSORS = ("inputs", "ts", "targets")  # of a batch


def check_spec(task: Task) -> None:
    """Raises RefusedInput if a task has no `spec`, one whose shapes are not tuples, or data that do not fit it."""
    spec, name = vars(task).get("spec", getattr(type(task), "spec", None)), type(task).__name__
    if not isinstance(spec, TaskSpec):
        raise RefusedInput(f"{name} has no `spec`. Set self.spec = TaskSpec(input_shape=(2,), output_shape=(1,)), say.")
    for shape in ("input_shape", "output_shape"):
        if not isinstance(value := getattr(spec, shape), tuple):
            raise RefusedInput(f"{name}.spec: {shape}={value} is no tuple. Write {shape}=({value},), say.")
    task.check_data()


def checked_batch(task: Task, batch: Any) -> Batch:
    """The batch.

    Raises:
        RefusedInput: it is not a Batch, or a field of it is not a tensor.
    """
    if not isinstance(batch, Batch):
        raise RefusedInput(
            f"{type(task).__name__}.batches gave a {type(batch).__name__}, and a task yields Batch(inputs, ts, "
            "targets), from ode_runner.batch."
        )
    for name in TENSORS:
        if not isinstance(value := getattr(batch, name), Tensor):
            kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}".removeprefix("builtins.")
            raise RefusedInput(
                f"{type(task).__name__}.batches: {name} is a {kind}. Make a tensor of it by torch.as_tensor."
            )
    return batch


def first_of_training(task: Task, *, batch_size: int) -> Batch:
    """The first training batch.

    Raises:
        RefusedInput: there is none, or it is not a Batch.
    """
    batches: Any = task.batches(Split.TRAIN, batch_size=batch_size, epoch=0)
    if (first := next(iter(batches or ()), None)) is None:
        raise RefusedInput(
            f"{type(task).__name__}.batches gave no batch to learn from: it is a generator, which yields each Batch."
        )
    return checked_batch(task, first)


def batches_of_epoch(task: Task, *, batch_size: int, epoch: int, say: Callable[[str], None]) -> Iterator[Batch]:
    """The training batches of an epoch; after the first epoch, warns if their number does not fit `task.size`."""
    count, expected = 0, -(-task.size(Split.TRAIN) // batch_size)
    for batch in task.batches(Split.TRAIN, batch_size=batch_size, epoch=epoch):
        count += 1
        yield batch
    if epoch == 0 and count != expected:
        say(
            f"an epoch has {count} batches, and by {type(task).__name__}.size ({task.size(Split.TRAIN)} samples) it is "
            f"{expected}: the schedule and the progress that is shown go by that."
        )


def check_measured(task: Task, split: Split, samples: int) -> None:
    """Raises RefusedInput if a split has no samples, so that there is no mean over it."""
    if not samples:
        raise RefusedInput(f"the {split} split of {type(task).__name__} is empty, and a run is judged by it.")


def checked_figures(task: Task, found: Any) -> Iterator[tuple[str, Picture]]:
    """The task's pictures.

    Raises:
        RefusedInput: they are not pairs of a name and a picture.
    """
    for one in found if isinstance(found, Iterable) else [found]:
        if not (isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str)):
            raise RefusedInput(
                f"{type(task).__name__}.figures gave a {type(one).__name__}, and a task yields each picture with its "
                'name: yield "errors", figure.'
            )
        yield one


def check_loss(task: Task, loss: Loss) -> None:
    """Raises RefusedInput if the loss is not a tensor of a single number."""
    total: Any = loss.total
    if not isinstance(total, Tensor) or total.ndim:
        is_ = f"of shape {tuple(total.shape)}" if isinstance(total, Tensor) else f"a {type(total).__name__}"
        raise RefusedInput(
            f"the loss of a batch is {is_}, and training minimises one number, a tensor of no dimension. Take the mean "
            f"over the samples in {type(task).__name__}.loss, and no float() of it."
        )


def checked_metrics(task: Task, found: Any) -> Mapping[str, Any]:
    """The metrics of a batch.

    Raises:
        RefusedInput: they have no names, a reserved name, or are not single numbers.
    """
    name = f"{type(task).__name__}.metrics"
    if not isinstance(found, Mapping):
        raise RefusedInput(f"{name} gave a {type(found).__name__}, and a task gives its metrics by name, in a dict.")
    for metric, value in found.items():
        if metric in ("loss", "nfe") or metric.startswith("loss/"):
            raise RefusedInput(f"{name}: '{metric}' is the name of a number of every run. Give it another.")
        if isinstance(value, Tensor) and value.numel() != 1 or not isinstance(value, Tensor | Real):
            is_ = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise RefusedInput(f"{name}: '{metric}' is {is_}. Give one number, a mean over the batch.")
    return found


def reported(task: Task, means: Mapping[str, float]) -> dict[str, float]:
    """The task's reported metrics of a split, with the loss and its terms even if the task left them out."""
    found = dict(task.reported(means))
    losses = {name: value for name, value in means.items() if name == "loss" or name.startswith("loss/")}
    return found | {name: value for name, value in losses.items() if name not in found}


def check_criterion(task: Task, objective: Objective[Any], name: str, results: Mapping[str, float]) -> None:
    """Raises RefusedInput if the metric by which weights are chosen was not measured."""
    if name not in results:
        own = (
            ""
            if isinstance(objective, Supervised)
            else (
                f" {type(task).__name__}.metrics are measured if {type(objective).__name__}.loss returns the model's "
                "outputs, too: Loss(total, terms, outputs)."
            )
        )
        raise RefusedInput(
            f"{type(task).__name__}.objective = '{name}' is none of the numbers that it reports, and the best weights "
            f"are chosen by it. Name one of these: {', '.join(one for one in results if not one.startswith('nfe'))}."
            f"{own}"
        )
