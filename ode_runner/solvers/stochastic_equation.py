"""A stochastic field converted to the calculus of a solver, with derivatives of the diffusion."""

from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor

from ode_runner.devices.side_effects import without_side_effects
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import StochasticField, VectorField
from ode_runner.fields.counted_field import CountedField, name_of, uncounted
from ode_runner.noise.brownian_path import Calculus, Increment, NoiseKind
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.solvers.tableau import Point, advance, time_tensor
from ode_runner.types import State

_checked: WeakSet[VectorField] = WeakSet()  # fields whose noise kind has been checked
ALLOWED = 1e-4  # relative size of off-diagonal derivatives of the diffusion that counts as rounding


def convertible(field: StochasticField, calculus: Calculus) -> bool:
    """Whether the drift in this calculus is known: as stated, or converted by the derivative of the diffusion."""
    return field.calculus is calculus or field.noise_kind is not NoiseKind.GENERAL


def gained(y: State, dt: Point, f: State) -> State:
    """y + f dt."""
    return advance(y, dt, (1.0,), (f,))


class StochasticEquation:
    """dy = drift dt + diffusion dW in the calculus of a solver; the field may be stated in the other calculus.

    The Ito drift is the Stratonovich drift plus g g' / 2 for diagonal noise, and plus (dg/dy) g / 2 for scalar noise.
    The two are equal if the diffusion does not depend on the state.

    Args:
        field: the counted field.
        calculus: the calculus of the solver.
        y0: the initial state, at which, and beside which, the kind of noise is checked once per field.
        t0: the first time.

    Kloeden, Platen. Numerical Solution of Stochastic Differential Equations. Springer 1992, 4.9.
    """

    def __init__(self, field: VectorField, calculus: Calculus, t0: float, y0: State) -> None:
        own = cast("StochasticField", uncounted(field))
        self.field: Any = field
        self.kind = own.noise_kind
        differ = own.calculus is not calculus and self.kind is not NoiseKind.ADDITIVE
        self.correction = (0.5 if calculus is Calculus.STRATONOVICH else -0.5) * differ
        self._learned: bool | None = None  # whether the diffusion depends on tensors that require a gradient
        if own not in _checked:
            _check_kind(field, own, t0, y0)
            _checked.add(own)

    def drift(self, t: Point, y: State) -> State:
        """The factor of dt."""
        return self.with_derivative(t, y)[0] if self.correction else self.field.drift(time_tensor(t, y), y)

    def diffusion(self, t: Point, y: State) -> Tensor:
        """The factor of dW."""
        return self.field.diffusion(time_tensor(t, y), y)

    def both(self, t: Point, y: State) -> tuple[State, Tensor]:
        """Drift and diffusion."""
        if self.correction:
            return self.with_derivative(t, y)[:2]
        time = time_tensor(t, y)
        return self.drift(time, y), self.diffusion(time, y)

    def with_derivative(self, t: Point, y: State) -> tuple[State, Tensor, Tensor | None]:
        """Drift, diffusion g and (dg/dy) g, which is g g' for diagonal noise; None for additive noise, where it is 0.

        This takes one product with the derivative of g, or two for scalar noise.
        """
        time = time_tensor(t, y)
        f = self.field.drift(time, y)
        if self.kind is NoiseKind.ADDITIVE:
            return f, self.diffusion(time, y), None
        g, along = self._along_itself(time, y)
        return (f - self.correction * along if self.correction else f), g, along

    def moved(self, g: Tensor, w: Tensor) -> State:
        """g dW, in the shape of the state."""
        if self.kind is not NoiseKind.GENERAL:
            return g * w
        return (g * w.view(len(w), *[1] * (g.dim() - 2), -1)).sum(dim=-1)

    def added(self, y: State, g: Tensor, w: Tensor) -> State:
        """y + g dW."""
        return y + self.moved(g, w) if self.kind is NoiseKind.GENERAL else torch.addcmul(y, g, w)

    def rise(self, t: Point, y: State, dt: Point, noise: Increment) -> tuple[State, State]:
        """The drift, and the increment drift dt + diffusion dW."""
        f, g = self.both(t, y)
        return f, gained(self.moved(g, noise.w), dt, f)

    def _along_itself(self, t: Point, y: State) -> tuple[Tensor, Tensor]:
        """The diffusion g, and its directional derivative along itself, (dg/dy) g."""
        graph = self._keeps_graph(t, y)
        with torch.enable_grad():
            y = y if graph and y.requires_grad else y.detach().requires_grad_()
            g = self.diffusion(t, y)
            scalar = self.kind is NoiseKind.SCALAR
            along = _jvp(g, y, g) if scalar else _pulled(g, y, g, graph=graph)
        self.field.ledger.tally.products += 2 if scalar else 1
        return (g, along) if graph else (g.detach(), along.detach())

    def _keeps_graph(self, t: Point, y: State) -> bool:
        """Whether something is to be differentiated: a graph for nobody would be kept through the whole solve."""
        if not torch.is_grad_enabled() or y.requires_grad:
            return torch.is_grad_enabled()
        if self._learned is None:
            self._learned = _learns(self.field, t, y)
        return self._learned


def _pulled(g: Tensor, y: State, v: Tensor, *, graph: bool) -> Tensor:
    """v^T dg/dy, differentiable if `graph`; 0 if the diffusion does not depend on the state."""
    if not g.requires_grad:
        return torch.zeros_like(y)
    [product] = torch.autograd.grad(g, y, v, create_graph=graph, allow_unused=True, materialize_grads=True)
    return product


def _jvp(g: Tensor, y: State, v: Tensor) -> Tensor:
    """(dg/dy) v, as the derivative of u^T dg/dy with respect to u, in which it is linear (double backward)."""
    u = torch.zeros_like(g, requires_grad=True)
    return _pulled(_pulled(g, y, u, graph=True), u, v, graph=True)


def _learns(field: VectorField, t: Point, y: State) -> bool:
    """Whether the diffusion depends on tensors that require a gradient: parameters, given ones, or captured ones."""
    if not isinstance(field, CountedField) or field.leaves():
        return True
    own = cast("StochasticField", uncounted(field))
    with without_side_effects(own, y.device):
        return own.diffusion(time_tensor(t, y), y.detach(), *field.of_field(field.arguments())).requires_grad


def _check_kind(field: VectorField, own: StochasticField, t0: float, y0: State) -> None:
    """Raises IncompatibleChoice if shape or derivative of the diffusion contradict the stated kind of noise."""
    if isinstance(own, DenoisingField) or not isinstance(field, CountedField):
        return  # the diffusion of a path is known
    for begin in (y0.detach(), _beside(y0.detach())):
        _check_kind_at(field, own, t0, begin)


def _beside(y: State) -> State:
    """A state near by: a derivative may vanish at the initial one, as that of y^2 at 0."""
    factors = torch.linspace(0.01, 0.02, y.numel(), dtype=y.dtype, device=y.device).view_as(y)
    return y + factors * (1 + y.abs())


def _check_kind_at(field: CountedField, own: StochasticField, t0: float, y0: State) -> None:
    with torch.enable_grad():
        y = y0.requires_grad_()
        g = own.diffusion(time_tensor(t0, y), y.clone(), *field.of_field(field.arguments()))
        expected = (*y0.shape, *own.noise_shape(y0)) if own.noise_kind is NoiseKind.GENERAL else tuple(y0.shape)
        if not isinstance(g, Tensor) or tuple(g.shape) != expected:
            found = tuple(g.shape) if isinstance(g, Tensor) else f"a {type(g).__name__}"
            raise IncompatibleChoice(
                f"{name_of(own)} has {own.noise_kind} noise, for which its diffusion must be of shape {expected}, and "
                f"it is {found}."
            )
        if own.noise_kind in (NoiseKind.DIAGONAL, NoiseKind.ADDITIVE):
            _check_derivative(own, g, y)


def _check_derivative(own: StochasticField, g: Tensor, y: State) -> None:
    """Raises IncompatibleChoice unless dg/dy is diagonal, or 0 for additive noise; tested in one direction."""
    signs = torch.linspace(1.0, 2.0, g.numel(), dtype=g.dtype, device=g.device).view_as(g)
    along, plain = _pulled(g, y, signs, graph=True), _pulled(g, y, torch.ones_like(g), graph=True)
    wrong, size = along - signs * plain, plain.norm()
    if own.noise_kind is NoiseKind.ADDITIVE:
        wrong, size = along, g.detach().norm()
    if wrong.norm() > max(ALLOWED, 4 * torch.finfo(g.dtype).eps) * size:
        needed = "NoiseKind.DIAGONAL" if own.noise_kind is NoiseKind.ADDITIVE else "NoiseKind.GENERAL"
        depends = "the state" if own.noise_kind is NoiseKind.ADDITIVE else "other elements of the state than its own"
        raise IncompatibleChoice(
            f"{name_of(own)} states {own.noise_kind} noise, and an element of its diffusion depends on {depends}: a "
            f"solver would take a wrong equation. State noise_kind = {needed}."
        )
