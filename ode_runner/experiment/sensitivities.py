"""The Jacobian of many numbers with respect to a model's parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

ROWS = 64  # rows that are computed at a time


def jacobian(numbers: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The Jacobian (number, parameter) of `numbers` (number,); all parameters are flattened. The graph is kept."""

    def pulled(unit: Tensor) -> Tensor:
        found = torch.autograd.grad(numbers, parameters, unit, retain_graph=True, allow_unused=True)
        flat = [
            numbers.new_zeros(p.numel()) if part is None else part.flatten()
            for part, p in zip(found, parameters, strict=True)
        ]
        return torch.cat(flat)

    units = torch.eye(len(numbers), dtype=numbers.dtype, device=numbers.device)
    return vmap(pulled, chunk_size=ROWS)(units)
