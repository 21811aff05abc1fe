"""How long and how to train: the `trainer` group."""

import math
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from ode_runner.errors import RefusedInput, as_typed


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """The options of `trainer`. At a budget, a run ends cleanly; None means no limit."""

    epochs: int
    batch_size: int
    eval_batch_size: int
    max_grad_norm: float | None  # None: no clipping
    precision: Literal["fp32", "tf32", "bf16", "fp16", "fp64"]  # bf16, fp16: of the network; tf32: of matmuls on a GPU
    device: str  # auto, cpu, mps, cuda, or a GPU such as cuda:1
    compile: Literal["auto", "on", "off"]  # whether the solver's steps are compiled, in training
    log_every: int  # steps
    audit_every: int | None  # steps; None: never
    save_every_seconds: float
    max_steps: int | None  # a budget, as are the next two
    max_seconds: float | None
    max_nfe: int | None
    patience: int | None  # epochs without a better validation after which training ends; None: no early stopping
    accumulate: int | None  # number of parts of a batch for gradient accumulation; None: one
    ema: float | None  # decay of the moving average of the weights, which is then evaluated; None: no average
    animate: bool  # whether animations are drawn, too
    pictures_every: int | None  # epochs between pictures during training; None: only at the end
    summary: bool  # whether the layers of the model are printed and recorded

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "eval_batch_size", "log_every", "audit_every", "max_steps", "max_nfe")
        for name in (*counts, "patience", "accumulate", "pictures_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RefusedInput(f"trainer.{name} must be at least 1, not {value}.")
        for name in ("max_grad_norm", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise RefusedInput(f"trainer.{name} must be positive or null, not {value}.")
        if self.accumulate is not None and self.accumulate > self.batch_size:
            raise RefusedInput(
                f"trainer.accumulate={self.accumulate} is more parts than a batch has samples: trainer.batch_size="
                f"{self.batch_size}."
            )
        if self.save_every_seconds < 0:
            raise RefusedInput(f"trainer.save_every_seconds must be 0 or more, not {self.save_every_seconds}.")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise RefusedInput(
                f"trainer.device={as_typed(self.device)} is no auto or cpu or cuda or mps, nor a GPU such as cuda:1."
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise RefusedInput(f"trainer.ema must be above 0 and below 1, such as 0.999, or null, not {self.ema}.")

    @property
    def lower_dtype(self) -> torch.dtype | None:
        """The type of the network if it is lower than that of states; otherwise None."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The autocast context of stem and head. The integrator lowers the field; the solver itself stays in fp32."""
        lower = self.lower_dtype
        return nullcontext() if lower is None else torch.autocast(device.type, lower)

    def spent(self, *, step: int, seconds: float, nfe: float) -> str:
        """A clause if a budget is used up; otherwise ""."""
        for name, used, limit in (
            ("max_steps", step, self.max_steps),
            ("max_seconds", seconds, self.max_seconds),
            ("max_nfe", nfe, self.max_nfe),
        ):
            if limit is not None and used >= limit:
                return f"ended by trainer.{name}={limit} at step {step}"
        return ""
