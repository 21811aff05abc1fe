"""A residual flow."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.integral import probe
from ode_runner.models.flows.discrete_flow import DiscreteFlow
from ode_runner.models.flows.flow_layers import ActNorm, FlowLayer, Mapped
from ode_runner.models.flows.lipschitz import Function, LipschitzMLP
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.types import State


@final
class ResidualFlow(DiscreteFlow):
    """`blocks` blocks y = x + g(x), each after an ActNorm, where g has a Lipschitz constant below 1.

    Outside training, log |det| is exact, from the whole Jacobian, by one product per element of a sample.

    Args:
        width: units of a hidden layer of g.
        depth: hidden layers of g.
        lipschitz: the bound of its Lipschitz constant.
        log_det: in training: `roulette`, an unbiased estimate, or `exact`.
        exact_terms: the number of terms of the series of log |det| that roulette always takes.
        stop: the probability to stop after each further term, of which there is at least one.

    Behrmann, Grathwohl, Chen, Duvenaud, Jacobsen. Invertible Residual Networks. ICML 2019. · Chen, Behrmann, Duvenaud,
    Jacobsen. Residual Flows for Invertible Generative Modeling. NeurIPS 2019.
    """

    draws_work: ClassVar[bool] = True

    def __init__(
        self,
        network: Network,
        *,
        blocks: int,
        width: int,
        depth: int,
        lipschitz: float,
        log_det: Literal["roulette", "exact"],
        exact_terms: int,
        stop: float,
    ) -> None:
        check_sizes("model", blocks=blocks, width=width, depth=depth)
        check_sizes("model", least=0, exact_terms=exact_terms)
        for name, value in (("lipschitz", lipschitz), ("stop", stop)):
            if not 0 < value < 1:
                raise RefusedInput(f"model.{name} must be above 0 and below 1, not {value}.")
        shape, given = network.spec.input_shape, network.spec.condition
        roulette = Roulette(exact_terms=exact_terms, stop=stop) if log_det == "roulette" else None
        layers: list[FlowLayer] = []
        for _ in range(blocks):
            change = LipschitzMLP(math.prod(shape), given=given, width=width, depth=depth, bound=lipschitz)
            layers += [ActNorm(shape), ResidualLayer(change, roulette=roulette)]
        super().__init__(network, layers)
        self.estimated = roulette is not None

    def unused_options(self) -> Mapping[str, str]:
        return {} if self.estimated else dict.fromkeys(("exact_terms", "stop"), "model.log_det=exact")


@final
class Roulette:
    """log |det(I + J)| = sum_k (-1)^(k + 1) tr J^k / k, estimated by v^T J^k v with random signs v, randomly truncated.

    `exact_terms` are always taken, and then a geometrically distributed number of terms, at least one. A term is
    divided by the probability that it is taken. So the estimate is unbiased, if the norm of J is below 1.
    """

    def __init__(self, *, exact_terms: int, stop: float) -> None:
        self.exact_terms, self.stop = exact_terms, stop

    def further(self) -> int:
        """The random number of further terms, one or more, for the whole batch; from torch's CPU generator."""
        return 1 + math.floor(math.log1p(-float(torch.rand(()))) / math.log1p(-self.stop))

    def estimate(self, jvp: Function, x: Tensor) -> Tensor:
        """The estimate, (batch,); `jvp` multiplies vectors like x (batch, size) by J."""
        v = probe(x, "rademacher")
        power, total = v, x.new_zeros(len(x))
        for k in range(1, self.exact_terms + self.further() + 1):
            power = jvp(power)
            taken = (1 - self.stop) ** max(0, k - 1 - self.exact_terms)  # the probability of this term
            total = total + (-1) ** (k + 1) / (k * taken) * (power * v).sum(dim=1)
        return total


@final
class ResidualLayer(FlowLayer):
    """y = x + g(x) on flattened states, inverted by the fixed-point iteration x = y - g(x)."""

    def __init__(self, change: LipschitzMLP, *, roulette: Roulette | None) -> None:
        super().__init__()
        self.change, self.roulette = change, roulette

    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        flat = x.flatten(1)
        change, jvp = self.change.linearize(self.change.bounded(), flat, given)
        if self.training and self.roulette is not None:
            log_det = self.roulette.estimate(jvp, flat)
        else:
            log_det = exact_log_det(jvp, flat)
        return Mapped((flat + change).view_as(x), log_det)

    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        maps, flat = self.change.bounded(), y.flatten(1)
        x, before, moved = flat, math.inf, math.inf
        while True:  # each update is smaller than the last by the Lipschitz constant, down to rounding
            after = flat - self.change.value(maps, x, given)
            before, moved = moved, float((after - x).detach().norm(dim=1).max())
            x = after
            if not 0 < moved < before:
                break
        _, jvp = self.change.linearize(maps, x, given)
        return Mapped(x.view_as(y), -exact_log_det(jvp, x))


def exact_log_det(jvp: Function, x: Tensor) -> Tensor:
    """log |det(I + J)|, (batch,), from the whole J; `jvp` multiplies vectors like x (batch, size) by J."""
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    columns = jvp(identity[:, None].expand(-1, *x.shape))  # (column, batch, row)
    return torch.linalg.slogdet(identity + columns.movedim(0, -1)).logabsdet
