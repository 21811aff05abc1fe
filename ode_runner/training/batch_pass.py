"""The pass of a training batch, in any of its ways: at once or in parts, captured as a CUDA graph or eager."""

from collections.abc import Sequence
from contextlib import nullcontext

from torch import Tensor
from torch.optim import Optimizer

from ode_runner.batch import Batch
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.training.accumulation import accumulated_pass, parts_of
from ode_runner.training.gauss_newton import GaussNewton, least_squares_pass
from ode_runner.training.prepare_compiled import Compiled
from ode_runner.training.training_pass import TrainingPass, ordinary_pass


class BatchPass:
    """Makes training passes, which leave their gradients in the parameters' `.grad`.

    Args:
        forward: makes forward passes.
        optimizer: the optimizer; its steps may need more than a gradient.
        parameters: the parameters to train.
        waits: whether the loss is checked before it is differentiated, for which the CPU waits.
    """

    def __init__(
        self, forward: ForwardPass, optimizer: Optimizer, parameters: Sequence[Tensor], *, waits: bool
    ) -> None:
        self.forward, self.optimizer, self.parameters, self.waits = forward, optimizer, parameters, waits

    def __call__(self, batch: Batch, compiled: Compiled, *, measure_memory: bool, where: str) -> TrainingPass:
        """A pass at once, or in trainer.accumulate parts; `where` names the step and epoch in messages."""
        options, task = self.forward.experiment.options, self.forward.experiment.task

        def make(part: Batch) -> TrainingPass:
            return self._made(part, compiled, measure_memory=measure_memory, where=where)

        if options.accumulate is None:
            return make(batch)
        return accumulated_pass(make, parts_of(batch, options.accumulate, task), self.parameters)

    def _made(self, batch: Batch, compiled: Compiled, *, measure_memory: bool, where: str) -> TrainingPass:
        """A replayed pass if passes of such batches have been captured; otherwise an eager one."""
        if isinstance(self.optimizer, GaussNewton):
            return least_squares_pass(self.forward, batch, self.optimizer)
        captured = compiled.passes and compiled.passes(batch, measure_memory=measure_memory)
        if captured is not None:
            return captured
        measured = measure_memory and compiled.measurable
        with nullcontext() if compiled.layers is None else compiled.layers.installed():
            return ordinary_pass(self.forward, batch, measure_memory=measured, where=where, waits=self.waits)
