"""Where the scalars of a run are written: metrics.jsonl, which has all of them, and the base class of loggers."""

import abc
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from ode_runner.errors import RefusedInput
from ode_runner.recording.record import RunRecord
from ode_runner.recording.regular_file import NoRegularFile, check_regular
from ode_runner.recording.strict_json import numbers, to_json

METRICS = "metrics.jsonl"  # name of the file
EVENTS = "events.out.tfevents.*"  # files of TensorBoard's, in a run folder


def has_event_files(folder: Path) -> bool:
    """Whether a run folder has event files for TensorBoard."""
    return any(folder.glob(EVENTS))


class MetricLogger(abc.ABC):
    """Takes scalars, pictures and the summary of a run.

    Constructors take `folder`, the run's folder, and `first_step`, the step at which this session begins. Anything that
    an interrupted session logged from this step on will be logged again.
    """

    remote: ClassVar[bool] = False  # True: another program's logger, whose failure must not end a run
    package: ClassVar[str | None] = None  # a package that it needs and that is not always installed

    @abc.abstractmethod
    def log(self, scalars: Mapping[str, float], *, step: int) -> None: ...

    @abc.abstractmethod
    def picture(self, name: str, png: bytes, *, step: int) -> None:
        """Log a picture, given as a png: pictures are drawn once for file and logger, since drawing takes seconds."""

    def text(self, name: str, content: str) -> None:
        """Log a text in Markdown; loggers without a place for texts ignore it."""
        del name, content

    @abc.abstractmethod
    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Log the hyperparameters with the final metrics, for comparison across runs."""

    @abc.abstractmethod
    def close(self) -> None: ...


def log_result(logger: MetricLogger, record: RunRecord, config_yaml: str) -> None:
    """Log what runs are compared by, and the whole configuration."""
    nfe = {f"nfe/{phase}": record.cost.get(f"nfe_{phase}") for phase in ("forward", "backward")}
    counted = {name: count for name, count in nfe.items() if count is not None}  # None if nothing was trained
    logger.summary(record.hyperparameters(), {**record.metrics, **counted})
    logger.text("config", f"```yaml\n{config_yaml}```")


class MetricsFile:
    """metrics.jsonl: one line per logged step.

    Raises:
        RefusedInput: the path is a link, whose target would be overwritten, or a pipe or a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        if self.path.is_symlink():
            raise RefusedInput(f"{self.path} is a link, and a run writes into files of its own. Move it elsewhere.")
        try:
            check_regular(self.path)
        except FileNotFoundError:  # the run begins
            pass
        except NoRegularFile as error:
            raise RefusedInput(f"{self.path} is no file, and a run writes into one. Move it elsewhere.") from error
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, float]) -> None:
        self._file.write(to_json(row) + "\n")
        self._file.flush()

    def position(self) -> int:
        """The length in bytes, after a sync to the disk."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def rewind(self, position: int) -> bool:
        """Cut the file to `position` bytes; resumed steps write the rest again.

        Returns False if the file is shorter. Then only its complete lines are kept; extending it would add zeros.
        """
        content = self.path.read_bytes()[:position]
        self._file.truncate(position if len(content) == position else content.rfind(b"\n") + 1)
        return len(content) == position

    def rows(self) -> list[dict[str, float]]:
        """The numbers of every line that can be read."""
        rows = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError, AttributeError):  # an incomplete line, or not an object
                rows.append(numbers(json.loads(line.strip("\0"))))  # an old version extended files by zeros
        return rows

    def close(self) -> None:
        self._file.close()
