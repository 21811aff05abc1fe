"""A function of tensors without gradients, recorded as a CUDA graph."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.compiling.cuda_graph import CudaGraph, aside, check_repeated_right, nudged, varied, write_into
from ode_runner.compiling.fused import fused


@final
class RecordedFunction:
    """A recorded function. Before use, it is compared with the function itself, for other inputs and leaves.

    Args:
        function: a function of tensors, with a sequence of tensors as result.
        examples: tensors like the inputs.
        leaves: further tensors that it reads, at every call.
        fusing: modules that the function calls and that PyTorch's compiler compiles for it.

    Raises:
        CannotCompile: the function cannot be recorded, or the recording gives another result.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        examples: Sequence[Tensor],
        leaves: Sequence[Tensor],
        *,
        fusing: Sequence[nn.Module] = (),
    ) -> None:
        self.function, self.leaves = function, list(leaves)
        self.inputs = [x.detach().clone() for x in examples]
        with fused(fusing):
            self._graph = CudaGraph(self._evaluated)
        self._check_right()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs, in new memory, which no later call overwrites."""
        write_into(self.inputs, inputs)
        self._graph.replay()
        outputs = [torch.empty_like(y) for y in self._graph.found]
        torch._foreach_copy_(outputs, list(self._graph.found))  # one launch
        return outputs

    def _evaluated(self) -> Sequence[Tensor]:
        """The function without autocast's cache: copies of parameters in it would be recorded with present values."""
        device = self.inputs[0].device.type
        with torch.no_grad(), torch.autocast(device, enabled=False, cache_enabled=False):
            return self.function(*self.inputs)

    def _check_right(self) -> None:
        device = self.inputs[0].device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), nudged(self.leaves):
            found = self(*varied(self.inputs))
            with aside():
                expected = self._evaluated()
            check_repeated_right(found, expected, found[0].dtype, what="a solve")
