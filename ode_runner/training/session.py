"""A session: the files, screen and signals of one process that works on a run."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from ode_runner.experiment.signals import StopRequest
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricLogger, MetricsFile


class Resumable(Protocol):
    """An object with a state from which training can be resumed."""

    def state_dict(self, metrics_position: int) -> dict[str, Any]: ...


class SearchTrial(Protocol):
    """The trial of a search to which a run belongs, if the search may end it early."""

    def judge(self, criterion: str, best: float, *, epoch: int) -> None:
        """Report the best validation so far; raises Pruned if the search ends the trial."""


@dataclass(kw_only=True)
class Session:
    """Where one process writes numbers, pictures and checkpoints, and the request to stop it."""

    metrics: MetricsFile
    logger: MetricLogger
    checkpoints: Checkpoints
    display: Display
    stop: StopRequest
    save_every_seconds: float
    trial: SearchTrial | None = None
    saved_at: float = field(default_factory=time.monotonic)

    def save(self, run: Resumable) -> None:
        self.checkpoints.save_last(run.state_dict(self.metrics.position()))
        self.saved_at = time.monotonic()

    def save_if_due(self, run: Resumable) -> None:
        """Save if `save_every_seconds` have passed. After a signal, save and raise Interrupted."""
        due = time.monotonic() - self.saved_at >= self.save_every_seconds
        if due or self.stop.signal_name:
            self.save(run)
        self.stop.check()
