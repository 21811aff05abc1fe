"""Snapshots of a model's buffers, such as the running means of batch norm."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ode_runner.devices.sparse_tensors import dense_parts


@dataclass(frozen=True, kw_only=True)
class Buffers:
    """The buffers of a model at one moment: name, tensor, and a copy of the values."""

    model: nn.Module
    kept: list[tuple[str, Tensor, Tensor]]

    @classmethod
    def now(cls, model: nn.Module) -> "Buffers":
        named = model.named_buffers(remove_duplicate=False)
        return cls(model=model, kept=[(name, buffer, buffer.detach().clone()) for name, buffer in named])

    def replaced(self) -> bool:
        """Whether a buffer was replaced by another tensor, added or removed."""
        now = dict(self.model.named_buffers(remove_duplicate=False))
        return len(now) != len(self.kept) or any(now.get(name) is not buffer for name, buffer, _ in self.kept)

    def changed(self) -> bool:
        """Whether a buffer's values changed, or `replaced`."""
        return self.replaced() or any(not _equal(buffer, value) for _, buffer, value in self.kept)

    def restore(self) -> None:
        """Restores tensors and values, whether a call has written into the tensors or replaced them.

        On a CPU, tensors that have these values are not written into: a solve that read them may still be
        differentiated, which checks that they were not.
        """
        for name, buffer, value in self.kept:
            if buffer.device.type != "cpu" or not _equal(buffer, value):
                with torch.no_grad():
                    buffer.copy_(value)
            owner, _, last = name.rpartition(".")
            setattr(self.model.get_submodule(owner), last, buffer)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.layout == other.layout and all(map(torch.equal, dense_parts(one), dense_parts(other)))
