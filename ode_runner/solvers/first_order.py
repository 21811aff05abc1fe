"""First derivatives that raise an error if they are differentiated again.

torch's once_differentiable raises only if the incoming gradient has a graph; in other cases a second derivative would
silently be zero. Gradients made here are connected to the inputs of the function, so that every second derivative with
respect to these raises an error, and no other does.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice

Gradients = tuple[Tensor | None, ...]

OF_A_SOLVE = (
    "a second derivative of a solve was asked for (create_graph=True), which gradient=backprop alone has. "
    "Use gradient=backprop, with an explicit solver."
)


def first_order(message: str) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """A decorator that refuses second derivatives, for the `backward` of an autograd function.

    The autograd function must store in `ctx.inputs` those of its inputs that may have a gradient.

    Raises:
        IncompatibleChoice: with this message, when the returned gradients are differentiated.
    """

    def decorate(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        @wraps(backward)
        def once(ctx: Any, *cotangents: Tensor) -> Gradients:
            with torch.no_grad():
                found = backward(ctx, *cotangents)
            if not torch.is_grad_enabled():
                return found
            origins = (*ctx.inputs, *cotangents)
            return tuple(None if part is None else part + _Refused.apply(message, part, *origins) for part in found)

        return once

    return decorate


def differentiable_once(x: Tensor, message: str) -> Tensor:
    """`x` with a correct first derivative; a second derivative with respect to the inputs of `x` raises an error."""
    return _DifferentiableOnce.apply(x, message)


class _DifferentiableOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, message: str) -> Tensor:
        ctx.input, ctx.message = x, message
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> Gradients:
        if not torch.is_grad_enabled():
            return dx, None
        return dx + _Refused.apply(ctx.message, dx.detach(), ctx.input), None


class _Refused(torch.autograd.Function):
    """Zeros in the shape of `like` that depend on `origins`; their derivative raises an error."""

    @staticmethod
    def forward(ctx: Any, message: str, like: Tensor, *origins: Tensor) -> Tensor:
        del origins
        ctx.message = message
        return torch.zeros_like(like)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Gradients:
        del cotangents
        raise IncompatibleChoice(ctx.message)
