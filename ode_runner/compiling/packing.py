"""Many tensors as one vector, which is one input of compiled code instead of many."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Packing:
    """Where each of many tensors lies in one vector.

    A matrix with more rows than columns lies column by column: a product with it is then a loop along its longer side,
    which is the one that vector instructions can take.
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
