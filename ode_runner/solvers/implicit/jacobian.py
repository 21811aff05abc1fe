"""The Jacobian of a field, for every sample of a batch at once: samples must not interact."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ode_runner.types import State

BATCHED_FROM = 16  # elements of a state; for fewer, mapping costs more than it saves with some fields
AT_ONCE = 64  # products in one call, each of which takes the memory of a backward pass


def differentiated_further() -> AbstractContextManager[None]:
    """What is evaluated within it may be differentiated twice, or in many directions at once.

    Torch's fused attention may not; within, attention is computed step by step.
    """
    return sdpa_kernel(SDPBackend.MATH)


class JacobianProducts:
    """Products with d(output)/d(place), which are on one graph; the matrix is never formed.

    Pushing asks for a second derivative: evaluate what has attention within `differentiated_further`.

    Vectors are pushed through it by differentiating the pull-back, which is linear in the covector, with respect to
    that: two reverse passes in place of a forward one, for which not every field has rules.
    """

    def __init__(self, output: State, place: State) -> None:
        self._output, self._place = output, place
        with torch.enable_grad():
            self._covector = torch.zeros_like(output, requires_grad=True)
            self._pulled = self._gradient(output, place, self._covector, create_graph=True)

    def push(self, vector: State) -> State:
        """The derivative of `output` along `vector`."""
        if not self._pulled.requires_grad:  # output does not depend on place
            return torch.zeros_like(self._output)
        return self._gradient(self._pulled, self._covector, vector)

    def pull(self, covector: State) -> State:
        """The transpose, applied to `covector`."""
        return self._gradient(self._output, self._place, covector)

    @staticmethod
    def _gradient(output: Tensor, place: Tensor, covector: Tensor, *, create_graph: bool = False) -> Tensor:
        if not output.requires_grad:
            return torch.zeros_like(place)
        options = {"create_graph": create_graph, "allow_unused": True, "materialize_grads": True}
        return torch.autograd.grad(output, place, covector, retain_graph=True, **options)[0]


def jacobian(slope: State, place: State) -> Tensor:
    """d(slope)/d(place) of every sample, (batch, element, element), by a product for each element of the slope.

    Both are on one graph, which is kept. No unit vector is ever written again: autograd may return as its answer the
    very tensor that it was given, as it does for f(t, y) = y + u(t).
    """
    size = slope[0].numel()
    units = torch.eye(size, dtype=slope.dtype, device=slope.device).view(size, 1, *slope.shape[1:])
    units = units.expand(size, *slope.shape)  # the same for every sample
    if size >= BATCHED_FROM:
        try:
            parts = [_pulled_back(slope, place, chunk, batched=True) for chunk in units.split(AT_ONCE)]
            return torch.cat(parts).reshape(size, len(slope), size).transpose(0, 1)
        except RuntimeError:  # the field has an operation that cannot be mapped; other reasons come again
            pass
    rows = [_pulled_back(slope, place, unit, batched=False) for unit in units]
    return torch.stack(rows, dim=1).reshape(len(slope), size, size)


def _pulled_back(slope: State, place: State, cotangent: Tensor, *, batched: bool) -> Tensor:
    """The transpose applied to one cotangent, or to each of several; zero where the slope does not know the place."""
    (found,) = torch.autograd.grad(
        slope, place, cotangent, retain_graph=True, is_grads_batched=batched, allow_unused=True
    )
    return torch.zeros_like(cotangent) if found is None else found
