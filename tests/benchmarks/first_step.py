"""A logger that notes when the first step of training has been made."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from ode_runner.recording.logger import MetricLogger

FILE = "first_step"


@final
class FirstStep(MetricLogger):
    """Writes the time of day, and the seconds of CPU that the process has taken, when the first scalars come."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        del first_step
        self.path = folder / FILE

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        del scalars, step
        if not self.path.exists():
            self.path.write_text(f"{time.time()} {time.process_time()}")

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        del name, png, step

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        del hyperparameters, metrics

    def close(self) -> None:
        pass
