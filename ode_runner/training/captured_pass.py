"""Training passes on a GPU, each recorded once as a CUDA graph.

Unless batches are large, the CPU takes longer to launch the operations of a pass than the GPU takes to compute them. A
graph is launched as a whole.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch
from ode_runner.compiling.cuda_graph import CudaGraph, check_repeated_right, nudged
from ode_runner.compiling.fused import fused
from ode_runner.compiling.python_values import PythonValues
from ode_runner.devices.buffers import Buffers
from ode_runner.devices.random_state import RandomState
from ode_runner.devices.side_effects import without_side_effects
from ode_runner.devices.transfer import read_times
from ode_runner.errors import CannotCompile
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import ForwardPass, ForwardResult
from ode_runner.fields.ledger import Phase, Tally
from ode_runner.training.training_pass import TrainingPass

MOST_KINDS = 4  # kinds of batch that are captured; the last batch of an epoch is smaller, and so of another kind


class Numbers(NamedTuple):
    """The scalars that a pass has measured, in a tensor that every replay overwrites."""

    names: list[str]
    values: Tensor
    of_loss: list[str]  # those which are the loss and its terms, not metrics

    @classmethod
    def of(cls, passed: ForwardResult, batch: Batch, experiment: Experiment) -> "Numbers":
        of_loss = passed.loss.scalars()
        measured = experiment.metrics(passed.loss, batch) | of_loss
        values = torch.stack([value.detach().double() for value in measured.values()])
        return cls(list(measured), values, list(of_loss))

    def read(self) -> dict[str, Tensor]:
        """The numbers by name, copied: the next replay overwrites them."""
        return dict(zip(self.names, self.values.clone().unbind(), strict=True))


class _Recorded(NamedTuple):
    """The result of a pass, in tensors that every replay overwrites."""

    gradients: list[Tensor | None]
    numbers: Numbers
    forward: Tally
    backward: Tally


@final
class CapturedPass:
    """The captured pass of one kind of batch. A replay adds to the ledger what the recorded pass added.

    Before it is used, its gradient is compared with that of an ordinary pass, on another batch and other weights than
    it was recorded with. Random state, weights and buffers are left as they were.

    Args:
        forward: makes the forward pass; its model is in training mode.
        batch: a batch of this kind.
        fusing: parts of the model that PyTorch's compiler compiles for it.

    Raises:
        CannotCompile: something in the pass cannot be recorded, or a replay gives another gradient.
    """

    def __init__(self, forward: ForwardPass, batch: Batch, *, fusing: Sequence[nn.Module] = ()) -> None:
        self.experiment, self._forward = forward.experiment, forward
        self.parameters = self.experiment.parameters()
        self._batch, self.values_read = copy_of(batch), PythonValues(self.experiment.model)
        with left_as_it_was(self.experiment) as (_, buffers):
            self.saved_bytes = forward(self._batch, measure_memory=True).saved_bytes
            write_batch(self._batch, batch, shift=1)
            with fused(fusing):
                self._graph = CudaGraph(self._pass)
            if buffers.replaced():
                raise CannotCompile("a pass puts other tensors in the place of buffers, which a repetition would not")
            self._check_right(batch)
        self.values_read.leave_out_changed()

    def __call__(self, batch: Batch, *, measure_memory: bool) -> TrainingPass:
        """Replay the pass with a batch of this kind."""
        write_batch(self._batch, batch)
        self._graph.replay()
        found, saved = self._graph.found, self.saved_bytes if measure_memory else None
        give_gradients(self.parameters, found.gradients)
        return entered(self.experiment, found.numbers, found.forward, found.backward, saved_bytes=saved)

    def _pass(self) -> _Recorded:
        experiment = self.experiment
        passed = self._forward(self._batch, measure_memory=False)
        if passed.each:
            raise CannotCompile("every sample has steps of its own")
        with experiment.integrator.ledger.phase(Phase.BACKWARD) as backward:
            gradients = torch.autograd.grad(
                self._forward.differentiated(passed.loss), self.parameters, allow_unused=True
            )
        return _Recorded(
            gradients=own_gradients(gradients, self.parameters),
            numbers=Numbers.of(passed, self._batch, experiment),
            forward=passed.tally,
            backward=backward,
        )

    def _check_right(self, batch: Batch) -> None:
        """Raises CannotCompile unless a replay gives the gradient of an ordinary pass."""
        write_batch(self._batch, batch)
        random = RandomState.now(self.experiment.device)
        with nudged(self.parameters):
            self._graph.replay()
            random.restore()
            expected = self._pass()
            found = self._graph.found
            dtype = self.experiment.dtype
            check_repeated_right(found.gradients, expected.gradients, dtype, what="its gradient")


@final
class CapturedPasses:
    """The captured passes of a run. A kind of batch is captured when it first comes; if that fails, it stays eager.

    Args:
        forward: makes forward passes.
        say: prints a line.
    """

    def __init__(self, forward: ForwardPass, *, say: Callable[[str], None]) -> None:
        self.forward, self.say = forward, say
        self._passes: dict[Hashable, CapturedPass | None] = {}

    def prepare(self, batch: Batch, *, fusing: Sequence[nn.Module] = ()) -> None:
        """Capture the pass for batches of the same kind as this one.

        Raises:
            CannotCompile: it cannot be captured.
        """
        self._passes[kind_of_batch(batch)] = CapturedPass(self.forward, batch, fusing=fusing)

    def __call__(self, batch: Batch, *, measure_memory: bool) -> TrainingPass | None:
        """Replay the pass with a batch; None if its kind has not been captured."""
        kind = kind_of_batch(batch)
        if kind not in self._passes:
            if len(self._passes) == MOST_KINDS:
                return None
            self._try(kind, batch)
        captured = self._passes[kind]
        if captured is not None and (changed := captured.values_read.changed()):
            self.say(f"not captured any more: {changed}")
            captured = self._passes[kind] = None
        return captured and captured(batch, measure_memory=measure_memory)

    def _try(self, kind: Hashable, batch: Batch) -> None:
        self._passes[kind] = None
        try:
            self.prepare(batch)
        except CannotCompile as reason:
            self.say(f"not captured: {reason} (batches of {len(batch.inputs)})")


@contextmanager
def left_as_it_was(experiment: Experiment) -> Iterator[tuple[RandomState, Buffers]]:
    """Yields copies of random state and buffers; restores both, and the totals of the ledger, at the end."""
    with experiment.integrator.ledger.uncounted(), without_side_effects(experiment.model, experiment.device) as kept:
        yield kept


def give_gradients(parameters: Sequence[nn.Parameter | Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Set `.grad` to the gradients of a replayed pass, whose memory the next replay overwrites."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def entered(
    experiment: Experiment, numbers: Numbers, forward: Tally, backward: Tally, *, saved_bytes: int | None
) -> TrainingPass:
    """The result of a replayed pass; adds its evaluations to the ledger, as an eager pass would."""
    totals = experiment.integrator.ledger.totals
    totals[Phase.FORWARD].add(forward)
    totals[Phase.BACKWARD].add(backward)
    measured, of_loss = numbers.read(), numbers.of_loss
    return TrainingPass(
        measured=measured, of_loss=of_loss, forward=forward, backward=backward, each=[], saved_bytes=saved_bytes
    )


def kind_of_batch(batch: Batch) -> Hashable:
    """A key of what a graph fixes: shapes, times, part and weights. Batches of one kind differ only in their values."""
    tensors = (batch.inputs, batch.targets, batch.observed, batch.numbers)
    shapes = tuple(None if x is None else (x.shape, x.dtype, x.stride()) for x in tensors)
    return (shapes, tuple(read_times(batch.ts)), batch.part, tuple(sorted(batch.weights.items())))


def copy_of(batch: Batch) -> Batch:
    """A copy of the batch with tensors of its own, into which `write_batch` can write."""
    observed = None if batch.observed is None else batch.observed.clone()
    numbers = None if batch.numbers is None else batch.numbers.clone()
    inputs, targets = batch.inputs.clone(), batch.targets.clone()
    return batch._replace(inputs=inputs, targets=targets, observed=observed, numbers=numbers)


def write_batch(mine: Batch, batch: Batch, *, shift: int = 0) -> None:
    """Copy the values of `batch` into `mine`, a batch of the same kind; `shift` rolls its samples by so many rows."""
    for own, value in (
        (mine.inputs, batch.inputs),
        (mine.targets, batch.targets),
        (mine.observed, batch.observed),
        (mine.numbers, batch.numbers),
    ):
        if own is not None and value is not None:
            own.copy_(value.roll(shift, dims=0) if shift else value, non_blocking=True)


def own_gradients(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Copies of the gradients with the parameters' memory layout: two gradients may be the same tensor."""
    own = [None if g is None else torch.empty_like(p) for g, p in zip(gradients, parameters, strict=True)]
    with torch.no_grad():
        torch._foreach_copy_([x for x in own if x is not None], [g for g in gradients if g is not None])
    return own
