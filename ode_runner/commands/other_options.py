"""Options of the task that differ between a command and its run, and whether they make other test data."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ode_runner.batch import Batch, Split
from ode_runner.errors import as_typed
from ode_runner.tasks.base import Task

AT_ONCE = 1000  # samples that are compared at a time


def sentence_on_options(names: Sequence[str], recorded: Mapping[str, Any], *, own: Task, now: Task) -> str:
    """A sentence on what the columns of an evaluation measure, if options of the task differ from the run's.

    Args:
        names: the names of these options, such as `task.test`.
        recorded: the options of the run's task, without `task.`.
        own: the run's task.
        now: the task of the command.
    """
    if not same_test_data(own, now):
        return (
            f"{', '.join(names)}: other test data than the run's, some of which it may have learned; all columns are "
            "of them."
        )
    listed = ", ".join(f"{name} (the run's: {as_typed(recorded.get(name.removeprefix('task.')))})" for name in names)
    now_used = "these" if len(names) > 1 else "it"
    return f"{listed}: other than in the run, on the same test data; all columns are measured with {now_used}."


def same_test_data(one: Task, other: Task) -> bool:
    """Whether two tasks ask the same questions of the same test samples."""
    if one.size(Split.TEST) != other.size(Split.TEST):
        return False
    batches = [task.batches(Split.TEST, batch_size=AT_ONCE, epoch=0) for task in (one, other)]
    try:
        return all(_same(ours, theirs) for ours, theirs in zip(*batches, strict=True))
    except ValueError:  # one of them is longer
        return False


def _same(one: Batch, other: Batch) -> bool:
    return all(_equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return (
            one.shape == other.shape
            and one.dtype == other.dtype
            and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
        )
    return type(one) is type(other) and bool(one == other)
