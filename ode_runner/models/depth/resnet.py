"""A residual network: depth in blocks."""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.devices.transfer import read_times
from ode_runner.encoding import Encoding, state_alone
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.problem import Integrate, Solution, TakesStates
from ode_runner.regularizers.depth_varying import Layered
from ode_runner.types import PathStates, State, Times


@final
class ResNet(Model, Layered):
    """`blocks` residual blocks, each with its own weights; with 0, only stem and head remain, as a baseline.

    All blocks are applied once between two successive times, and each is given the length of the interval. A classifier
    has one interval of length 1. A trajectory passes through the same blocks in every interval.

    He, Zhang, Ren, Sun. Identity Mappings in Deep Residual Networks. ECCV 2016.
    """

    numerics: ClassVar[Numerics] = Numerics.NONE

    def __init__(self, network: Network, *, blocks: int) -> None:
        super().__init__(network)
        check_sizes("model", least=0, blocks=blocks)
        self.blocks = nn.ModuleList(network.block() for _ in range(blocks))
        self.head = network.head()

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        states = [state_alone(y0, "resnet")]
        for dt in torch.tensor(read_times(ts), dtype=ts.dtype).diff().tolist():
            passed = self._through_the_blocks(states[-1], dt)
            if isinstance(integrate, TakesStates):
                integrate.take_states(passed)
            states.append(passed[-1])
        return Solution(ys=torch.stack(states))

    @property
    def pieces(self) -> Sequence[nn.Module]:
        return list(self.blocks)

    def path(self, encoding: Encoding, ts: Times, integrate: Integrate, *, times: int) -> PathStates:
        """The state after each block; `times` is ignored."""
        return torch.stack(self._through_the_blocks(state_alone(encoding, "resnet"), float(ts[-1] - ts[0])))

    def _through_the_blocks(self, y: State, dt: float) -> list[Tensor]:
        states = [y]
        for block in self.blocks:
            states.append(block(states[-1], dt))
        return states
