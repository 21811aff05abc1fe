"""Gradient accumulation: a batch goes through the model in parts, whose gradients are summed before the step."""

from collections.abc import Callable, Sequence
from itertools import pairwise

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
    """The batch in `count` parts of nearly equal size, in its order; fewer if it has fewer samples.

    Args:
        batch: of training.
        count: of parts.
        task: whose batch it is.

    Raises:
        IncompatibleChoice: the loss is a mean over observations, of which samples have different numbers.
    """
    check_even(batch, task, f"trainer.accumulate={count}")
    samples = len(batch.inputs)
    ends = [samples * i // min(count, samples) for i in range(min(count, samples) + 1)]
    return [batch.rows(slice(begin, end), every_time=task.spec.every_time) for begin, end in pairwise(ends)]


def accumulated_pass(
    make: Callable[[Batch], TrainingPass], parts: Sequence[Batch], parameters: Sequence[Tensor]
) -> TrainingPass:
    """A pass of each part; the parameters' `.grad` is that of the mean loss over all samples.

    Args:
        make: the pass of a batch, which leaves its gradient in `.grad`.
        parts: of the batch.
        parameters: those to train.
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
    """Raises IncompatibleChoice where gradients of parts of a batch do not add up to that of the batch.

    trainer.accumulate and processes both take it apart.
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
    """Raises IncompatibleChoice where the loss of a batch is no mean of those of its parts, by whatever weights.

    That is a mean over observations, of which samples have different numbers.

    Args:
        batch: of training.
        task: whose batch it is.
        typed: the option that takes it apart.
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
    """A new tensor the first time: captured passes write their gradients into the same memory again."""
    if gradient is None:
        return total
    return share * gradient if total is None else total.add_(gradient, alpha=share)


def _together(passes: Sequence[TrainingPass], shares: Sequence[float], sizes: Sequence[int]) -> TrainingPass:
    """Means over all samples, and evaluations of all parts; what is kept for the backward pass is that of one."""
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
    """What a solve took of each sample of all parts; samples may have several states, one behind the other."""

    def join(name: str) -> Tensor:
        pairs = zip(solve, sizes, strict=True)
        return torch.cat([getattr(one, name).view(-1, size) for one, size in pairs], dim=1).flatten()

    return EachSample(
        evaluations=join("evaluations"), accepted=join("accepted"), rejected=join("rejected"), failures={}
    )
