"""Decompositions of PyTorch's operations into simpler ones, for some of which PyTorch itself has none."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _trilinear(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    expand_a: Sequence[int],
    expand_b: Sequence[int],
    expand_c: Sequence[int],
    summed: Sequence[int],
    *rest: int,
) -> Tensor:
    """The sum of a b c over some axes, each with new axes (`nn.Bilinear`)."""
    del rest
    for axis in expand_a:
        a = a.unsqueeze(axis)
    for axis in expand_b:
        b = b.unsqueeze(axis)
    for axis in expand_c:
        c = c.unsqueeze(axis)
    return (a * b * c).sum(list(summed))


def _weight_norm_backward(dw: Tensor, v: Tensor, g: Tensor, norms: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The cotangents of v and g, where w = g v / |v| and norms are taken over all axes but one."""
    others = [i for i in range(v.dim()) if i != axis % v.dim()]
    dg = (dw * v).sum(others, keepdim=True) / norms
    return g / norms * (dw - dg * v / norms), dg


def _bitwise_not(x: Tensor) -> Any:
    return x.logical_not() if x.dtype == torch.bool else NotImplemented


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten._trilinear.default: _trilinear,
    aten._weight_norm_interface_backward.default: _weight_norm_backward,
    aten.bitwise_not.default: _bitwise_not,
}
