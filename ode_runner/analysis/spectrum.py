"""Estimates of the spectrum of a Jacobian from its products with vectors.

If samples of a batch do not interact, the Jacobian is block-diagonal, and all samples are treated at once. If they do,
estimates are NaN, with a warning.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ode_runner.solvers.implicit.jacobian import JacobianProducts
from ode_runner.solvers.implicit.krylov import orthogonalised
from ode_runner.types import State


def ritz_values(jvp: Callable[[State], State], like: State, *, products: int) -> Tensor:
    """Estimates of each sample's eigenvalues, complex (batch, count), from at most `products` products with vectors.

    Arnoldi's method: the eigenvalues of the map restricted to the span of v, Jv, JJv, ... If a state has at most
    `products` elements, these are all eigenvalues. If it has more, the extreme eigenvalues converge first: for a normal
    map the largest absolute value and real part are underestimated; otherwise they may also be overestimated, within
    the field of values.

    Saad. Numerical Methods for Large Eigenvalue Problems. SIAM 2011, 6.2.
    """
    batch, elements = like.shape[0], like[0].numel()
    count = min(products, elements)
    if _interact(jvp, like):
        return torch.full((batch, count), torch.nan, dtype=torch.complex128)
    draw = torch.Generator().manual_seed(0)

    def fresh() -> Tensor:
        return torch.randn(batch, elements, generator=draw).to(like)

    basis, small = [_unit(fresh())], like.new_zeros(batch, count, count)
    for j in range(count):
        image = jvp(basis[j].view_as(like)).flatten(1)
        negligible = 100 * torch.finfo(like.dtype).eps * image.norm(dim=1)
        rest, small[:, : j + 1, j] = orthogonalised(image, basis)
        if j + 1 < count:
            length = rest.norm(dim=1)
            closed = length <= negligible  # the span is invariant: continue with a new random vector
            anew = orthogonalised(fresh(), basis)[0]
            small[:, j + 1, j] = length.masked_fill(closed, 0)
            basis.append(_unit(torch.where(closed[:, None], anew, rest)))
    small = small.to("cpu", torch.float64)
    if not small.isfinite().all():
        return torch.full((batch, count), torch.nan, dtype=torch.complex128)
    return torch.linalg.eigvals(small)


def largest_singular_value(map_: JacobianProducts, like: State, *, products: int) -> Tensor:
    """The largest singular value of each sample's Jacobian J, (batch,), from at most `products` products with J^T J.

    It is exact if a state has at most `products` elements, and otherwise a lower bound; see `ritz_values`.
    """
    squares = ritz_values(lambda vector: map_.vjp(map_.jvp(vector)), like, products=products).real
    return squares.amax(dim=1).clamp_min(0).sqrt().to(like)


def _interact(jvp: Callable[[State], State], like: State) -> bool:
    """Whether a change of the first sample changes another one, by one product with a vector."""
    change = torch.zeros_like(like)
    change[:1] = torch.linspace(1, 2, like[:1].numel()).to(like).view_as(like[:1])
    found = len(like) > 1 and bool((jvp(change)[1:].nan_to_num() != 0).any())
    if found:
        warnings.warn(
            "samples of a batch interact, so that no sample has a Jacobian of its own: its eigenvalues and singular "
            "values are not measured.",
            stacklevel=3,
        )
    return found


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
