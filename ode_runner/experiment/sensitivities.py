"""The derivative of many numbers by a model's parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

ROWS = 64  # numbers at a time


def jacobian(numbers: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The derivative (number, parameter) of `numbers` (number,) by all parameters in a row; its graph is kept."""

    def pulled(unit: Tensor) -> Tensor:
        found = torch.autograd.grad(numbers, parameters, unit, retain_graph=True, allow_unused=True)
        flat = [
            numbers.new_zeros(p.numel()) if part is None else part.flatten()
            for part, p in zip(found, parameters, strict=True)
        ]
        return torch.cat(flat)

    units = torch.eye(len(numbers), dtype=numbers.dtype, device=numbers.device)
    return vmap(pulled, chunk_size=ROWS)(units)
