"""Gradient accumulation: a batch goes through the model in parts, and their gradients are summed before the step."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ode_runner.batch import Batch, Split
from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.experiment import Experiment
from ode_runner.fields.ledger import EachSample, Tally
from ode_runner.models.events import has_events
from ode_runner.tasks.base import Task
from ode_runner.training.training_pass import TrainingPass


def parts_of(batch: Batch, count: int, task: Task) -> list[Batch]:
    """The batch split into `count` parts of nearly equal size, in order; fewer parts if it has fewer samples.

    Args:
        batch: a training batch.
        count: the number of parts.
        task: the task that made the batch.

    Raises:
        IncompatibleChoice: the loss is a mean over observations, and samples have different numbers of them.
    """
    check_even(batch, task, f"trainer.accumulate={count}")
    ends = [0, *accumulate(part_sizes(len(batch.inputs), count))]
    return [batch.rows(slice(begin, end), every_time=task.spec.every_time) for begin, end in pairwise(ends)]


def part_sizes(samples: int, count: int | None) -> list[int]:
    """The sizes of the parts of so many samples; None: of the whole, one part."""
    count = min(count or 1, samples)
    return [end - begin for begin, end in pairwise(samples * i // count for i in range(count + 1))]


def accumulated_pass(
    make: Callable[[Batch], TrainingPass], parts: Sequence[Batch], parameters: Sequence[Tensor]
) -> TrainingPass:
    """Make a pass of each part. Afterwards `.grad` has the gradient of the mean loss over all samples.

    Args:
        make: makes the pass of a batch and leaves the gradient in `.grad`.
        parts: the parts of the batch.
        parameters: the parameters to train.
    """
    samples = sum(len(part.inputs) for part in parts)
    shares = [len(part.inputs) / samples for part in parts]
    passes, gradients = list[TrainingPass](), list[Tensor | None]([None] * len(parameters))
    for part, share in zip(parts, shares, strict=True):
        for parameter in parameters:
            parameter.grad = None
        passes.append(make(part))
        gradients = [_plus(total, p.grad, share) for total, p in zip(gradients, parameters, strict=True)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return _together(passes, shares, [len(part.inputs) for part in parts])


def check_parts(experiment: Experiment, *, processes: int) -> None:
    """Raises IncompatibleChoice if the gradients of parts of a batch do not add up to the gradient of the batch.

    Both trainer.accumulate and processes split a batch into parts.
    """
    options = experiment.options
    accumulates = options.accumulate is not None
    typed = [f"trainer.accumulate={options.accumulate}"] * accumulates + [f"processes={processes}"] * (processes > 1)
    for one in typed:
        _check_events(experiment, one)
        first = next(experiment.task.batches(Split.TRAIN, batch_size=options.batch_size, epoch=0))
        check_even(first, experiment.task, one)
    if accumulates and options.audit_every is not None:
        raise IncompatibleChoice(f"{typed[0]}: trainer.audit_every compares gradients of whole batches. Leave one out.")


def check_even(batch: Batch, task: Task, typed: str) -> None:
    """Raises IncompatibleChoice if the loss of a batch is not a weighted mean of the losses of its parts.

    This is so if the loss is a mean over observations and samples have different numbers of them.

    Args:
        batch: a training batch.
        task: the task that made the batch.
        typed: the option that splits the batch, as typed.
    """
    if not (task.mean_over_samples or batch.even):
        raise IncompatibleChoice(
            f"{typed} takes the mean over a batch from its parts, and these samples have different numbers of "
            "observations, of which the loss is a mean. Leave it out."
        )


def _check_events(experiment: Experiment, typed: str) -> None:
    if has_events(type(experiment.task), type(experiment.model)):
        raise IncompatibleChoice(
            f"{typed}: the loss is a mean over the events that a batch has, and parts of it have different numbers of "
            "them. Leave it out."
        )


def _plus(total: Tensor | None, gradient: Tensor | None, share: float) -> Tensor | None:
    """The sum so far: a new tensor the first time, because captured passes overwrite their gradients' memory."""
    if gradient is None:
        return total
    return share * gradient if total is None else total.add_(gradient, alpha=share)


def _together(passes: Sequence[TrainingPass], shares: Sequence[float], sizes: Sequence[int]) -> TrainingPass:
    """Joins passes: means over samples, sums of evaluations, the largest saved bytes (parts are kept one at a time)."""
    measured: dict[str, Tensor] = {}
    forward, backward = Tally(), Tally()
    for passed, share in zip(passes, shares, strict=True):
        for name, value in passed.measured.items():
            measured[name] = measured.get(name, torch.zeros_like(value)) + share * value
        forward.add(passed.forward)
        backward.add(passed.backward)
    known = [passed.saved_bytes for passed in passes if passed.saved_bytes is not None]
    return TrainingPass(
        measured=measured,
        of_loss=passes[0].of_loss,
        forward=forward,
        backward=backward,
        each=[_joined(solve, sizes) for solve in zip(*(passed.each for passed in passes), strict=False)],
        saved_bytes=max(known, default=None),
    )


def _joined(solve: Sequence[EachSample], sizes: Sequence[int]) -> EachSample:
    """The counts of a solve for each sample, joined over the parts. A sample may have several states, in rows."""

    def join(name: str) -> Tensor:
        pairs = zip(solve, sizes, strict=True)
        return torch.cat([getattr(one, name).view(-1, size) for one, size in pairs], dim=1).flatten()

    return EachSample(
        evaluations=join("evaluations"), accepted=join("accepted"), rejected=join("rejected"), failures={}
    )
