"""A residual network: depth in blocks."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.errors import RefusedInput
from ode_runner.models.base import Integrate, Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.types import Times, Trajectory


@final
class ResNet(Model):
    """`blocks` residual blocks with weights of their own; 0 leaves stem and head, the no-middle baseline.

    He, Zhang, Ren, Sun. Identity Mappings in Deep Residual Networks. ECCV 2016.
    """

    numerics: ClassVar[Numerics] = Numerics.NONE

    def __init__(self, network: Network, *, blocks: int) -> None:
        super().__init__()
        if blocks < 0:
            raise RefusedInput(f"model.blocks must be 0 or more, not {blocks}.")
        self.stem = network.stem()
        self.blocks = nn.ModuleList(network.block() for _ in range(blocks))
        self.head = network.head()

    def states(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Trajectory:
        states = [self.stem(inputs)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return torch.stack(states)

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Tensor:
        y = self.stem(inputs)
        for block in self.blocks:
            y = block(y)
        return self.head(y)
