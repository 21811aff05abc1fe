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
    """On tensors of its own: what one call keeps for its derivative stays until the next call.

    Before it is used, values and derivatives are compared with the function's own, on inputs and with leaves other than
    those that were recorded.

    Args:
        function: of tensors to tensors.
        examples: tensors like those that it will be given. It is differentiated by those that ask for it.
        leaves: tensors that it reads besides, and is differentiated by. They are read anew by every call. Nothing but
            such functions may use them: a graph made elsewhere would tie them to another stream.
        facts: how many of its outputs, the last ones, are not differentiated.
        fusing: modules it calls that are compiled for it.

    Raises:
        CannotCompile: it cannot be recorded, or what was recorded gives something else than the function.
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
        self._there.replay()  # so that what the derivative reads are numbers, and indices among them none from nowhere
        self._cotangents = [torch.zeros_like(y) for y in self.outputs[: len(self.outputs) - facts]]
        self._back = CudaGraph(self._derivative)  # now: autograd refuses once inputs or leaves have been written into
        self._check_right()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs, on memory that the next call writes into. Inputs may be in the CPU's memory, best if pinned."""
        write_into(self.inputs, inputs)
        self._there.replay()
        return [y.detach() for y in self.outputs]

    def pull_back(self, *cotangents: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The derivatives by the inputs that ask for them and by the leaves, where the last call was.

        `cotangents` are those of the first outputs; the others are zero. What is returned is written into by the next
        call of this method.
        """
        given, others = self._cotangents[: len(cotangents)], self._cotangents[len(cotangents) :]
        torch._foreach_copy_(given, list(cotangents))
        if others:
            torch._foreach_zero_(others)
        self._back.replay()
        found = self._back.found
        return list(found[: len(self.moving)]), list(found[len(self.moving) :])

    def _evaluated(self) -> Sequence[Tensor]:
        """Parameters that autocast has lowered before would be recorded as they are now."""
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
            retain_graph=True,  # what it keeps stays in place
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
