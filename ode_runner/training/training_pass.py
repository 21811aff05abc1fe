"""Forward and backward pass of a training batch, with the only `.backward()` of the program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.devices.transfer import read_scalars
from ode_runner.distributed.process_group import ProcessGroup
from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.crash_dump import check_finite
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import ForwardPass, ForwardResult
from ode_runner.fields.ledger import EachSample, Phase, Tally


@dataclass(frozen=True, kw_only=True)
class TrainingPass:
    """The measurements of a training pass; its gradients are in the parameters' `.grad`."""

    measured: Mapping[str, Tensor]  # metrics, loss and its terms: means over the batch
    of_loss: Sequence[str]  # those which are the loss and its terms, not metrics
    forward: Tally
    backward: Tally
    each: list[EachSample]
    saved_bytes: int | None  # kept for the backward pass; None: not measured

    @classmethod
    def of(cls, passed: ForwardResult, batch: Batch, experiment: Experiment, backward: Tally) -> Self:
        """A pass of a batch, from its forward half and the cost of its backward half."""
        of_loss = passed.loss.scalars()
        return cls(
            measured=experiment.metrics(passed.loss, batch) | of_loss,
            of_loss=list(of_loss),
            forward=passed.tally,
            backward=backward,
            each=passed.each,
            saved_bytes=passed.saved_bytes,
        )


def ordinary_pass(forward: ForwardPass, batch: Batch, *, measure_memory: bool, where: str, waits: bool) -> TrainingPass:
    """A forward and a backward pass by autograd, without compiled or recorded parts.

    Args:
        forward: makes the forward pass.
        batch: a training batch.
        measure_memory: whether the bytes kept for the backward pass are measured.
        where: step and epoch, for messages.
        waits: whether the loss is checked before it is differentiated, for which the CPU waits.

    Raises:
        NumericalFailure: a solve failed, or the loss was checked and is not finite.
        IncompatibleChoice: the loss depends on no parameter.
    """
    passed, experiment = forward(batch, measure_memory=measure_memory), forward.experiment
    total = passed.loss.total
    if waits:
        check_finite(float(total.detach()), "loss", where)
    if not total.requires_grad:
        raise IncompatibleChoice(
            "the loss depends on none of the model's parameters, so that nothing can be learned: with few steps a "
            "solver may see the initial state alone. Use more of them, solver.num_steps=20, or another model or task."
        )
    with experiment.integrator.ledger.phase(Phase.BACKWARD) as backward:
        forward.differentiated(passed.loss).backward()
    return TrainingPass.of(passed, batch, experiment, backward)


def mean_scalars(found: TrainingPass, group: ProcessGroup, *, waits: bool) -> dict[str, Tensor | float]:
    """Loss, its terms and metrics, as means over the batch.

    `waits`: they are read from the device, and the means are over the batch of all processes.
    """
    means: dict[str, Any] = dict(group.mean(read_scalars(found.measured)) if waits else found.measured)
    own = {name: means.pop(name) for name in found.of_loss}
    return {"train/loss": own.pop("loss")} | own | {f"train/{name}": value for name, value in means.items()}


def solve_scalars(passed: TrainingPass) -> dict[str, float]:
    """The evaluations and steps of a pass's solves, by the names under which they are logged."""
    forward, backward = passed.forward, passed.backward
    products, smallest = forward.products + backward.products, forward.smallest_step
    found: dict[str, float] = {"nfe/products": products} if products else {}
    found |= {} if smallest is None else {"solver/smallest_step": smallest}
    return found | {
        "nfe/forward": forward.evaluations,
        "nfe/backward": backward.evaluations,
        "solver/accepted": forward.accepted,
        "solver/rejected": forward.rejected,
    }


def progress_text(means: Mapping[str, float], *, validation: str, samples: float) -> str:
    """Means over steps of training as text, for a progress line.

    Args:
        means: scalars by the names under which they are logged.
        validation: the objective on validation, as text; "": not known.
        samples: the samples of a step.
    """
    numbers = f"loss {means['train/loss']:.3g}"
    if "train/accuracy" in means:
        numbers += f"  accuracy {means['train/accuracy']:.1%}"
    numbers += f"  NFE {means['nfe/forward']:.0f} + {means['nfe/backward']:.0f}" if means["nfe/forward"] else ""
    numbers += f"  val {validation}" if validation else ""
    return f"{numbers}  {samples / means['time/step_seconds']:,.0f} samples/s"


def clip_gradients(parameters: Sequence[Tensor], most: float | None, *, waits: bool) -> Tensor | float:
    """Clip the norm of the gradient to `most`; returns the norm before clipping.

    Args:
        parameters: parameters without a `.grad` are ignored.
        most: above 0; None: the gradient is not clipped.
        waits: whether the norm is read, for which the CPU waits; then a shorter gradient costs no multiplication.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # get_total_norm(): 40 us more
    read = float(norm) if waits else norm
    if most is not None and (not waits or read > most):
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return read
