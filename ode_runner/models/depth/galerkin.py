"""An ODE-Net whose weights are functions of depth, expanded in a basis."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from ode_runner.devices.transfer import read_times
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import KnownJacobian, VectorField
from ode_runner.fields.structured_field import SeparableField, kind_of
from ode_runner.models.base import Model, Numerics
from ode_runner.models.depth.basis_functions import BASES, Basis
from ode_runner.networks.base import Network
from ode_runner.plots.animation import Picture
from ode_runner.plots.depth import draw_weights
from ode_runner.problem import Integrate, Solution
from ode_runner.regularizers.depth_varying import Expanded
from ode_runner.types import Scalar, State, Time, Times


@final
class Galerkin(Model, Expanded):
    """The network's field with weights theta(t) = sum_k alpha_k psi_k(t / period), for a basis of `size` functions.

    The initial weights are the network's own, at all times. Bases other than `fourier` are defined from time 0 to
    `period` only, in the task's unit of time. With data along the way, at least two must fall into the shortest period.

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
        if network.spec.span is not None:
            self._check(*network.spec.span)
        self.field = expanded(network.field(), self.basis, self.period)
        self.head = network.head()

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        times = read_times(ts)
        self._check(min(times), max(times))
        if self.training:
            self.check_times(ts)
        return integrate(self.field, y0, ts, breaks=[self.period * u for u in self.basis.kinks()])

    def check_times(self, ts: Times) -> None:
        """Raises RefusedInput if the data are too coarse for the fastest functions of the basis (aliasing)."""
        if self.every_time and len(ts) > 2:  # with two times, only the end is data, as for a classifier
            self._check_seen(abs(float(ts[-1] - ts[0])) / (len(ts) - 1))

    @property
    def last_depth(self) -> float | None:
        return None if self.basis.endless else self.period

    def roughness(self) -> Scalar:
        return self.field.roughness()

    def figures(self, inputs: Tensor) -> Iterator[tuple[str, Picture]]:
        """The weights over depth."""
        del inputs
        times = torch.linspace(0, self.period, 201, device=self.field.coefficients.device)
        yield "weights", draw_weights(times, torch.cat([w.flatten(1) for w in self.field.weights(times)], dim=1))

    def _check(self, first: float, last: float) -> None:
        """Raises RefusedInput for times at which the basis is not defined, up to rounding."""
        slack = 1e-6 * self.period
        if not self.basis.endless and not -slack <= first <= last <= self.period + slack:
            raise RefusedInput(
                f"model.basis={self.name} is defined from time 0 to model.period={self.period:g}, and times here go "
                f"from {first:.6g} to {last:.6g}. Use model.period={last:.6g}, or model.basis=fourier."
            )

    def _check_seen(self, spacing: float) -> None:
        """Raises RefusedInput if data with this `spacing` cannot distinguish a basis function from a slower one."""
        size, shortest = self.basis.size, self.period * (self.basis.period() or math.inf)
        if shortest < 2 * spacing * (1 - 1e-6):
            raise RefusedInput(
                f"model.size={size} is too large for the data: the fastest function of model.basis={self.name} repeats "
                f"within {shortest:.4g}, and the task's outputs are {spacing:.4g} apart, too far to distinguish it. "
                f"Use fewer functions, or model.period={math.ceil(100 * (size - 1) * spacing) / 100:g}."
            )


def expanded(field: VectorField, basis: Basis, period: float) -> "ExpandedField":
    """The field with time-dependent weights, of the same kind.

    Raises:
        IncompatibleChoice: this kind of field cannot be expanded, or the field has no weights.
    """
    made: dict[type, Callable[[VectorField, Basis, float], ExpandedField]]
    made = {VectorField: ExpandedField, KnownJacobian: ExpandedField, SeparableField: ExpandedSeparable}
    kind = kind_of(field)
    if kind not in made or not any(True for _ in field.parameters()):
        raise IncompatibleChoice(
            f"model=galerkin expands the weights of ordinary and of separable fields, and {type(field).__name__} is "
            f"{f'a {kind.__name__}' if kind not in made else 'without weights'}. Use model=odenet."
        )
    return made[kind](field, basis, period)


class ExpandedField(VectorField):
    """f(t, y, *given; theta(t)), by the methods of a template field whose weights are replaced.

    All coefficients are one parameter (functions, weights), so that the weights at a time are one matrix product. The
    template provides code and shapes only: its parameters are not parameters of this module. If samples have their own
    times, each has its own weights, and the template is mapped over samples by torch.vmap.
    """

    def __init__(self, template: VectorField, basis: Basis, period: float) -> None:
        super().__init__()
        weights = list(template.parameters())
        flat = torch.cat([weight.detach().flatten() for weight in weights])
        self.coefficients = nn.Parameter(basis.constant().to(flat)[:, None] * flat)
        self.shapes = [weight.shape for weight in weights]
        self.sizes = [weight.numel() for weight in weights]
        self.basis, self.time_unit, self.batched_time = basis, period, template.batched_time
        self._template = [template]  # in a list, so that it is not registered
        self._owners = _owners(template, weights)
        self._of_buffers = _buffers(template)
        for i, (module, name) in enumerate(self._of_buffers):  # so that functional_call can replace them
            self.register_buffer(f"held_{i}", module._buffers[name], persistent=False)

    @property
    def longest_step(self) -> float | None:
        own = self.basis.period()
        known = [self._template[0].longest_step, None if own is None else own * self.time_unit / 10]
        return min((step for step in known if step is not None), default=None)

    def weights(self, t: Time) -> list[Tensor]:
        """Weights at `t` in the order of the template's parameters; with a leading batch axis if `t` is (batch,)."""
        times = t.to(self.coefficients.dtype).reshape(-1)  # torch's jvp of `number * u` is double where u is ()
        flat = self.basis.functions(times / self.time_unit) @ self.coefficients
        parts = flat.split(self.sizes, dim=-1)
        return [part.view(*t.shape, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def roughness(self) -> Scalar:
        """The integral of the squared time derivative of the weights over a period."""
        stiffness = self.basis.stiffness.to(self.coefficients) / self.time_unit
        return ((stiffness @ self.coefficients) * self.coefficients).sum()

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.call("forward", t, y, *given)

    def call(self, method: str, t: Time, y: State, *given: Tensor) -> Tensor:
        """Call a method of the template with the weights at `t`, () or one time per sample."""
        if t.dim() == 0:
            return self._at_once(method, self.weights(t), t, y, *given)
        return torch.vmap(partial(self._alone, method))(self.weights(t), t, y, *given)

    def _alone(self, method: str, weights: list[Tensor], t: Time, y: Tensor, *given: Tensor) -> Tensor:
        """The result for one sample, evaluated as a batch of one."""
        return self._at_once(method, weights, t, y[None], *(z[None] for z in given))[0]

    def _at_once(self, method: str, weights: list[Tensor], *positional: Tensor) -> Tensor:
        """Like torch.func.functional_call, but five times as fast, because the modules are known."""
        own = [owners[0][0]._parameters[owners[0][1]] for owners in self._owners]
        buffers = [module._buffers[name] for module, name in self._of_buffers]
        try:
            self._put(weights)
            self._hold([self._buffers[f"held_{i}"] for i in range(len(buffers))])
            out: Tensor = getattr(self._template[0], method)(*positional)
        finally:
            self._put(own)
            self._hold(buffers)
        return out

    def _hold(self, buffers: Sequence[Tensor | None]) -> None:
        """Set the template's buffers."""
        for buffer, (module, name) in zip(buffers, self._of_buffers, strict=True):
            module._buffers[name] = buffer

    def _put(self, weights: Sequence[Tensor | None]) -> None:
        """Replace the template's parameters by tensors, which nn.Module would refuse."""
        for weight, owners in zip(weights, self._owners, strict=True):
            for module, name in owners:
                module._parameters[name] = weight  # type: ignore[assignment]

    def train(self, mode: bool = True) -> Self:
        self._template[0].train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Also applies device and dtype changes to the template's buffers."""
        self._template[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)


@final
class ExpandedSeparable(ExpandedField, SeparableField):
    """dq/dt = drift(t, p; theta(t)), dp/dt = kick(t, q; theta(t))."""

    def drift(self, t: Time, p: State, *given: Tensor) -> State:
        return self.call("drift", t, p, *given)

    def kick(self, t: Time, q: State, *given: Tensor) -> State:
        return self.call("kick", t, q, *given)


def _buffers(template: nn.Module) -> list[tuple[nn.Module, str]]:
    """The modules that hold buffers, each with the name of one."""
    return [(module, name) for module in template.modules() for name in module._buffers]


def _owners(template: nn.Module, weights: Sequence[nn.Parameter]) -> list[list[tuple[nn.Module, str]]]:
    """For each weight, the modules that hold it and its name there; several if it is shared."""
    held = [(module, name, one) for module in template.modules() for name, one in module._parameters.items()]
    return [[(module, name) for module, name, one in held if one is weight] for weight in weights]
