"""What a model keeps beside its parameters, such as the running means of batch norm, as it was at some moment."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Buffers:
    """The tensors that were a model's buffers by name, and what was in them."""

    model: nn.Module
    kept: list[tuple[str, Tensor, Tensor]]

    @classmethod
    def now(cls, model: nn.Module) -> "Buffers":
        named = model.named_buffers(remove_duplicate=False)
        return cls(model=model, kept=[(name, buffer, buffer.detach().clone()) for name, buffer in named])

    def restore(self) -> None:
        """The same tensors again, with the same in them, whether a call has written into them or replaced them."""
        with torch.no_grad():
            for name, buffer, value in self.kept:
                owner, _, last = name.rpartition(".")
                setattr(self.model.get_submodule(owner), last, buffer.copy_(value))
