"""Blocks as steps of numerical methods, by evaluations of a layer's increment F or of its two parts A and M."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from ode_runner.field import VectorField
from ode_runner.networks.attention import Layer
from ode_runner.types import Time

Gamma = Literal["fixed", "learned", "gated"]  # the kind of stage weights
Evaluate = Callable[..., Tensor]  # of a field, a time and features; `call` names a part


class TwoPartField(VectorField):
    """A kind of field with two parts, each of which counts as half an evaluation."""

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "attend": 0.5, "transform": 0.5}


@final
class LayerField(TwoPartField):
    """The increment F of a layer at features (batch, positions, features), or one of its parts."""

    batched_time = True

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, t: Time, x: Tensor) -> Tensor:
        del t
        return self.layer(x)

    def attend(self, t: Time, x: Tensor) -> Tensor:
        """A(x)."""
        del t
        return self.layer.attend(x)

    def transform(self, t: Time, x: Tensor) -> Tensor:
        """M(x)."""
        del t
        return self.layer.transform(x)


class Step(NamedTuple):
    """The state after a block, and the slope that led there."""

    state: Tensor
    slope: Tensor  # F at the previous state, which later blocks may use


class DepthBlock(nn.Module, abc.ABC):
    """A step from a state x, by evaluations of a layer's increment."""

    def __init__(self, layer: LayerField) -> None:
        super().__init__()
        self.layer = layer

    @abc.abstractmethod
    def forward(self, x: Tensor, before: Sequence[Tensor], evaluate: Evaluate) -> Step:
        """The state after the block.

        Args:
            x: features (batch, positions, features).
            before: the slopes of the previous blocks, the last one first.
            evaluate: returns F(x) for a field, a time and features, and counts the evaluation.
        """

    def part(self, evaluate: Evaluate, x: Tensor, call: str = "forward") -> Tensor:
        """F(x) of the block's layer, or a part of it."""
        return evaluate(self.layer, x.new_zeros(()), x, call=call)


@final
class PreNorm(DepthBlock):
    """x + F(x) with F(x) = A(x) + M(x + A(x)): Lie-Trotter splitting with Euler steps."""

    def forward(self, x: Tensor, before: Sequence[Tensor], evaluate: Evaluate) -> Step:
        del before
        slope = self.part(evaluate, x)
        return Step(x + slope, slope)


@final
class Parallel(DepthBlock):
    """x + A(x) + M(x): Euler's method without splitting.

    Chowdhery et al. PaLM. JMLR 2023, section 2.
    """

    def forward(self, x: Tensor, before: Sequence[Tensor], evaluate: Evaluate) -> Step:
        del before
        slope = self.part(evaluate, x, "attend") + self.part(evaluate, x, "transform")
        return Step(x + slope, slope)


@final
class Macaron(DepthBlock):
    """Half of M, then A, then half of M: Strang splitting with Euler steps.

    Args:
        last: the layer whose M is used for the second half.

    Lu et al. Understanding and Improving Transformer From a Multi-Particle Dynamic System Point of View. 2019.
    """

    def __init__(self, layer: LayerField, *, last: LayerField) -> None:
        super().__init__(layer)
        self.last = last

    def forward(self, x: Tensor, before: Sequence[Tensor], evaluate: Evaluate) -> Step:
        del before
        y = torch.add(x, self.part(evaluate, x, "transform"), alpha=0.5)
        y = y + self.part(evaluate, y, "attend")
        y = torch.add(y, evaluate(self.last, x.new_zeros(()), y, call="transform"), alpha=0.5)
        return Step(y, y - x)


@final
class Coefficients(nn.Module):
    """Numbers that are learned from initial values, or fixed."""

    def __init__(self, beginning: Sequence[float], *, learned: bool) -> None:
        super().__init__()
        self.fixed = beginning
        self.learned = nn.Parameter(torch.tensor(beginning)) if learned else None

    def forward(self) -> Sequence[Tensor | float]:
        return self.fixed if self.learned is None else self.learned.unbind()


class Method(NamedTuple):
    """An explicit Runge-Kutta method in which each stage depends on the previous slope only."""

    nodes: Sequence[float]  # of the stages after the first, in steps
    weights: Sequence[float]
    beginning: Sequence[float]  # of weights that are learned


HEUN = Method(nodes=(1.0,), weights=(1 / 2, 1 / 2), beginning=(1.0, 1.0))
_SIMPSON = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
CLASSICAL = Method(nodes=(1 / 2, 1 / 2, 1.0), weights=_SIMPSON, beginning=_SIMPSON)


@final
class RungeKutta(DepthBlock):
    """x + sum g_i F_i, where F_1 = F(x) and F_i = F(x + a_i F_{i-1}).

    The weights g_i are fixed, as in the method; or learned, one per stage; or, with two stages, gated: g and 1 - g with
    g = sigmoid(w [F_1, F_2] + b) at each position.

    Li et al. ODE Transformer. ACL 2022. In its released code, F includes the identity.
    """

    def __init__(self, layer: LayerField, method: Method, *, gamma: Gamma, features: int) -> None:
        super().__init__(layer)
        self.nodes, learned = method.nodes, gamma == "learned"
        self.weights = Coefficients(method.beginning if learned else method.weights, learned=learned)
        self.gate = nn.Linear(2 * features, 1) if gamma == "gated" else None

    def forward(self, x: Tensor, before: Sequence[Tensor], evaluate: Evaluate) -> Step:
        del before
        slopes = stages(self, x, self.nodes, evaluate)
        if self.gate is None:
            return Step(x + weighted(self.weights(), slopes), slopes[0])
        gate = self.gate(torch.cat(slopes, dim=-1)).sigmoid()
        return Step(x + weighted((gate, 1 - gate), slopes), slopes[0])


@final
class PredictorCorrector(DepthBlock):
    """x + a F(p) + sum_j c_j F_{k-j} with p = x + sum_i b (1 - b)^{n-i} F_i of n stages; F_{k-j} is F of j blocks ago.

    The weights of p sum to 1 - (1 - b)^n, so that it is not a consistent method. Initially b = 1/2, a = 1 and c = 0.

    Li et al. Predictor-Corrector Enhanced Transformers with Exponential Moving Average Coefficient Learning.
    NeurIPS 2024.
    """

    def __init__(self, layer: LayerField, method: Method, *, gamma: Gamma, history: int) -> None:
        super().__init__(layer)
        self.nodes, learned = method.nodes, gamma == "learned"
        self.average, self.corrector = Coefficients([0.5], learned=learned), Coefficients([1.0], learned=learned)
        self.history = Coefficients([0.0] * history, learned=learned) if history else None

    def forward(self, x: Tensor, before: Sequence[Tensor], evaluate: Evaluate) -> Step:
        slopes, [b], [a] = stages(self, x, self.nodes, evaluate), self.average(), self.corrector()
        averages = [b * (1 - b) ** i for i in reversed(range(len(slopes)))]
        y = x + a * self.part(evaluate, x + weighted(averages, slopes))
        if self.history is not None and before:
            coefficients = self.history()
            y = y + weighted(coefficients[: len(before)], before[: len(coefficients)])
        return Step(y, slopes[0])


@final
class Iterated(DepthBlock):
    """x_0 = x + F(x), then `sweeps` times x_i = x + F(x_{i-1}): truncated fixed-point iteration for implicit Euler.

    It is an explicit method of order 1 for any number of sweeps.

    Liu et al. IIET: Efficient Numerical Transformer via Implicit Iterative Euler Method. 2025.
    """

    def __init__(self, layer: LayerField, *, sweeps: int) -> None:
        super().__init__(layer)
        self.sweeps = sweeps

    def forward(self, x: Tensor, before: Sequence[Tensor], evaluate: Evaluate) -> Step:
        del before
        states = self.iterates(x, evaluate)
        return Step(states[-1], states[0] - x)

    def iterates(self, x: Tensor, evaluate: Evaluate) -> list[Tensor]:
        """x_0 to the last x_i."""
        states = [x + self.part(evaluate, x)]
        for _ in range(self.sweeps):
            states.append(x + self.part(evaluate, states[-1]))
        return states


ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@final
class MultiStep(DepthBlock):
    """x + sum_j c_j F_{k-j}, with F of this block and the previous ones; c is initialised as in Adams-Bashforth.

    Args:
        slopes: the number of F, including its own.

    Wang et al. Learning Deep Transformer Models for Machine Translation (DLCL). ACL 2019.
    """

    def __init__(self, layer: LayerField, *, slopes: int, gamma: Gamma) -> None:
        super().__init__(layer)
        self.coefficients = Coefficients(ADAMS_BASHFORTH[slopes - 1], learned=gamma == "learned")

    def forward(self, x: Tensor, before: Sequence[Tensor], evaluate: Evaluate) -> Step:
        slope, coefficients = self.part(evaluate, x), self.coefficients()
        return Step(x + weighted(coefficients, [slope, *before[: len(coefficients) - 1]]), slope)


def stages(block: DepthBlock, x: Tensor, nodes: Sequence[float], evaluate: Evaluate) -> list[Tensor]:
    """F_1 = F(x), and F_i = F(x + a F_{i-1}) for each a of `nodes`."""
    slopes = [block.part(evaluate, x)]
    for place in nodes:
        slopes.append(block.part(evaluate, torch.add(x, slopes[-1], alpha=place)))
    return slopes


def weighted(weights: Sequence[Tensor | float], slopes: Sequence[Tensor]) -> Tensor:
    """The sum of weights times slopes."""
    first, *others = (weight * slope for weight, slope in zip(weights, slopes, strict=True))
    return sum(others, start=first)
