"""The base class of solvers for continuous-time Markov chains."""

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput, SolverFailed
from ode_runner.fields.counted_field import uncounted
from ode_runner.fields.structured_field import JumpField
from ode_runner.problem import Solution
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class JumpSolver(FixedStepSolver):
    """Simulates paths of a Markov chain, one per sample, with noise that is a function of sample number and time.

    States are int64 (batch, position), without gradients.
    """

    kind: ClassVar[str] = "for chains that jump"
    fields: ClassVar[type] = JumpField
    fields_in_words: ClassVar[str] = "a Markov chain, of which it follows paths"
    example: ClassVar[str] = "task=ctmc task.paths=10000"
    differentiable: ClassVar[bool] = False

    @property
    def draws(self) -> bool:
        return True

    def check_state(self, y0: State) -> None:
        if y0.is_floating_point() or y0.dim() != 2:
            raise RefusedInput(
                f"the states of a Markov chain are whole numbers, (batch, position), and these are {y0.dtype} of shape "
                f"{tuple(y0.shape)}. Give torch.tensor([[0]])."
            )

    @torch.no_grad()
    def solve(self, field: Any, y0: State, ts: Times) -> Solution:
        chain = uncounted(field)
        if ts[-1] != ts[0] and bool(ts[-1] < ts[0]) != chain.backwards:
            way = "later to earlier" if chain.backwards else "earlier to later"
            raise RefusedInput(
                f"the rates of {type(chain).__name__} are of paths that run from {way} times, and these run from "
                f"t={float(ts[0]):g} to {float(ts[-1]):g}. Turn them round."
            )
        return self.follow(field, y0, ts)

    @abc.abstractmethod
    def follow(self, field: Any, x0: Tensor, ts: Times) -> Solution:
        """The states at `ts`, which run in the direction of time of the rates."""

    def rates(self, field: Any, t: float, x: Tensor) -> Tensor:
        """The rates of jumps to other states, (batch, position, state), float64.

        Raises:
            SolverFailed: a rate is negative or not finite.
        """
        time = torch.full((), t, dtype=torch.float64, device=x.device)
        rates: Tensor = field.rates(time, x).double().scatter(2, x[..., None], 0.0)
        if not bool((rates >= 0).all()) or not bool(torch.isfinite(rates).all()):
            raise SolverFailed(
                f"{self.shown_name} stopped at t={t:.6g}: rates must be numbers of 0 or more, and reach from "
                f"{float(rates.min()):.3g} to {float(rates.max()):.3g}."
            )
        return rates


def exponential(uniform: Tensor, rate: Tensor) -> Tensor:
    """An exponential waiting time with this rate, infinite if the rate is 0, from a uniform number."""
    return torch.where(rate > 0, -uniform.log() / rate, math.inf)
