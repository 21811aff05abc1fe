"""A function of tensors and its derivative, each recorded as a CUDA graph."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.compiling.cuda_graph import CudaGraph, aside, check_repeated_right, nudged, varied, write_into
from ode_runner.compiling.fused import fused

Function = Callable[..., Sequence[Tensor]]


@final
class CapturedFunction:
    """A recorded function and its vector-Jacobian product. What a call saves for backward stays until the next call.

    Before use, values and derivatives are compared with those of the function itself, for other inputs and leaves than
    it was recorded with.

    Args:
        function: a function of tensors, with a sequence of tensors as result.
        examples: tensors like the inputs. It is differentiated with respect to those that require a gradient.
        leaves: further tensors that it reads, at every call, and is differentiated with respect to. Only such
            functions may use them: a graph made elsewhere would tie them to another stream.
        facts: the number of outputs, at the end, that are not differentiated.
        fusing: modules that the function calls and that PyTorch's compiler compiles for it.

    Raises:
        CannotCompile: the function cannot be recorded, or the recording gives another result.
    """

    def __init__(
        self,
        function: Function,
        examples: Sequence[Tensor],
        leaves: Sequence[Tensor],
        *,
        facts: int,
        fusing: Sequence[nn.Module] = (),
    ) -> None:
        self.function, self.leaves = function, list(leaves)
        self.inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in examples]
        self.moving = [x for x in self.inputs if x.requires_grad]
        with fused(fusing):
            self._there = CudaGraph(self._evaluated)
        self.outputs = list(self._there.found)
        self._there.replay()  # recording computes nothing: this fills the tensors, and valid indices, for backward
        self._cotangents = [torch.zeros_like(y) for y in self.outputs[: len(self.outputs) - facts]]
        self._back = CudaGraph(self._derivative)  # now: autograd refuses once inputs or leaves are modified in place
        self._check_right()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs, in memory that the next call overwrites. Inputs may be on the CPU, preferably pinned."""
        write_into(self.inputs, inputs)
        self._there.replay()
        return [y.detach() for y in self.outputs]

    def pull_back(self, *cotangents: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The derivatives with respect to inputs that require a gradient, and to leaves, at the point of the last call.

        `cotangents` are those of the first outputs; the others are zero. The next call of this method overwrites the
        results.
        """
        given, others = self._cotangents[: len(cotangents)], self._cotangents[len(cotangents) :]
        torch._foreach_copy_(given, list(cotangents))
        if others:
            torch._foreach_zero_(others)
        self._back.replay()
        found = self._back.found
        return list(found[: len(self.moving)]), list(found[len(self.moving) :])

    def _evaluated(self) -> Sequence[Tensor]:
        """The function without autocast's cache: copies of parameters in it would be recorded with present values."""
        device = self.inputs[0].device.type
        with torch.enable_grad(), torch.autocast(device, enabled=False, cache_enabled=False):
            return self.function(*self.inputs)

    def _derivative(self, outputs: Sequence[Tensor] | None = None) -> Sequence[Tensor]:
        """The derivative of the recorded outputs, or of others."""
        outputs = (self.outputs if outputs is None else outputs)[: len(self._cotangents)]
        return torch.autograd.grad(
            outputs,
            [*self.moving, *self.leaves],
            self._cotangents,
            retain_graph=True,  # saved tensors must stay at their addresses
            allow_unused=True,
            materialize_grads=True,
        )

    def _check_right(self) -> None:
        device = self.inputs[0].device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), nudged(self.leaves):
            inputs = varied(self.inputs)
            cotangents = [torch.rand_like(y) for y in self._cotangents]
            found = self(*inputs)[: len(cotangents)]
            derivatives = [part for parts in self.pull_back(*cotangents) for part in parts]
            with aside():
                expected = self._evaluated()
                gradient = self._derivative(expected)
            dtype = next(x.dtype for x in [*self.inputs, *self.leaves] if x.is_floating_point())
            check_repeated_right(found, expected[: len(found)], dtype, what="a step")
            check_repeated_right(derivatives, gradient, dtype, what="the derivative of a step")
