"""Packs many tensors into one vector, so that compiled code has one input instead of many."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Packing:
    """The places of many tensors in one vector.

    A matrix with more rows than columns is stored column by column: the inner loop of a product with it is then along
    its longer side, where vector instructions pay most.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.shapes = [p.shape for p in tensors]
        self.turned = [len(shape) == 2 and shape[0] > shape[1] for shape in self.shapes]
        self.sizes = [shape.numel() for shape in self.shapes]

    def pack(self, tensors: Iterable[Tensor]) -> Tensor:
        """One vector from tensors of these shapes."""
        turned = zip(tensors, self.turned, strict=True)
        return torch.cat([(p.t() if turn else p).reshape(-1) for p, turn in turned])

    def unpack(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector in these shapes."""
        parts = zip(vector.split(self.sizes), self.shapes, self.turned, strict=True)
        return [part.view(shape[::-1]).t() if turn else part.view(shape) for part, shape, turn in parts]
