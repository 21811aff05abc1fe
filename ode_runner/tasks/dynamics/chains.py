"""Continuous-time Markov chains: their master equation and their jumps, forward and reversed in time."""

from typing import final

import torch
from torch import Tensor, nn

from ode_runner.field import VectorField
from ode_runner.fields.structured_field import JumpField, MatrixField
from ode_runner.types import State, Time


def random_generator(states: int, seed: int) -> Tensor:
    """A generator matrix with exponentially distributed rates of mean 1: (state, state), rows sum to 0."""
    rates = -torch.rand(states, states, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log()
    return _with_diagonal(rates)


def uniform_generator(states: int) -> Tensor:
    """The generator of a chain that jumps at rate 1 to a state drawn uniformly, which may be the present one."""
    return _with_diagonal(torch.full((states, states), 1 / states, dtype=torch.float64))


def distribution_at(generator: Tensor, start: Tensor, t: Tensor) -> Tensor:
    """Probabilities at time t, () or (time,), with `start` at time 0: the solution of dp/dt = Q^T p."""
    return torch.linalg.matrix_exp(t[..., None, None].to(generator) * generator.T) @ start


def reverse_generator(generator: Tensor, start: Tensor, t: Tensor) -> Tensor:
    """The generator of the time-reversed chain at time t: R[u, v] = Q[v, u] p(v) / p(u), rows sum to 0.

    Kelly. Reversibility and Stochastic Networks. Wiley 1979, 1.7.
    """
    distribution = distribution_at(generator, start, t)
    return _with_diagonal(generator.T * distribution / distribution[:, None])


def _with_diagonal(rates: Tensor) -> Tensor:
    """Sets the diagonal of a rate matrix such that its rows sum to 0."""
    jumps = rates - torch.diag(rates.diagonal())
    return jumps - torch.diag(jumps.sum(dim=1))


class _OfChain(nn.Module):
    """The generator matrix of a chain and, for a reversed chain, the distribution at time 0."""

    generator: Tensor
    start: Tensor

    def __init__(self, generator: Tensor, start: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("generator", generator)
        self.register_buffer("start", start)


@final
class MasterEquation(_OfChain, MatrixField):
    """dp/dt = Q^T p, on probabilities (batch, state)."""

    batched_time = True

    def matrix(self, t: Time, y: State, *given: Tensor) -> Tensor:
        return self.generator.T.to(y)


@final
class ReverseMasterEquation(_OfChain, VectorField):
    """dp/d(-t) = R(t)^T p, to be solved backward in time."""

    def forward(self, t: Time, y: State) -> State:
        return -y @ reverse_generator(self.generator, self.start, t).to(y)


@final
class ChainJumps(_OfChain, JumpField):
    """The jump rates of the chain, the same at every position."""

    steady = True

    def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.generator[x]


@final
class ReverseChainJumps(_OfChain, JumpField):
    """The jump rates of the time-reversed chain."""

    backwards = True

    def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return reverse_generator(self.generator, self.start, t)[x]
