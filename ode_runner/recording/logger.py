"""Where the numbers of a run are written: metrics.jsonl, which has all, and what a logger is, which shows them."""

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
    """Whether TensorBoard has something to show of a run."""
    return any(folder.glob(EVENTS))


class MetricLogger(abc.ABC):
    """Takes scalars, pictures and the summary of a run.

    Made from `folder`, the run's, and `first_step`, where this session begins: what an interrupted session wrote from
    there on comes again.
    """

    remote: ClassVar[bool] = False  # True: it is another program's, whose failure ends no run
    package: ClassVar[str | None] = None  # that it needs besides what is always installed

    @abc.abstractmethod
    def log(self, scalars: Mapping[str, float], *, step: int) -> None: ...

    @abc.abstractmethod
    def picture(self, name: str, png: bytes, *, step: int) -> None:
        """A picture, as the content of its file: drawing it takes longer than many a run trains."""

    def text(self, name: str, content: str) -> None:
        """A text in Markdown; where there is no place for one, nothing is kept."""
        del name, content

    @abc.abstractmethod
    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """What was chosen beside the final metrics, for comparison across runs."""

    @abc.abstractmethod
    def close(self) -> None: ...


def log_result(logger: MetricLogger, record: RunRecord, config_yaml: str) -> None:
    """Log what runs are compared by, and the whole configuration."""
    nfe = {f"nfe/{phase}": record.cost.get(f"nfe_{phase}") for phase in ("forward", "backward")}
    counted = {name: count for name, count in nfe.items() if count is not None}  # by none that trains nothing
    logger.summary(record.hyperparameters(), {**record.metrics, **counted})
    logger.text("config", f"```yaml\n{config_yaml}```")


class MetricsFile:
    """metrics.jsonl: one line per logged step.

    Raises:
        RefusedInput: a link stands in its place, and what that leads to would be written over; or a pipe or folder.
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
        """Length in bytes, safely on disk."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def rewind(self, position: int) -> bool:
        """Cut the file to `position` bytes; resumed steps write the rest again.

        Returns False where the file is shorter. Then its whole lines are kept: truncating to more would add zeros.
        """
        content = self.path.read_bytes()[:position]
        self._file.truncate(position if len(content) == position else content.rfind(b"\n") + 1)
        return len(content) == position

    def rows(self) -> list[dict[str, float]]:
        """The numbers of every line that can be read."""
        rows = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError, AttributeError):  # torn, or no object
                rows.append(numbers(json.loads(line.strip("\0"))))  # zeros: of a version that filled it up
        return rows

    def close(self) -> None:
        self._file.close()
