"""An integral along a solve: what is summed up on the way, for every sample."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import vjp

from ode_runner.errors import RefusedInput
from ode_runner.field import Push
from ode_runner.types import State

Integrand = Callable[..., Tensor]  # of t, y, dy, pull, *given


@final
class Integral(nn.Module):
    """q(t) = integral of g from the first time to t, (batch,): a log density, a price on the path, a running cost.

    It feeds back into nothing, so it is no part of the state. Where `g` is a module, its parameters are learned.

    Args:
        g: g(t, y, dy, pull, *given) gives (batch,), where dy = f(t, y) is the field's derivative at this place, in the
            shape of `y`, and `pull` its `Pull`. `t` is (), or (batch,) where samples step on their own.
        judged: whether step control keeps its error within tolerance too. What is the objective itself must be judged,
            or training learns to exploit the error; what is a price on it need not cost a step.
    """

    def __init__(self, g: Integrand, judged: bool) -> None:
        super().__init__()
        self.g, self.judged = g, judged

    def forward(self, t: Tensor, y: State, dy: State, pull: "Pull", *given: Tensor) -> Tensor:
        return self.g(t, y, dy, pull, *given)


@final
class Pull:
    """Products with the field's Jacobian at one place: pull(v) is v^T df/dy, in the shape of `y`.

    `v` has the shape of `y`; or several vectors of that shape are stacked before it, (k, *y.shape), and so are their
    products. Each counts as one product in the ledger. The first evaluates the field anew, which counts as none.

    Args:
        slope: the field at this time.
        enter: takes the number of products.
        push: how the field pushes tangents through its layers here, where it does; else None.
    """

    def __init__(
        self, slope: Callable[[State], State], y: State, enter: Callable[[int], None], push: Push | None = None
    ) -> None:
        self._slope, self._y, self._enter, self._push = slope, y, enter, push
        self._product: Callable[[Tensor], Any] | None = None

    def __call__(self, v: Tensor) -> Tensor:
        if self._product is None:
            self._product = vjp(self._slope, self._y)[1]
        several = v.dim() > self._y.dim()
        self._enter(len(v) if several else 1)
        return torch.vmap(self._alone)(v) if several else self._alone(v)

    def quadratic(self, v: Tensor) -> Tensor:
        """v^T (df/dy) v of every sample for each of several vectors, (k, batch), in the cheapest way there is.

        `v` is (k, batch or 1, *state), where 1 stands for the same vector in all samples.
        """
        if self._push is None:
            parts = v * self(v.expand(len(v), *self._y.shape))
        else:
            self._enter(len(v))
            parts = v * self._push(v)
        sums = parts.reshape(*parts.shape[:2], -1).sum(dim=2)
        return sums.expand(len(v), len(self._y))  # a linear field makes one for all samples

    def _alone(self, v: Tensor) -> Tensor:
        assert self._product is not None
        [product] = self._product(v)
        return product


NONE: Mapping[str, Integral] = MappingProxyType({})  # nothing is integrated


def trace(y: State, pull: Pull) -> Tensor:
    """The trace of df/dy of every sample, (batch,), by a product for each element of its state."""
    size = y[0].numel()
    units = torch.eye(size, dtype=y.dtype, device=y.device).view(size, 1, *y.shape[1:])
    return pull.quadratic(units).sum(dim=0)


def stacked(rates: Sequence[Tensor], names: Sequence[str], y: State) -> Tensor:
    """The integrands' values side by side, (batch, integral), in the type of the state.

    Raises:
        RefusedInput: one of them is not one number for every sample.
    """
    for name, rate in zip(names, rates, strict=True):
        if not isinstance(rate, Tensor) or rate.shape != y.shape[:1]:
            shape = f"of shape {tuple(rate.shape)}" if isinstance(rate, Tensor) else f"a {type(rate).__name__}"
            raise RefusedInput(
                f"the integrand of {name!r} must give one number for every sample, (batch,) = {tuple(y.shape[:1])}, "
                f"and gave one {shape}. Sum over the state: .flatten(1).sum(dim=1)."
            )
    return torch.stack([rate.to(y.dtype) for rate in rates], dim=1)
