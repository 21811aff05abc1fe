"""Kinds of field with more structure than a derivative: parts of a sum, forces, matrices, jump rates, coefficients."""

import abc
from collections.abc import Mapping
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.types import State, Time


def kind_of(field: VectorField) -> type[VectorField]:
    """The class that declares by which calls a field is evaluated; a plain function stands for a VectorField.

    For a field of several kinds, a class that joins them.
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
    return type("And".join(kind.__name__ for kind in kinds), kinds, {"call_weights": weights})


class KnownEquation(VectorField):
    """The field of a known equation; `numbers` are the names of its coefficients, which are attributes."""

    numbers: ClassVar[tuple[str, ...]]


class SplitField(VectorField):
    """A sum of two parts, each of which a splitting method solves by itself.

    If one part is stiff, it is the second: implicit-explicit methods take that one implicitly.

    Hairer, Lubich, Wanner. Geometric Numerical Integration. Springer 2006, II.5.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "first_part": 0.5, "second_part": 0.5}

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

    The field of a separable Hamiltonian H = T(p) + V(q), or any other field of which neither half depends on itself.
    Its two parts are the derivatives of q and of p.

    Hairer, Lubich, Wanner. Geometric Numerical Integration. Springer 2006, I.1.
    """

    call_weights: ClassVar[Mapping[str, float]] = {**SplitField.call_weights, "drift": 0.5, "kick": 0.5}

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
    """dy/dt = A y, where the matrix depends neither on the time nor on the state, which is flattened for it."""

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "matrix": 1}

    @abc.abstractmethod
    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        """A, (element, element), in the type of `y`, at the first time and state of a solve."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return (y.flatten(1) @ self.matrix(t, y, *given).T).view_as(y)


class JumpField(VectorField):
    """A Markov chain in continuous time: states are whole numbers, (batch, position), which jump one by one.

    It has no derivative that a solver of ordinary equations could ask for.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"rates": 1}
    steady: bool = False  # rates are those of the state alone times `pace(t)`, a factor that all share
    backwards: bool = False  # rates belong to a solve from later to earlier times

    @abc.abstractmethod
    def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        """The rates of jumps of each position to each state, per unit of time: (batch, position, state), none negative.

        The entry of the state that a position is in already is not read. `x` is int64, (batch, position).
        """

    def pace(self, t: Tensor) -> Tensor:
        """The factor of steady rates that depends on the time."""
        return torch.ones_like(t)

    def elapsed(self, t0: Tensor, t1: Tensor) -> Tensor:
        """The integral of `pace` between two times: the time that passes for the rates without this factor."""
        return (t1 - t0).abs()

    def settled(self, x: Tensor) -> Tensor:
        """Whether a state cannot change any more, (batch,), bool; its rates are then not evaluated."""
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def forward(self, t: Time, y: State) -> State:
        raise NotImplementedError("a field of jumps has rates, and no derivative")
