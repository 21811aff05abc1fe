"""Snapshots of torch's random number generators."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RandomState:
    """The states of the random number generators from which models draw."""

    cpu: Tensor
    cuda: list[Tensor]  # of the run's GPU; runs from before 2026-11-28 stored one for every GPU of the machine

    @classmethod
    def now(cls, device: torch.device) -> "RandomState":
        cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return cls(cpu=torch.get_rng_state(), cuda=cuda)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Inside, the generators continue from this snapshot; afterwards, from their state before."""
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if self.cuda else []):
            self.restore()
            yield

    def restore(self) -> None:
        """Resets the generators to this snapshot, which may be from a machine with other GPUs, or none."""
        torch.set_rng_state(self.cpu)
        if self.cuda and torch.cuda.is_available():
            place = torch.cuda.current_device()  # the run's GPU: `find_device` has made it the current one
            torch.cuda.set_rng_state(self.cuda[place if place < len(self.cuda) else 0])

    def same_as(self, other: "RandomState") -> bool:
        """Whether no random number was drawn between the two snapshots."""
        pairs = zip([self.cpu, *self.cuda], [other.cpu, *other.cuda], strict=True)
        return all(torch.equal(one, another) for one, another in pairs)
