"""The Jacobian of a field, for every sample of a batch at once: samples must not interact."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ode_runner.types import State

BATCHED_FROM = 16  # elements of a state; for fewer, mapping costs more than it saves with some fields
AT_ONCE = 64  # products in one call, each of which takes the memory of a backward pass


def differentiated_further() -> AbstractContextManager[None]:
    """Inside, evaluations can be differentiated twice, or in many directions at once.

    Torch's fused attention does not support this; inside, attention uses the plain implementation.
    """
    return sdpa_kernel(SDPBackend.MATH)


class JacobianProducts:
    """Matrix-free products with d(output)/d(place), from a graph that connects both.

    `jvp` needs a second derivative: evaluate fields with attention inside `differentiated_further`. It differentiates
    the vector-Jacobian product, which is linear in the covector, with respect to the covector. These two reverse passes
    replace forward-mode differentiation, for which some operations have no rules.
    """

    def __init__(self, output: State, place: State) -> None:
        self._output, self._place = output, place
        with torch.enable_grad():
            self._covector = torch.zeros_like(output, requires_grad=True)
            self._pulled = self._gradient(output, place, self._covector, create_graph=True)

    def jvp(self, vector: State) -> State:
        """The Jacobian-vector product: the derivative of `output` along `vector`."""
        if not self._pulled.requires_grad:  # output does not depend on place
            return torch.zeros_like(self._output)
        return self._gradient(self._pulled, self._covector, vector)

    def vjp(self, covector: State) -> State:
        """The vector-Jacobian product with `covector`."""
        return self._gradient(self._output, self._place, covector)

    @staticmethod
    def _gradient(output: Tensor, place: Tensor, covector: Tensor, *, create_graph: bool = False) -> Tensor:
        if not output.requires_grad:
            return torch.zeros_like(place)
        options = {"create_graph": create_graph, "allow_unused": True, "materialize_grads": True}
        return torch.autograd.grad(output, place, covector, retain_graph=True, **options)[0]


def jacobian(slope: State, place: State) -> Tensor:
    """d(slope)/d(place) of every sample, (batch, element, element), by one product per element of the slope.

    The graph that connects them is kept. Unit vectors are never overwritten, because autograd may return the tensor
    that it was given, as for f(t, y) = y + u(t).
    """
    size = slope[0].numel()
    units = torch.eye(size, dtype=slope.dtype, device=slope.device).view(size, 1, *slope.shape[1:])
    units = units.expand(size, *slope.shape)  # the same for every sample
    if size >= BATCHED_FROM:
        try:
            parts = [_pulled_back(slope, place, chunk, batched=True) for chunk in units.split(AT_ONCE)]
            return torch.cat(parts).reshape(size, len(slope), size).transpose(0, 1)
        except RuntimeError:  # an operation cannot be mapped; any other error is raised again below
            pass
    rows = [_pulled_back(slope, place, unit, batched=False) for unit in units]
    return torch.stack(rows, dim=1).reshape(len(slope), size, size)


def _pulled_back(slope: State, place: State, cotangent: Tensor, *, batched: bool) -> Tensor:
    """The vector-Jacobian product for one cotangent, or each of several; 0 if slope does not depend on place."""
    (found,) = torch.autograd.grad(
        slope, place, cotangent, retain_graph=True, is_grads_batched=batched, allow_unused=True
    )
    return torch.zeros_like(cotangent) if found is None else found
