"""A function of tensors whose derivative nobody asks for, recorded as a CUDA graph."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.compiling.cuda_graph import CudaGraph, aside, check_repeated_right, nudged, varied, write_into
from ode_runner.compiling.fused import fused


@final
class RecordedFunction:
    """Before it is used, it is compared with the function, on inputs and with leaves other than those recorded.

    Args:
        function: of tensors to tensors.
        examples: tensors like those that it will be given.
        leaves: tensors that it reads besides, anew with every call.
        fusing: modules it calls that are compiled for it.

    Raises:
        CannotCompile: it cannot be recorded, or what was recorded gives something else than the function.
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
        """The outputs, which no later call writes into."""
        write_into(self.inputs, inputs)
        self._graph.replay()
        outputs = [torch.empty_like(y) for y in self._graph.found]
        torch._foreach_copy_(outputs, list(self._graph.found))  # asked for at once
        return outputs

    def _evaluated(self) -> Sequence[Tensor]:
        """Parameters that autocast has lowered before would be recorded as they are now."""
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
