"""Learning rates over the course of a run: the `schedule` group."""

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from ode_runner.errors import RefusedInput, as_typed


class Scheduler(Protocol):
    """Sets an optimizer's rates for the first step, and after each step for the next, as torch's schedulers do."""

    def step(self) -> None:
        """Set the optimizer up for the next step."""

    def state_dict(self) -> dict[str, Any]:
        """Its position, for a checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position of `state_dict`."""


class Schedule(abc.ABC):
    """A schedule bound to an optimizer: changes it at every step of training."""

    def unused_options(self) -> Mapping[str, str]:
        """The options that have no effect because of the other options' values, each with a clause that says why."""
        return {}

    def idle_in(self, epochs: float) -> str:
        """A sentence if the schedule changes nothing in a run of so many epochs; otherwise ""."""
        del epochs
        return ""

    @abc.abstractmethod
    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int, steps: int) -> Scheduler:
        """The scheduler for a run of so many steps, which a time limit or early stopping may cut short."""


class Rate(Schedule):
    """The learning rate as a fraction of `optimizer.lr`."""

    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int, steps: int) -> "RateScheduler":
        return RateScheduler(self, optimizer, steps_per_epoch=steps_per_epoch, steps=steps)

    @abc.abstractmethod
    def factor(self, epoch: float, epochs: float) -> float:
        """The fraction after `epoch` of the run's `epochs`; both may be fractional."""


@final
class RateScheduler:
    """As torch's LambdaLR, bit for bit, but faster: LambdaLR takes as long as two layers of a small network.

    Args:
        rate: gives the learning rate as a fraction of the optimizer's present one.
        optimizer: the optimizer whose learning rate is set.
        steps_per_epoch: the training steps of an epoch.
        steps: the steps of the whole run.
    """

    def __init__(self, rate: Rate, optimizer: Optimizer, *, steps_per_epoch: int, steps: int) -> None:
        self.rate, self.optimizer = rate, optimizer
        self.steps_per_epoch, self.epochs = steps_per_epoch, steps / steps_per_epoch
        self.base_lrs, self.done = [group["lr"] for group in optimizer.param_groups], 0
        self._set()

    def step(self) -> None:
        self.done += 1
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """The position, under the names that torch's schedulers use."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.done}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the position. The present learning rate is in the optimizer's own state."""
        self.base_lrs, self.done = list(state_dict["base_lrs"]), state_dict["last_epoch"]

    def _set(self) -> None:
        factor = self.rate.factor(self.done / self.steps_per_epoch, self.epochs)
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor


class Warmed(Rate):
    """A learning rate with a linear warm-up over a fraction of the run; subclasses decide what follows."""

    warmup: float | None  # a fraction of the run; None: no warm-up

    def factor(self, epoch: float, epochs: float) -> float:
        progress, warmup = min(1.0, epoch / epochs), self.warmup or 0.0
        return progress / warmup if progress < warmup else self.warm_factor(epoch, epochs)

    @abc.abstractmethod
    def warm_factor(self, epoch: float, epochs: float) -> float:
        """The fraction after the warm-up; see `factor`."""


@final
@dataclass(frozen=True, kw_only=True)
class Constant(Warmed):
    """A constant learning rate after the warm-up."""

    warmup: float | None

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)

    def warm_factor(self, epoch: float, epochs: float) -> float:
        del epoch, epochs
        return 1.0


@final
@dataclass(frozen=True, kw_only=True)
class Steps(Warmed):
    """Multiplies the learning rate by `gamma` at each of the epochs `milestones`."""

    milestones: list[int]
    gamma: float
    warmup: float | None

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)
        if self.gamma <= 0:
            raise RefusedInput(f"schedule.gamma must be positive, not {self.gamma}.")
        if any(milestone < 0 for milestone in self.milestones):
            raise RefusedInput(f"schedule.milestones must be epochs, 0 or more, not {as_typed(self.milestones)}.")

    def idle_in(self, epochs: float) -> str:
        if any(milestone < epochs for milestone in self.milestones):
            return ""
        return f"schedule.milestones={as_typed(self.milestones)} are beyond the run's {epochs:g} epochs: the rate stays"

    def warm_factor(self, epoch: float, epochs: float) -> float:
        del epochs
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@final
@dataclass(frozen=True, kw_only=True)
class Cosine(Warmed):
    """Rises linearly over the fraction `warmup` of the run, then falls along half a cosine to zero.

    Loshchilov, Hutter. SGDR: Stochastic Gradient Descent with Warm Restarts. ICLR 2017; without the restarts.
    """

    warmup: float

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)

    def warm_factor(self, epoch: float, epochs: float) -> float:
        return (1 + math.cos(math.pi * _since(self.warmup, epoch, epochs))) / 2


@final
@dataclass(frozen=True, kw_only=True)
class Linear(Warmed):
    """Rises linearly over the fraction `warmup` of the run, then falls linearly to zero.

    Devlin, Chang, Lee, Toutanova. BERT. NAACL 2019, appendix A.2.
    """

    warmup: float

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)

    def warm_factor(self, epoch: float, epochs: float) -> float:
        return 1 - _since(self.warmup, epoch, epochs)


@final
@dataclass(frozen=True, kw_only=True)
class InverseSquareRoot(Warmed):
    """Rises linearly over the fraction `warmup` of the run, which is above 0, then falls as 1 / sqrt(step).

    Vaswani et al. Attention Is All You Need. NeurIPS 2017, equation 3, scaled so that `optimizer.lr` is its maximum.
    """

    warmup: float

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)
        if self.warmup == 0:
            raise RefusedInput("schedule.warmup=0 leaves nothing by which the rate falls. Use schedule=constant.")

    def warm_factor(self, epoch: float, epochs: float) -> float:
        return math.sqrt(self.warmup * epochs / epoch)


@final
@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Rises from `optimizer.lr` / `div_factor` to `optimizer.lr` over the fraction `warmup`, then falls to nearly 0.

    Both follow half a cosine (torch's OneCycleLR). The last rate is `optimizer.lr` / (`div_factor` `final_div_factor`).
    With `cycle_momentum`, the momentum (Adam's first beta) falls from `max_momentum` to `base_momentum` and back.

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

    def unused_options(self) -> Mapping[str, str]:
        reason = "schedule.cycle_momentum=false"
        return {} if self.cycle_momentum else {"base_momentum": reason, "max_momentum": reason}

    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int, steps: int) -> OneCycleLR:
        del steps_per_epoch
        if self.cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise RefusedInput("schedule.cycle_momentum=true needs an optimizer with a momentum. Use optimizer=adam.")
        rise = self.warmup * (1 - 1e-9) if self.warmup * steps == 1 else self.warmup  # torch divides by 0 at 1 step
        return OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=steps,
            pct_start=float(rise),  # torch refuses the int 0
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            cycle_momentum=self.cycle_momentum,
            base_momentum=self.base_momentum,
            max_momentum=self.max_momentum,
        )


def _since(warmup: float, epoch: float, epochs: float) -> float:
    """The completed fraction of the training after the warm-up, from 0 to 1."""
    return (min(1.0, epoch / epochs) - warmup) / (1 - warmup)


def _check_warmup(warmup: float | None) -> None:
    if warmup is not None and not 0 <= warmup < 1:
        raise RefusedInput(f"schedule.warmup must be a fraction from 0 to below 1, not {warmup}.")
