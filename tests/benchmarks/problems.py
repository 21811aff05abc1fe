"""Equations that are solved and differentiated over and over: data, weights that are not trivial, and tolerances."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchdiffeq
from torch import Tensor, nn

from ode_runner.field import VectorField
from ode_runner.types import State, Time, Times

TRAINING_STEPS = 60  # after which the field bends the solution: at initialisation one long step would do


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A field with trained weights, a batch of initial states, output times and what should be there."""

    field: VectorField
    y0: State
    ts: Times
    targets: Tensor
    tolerance: float

    def loss(self, ys: Tensor) -> Tensor:
        return (ys - self.targets).abs().mean()


class Net(VectorField):
    """One hidden layer of tanh units over y, or over y ** 3."""

    def __init__(self, state: int, width: int, *, cubed: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(state, width), nn.Tanh(), nn.Linear(width, state))
        self.cubed = cubed

    def forward(self, t: Time, y: State) -> State:
        return self.layers(y**3 if self.cubed else y)


def small() -> Posed:
    """torchdiffeq's first example: a spiral in the plane, 20 pieces of it at 10 times, a net 2-50-2."""
    turn = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
    ts = torch.linspace(0.0, 25.0, 1000)
    ys = torchdiffeq.odeint(lambda t, y: y**3 @ turn, torch.tensor([[2.0, 0.0]]), ts)[:, 0]

    def pieces() -> tuple[State, Tensor]:
        starts = torch.randint(0, len(ts) - 10, (20,))
        return ys[starts], torch.stack([ys[starts + k] for k in range(10)])

    return _trained(Net(2, 50, cubed=True), ts[:10], pieces, tolerance=1e-6)


def middle() -> Posed:
    """A net 64-256-64 on a batch of 512, 10 times."""
    y0, targets = torch.randn(512, 64), torch.randn(10, 512, 64) / 2
    return _trained(Net(64, 256, cubed=False), torch.linspace(0, 1, 10), lambda: (y0, targets), tolerance=1e-4)


def _trained(field: Net, ts: Times, batch: Callable[[], tuple[State, Tensor]], *, tolerance: float) -> Posed:
    optimizer = torch.optim.RMSprop(field.parameters(), lr=1e-3)
    for _ in itertools.repeat(None, TRAINING_STEPS):
        y0, targets = batch()
        optimizer.zero_grad()
        ys = torchdiffeq.odeint(field, y0, ts, rtol=tolerance, atol=tolerance)
        (ys - targets).abs().mean().backward()
        optimizer.step()
    y0, targets = batch()
    return Posed(field=field, y0=y0, ts=ts, targets=targets, tolerance=tolerance)
