"""Where one process's share of a run goes."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from ode_runner.experiment.signals import StopRequest
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricLogger, MetricsFile


class Resumable(Protocol):
    """What can be taken up where it was left."""

    def state_dict(self, metrics_position: int) -> dict[str, Any]: ...


@dataclass(kw_only=True)
class Session:
    """Numbers, pictures, checkpoints and the screen of one process; and who may stop it."""

    metrics: MetricsFile
    logger: MetricLogger
    checkpoints: Checkpoints
    display: Display
    stop: StopRequest
    save_every_seconds: float
    saved_at: float = field(default_factory=time.monotonic)

    def save(self, run: Resumable) -> None:
        self.checkpoints.save_last(run.state_dict(self.metrics.position()))
        self.saved_at = time.monotonic()

    def save_if_due(self, run: Resumable) -> None:
        """Save if a while has passed; save and leave if a signal came."""
        due = time.monotonic() - self.saved_at >= self.save_every_seconds
        if due or self.stop.signal_name:
            self.save(run)
        self.stop.check()
