"""Snapshots of torch's random number generators."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RandomState:
    """The state of the generators that models draw from."""

    cpu: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls, device: torch.device) -> "RandomState":
        cuda = torch.cuda.get_rng_state_all() if device.type == "cuda" else []
        return cls(cpu=torch.get_rng_state(), cuda=cuda)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Inside, generators go on from this snapshot; afterwards, from where they stood before."""
        with torch.random.fork_rng(devices=range(len(self.cuda))):
            self.restore()
            yield

    def restore(self) -> None:
        """Set the generators back to this snapshot."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)

    def same_as(self, other: "RandomState") -> bool:
        """Whether no random number was drawn between the two snapshots."""
        pairs = zip([self.cpu, *self.cuda], [other.cpu, *other.cuda], strict=True)
        return all(torch.equal(one, another) for one, another in pairs)
