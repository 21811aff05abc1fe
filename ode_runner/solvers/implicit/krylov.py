"""Matrix-free GMRES, for linear systems too large to factorise."""

from collections.abc import Callable

import torch
from torch import Tensor

SPACE = 200  # basis vectors before a restart; a learned, highly non-normal field took 114 for a state of 576
RESTARTS = 5

Product = Callable[[Tensor], Tensor]  # (batch, n) to (batch, n), sample by sample


def gmres(product: Product, b: Tensor, *, rtol: float, atol: Tensor | float = 0.0) -> Tensor:
    """Solve product(x) = b for every sample (batch, n), until |b - product(x)| <= max(rtol |b|, atol).

    If rounding prevents this, a relative residual of sqrt(eps) is accepted; otherwise the result is NaN. Each sample
    has its own Krylov space; one product serves all samples.

    Saad, Schultz. GMRES: a generalized minimal residual algorithm. SIAM J. Sci. Stat. Comput. 7, 1986.
    """
    x, residual, size = torch.zeros_like(b), b, b.norm(dim=1)
    target = torch.maximum(rtol * size, torch.as_tensor(atol, dtype=b.dtype, device=b.device))
    enough = torch.maximum(target, torch.finfo(b.dtype).eps ** 0.5 * size)
    for _ in range(RESTARTS):
        before = residual.norm(dim=1)
        if bool((before <= target).all()):
            return x
        x = x + _cycle(product, residual, target)
        residual = b - product(x)
        size = residual.norm(dim=1)
        if bool((size <= enough).all() and (size > before / 2).any()):
            break  # stagnation by rounding
    return torch.where((residual.norm(dim=1) <= enough)[:, None], x, torch.nan)


def _cycle(product: Product, residual: Tensor, target: Tensor) -> Tensor:
    """The best correction in a Krylov space of at most `SPACE` vectors; samples that have converged add zeros."""
    size = residual.norm(dim=1)
    basis = [_divided(residual, size[:, None])]
    columns: list[Tensor] = []  # of the triangular factor, (batch, k)
    turns: list[tuple[Tensor, Tensor]] = []  # cosines and sines of Givens rotations
    right = [size]
    while len(columns) < SPACE and bool((right[-1].abs() > target / 2).any()):  # half: rounding in the recursion
        vector, along = orthogonalised(product(basis[-1]), basis)
        column = list(along.unbind(dim=1))
        height = vector.norm(dim=1)
        for i, (cosine, sine) in enumerate(turns):
            column[i], column[i + 1] = (
                cosine * column[i] + sine * column[i + 1],
                cosine * column[i + 1] - sine * column[i],
            )
        radius = torch.hypot(column[-1], height)
        cosine, sine = torch.where(radius > 0, _divided(column[-1], radius), 1.0), _divided(height, radius)
        column[-1] = radius
        turns.append((cosine, sine))
        columns.append(torch.stack(column, dim=1))
        right[-1:] = [cosine * right[-1], -sine * right[-1]]
        basis.append(_divided(vector, height[:, None]))
    weights = _back_substituted(columns, right)
    return torch.stack([weight[:, None] * v for weight, v in zip(weights, basis, strict=False)]).sum(dim=0)


def orthogonalised(vector: Tensor, basis: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The part of (batch, n) orthogonal to an orthonormal basis, and the components along it, (batch, len(basis)).

    Gram-Schmidt twice, because once is not orthogonal to rounding if the remainder is small.
    """
    spanned = torch.stack(basis, dim=1)  # (batch, k, n)
    along = torch.zeros_like(spanned[..., 0])
    for _ in range(2):
        more = torch.einsum("bkn,bn->bk", spanned, vector)
        vector, along = vector - torch.einsum("bkn,bk->bn", spanned, more), along + more
    return vector, along


def _back_substituted(columns: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    left, weights = list(right[: len(columns)]), [torch.zeros_like(right[0])] * len(columns)
    for i in reversed(range(len(columns))):
        weights[i] = _divided(left[i], columns[i][:, i])
        for j in range(i):
            left[j] = left[j] - weights[i] * columns[i][:, j]
    return weights


def _divided(some: Tensor, by: Tensor) -> Tensor:
    """The quotient, or 0 if the divisor is 0."""
    return torch.where(by > 0, some / torch.where(by > 0, by, 1.0), 0.0)
