"""How much an operation of a training step computes, which decides whether a GPU is faster than the CPU."""

from collections.abc import Sequence
from typing import Any, final

from torch.utils._python_dispatch import TorchDispatchMode

from ode_runner.batch import Batch, Split
from ode_runner.devices.side_effects import without_side_effects
from ode_runner.experiment.experiment import Experiment

SAMPLES = 2  # samples with which the work of a batch is measured
# Multiplications and additions per operation, as a mean over a forward pass, above which a GPU is faster. Measured by
# `python -m tests.gpu.border`, see docs/performance.md.
BORDER = 1_000_000


def is_launch_bound(experiment: Experiment) -> bool:
    """Whether a training step is launch-bound: the GPU would mostly wait for launches, so that a CPU is faster."""
    return flops_per_operation(experiment) < BORDER


def flops_per_operation(experiment: Experiment) -> float:
    """Multiplications and additions per operation, as a mean over the forward pass of a training batch.

    The pass is made with a few samples, and its side effects are undone. The result is infinite if the pass fails; the
    run itself will then report the error.
    """
    operations = OperationCount()
    batch_size = min(experiment.options.batch_size, experiment.task.size(Split.TRAIN))
    if not pass_few_samples(experiment, operations, batch_size=batch_size):
        return float("inf")
    return operations.flops / max(operations.count, 1) * batch_size / min(SAMPLES, batch_size)


def pass_few_samples(experiment: Experiment, mode: TorchDispatchMode, *, batch_size: int) -> bool:
    """Makes a forward pass with a few training samples under `mode` and undoes its side effects; False if it fails."""
    ledger, model, device = experiment.integrator.ledger, experiment.model, experiment.device
    training = model.training
    try:
        with ledger.uncounted(), without_side_effects(model, device), mode:
            model.train()
            batch: Batch = next(experiment.task.batches(Split.TRAIN, batch_size=min(SAMPLES, batch_size), epoch=0))
            experiment.loss(batch.to(experiment.dtype))
    except Exception:  # also of the user's own model: the run will fail likewise, and report it properly
        return False
    finally:
        model.train(training)
    return True


@final
class OperationCount(TorchDispatchMode):
    """Counts the operations that would be launched (all but views), and the multiplications and additions in them.

    `torch.utils.flop_counter.FlopCounterMode` counts by module, with hooks on each module's backward: a model that
    calls `torch.autograd.grad` in its forward pass, as one with events does, fails in it.
    """

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # here, because it imports Triton

        super().__init__()
        self.count = self.flops = 0
        self._formulas = flop_registry

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        self.count += not func.is_view
        if (flops := self._formulas.get(func._overloadpacket)) is not None:
            self.flops += flops(*args, **(kwargs or {}), out_val=found)
        return found
