"""Solvers and gradient modes that go together, with options that suit them, and fields with conditions to solve."""

from typing import Any

import torch
from torch import Tensor, nn

from ode_runner.field import VectorField
from ode_runner.fields.structured_field import SeparableField
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.types import State, Time
from tests.problems import Compose, accepted_pairs, build, named_class, offering


class Conditioned(VectorField):
    """f(t, y, z, w, k) with three conditions: z with a gradient, w without, and integers k."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, t: Time, y: State, z: Tensor, w: Tensor, k: Tensor) -> State:
        return torch.tanh(self.layer(torch.cat([y, z, t.expand(len(y), 1)], dim=1))) * w + k[:, None] * torch.sin(y)


class ConditionedHalves(SeparableField):
    """A pendulum whose gravity and friction-free drive differ from sample to sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def drift(self, t: Time, p: State, z: Tensor, w: Tensor, k: Tensor) -> State:
        return torch.tanh(p @ self.layer.weight[:2, :2]) * w[:, :2]

    def kick(self, t: Time, q: State, z: Tensor, w: Tensor, k: Tensor) -> State:
        return -torch.sin(q) * z + k[:, None]


OPTIONS = {"adaptive": {"rtol": 1e-7, "atol": 1e-7, "max_steps": 10_000}, "fixed": {"num_steps": 12, "step_size": None}}


def solver_of(name: str, composed: Compose, **changed: Any) -> Solver:
    """The solver of this name with `OPTIONS`, some of them changed."""
    adaptive = issubclass(named_class("solver", name), AdaptiveSolver)
    return build(composed, "solver", name, **OPTIONS["adaptive" if adaptive else "fixed"], **changed)


def difference(some: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference of two lists of tensors, relative to the largest number in the second list."""
    scale = max(float(part.abs().max()) for part in others)
    return max(float((a - b).abs().max()) for a, b in zip(some, others, strict=True)) / scale


SEPARABLE = [name for name in offering(Solver, SeparableField) if name not in offering(Solver)]
PAIRS = [pair for pair in accepted_pairs() if pair[1] != "backprop"]
PAIRS += [
    (name, mode)
    for name in SEPARABLE
    for mode in ("checkpoint", "reversible")
    if named_class("gradient", mode).takes(named_class("solver", name))
]
QUICK = ("dopri5", "rk4", "reversible_heun", "torchdiffeq", "leapfrog")  # one for each way of taking steps


def is_slow(pair: tuple[str, str]) -> bool:
    """Whether a pair is for the slow tests, because a solver in `QUICK` takes steps in the same way."""
    return pair[0] not in QUICK
