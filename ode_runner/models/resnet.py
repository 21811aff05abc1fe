"""A residual network: depth in blocks."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.problem import Integrate, Solution
from ode_runner.regularizers.depth_varying import DepthVarying, squared_differences
from ode_runner.transfer import read_times
from ode_runner.types import PathStates, Scalar, State, Times


@final
class ResNet(Model, DepthVarying):
    """`blocks` residual blocks with weights of their own; 0 leaves stem and head, the no-middle baseline.

    Between two times all the blocks are passed once, each told how much time that is: a classifier has one interval of
    length 1, a trajectory as many as it has times, through the same blocks again and again.

    He, Zhang, Ren, Sun. Identity Mappings in Deep Residual Networks. ECCV 2016.
    """

    numerics: ClassVar[Numerics] = Numerics.NONE

    def __init__(self, network: Network, *, blocks: int) -> None:
        super().__init__(network)
        check_sizes("model", least=0, blocks=blocks)
        self.blocks = nn.ModuleList(network.block() for _ in range(blocks))
        self.head = network.head()

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        y = _alone(y0)
        states = [y]
        for dt in torch.tensor(read_times(ts), dtype=ts.dtype).diff().tolist():
            y = self._through_the_blocks(y, dt)[-1]
            states.append(y)
        return Solution(ys=torch.stack(states))

    def roughness(self) -> Scalar:
        return squared_differences(self.blocks) * len(self.blocks)

    def path(self, begun: Encoding, ts: Times, integrate: Integrate, *, times: int) -> PathStates:
        """The state after each block, however many `times` are asked for."""
        return torch.stack(self._through_the_blocks(_alone(begun), float(ts[-1] - ts[0])))

    def _through_the_blocks(self, y: State, dt: float) -> list[Tensor]:
        states = [y]
        for block in self.blocks:
            states.append(block(states[-1], dt))
        return states


def _alone(begun: Encoding) -> State:
    """The state, where nothing is given besides.

    Raises:
        IncompatibleChoice: the blocks would be told nothing of the rest.
    """
    if begun.given:
        raise IncompatibleChoice(
            "model=resnet has blocks of the state alone, and the stem of this network gives more than a state. "
            "Use model=odenet."
        )
    return begun.y0
