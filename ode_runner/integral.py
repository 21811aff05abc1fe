"""Integrals along a solve, one number per sample, and the products with the Jacobian that their integrands may use."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Literal, final

import torch
from torch import Tensor, func, nn

from ode_runner.errors import RefusedInput
from ode_runner.field import JVP
from ode_runner.types import State, Time

Integrand = Callable[..., Tensor]  # of t, y, dy, pull, *given
Slope = Callable[[Time, State], State]
NoiseDistribution = Literal["rademacher", "normal"]


@final
class Integral(nn.Module):
    """q(t) = integral of g from the first time to t, (batch,): a log density, a penalty on the path, a running cost.

    The field does not depend on q, so q is not part of the state. If `g` is a module, its parameters are learned.

    Args:
        g: g(t, y, dy, vjp, *given) returns (batch,). dy = f(t, y) is the field's derivative at this point, in the
            shape of `y`, and `vjp` its `VJP`. `t` is (), or (batch,) if every sample has its own steps.
        judged: True: step control also keeps the error of q within the tolerance. An integral that is the objective
            must be judged, or training learns to exploit its error. A penalty need not be; it then causes no steps.
        given: tensors (batch, ...) for `g` alone, after those of the field: for example the noise of an estimator,
            drawn once per solve.
        treats_samples_alone: True: g reads the Jacobian of single samples, as a log density does, so that a field in
            which samples interact is refused.
    """

    def __init__(
        self, g: Integrand, judged: bool, *, given: Sequence[Tensor] = (), treats_samples_alone: bool = False
    ) -> None:
        super().__init__()
        self.g, self.judged, self.given = g, judged, tuple(given)
        self.treats_samples_alone = treats_samples_alone

    def forward(self, t: Tensor, y: State, dy: State, vjp: "VJP", *given: Tensor) -> Tensor:
        return self.g(t, y, dy, vjp, *given)


@final
class VJP:
    """Vector-Jacobian products of the field at one (t, y): vjp(v) is v^T df/dy, in the shape of `y`.

    `v` has the shape of `y`, or (k, *y.shape) for k vectors at once; the result has the shape of `v`. Each vector is
    one product in the ledger. The first call evaluates the field again; this does not count as an evaluation.

    Args:
        slope: the field.
        t: the time.
        y: the state.
        enter: called with the number of products.
        jvp: the field's own Jacobian-vector products (df/dy) v, if it is a LinearizableField; else None.
    """

    def __init__(self, slope: Slope, t: Time, y: State, enter: Callable[[int], None], jvp: JVP | None = None) -> None:
        self._slope, self._t, self._y, self._enter, self._jvp = slope, t, y, enter, jvp
        self._product: Callable[[Tensor], Any] | None = None

    def __call__(self, v: Tensor) -> Tensor:
        if self._product is None:
            self._product = func.vjp(partial(self._slope, self._t), self._y)[1]
        several = v.dim() > self._y.dim()
        self._enter(len(v) if several else 1)
        return torch.vmap(self._alone)(v) if several else self._alone(v)

    def quadratic(self, v: Tensor) -> Tensor:
        """v^T (df/dy) v of every sample for each of k vectors, (k, batch), by Jacobian-vector products if available.

        `v` is (k, batch or 1, *state), where 1 stands for the same vector in all samples.
        """
        if self._jvp is None:
            parts = v * self(v.expand(len(v), *self._y.shape))
        else:
            self._enter(len(v))
            parts = v * self._jvp(v)
        sums = parts.reshape(*parts.shape[:2], -1).sum(dim=2)
        return sums.expand(len(v), len(self._y))  # a linear field's product is the same for all samples

    def path_derivative(self, order: int) -> State:
        """d^order y/dt^order of the solution through this point, by order - 1 nested Jacobian-vector products.

        The time derivative of a function along the solution is its directional derivative along (1, f) in (t, y).

        Kelly, Bettencourt, Johnson, Duvenaud. Learning Differential Equations that are Easy to Solve. NeurIPS 2020.
        """
        self._enter(order - 1)
        _load_jvp()
        derivative = self._slope
        for _ in range(order - 1):
            derivative = partial(_along, derivative, self._slope)
        return derivative(self._t, self._y)

    def _alone(self, v: Tensor) -> Tensor:
        assert self._product is not None
        [product] = self._product(v)
        return product


@cache
def _load_jvp() -> None:
    """Call jvp once: the first call loads torch's decompositions, with a warning about a deprecated part of torch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
        func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


def _along(function: Slope, slope: Slope, t: Time, y: State) -> State:
    """The time derivative of function(t, y) along the solution through this point."""
    directions = (torch.ones_like(t), slope(t, y))
    tangent: State = func.jvp(function, (t, y), directions)[1]
    return tangent


NONE: Mapping[str, Integral] = MappingProxyType({})  # no integrals


def trace(y: State, vjp: VJP) -> Tensor:
    """The trace of df/dy of every sample, (batch,): one product per element of the state."""
    size = y[0].numel()
    units = torch.eye(size, dtype=y.dtype, device=y.device).view(size, 1, *y.shape[1:])
    return vjp.quadratic(units).sum(dim=0)


def probe(y0: State, distribution: NoiseDistribution) -> Tensor:
    """Noise e in the shape of `y0` with E[e e^T] = I, for estimates of traces and norms: random signs, or normal.

    It is drawn from torch's global generator, always in single precision, so that an audit in another precision draws
    the same numbers.
    """
    normal = torch.randn(y0.shape, device=y0.device, dtype=torch.float32)
    return (normal if distribution == "normal" else torch.where(normal < 0, -1.0, 1.0)).to(y0)


def stacked(rates: Sequence[Tensor], names: Sequence[str], y: State) -> Tensor:
    """The integrands' values stacked, (batch, integral), in the dtype of the state.

    Raises:
        RefusedInput: an integrand does not return one number per sample.
    """
    for name, rate in zip(names, rates, strict=True):
        if not isinstance(rate, Tensor) or rate.shape != y.shape[:1]:
            gave = f"one of shape {tuple(rate.shape)}" if isinstance(rate, Tensor) else f"a {type(rate).__name__}"
            raise RefusedInput(
                f"the integrand of {name!r} must give one number for every sample, (batch,) = {tuple(y.shape[:1])}, "
                f"and gave {gave}. Sum over the state: .flatten(1).sum(dim=1)."
            )
    return torch.stack([rate.to(y.dtype) for rate in rates], dim=1)
