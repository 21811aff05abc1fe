"""Training steps whose scalars are still on the device. Reading them makes the CPU wait, so they are read in groups."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch
from ode_runner.devices.random_state import RandomState
from ode_runner.devices.sparse_tensors import dense_parts
from ode_runner.devices.transfer import read_all
from ode_runner.errors import Diverged
from ode_runner.experiment.crash_dump import CrashDump, check_finite
from ode_runner.experiment.loss_scaling import check_scale
from ode_runner.tasks.base import Task

MOST_BYTES = 2**28  # of copies of weights, each kept until the step after it has been checked


@dataclass(frozen=True, kw_only=True)
class UnreadStep:
    """A step, with all that is needed to repeat it if it turns out to have failed."""

    where: str  # "at step 12 (epoch 3)"
    batch: Batch
    warm: bool  # not the first step of a process, which pays for allocation and caches
    random: RandomState | None  # before the step, as are the weights; None: failures are seen before weights change
    weights: dict[str, Tensor]
    scalars: Mapping[str, Tensor | float]

    def check(self, scalars: Mapping[str, float]) -> None:
        """Raises Diverged, with a crash dump, if loss or gradient is not finite."""
        try:
            check_finite(scalars["train/loss"], "loss", self.where)
            check_finite(scalars["optim/grad_norm"], "gradient", self.where)
            check_scale(scalars, self.where)
        except Diverged as failure:
            if self.random is not None:
                failure.crash_dump = CrashDump(
                    message=str(failure),
                    learning=True,
                    where=self.where,
                    batch=self.batch,
                    weights=self.weights,
                    random=self.random,
                )
            raise


def reported(task: Task, scalars: dict[str, float]) -> dict[str, float]:
    """The scalars of a step, with metrics in the form in which the task reports them."""
    names = [name for name in scalars if name.startswith("train/") and name != "train/loss"]
    metrics = task.reported({name.removeprefix("train/"): scalars[name] for name in names})
    place = list(scalars).index(names[0]) if names else 0
    before = dict(list(scalars.items())[:place])
    others = {name: value for name, value in scalars.items() if name not in names}
    return before | {f"train/{name}": value for name, value in metrics.items()} | others


@final
class UnreadSteps:
    """The steps that have not been read yet, and a copy of the weights before each of them.

    Args:
        model: its weights are copied, as often as the copies fit into `MOST_BYTES`.
        device: the device of the model.
        most: the most steps between two reads.
        at_once: every step is read at once, and no weights are copied.
    """

    def __init__(self, model: nn.Module, device: torch.device, *, most: int, at_once: bool) -> None:
        self.model, self.device, self.at_once = model, device, at_once
        size = sum(part.nbytes for value in model.state_dict().values() for part in dense_parts(value))
        self.most = 1 if at_once else max(1, min(most, MOST_BYTES // max(size, 1)))
        self._kept: list[dict[str, Tensor]] = []  # allocated once and overwritten
        self._before: tuple[RandomState | None, dict[str, Tensor]] = (None, {})
        self._steps: list[UnreadStep] = []

    @property
    def full(self) -> bool:
        """Whether the steps must be read now."""
        return len(self._steps) >= self.most

    def keep(self) -> None:
        """Keep the weights and the random state before a step."""
        if self.at_once:
            return
        weights = self.model.state_dict()
        if len(self._steps) == len(self._kept):
            self._kept.append({name: torch.empty_like(value) for name, value in weights.items()})
        kept = self._kept[len(self._steps)]
        with torch.no_grad():
            torch._foreach_copy_(list(kept.values()), list(weights.values()))
        self._before = (RandomState.now(self.device), kept)

    def add(self, scalars: Mapping[str, Tensor | float], batch: Batch, *, where: str, warm: bool) -> None:
        """Add the step that was made since `keep`."""
        random, weights = self._before
        self._steps.append(
            UnreadStep(where=where, batch=batch, warm=warm, random=random, weights=weights, scalars=scalars)
        )

    def read(self) -> Iterator[tuple[UnreadStep, dict[str, float]]]:
        """Yields each unread step and its scalars, once.

        Raises:
            Diverged: the loss or gradient of a step is not finite; the first such step is reported.
        """
        steps, self._steps = self._steps, []
        for step, scalars in zip(steps, read_all([step.scalars for step in steps]), strict=True):
            step.check(scalars)
            yield step, scalars
