"""A task: what the data are, and what is asked of a model."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ode_runner.field import VectorField
from ode_runner.tasks.dynamics.trajectories import Trajectories


class BrusselatorField(VectorField):
    """x' = a - (b + 1) x + x^2 y, y' = b x - x^2 y, of states (batch, 2)."""

    batched_time = True  # t may be a time for each sample: here it does not matter at all

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, t, y):
        x, y = y.unbind(dim=-1)
        made = x * x * y
        return torch.stack([self.a - (self.b + 1) * x + made, self.b * x - made], dim=-1)


@dataclass(kw_only=True, eq=False)
class Brusselator(Trajectories):
    """Two substances whose amounts go round; options are the fields of this class and those of `Trajectories`.

    Prigogine, Lefever. Symmetry Breaking Instabilities in Dissipative Systems. J. Chem. Phys. 48, 1968.
    """

    a: float
    b: float  # above 1 + a^2 amounts go round, below they come to rest

    names: ClassVar[tuple[str, ...]] = ("x", "y")

    def true_field(self) -> VectorField:
        return BrusselatorField(self.a, self.b)
