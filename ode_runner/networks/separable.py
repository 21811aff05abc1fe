"""A separable field: each half of the state is driven by the other half only."""

from typing import final

from torch import Tensor

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import SeparableField
from ode_runner.networks.base import Block
from ode_runner.networks.channels import with_given
from ode_runner.networks.dense import ResidualMLP, tanh_layers, with_time
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.vector import VectorNetwork, layer_sizes
from ode_runner.types import State, Time


@final
class Separable(VectorNetwork):
    """Two tanh MLPs of `depth` hidden layers of `width` units: dq/dt = g(t, p) and dp/dt = h(t, q).

    The inputs are the state; q is its first half and p its second. The field of an autonomous task does not receive the
    time. Neither half is the gradient of an energy, so that by construction only volume is conserved.

    After Chen, Zhang, Arjovsky, Bottou. Symplectic Recurrent Neural Networks. ICLR 2020, there with energies.
    """

    def __init__(self, spec: TaskSpec, *, width: int, depth: int) -> None:
        check_sizes("network", width=width, depth=depth)
        super().__init__(spec, largest=None)
        self.width, self.depth = width, depth

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        state = self.state + extra
        if state % 2:
            raise IncompatibleChoice(
                f"network=separable splits the state into two halves, q and p, and one of {state} numbers has none. "
                "Use network=mlp, or an even model.extra."
            )
        sizes = layer_sizes(state // 2, width=self.width, depth=self.depth)
        return SeparableMLP(sizes, time=not self.spec.autonomous, given=given)

    def block(self) -> Block:
        return ResidualMLP(layer_sizes(self.state, width=self.width, depth=self.depth))


@final
class SeparableMLP(SeparableField):
    """Each half is a tanh MLP over the other half of the state, the given tensors, and t."""

    batched_time = True

    def __init__(self, sizes: list[int], *, time: bool, given: int = 0) -> None:
        super().__init__()
        self.time = time
        self.of_p, self.of_q = (tanh_layers([sizes[0] + given + time, *sizes[1:]]) for _ in range(2))

    def drift(self, t: Time, p: State, *given: Tensor) -> State:
        p = with_given(p, given)
        return self.of_p(with_time(t, p) if self.time else p)

    def kick(self, t: Time, q: State, *given: Tensor) -> State:
        q = with_given(q, given)
        return self.of_q(with_time(t, q) if self.time else q)
