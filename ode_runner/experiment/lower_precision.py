"""Whether anything of a run is computed in the lower precision that is typed."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.operation_work import SAMPLES, pass_few_samples


def sentence_on_precision(experiment: Experiment) -> str:
    """A sentence if trainer.precision is a lower one and no operation of a forward pass is computed in it; else ""."""
    options = experiment.options
    if options.lower_dtype is None:
        return ""
    seen = LowerPrecision(options.lower_dtype)
    if not pass_few_samples(experiment, seen, batch_size=SAMPLES) or seen.found:
        return ""
    return (
        f"nothing is computed in trainer.precision={options.precision}: it is that of matrix products and "
        "convolutions, and this model has none. The results are those of trainer.precision=fp32"
    )


@final
class LowerPrecision(TorchDispatchMode):
    """Notes whether an operation has results of this type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.found = dtype, False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        self.found |= any(isinstance(x, Tensor) and x.dtype is self.dtype for x in tree_leaves(results))
        return results
