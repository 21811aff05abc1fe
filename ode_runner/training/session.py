"""A session: the files, screen and signals of one process that works on a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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

    @contextmanager
    def saved_if_ended(self, run: Resumable) -> Iterator[None]:
        """Save the run as it was before, if a signal or an error ends what is done within."""
        state = run.state_dict(0)
        try:
            yield
        except BaseException:
            self.checkpoints.save_last({**state, "metrics_position": self.metrics.position()})
            raise

    @property
    def due(self) -> bool:
        """Whether it is time to save: `save_every_seconds` have passed, or a signal came."""
        return bool(self.stop.signal_name) or time.monotonic() - self.saved_at >= self.save_every_seconds

    def save_if_due(self, run: Resumable) -> None:
        """Save if that is due. After a signal, raise Interrupted then."""
        if self.due:
            self.save(run)
        self.stop.check()
