"""Learning rates over the course of a run: the `schedule` group."""

import abc
import math
from dataclasses import dataclass
from typing import final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from ode_runner.errors import RefusedInput
from ode_runner.quoting import as_typed


class Schedule(abc.ABC):
    """What changes in an optimizer at every step of training."""

    @abc.abstractmethod
    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int, epochs: int) -> LRScheduler:
        """Made at the beginning of a run of so many epochs, which a budget may cut short; stepped after each step."""


class Rate(Schedule):
    """The learning rate as a fraction of `optimizer.lr`."""

    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int, epochs: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: self.factor(step / steps_per_epoch, epochs))

    @abc.abstractmethod
    def factor(self, epoch: float, epochs: int) -> float:
        """The fraction at a time counted in epochs, not necessarily whole, of a run of `epochs`."""


@final
class Constant(Rate):
    """The same learning rate throughout."""

    def factor(self, epoch: float, epochs: int) -> float:
        del epoch, epochs
        return 1.0


@final
@dataclass(frozen=True, kw_only=True)
class Steps(Rate):
    """Times `gamma` at each of the epochs `milestones`."""

    milestones: list[int]
    gamma: float

    def __post_init__(self) -> None:
        if self.gamma <= 0:
            raise RefusedInput(f"schedule.gamma must be positive, not {self.gamma}.")
        if any(milestone < 0 for milestone in self.milestones):
            raise RefusedInput(f"schedule.milestones must be epochs, 0 or more, not {as_typed(self.milestones)}.")

    def factor(self, epoch: float, epochs: int) -> float:
        del epochs
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@final
@dataclass(frozen=True, kw_only=True)
class Cosine(Rate):
    """Up linearly over the first `warmup` of the run, a fraction, then down half a cosine to zero."""

    warmup: float

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)

    def factor(self, epoch: float, epochs: int) -> float:
        progress = min(1.0, epoch / epochs)
        if progress < self.warmup:
            return progress / self.warmup
        return (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2


@final
@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Up from `optimizer.lr` / `div_factor` to `optimizer.lr` over the first `warmup` of a run, then down to nearly 0.

    Both along half a cosine, by torch's OneCycleLR; the end is `optimizer.lr` / (`div_factor` `final_div_factor`). With
    `cycle_momentum` the momentum, Adam's first beta, falls and rises between `max_momentum` and `base_momentum`.

    Smith, Topin. Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates. 2017.
    """

    warmup: float
    div_factor: float
    final_div_factor: float
    cycle_momentum: bool
    base_momentum: float
    max_momentum: float

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)
        for name in ("div_factor", "final_div_factor"):
            if getattr(self, name) < 1:
                raise RefusedInput(f"schedule.{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.base_momentum <= self.max_momentum < 1:
            raise RefusedInput(
                "schedule.base_momentum and schedule.max_momentum must be from 0 to below 1 and in this order, not "
                f"{self.base_momentum} and {self.max_momentum}."
            )

    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int, epochs: int) -> LRScheduler:
        if self.cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise RefusedInput("schedule.cycle_momentum=true needs an optimizer with a momentum. Use optimizer=adam.")
        total = steps_per_epoch * epochs
        rise = self.warmup * (1 - 1e-9) if self.warmup * total == 1 else self.warmup  # at 1 step torch divides by 0
        return OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=total,
            pct_start=rise,
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            cycle_momentum=self.cycle_momentum,
            base_momentum=self.base_momentum,
            max_momentum=self.max_momentum,
        )


def _check_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise RefusedInput(f"schedule.warmup must be a fraction from 0 to below 1, not {warmup}.")
