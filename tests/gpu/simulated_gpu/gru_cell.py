"""An operation that PyTorch has for GPUs alone: a cell of a gated recurrent unit."""

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def gru_cell(from_input: Tensor, from_state: Tensor, state: Tensor, *biases: Tensor | None) -> tuple[Tensor, Tensor]:
    """The new state, and what the derivative needs."""
    both = [x if b is None else x + b for x, b in zip((from_input, from_state), biases or (None, None), strict=True)]
    (reset_x, update_x, new_x), (reset_h, update_h, new_h) = (x.chunk(3, dim=1) for x in both)
    reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
    new = torch.tanh(new_x + reset * new_h)
    return new + update * (state - new), torch.cat([reset, update, new, state, new_h], dim=1)


def gru_cell_backward(by: Tensor, kept: Tensor, has_bias: bool) -> tuple[Tensor | None, ...]:
    """The derivatives by what `gru_cell` was given."""
    reset, update, new, state, new_h = kept.chunk(5, dim=1)
    by_update = by * (state - new) * update * (1 - update)
    by_new = by * (1 - update) * (1 - new**2)
    by_reset = by_new * new_h * reset * (1 - reset)
    by_input = torch.cat([by_reset, by_update, by_new], dim=1)
    by_hidden = torch.cat([by_reset, by_update, by_new * reset], dim=1)
    biases = (by_input.sum(0), by_hidden.sum(0)) if has_bias else (None, None)
    return by_input, by_hidden, by * update, *biases


OF_GPUS_ALONE: dict[Any, Any] = {
    aten._thnn_fused_gru_cell.default: gru_cell,
    aten._thnn_fused_gru_cell_backward.default: gru_cell_backward,
}
