"""Wrappers of zuko's layers."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.lazy import LazyTransform

from ode_runner.errors import RefusedInput
from ode_runner.models.flows.flow_layers import FlowLayer, Mapped
from ode_runner.types import State


@final
class ZukoLayer(FlowLayer):
    """A transform by zuko on flattened states."""

    def __init__(self, transform: LazyTransform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        y, log_det = self.transform(*given).call_and_ladj(x.flatten(1))
        return Mapped(y.view_as(x), log_det)

    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        x, log_det = self.transform(*given).inv.call_and_ladj(y.flatten(1))
        return Mapped(x.view_as(y), log_det)


def conditioner(*, width: int, depth: int, dropout: float) -> dict[str, Any]:
    """zuko's options for a conditioner, the network that computes a layer's parameters.

    It has `depth` hidden layers of `width` SiLU units, with dropout probability `dropout`.

    Raises:
        RefusedInput: `dropout` is not a probability below 1.
    """
    if not 0 <= dropout < 1:
        raise RefusedInput(f"model.dropout must be 0 or more and less than 1, not {dropout}.")

    def activation() -> nn.Module:
        return nn.Sequential(nn.SiLU(), nn.Dropout(dropout)) if dropout else nn.SiLU()

    return {"hidden_features": [width] * depth, "activation": activation}


def autoregressive_layers(size: int, condition: int, layers: int, **options: Any) -> list[FlowLayer]:
    """`layers` autoregressive layers for vectors of `size` numbers, alternately in forward and reverse order."""
    order = torch.arange(size)
    return [
        ZukoLayer(MaskedAutoregressiveTransform(size, condition, order=order.flip(0) if i % 2 else order, **options))
        for i in range(layers)
    ]
