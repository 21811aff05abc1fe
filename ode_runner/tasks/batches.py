"""The order of samples: shuffling and division into batches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.devices.transfer import send


def shuffler(split: Split, *, seed: int, epoch: int) -> torch.Generator | None:
    """The generator that shuffles the training split in an epoch; None for the other splits, which are not shuffled."""
    return torch.Generator().manual_seed((seed << 20) + epoch) if split is Split.TRAIN else None


def in_batches(
    count: int, batch_size: int, generator: torch.Generator | None, *, device: torch.device
) -> Iterator[Tensor]:
    """The indices of the samples in each batch, shuffled if there is a generator.

    Batches are yielded one by one, so that taking a single batch does not wait for the others.
    """
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    order = send(order, device)
    yield from (order[begin : begin + batch_size] for begin in range(0, count, batch_size))
