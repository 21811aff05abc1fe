"""Vector-Jacobian products of one evaluation of a field and its integrands."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.fields.counted_field import CountedField
from ode_runner.types import State


def field_vjp(
    field: CountedField, t: Tensor, y: State, dy: State, wanted: Sequence[Tensor], a: State, c: Tensor | None
) -> list[Tensor]:
    """a^T d(dy)/d(wanted) + c^T d(rates)/d(wanted), where dy = f(t, y) and a graph is being recorded.

    `c` is (batch, integral); None: integrands are not evaluated.
    """
    outputs, cotangents = [dy], [a]
    if c is not None:
        rates = field.rates(t, y, dy)
        outputs, cotangents = [dy, rates], [a, c.to(rates.dtype)]
    return gradients_of(outputs, wanted, cotangents)


def gradients_of(outputs: Sequence[Tensor], wanted: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
    """The sum of cotangent^T d(output)/d(wanted); zeros if no output depends on a wanted tensor."""
    moving = [(output, part) for output, part in zip(outputs, cotangents, strict=True) if output.requires_grad]
    if not moving:  # functions of time alone
        return [torch.zeros_like(x) for x in wanted]
    outputs, cotangents = [output for output, _ in moving], [part for _, part in moving]
    return list(torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True, materialize_grads=True))
