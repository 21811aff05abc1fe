"""Loss scaling for half precision, in which small gradients would become zero; steps that overflow are skipped.

Micikevicius et al. Mixed Precision Training. ICLR 2018, section 3.2.
"""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from ode_runner.errors import Diverged, IncompatibleChoice
from ode_runner.experiment.options import TrainerOptions
from ode_runner.gradients.base import GradientMode

FIRST = 2.0**12  # initial scale; torch's 2^16 often overflows at first, and steps are lost until it has shrunk
LEAST = 2.0**-12  # below this scale, an overflow has another cause


@final
class LossScaling:
    """The scale of one training: halved if a gradient overflows, doubled after 2,000 steps without an overflow.

    A fused optimizer skips steps by itself; with any other, the CPU waits for the GPU once per step.
    """

    def __init__(self, device: torch.device) -> None:
        self._scaler = GradScaler(device.type, init_scale=FIRST)
        self._one = torch.ones((), device=device)
        self._scaler.scale(self._one)  # allocates the tensors that a captured pass will read

    def scaled(self, loss: Tensor) -> Tensor:
        """The scaled loss, which is differentiated."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale, so that they are those of the loss."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer, grad_norm: Tensor) -> dict[str, Tensor | float]:
        """Take a step if the gradient is finite. Returns the norm (0 if not finite), whether skipped, and the scale."""
        self._scaler.step(optimizer)
        self._scaler.update()
        overflows = ~torch.isfinite(grad_norm)
        return {
            "optim/grad_norm": torch.where(overflows, 0.0, grad_norm),
            "optim/skipped": overflows.double(),
            "optim/loss_scale": self._scaler.scale(self._one),  # get_scale() would wait for the GPU
        }

    def state_dict(self) -> dict[str, float]:
        return dict(self._scaler.state_dict())

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._scaler.load_state_dict(state)


def check_scale(scalars: Mapping[str, float], where: str) -> None:
    """Raises Diverged if gradients have overflowed at every scale."""
    if scalars.get("optim/loss_scale", FIRST) < LEAST:
        raise Diverged(f"the gradient is not finite at any scale of the loss {where}.")


def check_loss_scaling(options: TrainerOptions, gradient: GradientMode, *, processes: int) -> None:
    """Raises IncompatibleChoice if the precision is fp16 and a scaled loss would have another gradient."""
    if options.precision != "fp16":
        return
    if not gradient.exact:
        raise IncompatibleChoice(
            "trainer.precision=fp16 scales the loss, and the step control of "
            f"{gradient.shown_name} goes by its size. Use trainer.precision=bf16."
        )
    if processes > 1:
        raise IncompatibleChoice("trainer.precision=fp16 takes processes=1. Use trainer.precision=bf16.")
