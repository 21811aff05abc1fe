"""An ODE-Net whose weights change with depth."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ode_runner.counted_field import kind_of
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import KnownJacobian, SeparableField, VectorField
from ode_runner.models.base import Model, Numerics
from ode_runner.models.bases import BASES, Basis
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times


@final
class Galerkin(Model):
    """The network's own field with weights theta(t) = sum_k alpha_k psi_k(t / period), of `size` functions of a basis.

    It begins with the network's own weights at all times. A basis other than Fourier's is defined from time 0 to
    `period` only, in the task's unit of time.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(
        self,
        network: Network,
        *,
        basis: Literal["fourier", "chebyshev", "legendre", "monomials", "rbf", "hats"],
        size: int,
        period: float,
    ) -> None:
        super().__init__(network)
        if period <= 0:
            raise RefusedInput(f"model.period must be above 0, not {period}.")
        self.basis, self.period, self.name = BASES[basis](size), float(period), basis
        self.field = expanded(network.field(), self.basis, self.period)
        self.head = network.head()

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        self._check(float(ts.min()), float(ts.max()))
        return integrate(self.field, y0, ts, breaks=[self.period * u for u in self.basis.kinks()])

    def _check(self, first: float, last: float) -> None:
        """Raises RefusedInput for times at which the basis is not defined, but for rounding."""
        slack = 1e-6 * self.period
        if not self.basis.endless and not -slack <= first <= last <= self.period + slack:
            raise RefusedInput(
                f"model.basis={self.name} is defined from time 0 to model.period={self.period:g}, and times here go "
                f"from {first:.6g} to {last:.6g}. Use model.period={last:.6g}, or model.basis=fourier."
            )


def expanded(field: VectorField, basis: Basis, period: float) -> VectorField:
    """A field as it is, but that its weights change with time, of the same kind.

    Raises:
        IncompatibleChoice: it is of a kind that nobody has said how to expand, or has no weights.
    """
    made = {VectorField: ExpandedField, KnownJacobian: ExpandedField, SeparableField: ExpandedSeparable}
    kind = kind_of(field)
    if kind not in made or not any(True for _ in field.parameters()):
        raise IncompatibleChoice(
            f"model=galerkin expands the weights of ordinary and of separable fields, and {type(field).__name__} is "
            f"{f'a {kind.__name__}' if kind not in made else 'without weights'}. Use model=odenet."
        )
    return made[kind](field, basis, period)


class _Expansion(VectorField):
    """Calls the methods of a template with weights that belong to a time.

    All coefficients are one parameter (functions, weights), so that the weights of a time are one product. The template
    gives no more than shapes: its own parameters are none of this module's.
    """

    def __init__(self, template: VectorField, basis: Basis, period: float) -> None:
        super().__init__()
        weights = dict(template.named_parameters())
        flat = torch.cat([weight.detach().flatten() for weight in weights.values()])
        self.coefficients = nn.Parameter(basis.constant().to(flat)[:, None] * flat)
        self.shapes = [weight.shape for weight in weights.values()]
        self.sizes = [weight.numel() for weight in weights.values()]
        self.names = [f"field.{name}" for name in weights]
        self.basis, self.time_unit = basis, period
        # In plain containers, for a module would be registered.
        self._template = [template]
        self._methods = {method: _Method(template, method) for method in type(self).call_weights}

    @property
    def longest_step(self) -> float | None:
        own = self.basis.period()
        known = [self._template[0].longest_step, None if own is None else own * self.time_unit / 10]
        return min((step for step in known if step is not None), default=None)

    def weights(self, t: Time) -> dict[str, Tensor]:
        """By their names under `_Method`."""
        flat = self.basis.functions(t.to(self.coefficients.dtype) / self.time_unit) @ self.coefficients
        parts = flat.split(self.sizes)
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def call(self, method: str, t: Time, *positional: Tensor) -> Tensor:
        out: Tensor = functional_call(self._methods[method], self.weights(t), (t, *positional))
        return out

    def train(self, mode: bool = True) -> Self:
        self._template[0].train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """What moves a module to a device or a type moves the template's buffers, too."""
        self._template[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)


@final
class ExpandedField(_Expansion):
    """f(t, y, *given; theta(t))."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.call("forward", t, y, *given)


@final
class ExpandedSeparable(_Expansion, SeparableField):
    """dq/dt = drift(t, p; theta(t)), dp/dt = kick(t, q; theta(t))."""

    def drift(self, t: Time, p: State, *given: Tensor) -> State:
        return self.call("drift", t, p, *given)

    def kick(self, t: Time, q: State, *given: Tensor) -> State:
        return self.call("kick", t, q, *given)


@final
class _Method(nn.Module):
    """A method of a field as a module, whose parameters can be replaced for a call."""

    def __init__(self, field: VectorField, method: str) -> None:
        super().__init__()
        self.field, self.method = field, method

    def forward(self, *positional: Tensor) -> Tensor:
        out: Tensor = getattr(self.field, self.method)(*positional)
        return out
