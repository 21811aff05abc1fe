"""Computations whose side effects on a model are undone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ode_runner.devices.buffers import Buffers
from ode_runner.devices.random_state import RandomState


@contextmanager
def without_side_effects(model: nn.Module, device: torch.device) -> Iterator[tuple[RandomState, Buffers]]:
    """Yields snapshots of the random state and of the model's buffers, and restores both at the end."""
    random, buffers = RandomState.now(device), Buffers.now(model)
    try:
        yield random, buffers
    finally:
        buffers.restore()
        random.restore()
