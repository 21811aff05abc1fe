"""Bases of functions of depth, for expansions of weights."""

import abc
import math
from functools import cached_property
from typing import ClassVar, final

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor
from torch.func import jacrev

from ode_runner.errors import RefusedInput

NODES = 16  # quadrature nodes per interval
MOST = 256  # functions of a basis: each needs a copy of all weights


class Basis(abc.ABC):
    """`size` functions psi_k of u in [0, 1], or of any u if the basis is `endless`."""

    endless: ClassVar[bool] = False  # True: defined for all u
    least: ClassVar[int] = 1  # functions
    most: ClassVar[int] = MOST

    def __init__(self, size: int) -> None:
        if not self.least <= size <= self.most:
            name = next(name for name, kind in BASES.items() if kind is type(self))
            raise RefusedInput(
                f"model.basis={name} model.size={size}: such a basis has {self.least} to {self.most} functions."
            )
        self.size = size

    @abc.abstractmethod
    def functions(self, u: Tensor) -> Tensor:
        """psi_k(u), (*u.shape, size), in the dtype of `u`."""

    def constant(self) -> Tensor:
        """Coefficients (size,) of the constant function 1: by default, the first basis function."""
        return torch.eye(self.size)[0]

    def period(self) -> float | None:
        """The shortest period in u of the functions; None if they are constant."""
        return 2 / (self.size - 1) if self.size > 1 else None

    def kinks(self) -> list[float]:
        """Values of u in (0, 1) at which derivatives are discontinuous."""
        return []

    @cached_property
    def stiffness(self) -> Tensor:
        """Integrals of psi_k' psi_l' from 0 to 1, (size, size), by Gaussian quadrature on intervals without kinks."""
        nodes, weights = (torch.from_numpy(part) for part in leggauss(NODES))
        edges = torch.tensor([0.0, *(self.kinks() or (k / self.size for k in range(1, self.size))), 1.0]).double()
        middles, halves = (edges[1:] + edges[:-1])[:, None] / 2, edges.diff()[:, None] / 2
        slopes = torch.vmap(jacrev(self.functions))((middles + halves * nodes).flatten())
        return (slopes.mT * (halves * weights).flatten()) @ slopes


@final
class Fourier(Basis):
    """1, sqrt 2 cos 2 pi k u, sqrt 2 sin 2 pi k u: orthonormal and periodic."""

    endless: ClassVar[bool] = True

    def __init__(self, size: int) -> None:
        if size % 2 == 0:
            raise RefusedInput(
                f"model.size={size}: Fourier's functions are 1 and pairs of a cosine and a sine. Use an odd number."
            )
        super().__init__(size)

    def functions(self, u: Tensor) -> Tensor:
        angles = 2 * math.pi * u[..., None] * torch.arange(1, self.size // 2 + 1, dtype=u.dtype, device=u.device)
        parts = [torch.ones_like(u)[..., None], math.sqrt(2) * angles.cos(), math.sqrt(2) * angles.sin()]
        return torch.cat(parts, dim=-1)


@final
class Chebyshev(Basis):
    """T_k(2 u - 1)."""

    def functions(self, u: Tensor) -> Tensor:
        x = 2 * u - 1
        double, found = 2 * x, [torch.ones_like(u), x]
        while len(found) < self.size:
            found.append(double * found[-1] - found[-2])
        return torch.stack(found[: self.size], dim=-1)


@final
class Legendre(Basis):
    """P_k(2 u - 1)."""

    def functions(self, u: Tensor) -> Tensor:
        x = 2 * u - 1
        found = [torch.ones_like(u), x]
        for k in range(1, self.size - 1):
            found.append(torch.sub((2 * k + 1) / (k + 1) * (x * found[k]), found[k - 1], alpha=k / (k + 1)))
        return torch.stack(found[: self.size], dim=-1)


@final
class Monomials(Basis):
    """u^k: ill-conditioned beyond degree six or so."""

    most: ClassVar[int] = 12  # in single precision, higher powers differ by little more than rounding

    def functions(self, u: Tensor) -> Tensor:
        return u[..., None] ** torch.arange(self.size, dtype=u.dtype, device=u.device)


@final
class RadialBasis(Basis):
    """1, and exp(-((u - c_k) / w)^2) with centres c_k evenly spaced from 0 to 1, at the distance w."""

    least: ClassVar[int] = 3

    def functions(self, u: Tensor) -> Tensor:
        centres = torch.linspace(0, 1, self.size - 1, dtype=u.dtype, device=u.device)
        bells = (-((u[..., None] - centres) * (self.size - 2)).square()).exp()
        return torch.cat([torch.ones_like(u)[..., None], bells], dim=-1)


@final
class Hats(Basis):
    """Piecewise linear: psi_k is 1 at the k-th of `size` evenly spaced nodes from 0 to 1, and 0 at the others."""

    least: ClassVar[int] = 2

    def functions(self, u: Tensor) -> Tensor:
        nodes = torch.arange(self.size, dtype=u.dtype, device=u.device)
        return (1 - (u[..., None] * (self.size - 1) - nodes).abs()).clamp_min(0)

    def constant(self) -> Tensor:
        return torch.ones(self.size)

    def kinks(self) -> list[float]:
        return [k / (self.size - 1) for k in range(1, self.size - 1)]


BASES: dict[str, type[Basis]] = {
    "fourier": Fourier,
    "chebyshev": Chebyshev,
    "legendre": Legendre,
    "monomials": Monomials,
    "rbf": RadialBasis,
    "hats": Hats,
}
