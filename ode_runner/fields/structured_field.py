"""Kinds of field with more structure than a derivative: parts of a sum, forces, matrices, jump rates, coefficients."""

import abc
from collections.abc import Callable, Mapping
from functools import cache
from typing import ClassVar, cast

import torch
from torch import Tensor

from ode_runner.field import StochasticField, VectorField
from ode_runner.types import State, Time


def kind_of(field: VectorField) -> type[VectorField]:
    """The kind of a field: the base class that declares its `call_weights`; VectorField for a plain function.

    For a field of several kinds, a class that combines them.
    """
    return _kind(type(field))


@cache
def _kind(cls: type) -> type[VectorField]:
    declaring = [base for base in cls.__mro__ if "call_weights" in vars(base)]
    kinds = [base for i, base in enumerate(declaring) if not any(issubclass(kind, base) for kind in declaring[:i])]
    return _joined(tuple(kinds)) if kinds else VectorField


@cache
def _joined(kinds: tuple[type[VectorField], ...]) -> type[VectorField]:
    if len(kinds) == 1:
        return kinds[0]
    weights = {name: weight for kind in reversed(kinds) for name, weight in kind.call_weights.items()}
    slopes = frozenset[str]().union(*(kind.slopes for kind in kinds))
    return type("And".join(kind.__name__ for kind in kinds), kinds, {"call_weights": weights, "slopes": slopes})


def slope_of(field: VectorField) -> Callable[..., State]:
    """The derivative as a function of time, state and given tensors: the field, or `drift` of a stochastic field."""
    return field if "forward" in kind_of(field).call_weights else cast("StochasticField", field).drift


class KnownEquation(VectorField):
    """The field of a known equation. Its coefficients are attributes; `numbers` are their names."""

    numbers: ClassVar[tuple[str, ...]]


class SplitField(VectorField):
    """A field that is a sum of two parts; splitting methods solve each part separately.

    A stiff part must be the second one, which implicit-explicit methods treat implicitly.

    Hairer, Lubich, Wanner. Geometric Numerical Integration. Springer 2006, II.5.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "first_part": 0.5, "second_part": 0.5}
    slopes: ClassVar[frozenset[str]] = frozenset({"forward", "first_part", "second_part"})

    @abc.abstractmethod
    def first_part(self, t: Time, y: State, *given: Tensor) -> State:
        """The first part of the derivative, in the shape of `y`."""

    @abc.abstractmethod
    def second_part(self, t: Time, y: State, *given: Tensor) -> State:
        """The second part of the derivative, in the shape of `y`."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.first_part(t, y, *given) + self.second_part(t, y, *given)


class SeparableField(SplitField):
    """dq/dt = drift(t, p), dp/dt = kick(t, q), where y = (q, p): the halves of the state's first axis after the batch.

    The field of a separable Hamiltonian H = T(p) + V(q), or any other field in which the derivative of each half
    depends on the other half only. Its two parts are dq/dt and dp/dt.

    Hairer, Lubich, Wanner. Geometric Numerical Integration. Springer 2006, I.1.
    """

    call_weights: ClassVar[Mapping[str, float]] = {**SplitField.call_weights, "drift": 0.5, "kick": 0.5}
    slopes: ClassVar[frozenset[str]] = SplitField.slopes | {"drift", "kick"}

    @abc.abstractmethod
    def drift(self, t: Time, p: State) -> State:
        """dq/dt."""

    @abc.abstractmethod
    def kick(self, t: Time, q: State) -> State:
        """dp/dt."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        q, p = y.chunk(2, dim=1)
        return torch.cat([self.drift(t, p, *given), self.kick(t, q, *given)], dim=1)

    def first_part(self, t: Time, y: State, *given: Tensor) -> State:
        q, p = y.chunk(2, dim=1)
        return torch.cat([self.drift(t, p, *given), torch.zeros_like(p)], dim=1)

    def second_part(self, t: Time, y: State, *given: Tensor) -> State:
        q, _ = y.chunk(2, dim=1)
        return torch.cat([torch.zeros_like(q), self.kick(t, q, *given)], dim=1)


class SecondOrderField(VectorField):
    """q' = v, v' = force(t, y), where y = (q, v): the halves of the state's first axis after the batch.

    The force may depend on the velocity, as friction does.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "force": 1}

    @abc.abstractmethod
    def force(self, t: Time, y: State, *given: Tensor) -> State:
        """dv/dt, in the shape of q."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        _, v = y.chunk(2, dim=1)
        return torch.cat([v, self.force(t, y, *given)], dim=1)


class MatrixField(VectorField):
    """dy/dt = A y on the flattened state, with a matrix that depends neither on time nor on state."""

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "matrix": 1}

    @abc.abstractmethod
    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        """A, (element, element), in the dtype of `y`; called with the first time and state of a solve."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return (y.flatten(1) @ self.matrix(t, y, *given).T).view_as(y)


class JumpField(VectorField):
    """A continuous-time Markov chain. Its states are integers, (batch, position), which jump one at a time.

    It has no derivative for a solver of ordinary equations.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"rates": 1}
    steady: bool = False  # True: rates are a function of the state alone times `pace(t)`, a factor common to all
    backwards: bool = False  # True: the rates are those of a solve from later to earlier times

    @abc.abstractmethod
    def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        """Jump rates of each position to each state per unit of time, nonnegative: (batch, position, state).

        The entry of a position's present state is ignored. `x` is int64, (batch, position).
        """

    def pace(self, t: Tensor) -> Tensor:
        """The time-dependent factor of steady rates."""
        return torch.ones_like(t)

    def elapsed(self, t0: Tensor, t1: Tensor) -> Tensor:
        """The integral of `pace` between two times, that is the elapsed time of the chain with pace 1."""
        return (t1 - t0).abs()

    def settled(self, x: Tensor) -> Tensor:
        """Whether a state cannot change any more (an absorbing state), (batch,), bool; then rates are not evaluated."""
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def forward(self, t: Time, y: State) -> State:
        raise NotImplementedError("a field of jumps has rates, and no derivative")
