"""`crash.pt`: batch, weights and random state of a numerical failure, with which it can be repeated."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import CheckpointRefused, Diverged, NumericalFailure, RefusedInput
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.checkpoint import load_tensors

FILE = "crash.pt"


@dataclass(frozen=True, kw_only=True)
class CrashDump:
    """The batch, weights and random state of a solve that failed, with the message of the failure."""

    message: str
    learning: bool  # True for a training step, False for an evaluation
    where: str  # "at step 12 (epoch 3)", "on the test split"
    batch: Batch
    weights: dict[str, Tensor]
    random: RandomState
    path: Path = Path(FILE)  # of the file it was read from

    def save(self, path: Path) -> None:
        """Write tensors, numbers and text only, so that the file loads with `weights_only=True`."""
        content = {
            **{name: getattr(self, name) for name in ("message", "learning", "where", "weights")},
            "batch": {**self.batch._asdict(), "weights": dict(self.batch.weights)},
            "random": vars(self.random),
        }
        atomic_write(path, partial(torch.save, content))

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "CrashDump":
        """The crash dump of the run in `folder`, its tensors on `device`.

        Raises:
            RefusedInput: there is none, or it cannot be read.
        """
        path = folder / FILE
        if not path.is_file():
            raise RefusedInput(f"{folder} holds no {FILE}: replay= is for runs that failed in a solve.")
        try:
            content = load_tensors(path)
            batch, random = Batch(**content.pop("batch")), RandomState(**content.pop("random"))
            if device.type != "cuda":  # the run failed on a GPU, and this machine has none
                random = replace(random, cuda=[])
            return cls(**content, batch=_on(batch, device), random=random, path=path)
        except CheckpointRefused as error:
            raise RefusedInput(f"{error} Type the run's command again.") from error
        except Exception as error:  # the file is intact but holds something else
            raise RefusedInput(f"{path} is no {FILE} of a run. Type the run's command again.") from error


@contextmanager
def dump_on_failure(
    model: nn.Module, batch: Batch, device: torch.device, *, learning: bool, where: str
) -> Iterator[None]:
    """Attach a crash dump to a NumericalFailure that is raised inside, unless it has one already.

    The weights are those at the time of the failure: the code inside must not change them before it can fail.

    Args:
        model: its weights are kept.
        batch: the batch that is solved inside.
        device: its random state on entry is kept.
        learning: whether the code inside is a training step.
        where: the place in words, such as "on the test split".
    """
    random = RandomState.now(device)
    try:
        yield
    except NumericalFailure as failure:
        if failure.crash_dump is None:
            weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
            failure.crash_dump = CrashDump(
                message=str(failure), learning=learning, where=where, batch=batch, weights=weights, random=random
            )
        raise


def check_finite(value: float, name: str, where: str) -> None:
    """Raises Diverged if `value`, called `name` in the message, is not finite."""
    if not math.isfinite(value):
        raise Diverged(f"the {name} is {value} {where}.")


def _on(batch: Batch, device: torch.device) -> Batch:
    moved: dict[str, Any] = {
        name: value.to(device) for name, value in batch._asdict().items() if isinstance(value, Tensor)
    }
    return batch._replace(**moved)
