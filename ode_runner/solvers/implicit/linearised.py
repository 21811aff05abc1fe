"""A field linearised at given states: the matrix of Newton's method, factorised or matrix-free."""

import abc
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.errors import SolverFailed
from ode_runner.field import FieldAround, KnownJacobian, VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.solvers.first_order import OF_A_SOLVE, first_order
from ode_runner.solvers.implicit.frozen_jacobian import matrix
from ode_runner.solvers.implicit.jacobian import JacobianProducts, differentiated_further, jacobian
from ode_runner.solvers.implicit.krylov import gmres
from ode_runner.types import State, Time

LARGEST = 512  # up to this many equations per sample are factorised; the matrix takes 1 MB in fp32
INEXACT = 1e-6  # relative accuracy of Newton updates by GMRES; the next update corrects the error


def linearise(field: VectorField, ts: Sequence[Time], y: Tensor, coupling: Tensor) -> "Linearised":
    """I - coupling x df/dy at the states y[i] and times ts[i]; y is (stage, batch, *state)."""
    with torch.enable_grad(), differentiated_further():
        states = [state.detach().requires_grad_() for state in y]
        slopes = [field(t, state) for t, state in zip(ts, states, strict=True)]
    kind = _Factorised if is_small(field, len(states), states[0]) else _Products
    return kind(field, ts, states, slopes, coupling)


def is_small(field: VectorField, stages: int, y: State) -> bool:
    """Whether the equations of this many stages for a state like `y` are factorised."""
    return stages * y[0].numel() <= LARGEST or isinstance(field, KnownJacobian)


def jacobian_at(field: VectorField, t: Time, y: State) -> Tensor:
    """df/dy of every sample, (batch, element, element); takes one evaluation and one product per element."""
    return linearise(field, [t], y[None], y.new_ones(1, 1)).jacobian(0)


class Linearised(abc.ABC):
    """The matrix I - coupling x df/dy of every sample, and the derivatives `dy` at its states.

    The ledger counts each product of the Jacobian or its transpose with a vector. One product costs about as much as an
    evaluation, or its backward pass.
    """

    def __init__(
        self, field: VectorField, ts: Sequence[Time], states: list[State], slopes: list[State], coupling: Tensor
    ) -> None:
        self.field, self.ts, self.states, self.slopes, self.coupling = field, ts, states, slopes, coupling
        self.dy = torch.stack([slope.detach() for slope in slopes])

    @abc.abstractmethod
    def solve(self, b: Tensor) -> Tensor:
        """Solve (I - coupling x df/dy) x = b, both (stage, batch, *state); differentiable with respect to b."""

    def jacobian(self, i: int) -> Tensor:
        """df/dy of every sample at states[i]: (batch, element, element)."""
        slope, state = self.slopes[i], self.states[i]
        if isinstance(self.field, KnownJacobian):
            return self.field.jacobian(self.ts[i], state.detach())
        if not slope.requires_grad:  # a function of time alone
            return state.new_zeros(len(state), state[0].numel(), state[0].numel())
        self._enter(products=slope[0].numel())
        return jacobian(slope, state)

    def _pulled_back(self, i: int, cotangent: Tensor) -> Tensor:
        """(df/dy at states[i])^T cotangent."""
        slope, state = self.slopes[i], self.states[i]
        if not slope.requires_grad:  # a function of time alone
            return torch.zeros_like(state)
        self._enter()
        return torch.autograd.grad(
            slope, state, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True
        )[0]

    def _enter(self, *, products: int = 1) -> None:
        field = self.field
        while isinstance(field, FieldAround):
            field = field.field
        if isinstance(field, CountedField):
            field.ledger.tally.products += products


@final
class _Factorised(Linearised):
    """A dense matrix for every sample, by one vector-Jacobian product per element of the state and stage."""

    def solve(self, b: Tensor) -> Tensor:
        stages, batch = b.shape[:2]
        flat = b.reshape(stages, batch, -1).transpose(0, 1).reshape(batch, -1, 1)
        solution: Tensor = torch.linalg.solve_ex(self._matrix(), flat)[0]
        return solution.view(batch, stages, -1).transpose(0, 1).reshape(b.shape)

    def _matrix(self) -> Tensor:
        """(batch, stage * element, stage * element)."""
        return matrix(self.coupling, torch.stack([self.jacobian(i) for i in range(len(self.states))]))


@final
class _Products(Linearised):
    """Matrix-free: GMRES with Jacobian-vector products, and with vector-Jacobian products for the derivative."""

    def solve(self, b: Tensor) -> Tensor:
        return _Solved.apply(self, b)

    def forwards(self, b: Tensor) -> Tensor:
        """The solution to the accuracy that Newton's method needs; 0 if b is no larger than rounding."""
        rounding = 16 * torch.finfo(b.dtype).eps
        scale = torch.stack([1 + state.detach().abs() for state in self.states])
        return self._by_products(
            self._product,
            b,
            rtol=max(INEXACT, torch.finfo(b.dtype).eps ** 0.5),
            atol=rounding * _by_sample(scale).norm(dim=1),
        )

    def backwards(self, cotangent: Tensor) -> Tensor:
        """The solution of the transposed system to rounding, because no later iteration corrects it.

        Raises:
            SolverFailed: too many products would be needed.
        """
        found = self._by_products(self._transposed, cotangent, rtol=64 * torch.finfo(cotangent.dtype).eps)
        if torch.isfinite(cotangent).all() and not torch.isfinite(found).all():
            raise SolverFailed("GMRES does not converge on the transposed equations of an implicit stage.")
        return found

    def _by_products(self, product: Any, b: Tensor, **accuracy: Any) -> Tensor:
        def flat(x: Tensor) -> Tensor:
            return _by_sample(product(_by_stage(x, b)))

        return _by_stage(gmres(flat, _by_sample(b), **accuracy), b)

    def _product(self, x: Tensor) -> Tensor:
        pushed = torch.stack([self._jvp(i, part) for i, part in enumerate(x)])
        return x - torch.tensordot(self.coupling, pushed, dims=1)

    def _transposed(self, x: Tensor) -> Tensor:
        mixed = torch.tensordot(self.coupling.T, x, dims=1)
        return x - torch.stack([self._pulled_back(i, part) for i, part in enumerate(mixed)])

    def _jvp(self, i: int, tangent: Tensor) -> Tensor:
        """(df/dy at states[i]) tangent."""
        slope, state = self.slopes[i], self.states[i]
        if not slope.requires_grad:
            return torch.zeros_like(state)
        self._enter()
        return JacobianProducts(slope, state).jvp(tangent)


class _Solved(torch.autograd.Function):
    """The solution of a matrix-free linear system; its derivative solves the transposed system."""

    @staticmethod
    def forward(ctx: Any, system: _Products, b: Tensor) -> Tensor:
        ctx.system, ctx.inputs = system, (b,)
        return system.forwards(b)

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, cotangent: Tensor) -> tuple[None, Tensor]:
        return None, ctx.system.backwards(cotangent)


def _by_sample(x: Tensor) -> Tensor:
    """Reorder (stage, batch, *state) to (batch, equations of the sample)."""
    return x.transpose(0, 1).flatten(1)


def _by_stage(x: Tensor, like: Tensor) -> Tensor:
    return x.view(like.shape[1], like.shape[0], *like.shape[2:]).transpose(0, 1)
