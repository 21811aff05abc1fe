"""A Jacobian that is kept for many iterations of Newton's method and many steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

FACTORS = 4  # factorisations kept: of stages and error estimate, for two step sizes

Weights = tuple[tuple[float, ...], ...]


class FrozenJacobian:
    """df/dy of every sample, (batch, element, element), with factorisations of I - weights x df/dy."""

    def __init__(self, jacobian: Tensor) -> None:
        self.jacobian = jacobian
        self._factors: dict[Weights, tuple[Tensor, Tensor]] = {}

    def solve(self, weights: Sequence[Sequence[float]], b: Tensor) -> Tensor:
        """Solve (I - weights x df/dy) x = b, both (stage, batch, *state); infinite or NaN if singular."""
        key = tuple(map(tuple, weights))
        if key not in self._factors:
            if len(self._factors) == FACTORS:
                self._factors.clear()
            self._factors[key] = self._factorised(b.new_tensor(key))
        right = b.reshape(*b.shape[:2], -1).transpose(0, 1).flatten(1)[..., None]  # (batch, stage * element, 1)
        x = torch.linalg.lu_solve(*self._factors[key], right)
        return x.view(b.shape[1], b.shape[0], -1).transpose(0, 1).reshape(b.shape)

    def _factorised(self, coupling: Tensor) -> tuple[Tensor, Tensor]:
        return torch.linalg.lu_factor_ex(matrix(coupling, self.jacobian[None].expand(len(coupling), -1, -1, -1)))[:2]


def matrix(coupling: Tensor, jacobians: Tensor) -> Tensor:
    """I - coupling x df/dy, (batch, stage * element, stage * element), of the stages' (stage, batch, element, element).

    Stage i depends on stage j by coupling[i, j] times the Jacobian at j.
    """
    blocks = torch.einsum("ij,jbmn->bimjn", coupling, jacobians)
    size = blocks.shape[1] * blocks.shape[2]
    eye = torch.eye(size, dtype=blocks.dtype, device=blocks.device)
    return eye - blocks.reshape(-1, size, size)
